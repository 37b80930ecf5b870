//! The write-ahead log: shared, segmented, group-committed. Signatures; the contract follows.

mod config;
mod error;
mod file_system;
pub mod snapshot;
mod types;
mod wal;

pub use config::Config;
pub use error::{Fault, OpenError, ReadError, SubmitError, WriteError};
pub use file_system::{File, FileSystem, Lock, RealFileSystem};
pub use types::{Durable, Entry, GroupState, IoToken, Write};
pub use wal::{Recovery, Stats, Wal};
