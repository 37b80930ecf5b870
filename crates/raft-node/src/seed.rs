//! Begins a group from a snapshot that did not come from its own log: a backup that is restored.
//!
//! A directory for a cluster of several is *planted*: it holds the snapshot and the names and peer
//! URLs of all founders, but no log, for the founders' ids are drawn with their directories and
//! known to nobody else yet. When they start they meet, as founders do, and each of them lets the
//! group begin with the same snapshot and the same members.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use consensus::{GroupId, HardState, Index, Membership, Term};
use serde::{Deserialize, Serialize};
use storage::snapshot::{Snapshot, SnapshotStore};
use storage::{FileSystem, RealFileSystem, Wal, Write};

use crate::Config;
use crate::error::OpenError;
use crate::groups::Groups;
use crate::identity::{self, Identity};
use crate::member::MemberInfo;
use crate::snapshots::Envelope;

/// Where a seeded group begins: as if its first entry, in the first term, had made the snapshot.
const FIRST: (Index, Term) = (Index(1), Term(1));
/// Holds what was planted, until the group has begun.
const DIR: &str = "seed";
/// Written last: without it nothing was planted.
const FOUNDERS: &str = "founders.json";
/// The longest list of founders, in bytes.
const FOUNDERS_MAX: usize = 1 << 20;

/// Why a group was not seeded. The directory is of no use then: remove it.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The log did not open.
    #[error(transparent)]
    Wal(#[from] storage::OpenError),
    /// The snapshot was not written, or cannot be read.
    #[error(transparent)]
    Snapshot(#[from] storage::snapshot::SnapshotError),
    /// The directory got no id.
    #[error(transparent)]
    Identity(#[from] OpenError),
    /// The founders were not written, or cannot be read.
    #[error("cannot use {}", path.display())]
    Founders {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
    /// The log took nothing.
    #[error("the log of the new data directory takes no writes")]
    Submit(#[from] storage::SubmitError),
    /// The log could not be made durable.
    #[error("the log of the new data directory could not be written")]
    Write(#[source] Arc<storage::WriteError>),
}

/// What was planted in a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// What this node is called.
    pub name: String,
    /// Peer URL of each founder by name, this one too.
    pub founders: BTreeMap<String, String>,
    /// The same for all directories of one cluster.
    pub digest: String,
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
    let Identity { node, .. } = identity::load_or_draw(&RealFileSystem, data_dir)?;
    let membership = Membership::of([(node, MemberInfo::default().encode())]);
    begin(&wal, &snapshots, group, membership, snapshot).await
}

/// Fills an empty data directory for one of several founders. Durable when it returns.
///
/// # Errors
///
/// When the directory cannot be written.
pub fn plant(
    data_dir: &Path,
    group: GroupId,
    (name, founders): (String, BTreeMap<String, String>),
    snapshot: Bytes,
) -> Result<(), SeedError> {
    let (dir, (index, term)) = (data_dir.join(DIR), FIRST);
    let path = dir.join(FOUNDERS);
    let failed = |source| SeedError::Founders { path: path.clone(), source };
    RealFileSystem.create_dir_all(data_dir).map_err(failed)?;
    identity::load_or_draw(&RealFileSystem, data_dir)?;
    let digest = format!("{:08x}-{}", crc32c::crc32c(&snapshot), snapshot.len());
    let store = SnapshotStore::open(Arc::new(RealFileSystem), &dir)?;
    store.save(group, &Snapshot { index, term, bytes: snapshot })?;
    let seed = Seed { name, founders, digest };
    let bytes = serde_json::to_vec(&seed).expect("names and addresses are plain data");
    let write = || {
        let temporary = path.with_extension("new");
        let file = RealFileSystem.create(&temporary)?;
        file.write_at(&bytes, 0)?;
        file.sync_data()?;
        RealFileSystem.rename(&temporary, &path)?;
        RealFileSystem.sync_dir(&dir)?;
        RealFileSystem.sync_dir(data_dir)
    };
    write().map_err(failed)
}

impl Seed {
    /// What was planted in a data directory, if the group has not begun yet.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn of(data_dir: &Path) -> Result<Option<Self>, SeedError> {
        let path = data_dir.join(DIR).join(FOUNDERS);
        let failed = |source| SeedError::Founders { path: path.clone(), source };
        let read = || {
            let file = RealFileSystem.open(&path)?;
            let mut bytes = vec![0; usize::try_from(file.size()?).unwrap_or(0).min(FOUNDERS_MAX)];
            file.read_at(&mut bytes, 0)?;
            Ok(serde_json::from_slice(&bytes)?)
        };
        match read() {
            Err(error) if std::io::Error::kind(&error) == std::io::ErrorKind::NotFound => Ok(None),
            seed => seed.map(Some).map_err(failed),
        }
    }
}

impl Groups {
    /// Lets a group begin with what was planted, and with these members, the same on each of them.
    /// To be started afterwards.
    ///
    /// # Errors
    ///
    /// When the seed cannot be read, or the disk takes nothing.
    pub async fn sow(&self, group: GroupId, members: Membership) -> Result<(), SeedError> {
        let dir = self.data_dir().join(DIR);
        let store = SnapshotStore::open(Arc::new(RealFileSystem), &dir)?;
        if !self.has(group)
            && let Some(snapshot) = store.load(group)?
        {
            begin(self.wal(), self.snapshots(), group, members, snapshot.bytes).await?;
        }
        let path = dir.join(FOUNDERS);
        let remove = RealFileSystem.remove(&path).and_then(|()| RealFileSystem.sync_dir(&dir));
        remove.map_err(|source| SeedError::Founders { path, source })?;
        Ok(store.remove(group)?)
    }
}

async fn begin(
    wal: &Wal,
    snapshots: &SnapshotStore,
    group: GroupId,
    members: Membership,
    snapshot: Bytes,
) -> Result<(), SeedError> {
    let (index, term) = FIRST;
    snapshots.save_with(group, FIRST, |file| {
        Envelope::write_head(&members, file)?;
        file.write_all(&snapshot)
    })?;
    let hard_state = HardState { term, commit: index, ..HardState::default() };
    let token = wal.submit(vec![
        Write::reset(group, index.next(), term),
        Write::HardState { group, hard_state },
    ])?;
    let mut durable = wal.durable();
    let reached = durable.wait_for(|durable| durable.failed.is_some() || token <= durable.token);
    match reached.await.ok().and_then(|durable| durable.failed.clone()) {
        Some(error) => Err(SeedError::Write(error)),
        None => Ok(()),
    }
}
