//! Drives groups: owns the log, the apply loop and the snapshots.
//!
//! A service gives each of its replicated logs a [`StateMachine`] and gets a [`Group`] handle:
//!
//! 1. [`Group::propose`] hands in a command and answers with the machine's reply once the command
//!    is durable on a quorum and applied;
//! 2. [`Group::query`] reads the applied state: whatever was answered before is seen;
//! 3. [`Group::read`] reads entries back, for machines whose payloads stay in the log.
//!
//! [`Groups`] hosts all groups of a process on one write-ahead log: one fsync serves every group.
//! A group of one member and a group of five run the same code; [`consensus`] decides, the driver
//! carries out.
//!
//! ```text
//! propose ─▶ driver (consensus) ─▶ storage::Wal, transport ─▶ peers
//!               │ committed
//!               ▼
//! query ─▶ driver (read index) ─▶ apply ─▶ reply, answer
//! ```
//!
//! A command proposed on a follower travels to the leader, which only says where it stands in the
//! log; the follower's own machine gives the reply when it applies it.
//!
//! A member that lags, is added or comes back gets the leader's snapshot, and with it the entries
//! that the machine still reads from the log ([`StateMachine::retained`]): its own where it has
//! them, else another member's. Only then does it count.
//!
//! Groups that a catalog places ([`Beginning::Founders`]) need not meet: their nodes know each other
//! by [`Groups::know`]. A node that leaves one ([`Groups::leave`]) may come back to it.
//!
//! A node comes to the cluster that its settings ([`Cluster`]) name through its [`Entrance`]. Who
//! belongs to a group changes while it runs: see [`Members`]. A new node gets its id before it has a
//! log, one that was removed is told.
//!
//! **Invariant:** a command is applied only after it is durable on a majority and here, in index
//! order, exactly once per life of the process; after a restart the machine is rebuilt from its
//! snapshot and the log.
//! **Invariant:** a machine is touched by the apply task alone.
//! **Invariant:** the driver waits for nothing but its next input: neither disk nor network nor
//! machines hold heartbeats up.

mod alarm;
mod beginning;
mod config;
mod error;
mod group;
mod groups;
mod machine;
mod member;
mod metrics;

mod cluster;
mod entrance;
mod join;
mod members;

mod founding;

mod driver;

mod apply;

mod background;
mod fill;
mod needs;
mod restore;
mod seed;
mod snapshots;

mod identity;
#[cfg(feature = "mutants")]
pub mod mutants;
#[cfg(not(feature = "mutants"))]
mod mutants;
mod transport;

pub use beginning::Beginning;
pub use cluster::{Cluster, InitialState};
pub use config::{Adopt, Config};
pub use entrance::{Entrance, EntranceError};
pub use error::{
    ControlError, Failure, OpenError, ProposeError, QueryError, RemoveError, StartError,
};
pub use founding::FoundingError;
pub use group::{Applied, Group, Leadership, ReadBack};
pub use groups::{Groups, Host};
pub use join::{JoinError, Joining, join};
pub use machine::{Encode, RestoreError, StateMachine};
pub use member::MemberInfo;
pub use members::{Changed, MemberEntry, MemberError, MemberList, MemberRequest, Members, Removed};
pub use seed::{Seed, SeedError, plant, seed};
pub use storage::{Entry, ReadError, WriteError};
pub use transport::{BodyError, PeerBody, PeerService};
