//! Primary-replica log shipping and its history rules, without I/O.
//!
//! One member of a replication group is the [`Primary`], the others are [`Replica`]s. Both are
//! deterministic state machines that own no socket, file, clock or thread. Their caller
//!
//! 1. feeds inputs, in any order: writes and acknowledgements to the primary, the primary's
//!    messages to the replica, and `persisted` when the log has made a token durable;
//! 2. after each input takes the [`Effect`]s and carries them out in order;
//! 3. reads entries for a replica straight from the log, at the replica's pace: the core sends
//!    no entries, so a slow replica costs the primary neither memory nor time.
//!
//! What each level promises once a write is answered, with *n* members:
//!
//! | ack | answered when | lost only if |
//! |---|---|---|
//! | `async` | the primary has it on disk | the primary's disk is lost, or another node takes over |
//! | `semi` | besides, one replica has received it | two nodes fail |
//! | `quorum` | a majority, the primary included, has it on disk | a majority of the disks is lost |
//! | `all` | every member has it on disk | every disk is lost |
//!
//! A level that cannot be met is never answered as if it were met: the caller reports the write
//! as indeterminate. In a group of one, every level means the primary's own disk.
//!
//! **Invariant:** no clock and no random numbers in here; both come in as arguments.
//! **Invariant:** an (epoch, index) names one entry for ever. A primary begins every run in an
//! epoch of its own, so what it may have sent and not kept is never overwritten under the same
//! name.
//! **Invariant:** a replica never drops an entry that it knows to be committed. It stops
//! instead, and says why.
//! **Invariant:** the commit index never goes back, and counts the primary's own disk.
//!
//! `docs/uncommitted-tail.md` says why entries reach the engine only once they are committed,
//! `docs/hashing.md` which hash is used and what it is good for.

mod ids;

pub mod history;

pub mod command;
pub mod digest;

pub mod ack;
pub mod consistency;

pub mod handshake;

mod effect;
mod primary;
mod replica;

pub mod wire;

pub use ack::{AckLevel, Ticket};
pub use effect::{Effect, Fault, IoToken};
pub use history::{Entry, Epochs, Hash, Head};
pub use ids::{Epoch, Index, MemberId, Position};
pub use primary::{Primary, Progress, Recovered, Refused};
pub use replica::Replica;
