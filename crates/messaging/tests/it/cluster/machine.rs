//! The machine of a group, whichever it is.

use std::ops::RangeInclusive;

use bytes::Bytes;
use consensus::{Entry, EntryKind, Index};
use messaging::catalog::{Catalog, CatalogReply};
use messaging::frame::{self, Decoded, Record, RecordSize};
use messaging::ids::Epoch;
use messaging::partition::{Partition, PartitionCommand, PartitionReply};
use messaging::queue::{Queue, QueueReply, Stored};

use super::disk::{Disk, Ranges};

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there are a few of them")]
pub(super) enum Machine {
    Catalog(Catalog),
    Queue(Queue),
    Partition(Partition),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Catalog(CatalogReply),
    Queue(QueueReply),
    Partition(PartitionReply),
    /// Not a command.
    Nothing,
}

impl Machine {
    /// An empty one of the same kind.
    pub(super) fn fresh(&self) -> Self {
        match self {
            Self::Catalog(_) => Self::Catalog(Catalog::default()),
            Self::Queue(_) => Self::Queue(Queue::new()),
            Self::Partition(_) => Self::Partition(Partition::new()),
        }
    }

    pub(super) fn apply(&mut self, entry: &Entry) -> Reply {
        if entry.kind != EntryKind::Command {
            return Reply::Nothing;
        }
        match self {
            Self::Catalog(catalog) => Reply::Catalog(catalog.apply(&entry.payload)),
            Self::Queue(queue) => Reply::Queue(queue.apply(entry.index, &entry.payload)),
            Self::Partition(one) => Reply::Partition(one.apply(entry.index, &entry.payload)),
        }
    }

    pub(super) fn snapshot(&self) -> Vec<u8> {
        match self {
            Self::Catalog(catalog) => catalog.snapshot()(),
            Self::Queue(queue) => queue.snapshot()(),
            Self::Partition(partition) => partition.snapshot()(),
        }
    }

    pub(super) fn restore(&mut self, snapshot: &[u8]) {
        match self {
            Self::Catalog(catalog) => catalog.restore(snapshot),
            Self::Queue(queue) => queue.restore(snapshot),
            Self::Partition(partition) => partition.restore(snapshot),
        }
        .expect("a snapshot is what was encoded");
    }

    /// The entries that it reads, up to the last one that it has applied.
    pub(super) fn retained(&self, applied: Index) -> Ranges {
        let all = match self {
            Self::Catalog(_) => Vec::new(),
            Self::Queue(queue) => queue.retained(),
            Self::Partition(partition) => partition.retained(),
        };
        let until = |range: &RangeInclusive<Index>| *range.start()..=applied.min(*range.end());
        all.iter().map(until).filter(|range| !range.is_empty()).collect()
    }

    pub(super) fn lead(&mut self, epoch: Epoch) {
        match self {
            Self::Catalog(_) => (),
            Self::Queue(queue) => queue.lead(epoch),
            Self::Partition(partition) => partition.lead(epoch),
        }
    }

    pub(super) fn follow(&mut self) {
        match self {
            Self::Catalog(_) => (),
            Self::Queue(queue) => queue.follow(),
            Self::Partition(partition) => partition.follow(),
        }
    }
}

/// A queued message, read from the log.
pub(super) fn stored(disk: &Disk, stored: &Stored) -> Option<Record> {
    let entry = disk.log.get(&stored.index)?;
    frame::record(&entry.payload, stored.at as usize, stored.size)
}

/// A published message, read from the log.
pub(super) fn published(disk: &Disk, partition: &Partition, offset: u64) -> Option<Record> {
    let span = partition.spans().at(messaging::ids::Offset(offset))?;
    let mut next = span.first.0;
    for index in span.first_index.0..=span.last_index.0 {
        let entry = disk.log.get(&Index(index))?;
        let Some((sizes, at)) = sizes(entry) else { continue };
        let count = sizes.len() as u64;
        if offset < next + count {
            let before = &sizes[..usize::try_from(offset - next).ok()?];
            let skip: u64 = before.iter().map(|size| size.total()).sum();
            let at = at + usize::try_from(skip).ok()?;
            return frame::record(&entry.payload, at, sizes[before.len()]);
        }
        next += count;
    }
    None
}

fn sizes(entry: &Entry) -> Option<(Vec<RecordSize>, usize)> {
    if entry.kind != EntryKind::Command {
        return None;
    }
    let Decoded { command, records, .. } = frame::decode(&entry.payload).ok()?;
    match command {
        PartitionCommand::Publish { sizes, .. } | PartitionCommand::PublishAs { sizes, .. } => {
            Some((sizes, records))
        }
        _ => None,
    }
}

/// What is in a message.
pub(super) fn body_of(record: &Record) -> u64 {
    std::str::from_utf8(&record.body).ok().and_then(|body| body.parse().ok()).unwrap_or(u64::MAX)
}

/// The bodies that a command carries.
pub(super) fn bodies(payload: &Bytes, sizes: &[RecordSize], mut at: usize) -> Vec<u64> {
    let read = |size: &RecordSize| {
        let record = frame::record(payload, at, *size);
        at += usize::try_from(size.total()).expect("it is small");
        record.as_ref().map_or(u64::MAX, body_of)
    };
    sizes.iter().map(read).collect()
}
