//! What surrounds a core on its node: disk and machine, and the effects that concern them.

use std::sync::Arc;

use consensus::{Config, Effect, Index, Membership, Message, NodeId, Raft, ReadId, SnapshotMeta};

use super::disk::{Disk, Snapshot};
use super::machine::Machine;

/// What a node wants of others.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Send {
        to: NodeId,
        message: Message,
    },
    ReadReady {
        reads: Vec<ReadId>,
        index: Index,
    },
    ReadFailed {
        reads: Vec<ReadId>,
    },
    Load {
        from: Index,
        through: Index,
        max_bytes: usize,
    },
    Fetch {
        from: NodeId,
        snapshot: SnapshotMeta,
    },
    /// Something was given to the disk.
    Sync,
    Poison(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) id: NodeId,
    pub(crate) disk: Disk,
    pub(crate) machine: Machine,
    /// What the core says is committed.
    pub(crate) commit: Index,
    /// What it fetched and has not installed yet.
    pub(crate) fetched: Option<Snapshot>,
    /// As the core last told it.
    pub(crate) membership: Arc<Membership>,
}

impl Store {
    pub(crate) fn new(id: NodeId, founders: Option<&Membership>) -> Self {
        Self {
            id,
            disk: Disk::new(founders),
            machine: Machine::default(),
            commit: Index::ZERO,
            fetched: None,
            membership: Arc::default(),
        }
    }

    /// Starts from what the disk holds.
    pub(crate) fn start(&mut self, config: Config, now_ms: u64, seed: u64) -> Raft {
        let snapshot = self.disk.snapshot.as_ref();
        self.machine = snapshot.map_or_else(Machine::default, |snapshot| snapshot.machine.clone());
        self.commit = self.machine.applied;
        let restored = self.disk.restored();
        self.membership =
            restored.memberships.last().map_or_else(Arc::default, |(_, newest)| newest.clone());
        Raft::new(config, restored, now_ms, seed)
    }

    /// The process ends, and with it what was not durable.
    pub(crate) fn crash(&mut self) {
        self.fetched = None;
        self.disk.crash();
    }

    /// The node is no member any more, and its process has ended.
    pub(crate) fn leave(&mut self) {
        self.disk.leave();
        self.machine = Machine::default();
        self.commit = Index::ZERO;
    }

    /// Does what it can by itself, and says what others have to do.
    pub(crate) fn perform(&mut self, effect: Effect) -> Option<Wish> {
        Some(match effect {
            Effect::Persist(persist) => {
                self.disk.submit(persist);
                Wish::Sync
            }
            Effect::Install { ticket, snapshot } => {
                let fetched = self.fetched.take().expect("only what was fetched is installed");
                assert_eq!(fetched.meta, snapshot, "the snapshot that was fetched");
                self.machine = fetched.machine.clone();
                self.commit = self.commit.max(fetched.meta.index);
                self.disk.submit_install(ticket, fetched);
                Wish::Sync
            }
            Effect::Commit { through } => {
                self.commit = self.commit.max(through);
                return None;
            }
            Effect::Membership { membership, .. } => {
                self.membership = membership;
                return None;
            }
            Effect::Leader { .. } => return None,
            Effect::Send { to, message } => Wish::Send { to, message },
            Effect::ReadReady { reads, index } => Wish::ReadReady { reads, index },
            Effect::ReadFailed { reads } => Wish::ReadFailed { reads },
            Effect::Load { from, through, max_bytes } => Wish::Load { from, through, max_bytes },
            Effect::Fetch { from, snapshot } => Wish::Fetch { from, snapshot },
            Effect::Poison { reason } => Wish::Poison(reason),
        })
    }

    /// A snapshot has arrived.
    pub(crate) fn handle_fetched(&mut self, raft: &mut Raft, snapshot: Snapshot) {
        let meta = snapshot.meta.clone();
        self.fetched = Some(snapshot);
        raft.handle_fetched(meta);
    }

    /// Applies the next entry if it is committed.
    pub(crate) fn apply_one(&mut self) -> Result<bool, String> {
        if self.commit <= self.machine.applied {
            return Ok(false);
        }
        let next = self.machine.applied.next();
        let Some(entry) = self.disk.entry(next) else {
            return Err(format!("{} was told that {next} is committed, but lacks it", self.id));
        };
        self.machine.apply(entry);
        Ok(true)
    }

    /// Makes a snapshot of what is applied and cuts the log, all but `keep` entries. False if
    /// there is nothing to cut.
    pub(crate) fn compact(&mut self, raft: &mut Raft, keep: u64) -> Result<bool, String> {
        let applied = self.machine.applied;
        let newest = self.disk.snapshot.as_ref().map_or(Index::ZERO, |newest| newest.meta.index);
        if applied <= newest || self.disk.is_installing() {
            return Ok(false);
        }
        let Some(meta) = raft.snapshot_meta(applied) else {
            return Err(format!("{} has applied {applied} and lost its term", self.id));
        };
        let machine = self.machine.clone();
        self.disk.snapshot = Some(Snapshot { meta: meta.clone(), machine });
        raft.handle_snapshotted(meta, Index(applied.0.saturating_sub(keep)));
        self.disk.compact(raft.status().base);
        Ok(true)
    }
}
