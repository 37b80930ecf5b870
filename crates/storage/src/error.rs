//! What can go wrong, one type per operation. The cause is in `source()`, not in the text.

use std::fmt;
use std::io;
use std::path::PathBuf;

use consensus::{GroupId, Index};

/// A damaged place on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Name of the file inside the data directory.
    pub file: String,
    /// Where the damage begins, in bytes from the start of the file.
    pub offset: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.file, self.offset)
    }
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another log of this one, owns the directory.
    #[error(
        "the data directory {} is in use by another process; stop that one or set another data_dir",
        dir.display()
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The files come from a newer release.
    #[error(
        "{} has format version {found}, this release reads up to {supported}; run the release that wrote it",
        file.display()
    )]
    Version {
        /// The file that says so.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The newest one known here.
        supported: u32,
    },
    /// So much is damaged that not even the list of groups can be read.
    #[error(
        "the log {} is damaged at byte {offset} and no intact checkpoint is left; restore the directory from a backup, or move it away to rebuild this node from its peers",
        file.display()
    )]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where.
        offset: u64,
    },
    /// A setting that cannot work.
    #[error("the log cannot run with these settings: {0}")]
    Config(&'static str),
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
}

/// Why nothing was submitted. Whatever the variant: none of the writes will ever take effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too many bytes wait for the disk.
    #[error("too many writes wait for the disk; slow down and repeat")]
    QueueFull,
    /// No space for new entries. Compactions, removals and hard states are still taken.
    #[error("the disk is full; free space, acknowledge or delete data, then repeat")]
    DiskFull,
    /// More than one batch can hold.
    #[error("the writes take {bytes} bytes, the limit is {max}")]
    TooLarge {
        /// Their encoded size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The entries do not continue the log, or a position lies outside of it.
    #[error("group {group}: index {found} does not fit a log that continues at {expected}")]
    OutOfOrder {
        /// Whose log.
        group: GroupId,
        /// What would have been right, or the nearest to it.
        expected: Index,
        /// What was asked for.
        found: Index,
    },
    /// The group is damaged; only a reset or a removal heals it.
    #[error("group {group} is damaged: {fault}; rebuild it from its peers")]
    Faulty {
        /// Which.
        group: GroupId,
        /// Where.
        fault: Fault,
    },
    /// The log failed or was closed.
    #[error("the log has stopped; restart the process")]
    Failed,
}

/// Why the log stopped for good.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}; the process must end, a restart recovers what is on disk", path.display())]
pub struct WriteError {
    /// What was tried.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// The operating system's answer.
    #[source]
    pub source: io::Error,
}

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log has no such group.
    #[error("the log holds no group {group}")]
    UnknownGroup {
        /// Which.
        group: GroupId,
    },
    /// The bytes on disk are not those that were written.
    #[error("group {group} is damaged on disk: {} at byte {offset}; rebuild it from its peers", file.display())]
    Corrupt {
        /// Whose entries.
        group: GroupId,
        /// The damaged file.
        file: PathBuf,
        /// Where.
        offset: u64,
    },
    /// The file system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
}
