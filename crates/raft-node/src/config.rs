//! Settings of the host of groups.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::cluster::Cluster;
use crate::error::OpenError;

/// What may have to go to the log together with a command.
const COMMAND_OVERHEAD: usize = 4096;

/// How a process keeps its groups. Every limit is named here.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the log (`wal/`) and the snapshots (`snapshots/`) live. Locked by one process.
    pub data_dir: PathBuf,
    /// The log's own settings.
    pub wal: storage::Config,
    /// The longest command, in bytes. A longer one is refused with `TooLarge`. At least 4 KiB less
    /// than `wal.queue_bytes`.
    pub max_command_bytes: usize,
    /// A group whose log grew by this many bytes since its last snapshot, and by as many as that
    /// one has, takes a new one.
    pub snapshot_bytes: u64,
    /// The same after this many entries.
    pub snapshot_entries: u64,
    /// A group that changed since its last snapshot takes a new one after this time, so that what
    /// its machine let go leaves the disk also when little is written.
    pub snapshot_interval: Duration,
    /// Which cluster this node belongs to: nodes of another one are refused. 0 for a node that has
    /// no peers.
    pub cluster_id: u64,
    /// How often nodes tell each other that they live, in milliseconds.
    pub heartbeat_ms: u64,
    /// A node that was not heard for so many milliseconds is down, and what it led is led by
    /// another one soon after.
    pub election_ms: u64,
    /// Members of a group that are to stay learners.
    pub max_learners: usize,
    /// How fast a node whose log lacks entries that its machine reads is given them, in bytes per
    /// second, each group: a move must not take the disks from those who work.
    pub fill_bytes_per_second: u64,
    /// What a leader makes of a command that another node has passed on, before it gets its place.
    /// Commands that carry the time get the leader's here.
    pub adopt: Adopt,
}

/// See [`Config::adopt`].
#[derive(Clone)]
pub struct Adopt(Arc<dyn Fn(Bytes) -> Bytes + Send + Sync>);

impl Adopt {
    /// Called by the driver: it has to be quick, and must not block.
    pub fn new(adopt: impl Fn(Bytes) -> Bytes + Send + Sync + 'static) -> Self {
        Self(Arc::new(adopt))
    }

    pub(crate) fn adopt(&self, command: Bytes) -> Bytes {
        (self.0)(command)
    }
}

impl Default for Adopt {
    /// Takes commands as they are.
    fn default() -> Self {
        Self::new(|command| command)
    }
}

impl fmt::Debug for Adopt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Adopt").finish_non_exhaustive()
    }
}

impl Config {
    /// Takes over what a cluster's members have in common.
    pub fn join(&mut self, cluster: &Cluster) {
        self.cluster_id = cluster.id();
        self.heartbeat_ms = cluster.heartbeat_ms;
        self.election_ms = cluster.election_ms;
    }

    /// Says what cannot work.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let max = self.max_command_bytes;
        let most = self.wal.queue_bytes.saturating_sub(COMMAND_OVERHEAD);
        if most < max { Err(OpenError::Commands { max, most }) } else { Ok(()) }
    }

    /// The defaults over a data directory: commands up to 15 MiB, a snapshot every 16 MiB of log,
    /// 100,000 entries or five minutes.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            wal: storage::Config::default(),
            max_command_bytes: 15 << 20,
            snapshot_bytes: 16 << 20,
            snapshot_entries: 100_000,
            snapshot_interval: Duration::from_secs(300),
            cluster_id: 0,
            heartbeat_ms: 100,
            election_ms: 1000,
            max_learners: 1,
            fill_bytes_per_second: 64 << 20,
            adopt: Adopt::default(),
        }
    }
}
