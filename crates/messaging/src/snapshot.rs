//! Snapshots: a version and the replicated state.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of snapshots that this code writes and reads.
const VERSION: u8 = 4;

pub(crate) fn encode(state: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(state, vec![VERSION]).expect("state is plain data, a vector grows")
}

pub(crate) fn decode<S: DeserializeOwned>(snapshot: &[u8]) -> Result<S, SnapshotError> {
    match snapshot.split_first() {
        Some((&VERSION, state)) => {
            postcard::from_bytes(state).map_err(|source| SnapshotError::Malformed { source })
        }
        Some((&version, _)) => Err(SnapshotError::Version { version }),
        None => Err(SnapshotError::Empty),
    }
}

/// A snapshot that cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Written by another version.
    #[error(
        "a snapshot of version {version}, this program reads only {VERSION}; start it with the \
         data directory of its own version, or with an empty one"
    )]
    Version {
        /// As written.
        version: u8,
    },
    /// No bytes at all.
    #[error("an empty snapshot")]
    Empty,
    /// Not what the version says.
    #[error("a snapshot that cannot be decoded")]
    Malformed {
        /// Why not.
        #[source]
        source: postcard::Error,
    },
}
