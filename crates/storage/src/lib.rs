//! The write-ahead log: one per process, shared by every group in it; and their snapshots.
//!
//! 1. [`Wal::open`] takes the data directory, recovers, and says what it found: a torn tail that
//!    was cut, damage, and the groups that lost something to it.
//! 2. [`Wal::submit`] queues writes of any groups, all or none, and returns a token at once.
//! 3. [`Wal::durable`] reports the newest durable token. Tokens are durable in order. Only then may
//!    anything be acknowledged, and only then do readers see it.
//! 4. [`Wal::read`] and [`Wal::cached`] give entries back: the tail from memory, older ones from
//!    disk. A message store needs no second copy: what a compaction keeps stays readable.
//! 5. When [`Durable::failed`] is set, the process has to end. A restart recovers.
//!
//! The log without threads is [`Log`]: the simulator drives it over a disk that loses, tears,
//! reorders, flips and fills up. `tests/` says what must hold whatever that disk does.
//!
//! **Invariant:** acknowledged means synced: a token is durable only after the fsync of its batch.
//! **Invariant:** a damaged byte of a batch is detected and never served; once the log has come to
//! rest, it is never mistaken for a torn tail either.
//! **Invariant:** the first failed write or fsync is the last; a full disk is not a failure.
//! **Invariant:** one fsync serves all groups, however many there are.
//! **Invariant:** memory is bounded by configuration, by the number of groups and segments, and by
//! the ranges that compactions keep; never by the number of entries.

mod config;
mod types;

mod wal;

mod error;
mod file_system;
#[cfg(feature = "mutants")]
pub mod mutants;
#[cfg(not(feature = "mutants"))]
mod mutants;
pub mod snapshot;

pub use config::Config;
pub use consensus::{Entry, EntryKind};
pub use error::{Fault, OpenError, ReadError, SubmitError, WriteError};
pub use file_system::{File, FileSystem, Lock, RealFileSystem};
pub use types::{Durable, GroupState, IoToken, Write};
pub use wal::{Job, JobDone, Log, LogView, Recovery, Stats, Wal};
