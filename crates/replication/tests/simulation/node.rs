//! One node: a core, a disk that forgets what was not synced, and an engine.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use replication::command::{Command, Record};
use replication::digest::{Digest, Sum};
use replication::{
    Effect, Entry, Epoch, Epochs, Fault, Hash, Head, Index, IoToken, Primary, Recovered, Replica,
};

pub(crate) const GROUP: &str = "sim";

pub(crate) enum Core {
    Primary(Primary),
    Replica(Replica),
}

/// What a write to the disk does once it is synced.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    KeepEpoch(Epoch),
    Append(Vec<Entry>),
    Truncate(Head),
}

/// Committed state. Applied atomically, so it survives crashes as it is.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) applied: Head,
    pub(crate) birth: Option<Hash>,
    pub(crate) epochs: Epochs,
    records: BTreeMap<Bytes, Record>,
    digest: Digest,
}

impl Engine {
    fn new() -> Self {
        Self {
            applied: Head::genesis(GROUP),
            birth: None,
            epochs: Epochs::default(),
            records: BTreeMap::new(),
            digest: Digest::default(),
        }
    }

    pub(crate) fn apply(&mut self, entry: &Entry) {
        assert!(entry.follows(&self.applied), "the engine is fed its own history");
        let command = Command::decode(entry.position, &entry.command).expect("we encoded it");
        for (key, new) in command.mutations(entry.position) {
            let old = self.records.get(&key).cloned();
            self.digest.replace(&key, old.as_ref(), new.as_ref());
            match new {
                Some(record) => self.records.insert(key, record),
                None => self.records.remove(&key),
            };
        }
        if entry.position.index == Index(1) {
            self.birth = Some(entry.hash);
        }
        self.epochs.push(entry.position);
        self.applied = entry.head();
    }

    pub(crate) fn root(&self) -> Sum {
        self.digest.root()
    }
}

pub(crate) struct Node {
    /// Nothing while it is down.
    pub(crate) core: Option<Core>,
    pub(crate) engine: Engine,
    /// The log as the process sees it; the first `synced` operations of it are on disk.
    pub(crate) log: Vec<Entry>,
    /// Entries up to here are compacted away.
    pub(crate) base: Index,
    epoch: Epoch,
    disk: Vec<Entry>,
    disk_base: Index,
    disk_epoch: Epoch,
    pub(crate) pending: VecDeque<(IoToken, Op)>,
    pub(crate) fault: Option<Fault>,
    /// How often it crashed.
    pub(crate) crashes: u32,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self {
            core: None,
            engine: Engine::new(),
            log: Vec::new(),
            base: Index::ZERO,
            epoch: Epoch(0),
            disk: Vec::new(),
            disk_base: Index::ZERO,
            disk_epoch: Epoch(0),
            pending: VecDeque::new(),
            fault: None,
            crashes: 0,
        }
    }

    /// What a start finds.
    pub(crate) fn recovered(&self) -> Recovered {
        let mut epochs = self.engine.epochs.clone();
        let newer =
            self.log.iter().filter(|entry| self.engine.applied.index() < entry.position.index);
        newer.for_each(|entry| epochs.push(entry.position));
        Recovered {
            epoch: self.epoch,
            head: self.head(),
            commit: self.engine.applied.index(),
            epochs,
        }
    }

    pub(crate) fn start_replica(&mut self, name: String) {
        let birth = self.engine.birth.or_else(|| self.log.first().map(|entry| entry.hash));
        let birth = birth.filter(|_| self.head().index() != Index::ZERO);
        let base = self.base;
        let replica = Replica::new((GROUP.to_owned(), name), self.recovered(), birth, base);
        self.core = Some(Core::Replica(replica));
    }

    /// Where the log ends, on disk or not.
    pub(crate) fn head(&self) -> Head {
        self.log.last().map_or(self.engine.applied, Entry::head)
    }

    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.base.0 + 1)?;
        self.log.get(offset as usize)
    }

    pub(crate) fn head_at(&self, index: Index) -> Option<Head> {
        if index == Index::ZERO {
            return Some(Head::genesis(GROUP));
        }
        let applied = self.engine.applied;
        (index == applied.index()).then_some(applied).or_else(|| self.entry(index).map(Entry::head))
    }

    /// Takes an operation of the core. It is on disk after a sync.
    pub(crate) fn write(&mut self, token: IoToken, op: Op) {
        match &op {
            Op::KeepEpoch(epoch) => self.epoch = *epoch,
            Op::Append(entries) => self.log.extend(entries.iter().cloned()),
            Op::Truncate(last) => self.log.truncate((last.index().0 - self.base.0) as usize),
        }
        self.pending.push_back((token, op));
    }

    /// Makes the oldest operation durable. Returns its token.
    pub(crate) fn sync(&mut self) -> Option<IoToken> {
        let (token, op) = self.pending.pop_front()?;
        match op {
            Op::KeepEpoch(epoch) => self.disk_epoch = epoch,
            Op::Append(entries) => self.disk.extend(entries),
            Op::Truncate(last) => {
                self.disk.truncate((last.index().0 - self.disk_base.0) as usize);
            }
        }
        Some(token)
    }

    /// The process dies. Of what was not synced, nothing is left.
    pub(crate) fn crash(&mut self) {
        self.core = None;
        self.crashes += 1;
        self.pending.clear();
        self.log.clone_from(&self.disk);
        self.base = self.disk_base;
        self.epoch = self.disk_epoch;
    }

    /// Drops log that the engine covers. In the simulation at once durable.
    pub(crate) fn compact(&mut self, through: Index) {
        let through = through.min(self.engine.applied.index());
        // What is on its way to the disk would land in the wrong place.
        if self.base < through && self.pending.is_empty() {
            let gone = (through.0 - self.base.0) as usize;
            self.log.drain(..gone);
            self.disk.drain(..gone);
            (self.base, self.disk_base) = (through, through);
            if let Some(Core::Replica(replica)) = &mut self.core {
                replica.compacted(through);
            }
        }
    }

    /// A snapshot takes the place of everything.
    pub(crate) fn install(&mut self, engine: Engine) {
        while self.sync().is_some() {}
        let at = engine.applied;
        self.engine = engine;
        self.log.clear();
        self.disk.clear();
        (self.base, self.disk_base) = (at.index(), at.index());
        if let Some(Core::Replica(replica)) = &mut self.core {
            replica.installed(at, self.engine.birth, self.engine.epochs.clone());
        }
    }

    pub(crate) fn commit(&self) -> Option<Index> {
        match self.core.as_ref()? {
            Core::Primary(primary) => Some(primary.commit()),
            Core::Replica(replica) => Some(replica.commit()),
        }
    }

    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        match &mut self.core {
            Some(Core::Primary(primary)) => primary.take_effects(),
            Some(Core::Replica(replica)) => replica.take_effects(),
            None => Vec::new(),
        }
    }

    pub(crate) fn persisted(&mut self, token: IoToken) {
        match &mut self.core {
            Some(Core::Primary(primary)) => primary.persisted(token),
            Some(Core::Replica(replica)) => replica.persisted(token),
            None => (),
        }
    }
}
