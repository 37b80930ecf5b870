//! Backups: the whole store at one revision as one file.
//!
//! Layout: the eight bytes of [`MAGIC`], the store as [`Store::encode`] writes it, and the
//! SHA-256 of both, 32 bytes. `GET /v1/snapshot` sends the file, `/v3/maintenance/snapshot` the
//! same bytes in messages, and `restore` reads it.
//!
//! A backup is made from a clone of the store, a piece at a time: writes go on, and neither
//! waits for a slow reader nor needs memory for a second copy.
//!
//! **Invariant:** a backup that breaks off never looks complete: its checksum is missing.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinError;

use crate::store::{Revision, Snapshot, SnapshotError, Store};

const MAGIC: &[u8; 8] = b"QTCOORD1";
const CHECKSUM_BYTES: usize = 32;
/// How much a piece holds.
const PIECE_BYTES: usize = 32 << 10;
/// Pieces that wait for the reader.
const PIECES_MAX: usize = 4;
/// Backups that are read at the same time.
const BACKUPS_MAX: usize = 4;

pub(crate) struct Backup {
    pub(crate) revision: Revision,
    pub(crate) checksum: [u8; CHECKSUM_BYTES],
    /// Bytes before the checksum.
    len: u64,
    pieces: mpsc::Receiver<Bytes>,
    permit: OwnedSemaphorePermit,
}

/// Room for the backups that are read at the same time: each holds a thread, and a clone for which
/// the store copies what it changes.
#[derive(Clone, Debug)]
pub(crate) struct Backups(Arc<Semaphore>);

impl Default for Backups {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BACKUPS_MAX)))
    }
}

/// Why no backup was begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupRefused {
    #[error(
        "{BACKUPS_MAX} backups are being read from this node already; repeat when one has ended"
    )]
    TooMany,
    #[error("the backup could not be measured")]
    Failed(#[from] JoinError),
}

pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    /// What follows, without the checksum.
    pub(crate) remaining: u64,
}

/// Ends a stream so that nobody takes it for whole.
#[derive(Debug, thiserror::Error)]
#[error("the backup broke off")]
pub(crate) struct Interrupted;

/// Why a file is no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("it is not a backup of a coordinator")]
    Foreign,
    #[error("its checksum does not fit: it is damaged or incomplete; take another backup")]
    Checksum,
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl Backup {
    /// Measures the backup, so that its length and checksum are known before its first byte.
    pub(crate) async fn start(
        Backups(room): &Backups,
        store: Snapshot,
    ) -> Result<Self, BackupRefused> {
        let permit =
            Arc::clone(room).try_acquire_owned().map_err(|_full| BackupRefused::TooMany)?;
        let measured = Snapshot::clone(&store);
        // The room is taken until it is measured, also if nobody waits for it any more.
        let measured = tokio::task::spawn_blocking(move || (measure(&measured), permit)).await?;
        let ((len, checksum), permit) = measured;
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let revision = store.revision();
        tokio::task::spawn_blocking(move || send(&store, &sender));
        Ok(Self { revision, checksum, len, pieces, permit })
    }

    /// Of the whole file.
    pub(crate) const fn len(&self) -> u64 {
        self.len + CHECKSUM_BYTES as u64
    }

    /// The file; its last piece is the checksum.
    pub(crate) fn pieces(self) -> impl Stream<Item = Result<Piece, Interrupted>> + Send {
        let Self { checksum, len, pieces, permit, .. } = self;
        stream::unfold(Some((pieces, len, permit)), move |state| async move {
            let (mut pieces, left, permit) = state?;
            match pieces.recv().await {
                Some(bytes) => {
                    let remaining = left - bytes.len() as u64;
                    Some((Ok(Piece { bytes, remaining }), Some((pieces, remaining, permit))))
                }
                None if left == 0 => {
                    let bytes = Bytes::copy_from_slice(&checksum);
                    Some((Ok(Piece { bytes, remaining: 0 }), None))
                }
                None => Some((Err(Interrupted), None)),
            }
        })
    }
}

fn write<E>(store: &Store, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    sink(MAGIC)?;
    store.encode_to(sink)
}

fn measure(store: &Store) -> (u64, [u8; CHECKSUM_BYTES]) {
    let (mut len, mut hash) = (0, Sha256::new());
    let outcome: Result<(), std::convert::Infallible> = write(store, |bytes| {
        len += bytes.len() as u64;
        hash.update(bytes);
        Ok(())
    });
    let Ok(()) = outcome;
    (len, hash.finalize().into())
}

fn send(store: &Store, sender: &mpsc::Sender<Bytes>) {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let outcome = write(store, |mut bytes| {
        while PIECE_BYTES <= piece.len() + bytes.len() {
            let (now, later) = bytes.split_at(PIECE_BYTES - piece.len());
            piece.extend_from_slice(now);
            bytes = later;
            let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES));
            // The reader may have left.
            sender.blocking_send(full.into()).map_err(|_| ControlFlow::<()>::Break(()))?;
        }
        piece.extend_from_slice(bytes);
        Ok::<_, ControlFlow<()>>(())
    });
    if outcome.is_ok() && !piece.is_empty() {
        let _left = sender.blocking_send(piece.into());
    }
}

/// The store in a backup, once its checksum has been found right.
pub fn read(file: &[u8]) -> Result<Store, BackupError> {
    if !file.starts_with(MAGIC) {
        return Err(BackupError::Foreign);
    }
    let body = file.len().checked_sub(CHECKSUM_BYTES).filter(|at| MAGIC.len() <= *at);
    let (body, checksum) = file.split_at(body.ok_or(BackupError::Checksum)?);
    if Sha256::digest(body)[..] != *checksum {
        return Err(BackupError::Checksum);
    }
    Ok(Store::decode(&body[MAGIC.len()..])?)
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;
    use crate::store::{Command, LeaseId, Op, Put, Stamp, Txn};

    fn store(keys: usize) -> Store {
        let mut store = Store::default();
        for at in 0..keys {
            let (key, value) = (format!("key {at}").into(), Some(vec![7; 1000].into()));
            let put = Put { key, value, lease: Some(LeaseId::NONE), previous: false };
            let stamp = Stamp { now_ms: 5, quota_bytes: u64::MAX };
            store.apply(stamp, Command::Txn(Txn::always(Op::Put(put))));
        }
        store
    }

    async fn file(store: &Store) -> Vec<u8> {
        let backup = Backup::start(&Backups::default(), Arc::new(store.clone())).await.unwrap();
        let (len, mut file) = (backup.len(), Vec::new());
        let mut pieces = std::pin::pin!(backup.pieces());
        while let Some(piece) = pieces.next().await {
            let piece = piece.unwrap();
            assert!(piece.bytes.len() <= PIECE_BYTES);
            file.extend_from_slice(&piece.bytes);
            let left = len - file.len() as u64;
            assert_eq!(piece.remaining, left.saturating_sub(CHECKSUM_BYTES as u64));
        }
        assert_eq!(file.len() as u64, len);
        file
    }

    #[tokio::test]
    async fn a_few_backups_are_read_at_a_time() {
        let (room, store) = (Backups::default(), Snapshot::default());
        let mut open = Vec::new();
        for _ in 0..BACKUPS_MAX {
            open.push(Box::pin(Backup::start(&room, store.clone()).await.unwrap().pieces()));
        }
        let refused = Backup::start(&room, store.clone()).await.err();
        assert!(matches!(refused, Some(BackupRefused::TooMany)));
        open.pop();
        assert!(Backup::start(&room, store).await.is_ok());
    }

    #[tokio::test]
    async fn a_backup_is_the_store() {
        for keys in [0, 1, 32, 100] {
            let store = store(keys);
            let read = read(&file(&store).await).unwrap();
            assert_eq!(read.encode(), store.encode());
        }
    }

    #[tokio::test]
    async fn a_damaged_backup_is_refused() {
        let file = file(&store(3)).await;
        for at in [0, 8, 100, file.len() - 1] {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert!(read(&damaged).is_err(), "byte {at}");
        }
        for len in [0, 7, 8, 39, file.len() - 1] {
            assert!(read(&file[..len]).is_err(), "{len} bytes");
        }
    }
}
