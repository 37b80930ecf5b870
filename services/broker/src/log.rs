//! Messages read back from the log: of a partition by its spans, of a queue by log index.

use bytes::Bytes;
use consensus::Index;
use messaging::frame::{self, Decoded, Record};
use messaging::ids::{Millis, Offset};
use messaging::partition::{PartitionCommand, Span};
use messaging::queue::Stored;
use raft_node::{Entry, Group};
use serde::{Deserialize, Serialize};

use crate::error::LogError;
use crate::hub::Place;
use crate::recent::Recent;
use crate::state_machine::{PartitionMachine, QueueMachine};

/// Bytes asked of the log at once.
const READ_BYTES: usize = 1 << 20;
/// What an entry takes besides its records, roughly; only sizes a read.
const ENTRY_BYTES: usize = 256;

/// A message of a partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Published {
    /// Where it is.
    pub offset: u64,
    /// When it was taken.
    pub at_ms: Millis,
    /// What was published.
    pub record: Record,
}

/// Reads the messages of these spans, oldest first, as long as `want` says so. Messages that
/// retention has dropped meanwhile are left out.
pub(crate) async fn published(
    group: &Group<PartitionMachine>,
    spans: &[Span],
    mut want: impl FnMut(u64) -> Want,
) -> Result<Vec<Published>, LogError> {
    let mut found = Vec::new();
    for span in spans {
        let mut walk = Walk { offset: span.first.0, at_ms: span.first_ms };
        let mut next = span.first_index;
        while next <= span.last_index {
            let left = (span.last_index.0 - next.0 + 1) as usize;
            let bytes = (span.bytes as usize + left * ENTRY_BYTES).min(READ_BYTES);
            let back = group.read(next, bytes).await?;
            // Dropped since the span was looked up: with a gap there is no counting on.
            if back.next == next || back.gap.is_some_and(|gap| gap <= span.last_index) {
                break;
            }
            next = back.next;
            for entry in back.entries.iter().take_while(|entry| entry.index <= span.last_index) {
                if !walk.entry(&entry.payload, &mut want, &mut found)? {
                    return Ok(found);
                }
            }
        }
    }
    Ok(found)
}

/// Reads messages of a span from a place on, about so many bytes of them, and the place behind
/// them. A place that is not in the span's log is found by counting from its beginning.
pub(crate) async fn read_on(
    group: &Group<PartitionMachine>,
    span: &Span,
    from: Place,
    bytes: usize,
) -> Result<(Vec<Published>, Place), LogError> {
    let is_within =
        span.first.0 < from.offset && (span.first_index..=span.last_index).contains(&from.index);
    let (mut walk, mut index) = if is_within {
        (Walk { offset: from.offset, at_ms: from.at_ms }, from.index)
    } else {
        (Walk { offset: span.first.0, at_ms: span.first_ms }, span.first_index)
    };
    let mut found = Vec::new();
    let mut want = |offset| if offset < from.offset { Want::Skip } else { Want::Take };
    while index <= span.last_index && found.is_empty() {
        let back = group.read(index, bytes).await?;
        if back.next == index || back.gap.is_some_and(|gap| gap <= span.last_index) {
            break;
        }
        // What comes after the span may be in it later.
        index = back.next.min(span.last_index.next());
        for entry in back.entries.iter().take_while(|entry| entry.index <= span.last_index) {
            walk.entry(&entry.payload, &mut want, &mut found)?;
        }
    }
    let offset = walk.offset.max(from.offset);
    Ok((found, Place { offset, index, at_ms: walk.at_ms }))
}

/// What to do with a message on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Take it.
    Take,
    /// Go on.
    Skip,
    /// Neither it nor anything after it.
    Stop,
}

struct Walk {
    offset: u64,
    at_ms: Millis,
}

impl Walk {
    fn entry(
        &mut self,
        payload: &Bytes,
        want: &mut impl FnMut(u64) -> Want,
        found: &mut Vec<Published>,
    ) -> Result<bool, LogError> {
        let Decoded { stamp, command, records: mut at } =
            frame::decode(payload).map_err(|_| LogError::Unreadable { source: None })?;
        // As the machine does it, with every command.
        self.at_ms = self.at_ms.max(stamp);
        let (PartitionCommand::Publish { sizes, .. } | PartitionCommand::PublishAs { sizes, .. }) =
            command
        else {
            return Ok(true);
        };
        for size in sizes {
            match want(self.offset) {
                Want::Stop => return Ok(false),
                Want::Skip => (),
                Want::Take => {
                    let record = frame::record(payload, at, size);
                    let record = record.ok_or(LogError::Unreadable { source: None })?;
                    found.push(Published { offset: self.offset, at_ms: self.at_ms, record });
                }
            }
            self.offset += 1;
            at += size.total() as usize;
        }
        Ok(true)
    }
}

/// The offset of the first message published at this time or later.
pub(crate) async fn offset_at(
    group: &Group<PartitionMachine>,
    time: Millis,
) -> Result<Offset, LogError> {
    let (span, next) =
        group.query(move |machine| (machine.0.spans().since(time), machine.0.next())).await?;
    let Some(span) = span else { return Ok(next) };
    let messages = published(group, &[span], |_| Want::Take).await?;
    let first = messages.iter().find(|message| time <= message.at_ms);
    Ok(first.map_or(Offset(span.end()), |message| Offset(message.offset)))
}

/// Reads messages of a queue, in the order they are given.
pub(crate) async fn stored(
    group: &Group<QueueMachine>,
    wanted: &[&Stored],
    recent: &Recent,
) -> Result<Vec<Record>, LogError> {
    let mut indexes: Vec<Index> = wanted.iter().map(|stored| stored.index).collect();
    indexes.sort_unstable();
    indexes.dedup();
    let bytes: u64 = wanted.iter().map(|stored| stored.size.total()).sum();
    let entries = entries(group, &indexes, bytes as usize, recent).await?;
    if let [one] = &entries[..]
        && 2 * bytes < one.payload.len() as u64
    {
        // The rest of a batch is likely to be asked for next.
        recent.keep(group.id(), one);
    }
    let record = |stored: &&Stored| {
        let at = entries.binary_search_by_key(&stored.index, |entry| entry.index).ok()?;
        frame::record(&entries[at].payload, stored.at as usize, stored.size)
    };
    wanted
        .iter()
        .map(|stored| record(stored).ok_or(LogError::Unreadable { source: None }))
        .collect()
}

/// The entries at these indexes, which ascend. Neighbours are read together.
async fn entries(
    group: &Group<QueueMachine>,
    indexes: &[Index],
    bytes: usize,
    recent: &Recent,
) -> Result<Vec<Entry>, LogError> {
    let mut found: Vec<Entry> = Vec::with_capacity(indexes.len());
    while let Some(next) = indexes.get(found.len()) {
        if let Some(entry) = recent.get(group.id(), *next) {
            found.push(entry);
            continue;
        }
        let run = indexes[found.len()..].windows(2).take_while(|w| w[0].0 + 1 == w[1].0).count();
        let budget = if run == 0 { 1 } else { (bytes + run * ENTRY_BYTES).min(READ_BYTES) };
        let entries = group.read(*next, budget).await?.entries;
        let before = found.len();
        for entry in entries {
            if indexes.get(found.len()) == Some(&entry.index) {
                found.push(entry);
            }
        }
        if found.len() == before {
            return Err(LogError::Unreadable { source: None });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use messaging::frame::{Envelope, Records};
    use raft_node::{Config, Groups, Host};
    use telemetry::metrics::Registry;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;

    const GROUP: consensus::GroupId = consensus::GroupId(7);

    /// One life of a partition. It begins with a blank entry in the log.
    struct Life {
        groups: Groups,
        group: Group<PartitionMachine>,
        tasks: TaskTracker,
        stop: CancellationToken,
    }

    impl Life {
        async fn begin(dir: &std::path::Path) -> Self {
            let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
            let host = Host {
                tasks: tasks.clone(),
                stop: stop.clone(),
                links: stop.clone(),
                metrics: Registry::default(),
            };
            let groups = Groups::open(Config::new(dir.to_owned()), host).unwrap();
            let group = groups.start(GROUP, PartitionMachine::default()).await.unwrap();
            Self { groups, group, tasks, stop }
        }

        async fn publish(&self, body: &[u8]) {
            let mut records = Records::default();
            records.push(&Envelope::default(), body);
            let sizes = records.sizes.clone();
            let command = PartitionCommand::Publish { idempotency_key: None, sizes };
            self.group.propose(frame::encode(1, &command, &records)).await.unwrap();
        }

        async fn end(self) {
            let Self { groups, group, tasks, stop } = self;
            stop.cancel();
            drop((groups, group));
            tasks.close();
            tasks.wait().await;
        }
    }

    /// Also when what is read at once ends just before an entry that is no command.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_span_is_read_through_a_restart_in_its_middle() {
        let dir = tempfile::tempdir().unwrap();
        let body = vec![b'x'; 2_000];
        let first = Life::begin(dir.path()).await;
        first.publish(&body).await;
        first.end().await;
        let second = Life::begin(dir.path()).await;
        second.publish(&body).await;
        second.publish(&body).await;
        let look = |machine: &PartitionMachine| machine.0.spans().from(Offset(0), 9);
        let mut spans = second.group.query(look).await.unwrap();
        assert_eq!(spans.len(), 1);
        // A span's bytes only size the reads: so they are small.
        spans[0].bytes = 0;
        let found = published(&second.group, &spans, |_| Want::Take).await.unwrap();
        let offsets: Vec<_> = found.iter().map(|message| message.offset).collect();
        assert_eq!(offsets, [0, 1, 2]);
        second.end().await;
    }
}
