//! A prefix of the coordinator's keys, kept in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use resilience::retry::Backoff;
use resilience::system_random;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Etcd, EventKind, KeyValue, RangeRequest, WatchEvent, WatchRequest, WatchStream};
use crate::Error;

/// The keys of a prefix at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether the coordinator tells us of changes now. When not, this is the last that was known.
    pub connected: bool,
    /// Zero until the first answer.
    pub revision: i64,
    pub entries: BTreeMap<Bytes, KeyValue>,
}

/// Keeps [`Snapshot`]s of a prefix coming. Clones share it.
#[derive(Clone, Debug)]
pub struct Mirror {
    snapshot: watch::Receiver<Arc<Snapshot>>,
}

/// Waits before asking again.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(2) };
/// Keys read at once.
const PAGE: i64 = 1000;

impl Mirror {
    /// Begins to mirror, on a task of `tasks` that ends with `stop`.
    #[must_use]
    pub fn start(
        etcd: Etcd,
        prefix: impl Into<Bytes>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (publish, snapshot) = watch::channel(Arc::default());
        let owner = Owner { etcd, prefix: prefix.into(), publish };
        tasks.spawn(async move {
            stop.run_until_cancelled(owner.run()).await;
        });
        Self { snapshot }
    }

    /// The newest snapshot, and every one after it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// The newest snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// Waits for the first answer of the coordinator. Put a bound around it.
    pub async fn ready(&self) {
        let mut snapshot = self.snapshot.clone();
        // An error means that the owner ended: nothing will ever be ready.
        let _ = snapshot.wait_for(|snapshot| 0 < snapshot.revision).await;
    }
}

/// The task that owns the snapshot.
struct Owner {
    etcd: Etcd,
    prefix: Bytes,
    publish: watch::Sender<Arc<Snapshot>>,
}

impl Owner {
    async fn run(self) {
        let mut failures = 0;
        loop {
            let before = self.publish.borrow().revision;
            match self.follow().await {
                Ok(()) => tracing::debug!("watch ended, starting over"),
                Err(error) => {
                    tracing::debug!(%error, "coordinator is away, keeping the last known state");
                }
            }
            self.edit(|snapshot| snapshot.connected = false);
            let progress = before < self.publish.borrow().revision;
            failures = if progress { 0 } else { failures + 1 };
            tokio::time::sleep(BACKOFF.delay(failures, system_random())).await;
        }
    }

    /// Reads all, then follows the changes until the watch ends.
    async fn follow(&self) -> Result<(), Error> {
        let (revision, entries) = self.read_all().await?;
        let request = WatchRequest::prefix(&self.prefix, revision + 1);
        let mut watch = self.etcd.watch(&request).await?;
        self.publish(Snapshot { connected: true, revision, entries });
        self.apply_all(&mut watch).await
    }

    /// All pages at one revision.
    async fn read_all(&self) -> Result<(i64, BTreeMap<Bytes, KeyValue>), Error> {
        let mut page = self.etcd.range(&RangeRequest::prefix(&self.prefix).limit(PAGE)).await?;
        let revision = page.header.revision;
        let mut entries = BTreeMap::new();
        loop {
            let last = page.kvs.last().map(|kv| kv.key.clone());
            entries.extend(page.kvs.drain(..).map(|kv| (kv.key.clone(), kv)));
            let Some(last) = last.filter(|_| page.more) else { return Ok((revision, entries)) };
            // The first key after it is the same with a zero byte behind.
            let start = [&last[..], &[0]].concat();
            let next = RangeRequest::prefix_from(&self.prefix, start);
            page = self.etcd.range(&next.limit(PAGE).revision(revision)).await?;
        }
    }

    async fn apply_all(&self, watch: &mut WatchStream) -> Result<(), Error> {
        // Events of one revision may come in several messages; they become visible together.
        let mut fragments: Vec<WatchEvent> = Vec::new();
        while let Some(mut message) = watch.next().await? {
            if message.canceled || message.compact_revision != 0 {
                return Ok(());
            }
            fragments.append(&mut message.events);
            if message.fragment {
                continue;
            }
            let events = std::mem::take(&mut fragments);
            if !events.is_empty() {
                self.edit(|snapshot| events.into_iter().for_each(|event| snapshot.apply(event)));
            }
        }
        Ok(())
    }

    fn edit(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = Snapshot::clone(&self.publish.borrow());
        change(&mut snapshot);
        self.publish(snapshot);
    }

    fn publish(&self, snapshot: Snapshot) {
        self.publish.send_if_modified(|current| {
            let changed = **current != snapshot;
            *current = Arc::new(snapshot);
            changed
        });
    }
}

impl Snapshot {
    /// Takes one change. One that is older than what is known changes nothing.
    fn apply(&mut self, event: WatchEvent) {
        let kv = event.kv;
        self.revision = self.revision.max(kv.mod_revision);
        if self.entries.get(&kv.key).is_some_and(|old| kv.mod_revision < old.mod_revision) {
            return;
        }
        match event.kind {
            EventKind::Put => self.entries.insert(kv.key.clone(), kv),
            EventKind::Delete => self.entries.remove(&kv.key),
        };
    }
}
