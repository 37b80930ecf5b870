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
//! A group has one voter, this node, so its quorum is this node's disk. Consensus among several
//! nodes takes the place of [`driver`] without a change for the machines or their callers.
//!
//! ```text
//! propose ─▶ driver (assigns term and index) ─▶ storage::Wal ─▶ driver (durable) ─▶ apply ─▶ reply
//! query ─────────────────────────────────────────────────────────────────────────▶ apply ─▶ answer
//! ```
//!
//! **Invariant:** a command is applied only after it is durable, in index order, exactly once per
//! life of the process; after a restart the machine is rebuilt from its snapshot and the log.
//! **Invariant:** a machine is touched by the apply task alone.
//! **Invariant:** a term is used by one life of the process: what a machine keeps unreplicated
//! can name the term it was made in, and is void in the next.

mod apply;
mod config;
mod driver;
mod error;
mod groups;
mod machine;
mod seed;
mod snapshots;
#[allow(dead_code, unused_imports, reason = "the driver takes it up")]
mod transport;

pub use config::Config;
pub use error::{OpenError, ProposeError, QueryError, RemoveError, StartError};
pub use groups::{Applied, Group, Groups};
pub use machine::{RestoreError, StateMachine};
pub use seed::{SeedError, seed};
pub use storage::{Entry, ReadError, WriteError};
pub use transport::{BodyError, PeerBody, PeerService};
