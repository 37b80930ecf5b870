//! The machines of `messaging` as groups that `raft-node` drives.

use std::ops::RangeInclusive;

use crate::replies::Waiters;
use consensus::Index;
use messaging::catalog::{Catalog, CatalogReply};
use messaging::ids::Epoch;
use messaging::partition::{Partition, PartitionReply};
use messaging::queue::{Queue, QueueReply};
use messaging::stream::{StreamReply, Streams};
use raft_node::{Encode, Entry, RestoreError, StateMachine};

use crate::streams::Bells;

/// What exists.
#[derive(Debug, Default)]
pub(crate) struct CatalogMachine(pub Catalog);

/// One partition of a topic.
#[derive(Debug, Default)]
pub(crate) struct PartitionMachine(pub Partition);

/// One queue.
#[derive(Debug, Default)]
pub(crate) struct QueueMachine(pub Queue, pub Waiters);

/// The streams of one group, and who waits for them on this node.
#[derive(Debug, Default)]
pub(crate) struct StreamsMachine {
    pub streams: Streams,
    pub bells: Bells,
}

/// A machine whose leader hands out messages.
pub(crate) trait Hosted: StateMachine + Default {
    /// From now on this node leads; `epoch` names this life of it.
    fn lead(&mut self, epoch: Epoch);
    /// It leads no more: what it knew alone is forgotten.
    fn follow(&mut self);
}

impl StateMachine for CatalogMachine {
    type Reply = CatalogReply;

    fn apply(&mut self, entry: &Entry) -> CatalogReply {
        self.0.apply(&entry.payload)
    }

    fn snapshot(&self) -> Encode {
        let encode = self.0.snapshot();
        Box::new(move |file| file.write_all(&encode()))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.0.restore(snapshot).map_err(unreadable)
    }
}

impl StateMachine for PartitionMachine {
    type Reply = PartitionReply;

    fn apply(&mut self, entry: &Entry) -> PartitionReply {
        self.0.apply(entry.index, &entry.payload)
    }

    fn snapshot(&self) -> Encode {
        let encode = self.0.snapshot();
        Box::new(move |file| file.write_all(&encode()))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.0.restore(snapshot).map_err(unreadable)
    }

    fn retained(&self) -> Vec<RangeInclusive<Index>> {
        self.0.retained()
    }
}

impl Hosted for PartitionMachine {
    fn lead(&mut self, epoch: Epoch) {
        self.0.lead(epoch);
    }

    fn follow(&mut self) {
        self.0.follow();
    }
}

impl StateMachine for QueueMachine {
    type Reply = QueueReply;

    fn apply(&mut self, entry: &Entry) -> QueueReply {
        let reply = self.0.apply(entry.index, &entry.payload);
        for answered in self.0.take_answered() {
            self.1.wake(answered);
        }
        reply
    }

    fn snapshot(&self) -> Encode {
        let encode = self.0.snapshot();
        Box::new(move |file| file.write_all(&encode()))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.0.restore(snapshot).map_err(unreadable)
    }

    fn retained(&self) -> Vec<RangeInclusive<Index>> {
        self.0.retained()
    }
}

impl Hosted for QueueMachine {
    fn lead(&mut self, epoch: Epoch) {
        self.0.lead(epoch);
    }

    fn follow(&mut self) {
        self.0.follow();
        // They look for the next leader.
        self.1.clear();
    }
}

impl StateMachine for StreamsMachine {
    type Reply = StreamReply;

    fn apply(&mut self, entry: &Entry) -> StreamReply {
        let reply = self.streams.apply(entry.index, &entry.payload);
        self.bells.ring(self.streams.touched());
        reply
    }

    fn snapshot(&self) -> Encode {
        let encode = self.streams.snapshot();
        Box::new(move |file| file.write_all(&encode()))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.bells.ring_all();
        self.streams.restore(snapshot).map_err(unreadable)
    }

    fn retained(&self) -> Vec<RangeInclusive<Index>> {
        self.streams.retained()
    }
}

impl Hosted for StreamsMachine {
    fn lead(&mut self, epoch: Epoch) {
        self.streams.lead(epoch);
    }

    /// What a former leader heard of readers is of no use to anybody.
    fn follow(&mut self) {}
}

fn unreadable(error: messaging::snapshot::SnapshotError) -> RestoreError {
    use std::error::Error as _;
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    RestoreError { reason: format!("{error}{cause}") }
}
