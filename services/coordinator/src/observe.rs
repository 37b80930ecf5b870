//! Following an election: who leads, and every change of that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::coordinator::{Coordinator, Failure};
use crate::store::{Record, Revision, Store, WatchFilter, places};
use crate::watching::{Seen, Watching};

/// A watch that only wants changes asks for bookmarks so rarely.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(3600);

pub(crate) struct Observer {
    coordinator: Coordinator,
    name: Bytes,
    watching: Watching<WatchFilter>,
    /// Everybody in line, by the place in it.
    line: BTreeMap<(Revision, Bytes), Arc<Record>>,
    /// Where `line` was complete.
    revision: Revision,
    /// What was told last, if anything was: the leader's last change.
    told: Option<Option<Revision>>,
}

/// Who leads at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    pub(crate) leader: Option<Arc<Record>>,
    pub(crate) revision: Revision,
}

impl Observer {
    pub(crate) async fn open(coordinator: &Coordinator, name: Bytes) -> Result<Self, Failure> {
        let store = coordinator.snapshot().await?;
        coordinator.may_read(&store, &places(&name))?;
        Ok(Self {
            watching: watch(coordinator, &store, &name),
            line: line(&store, &name),
            revision: store.revision(),
            coordinator: coordinator.clone(),
            name,
            told: None,
        })
    }

    /// What is now, then each change. `None` when the process stops, or the observer may not see
    /// it any more.
    pub(crate) async fn next(&mut self) -> Option<Observation> {
        loop {
            let leader = self.line.first_key_value().map(|(_, record)| Arc::clone(record));
            let change = leader.as_ref().map(|leader| leader.mod_revision);
            if self.told.replace(change) != Some(change) {
                return Some(Observation { leader, revision: self.revision });
            }
            self.read().await?;
        }
    }

    /// Takes in the changes of one revision.
    async fn read(&mut self) -> Option<()> {
        loop {
            match self.watching.next().await? {
                Seen::Change { event, completes } => {
                    self.take(event.record);
                    if completes {
                        return Some(());
                    }
                }
                Seen::Bookmark(_) => {}
                // Whoever may not see it any more hears no more.
                Seen::Denied => return None,
                Seen::Compacted(_) => {
                    // Overtaken by a compaction: what is now matters, not what was.
                    let store = self.coordinator.snapshot().await.ok()?;
                    self.watching = watch(&self.coordinator, &store, &self.name);
                    self.line = line(&store, &self.name);
                    self.revision = store.revision();
                    return Some(());
                }
            }
        }
    }

    fn take(&mut self, record: Arc<Record>) {
        self.revision = record.mod_revision;
        if record.is_delete() {
            self.line.retain(|(_, key), _| record.key != *key);
        } else {
            self.line.insert((record.create_revision, record.key.to_bytes()), record);
        }
    }
}

fn watch(coordinator: &Coordinator, store: &Store, name: &[u8]) -> Watching<WatchFilter> {
    let filter = WatchFilter { range: places(name), puts: true, deletes: true, previous: false };
    Watching::new(coordinator, store, filter, store.revision().next(), BOOKMARK_PERIOD)
}

fn line(store: &Store, name: &[u8]) -> BTreeMap<(Revision, Bytes), Arc<Record>> {
    let places = store.mvcc.line(name).into_iter();
    places.map(|record| ((record.create_revision, record.key.to_bytes()), record)).collect()
}
