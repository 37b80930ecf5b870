//! Begins a group from a snapshot that did not come from its own log: a backup that is restored.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use consensus::{GroupId, HardState, Index, Membership, Term};
use storage::snapshot::{Snapshot, SnapshotStore};
use storage::{RealFileSystem, Wal, Write};

use crate::error::OpenError;
use crate::member::MemberInfo;
use crate::snapshots::Envelope;
use crate::{Config, identity};

/// Where a seeded group begins: as if its first entry, in the first term, had made the snapshot.
const FIRST: (Index, Term) = (Index(1), Term(1));

/// Why a group was not seeded. The directory is of no use then: remove it.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The log did not open.
    #[error(transparent)]
    Wal(#[from] storage::OpenError),
    /// The snapshot was not written.
    #[error(transparent)]
    Snapshot(#[from] storage::snapshot::SnapshotError),
    /// The directory got no id.
    #[error(transparent)]
    Identity(#[from] OpenError),
    /// The log took nothing.
    #[error("the log of the new data directory takes no writes")]
    Submit(#[from] storage::SubmitError),
    /// The log could not be made durable.
    #[error("the log of the new data directory could not be written")]
    Write(#[source] Arc<storage::WriteError>),
}

/// Fills an empty data directory so that `group` starts with this snapshot, with this node as its
/// only member. Durable when it returns.
///
/// # Errors
///
/// When the directory is in use or cannot be written.
pub async fn seed(data_dir: &Path, group: GroupId, snapshot: Bytes) -> Result<(), SeedError> {
    let config = Config::new(data_dir.to_owned());
    let file_system = Arc::new(RealFileSystem);
    let (wal, _recovery) = Wal::open(file_system.clone(), &data_dir.join("wal"), config.wal)?;
    let snapshots = SnapshotStore::open(file_system, &data_dir.join("snapshots"))?;
    let (index, term) = FIRST;
    let node = identity::load_or_draw(&RealFileSystem, data_dir)?.node;
    let membership = Arc::new(Membership::of([(node, MemberInfo::default().encode())]));
    let bytes = Envelope { membership, machine: snapshot }.encode();
    snapshots.save(group, &Snapshot { index, term, bytes })?;
    let hard_state = HardState { term, voted_for: None, commit: index };
    let token = wal.submit(vec![
        Write::Reset { group, next: index.next(), term },
        Write::HardState { group, hard_state },
    ])?;
    let mut durable = wal.durable();
    let reached = durable.wait_for(|durable| durable.failed.is_some() || token <= durable.token);
    match reached.await.ok().and_then(|durable| durable.failed.clone()) {
        Some(error) => Err(SeedError::Write(error)),
        None => Ok(()),
    }
}
