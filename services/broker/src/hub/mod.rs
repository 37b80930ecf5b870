//! Live reading that many share: what is published is read and written out once for all of them.
//!
//! ```text
//! log ─▶ feed (one per partition that somebody listens to) ─▶ ring ─▶ listener, listener, …
//!                                              log ─▶ page ─────────▶ a listener that is behind
//! ```
//!
//! A listener has nothing but the offset it waits for. It takes what the ring has from there on,
//! and what the ring has let go it reads from the log. So one that is slow, or stands still, holds
//! neither the others nor any memory.
//!
//! **Invariant:** a listener sees every message from its offset on, in order, once, except for what
//! retention drops before it comes by.
//! **Invariant:** only what is committed is read, so what was heard is never taken back.

mod feed;
mod listener;
mod ring;
mod tail;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use consensus::GroupId;
use tokio::sync::watch;

pub(crate) use feed::{Feed, Place};
pub(crate) use listener::{Live, Part};

use crate::broker::Broker;
use crate::directory::PartitionHandle;
use tail::Tail;

/// Bytes that all rings keep together. Above, each keeps only what it read last.
const MAX_BYTES: usize = 64 << 20;

/// The tails of this process, while somebody listens.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    tails: Mutex<BTreeMap<GroupId, Arc<Tail>>>,
    bytes: AtomicUsize,
}

impl Broker {
    /// The tail of a partition, which lives until nobody is told of its changes any more.
    fn tail(&self, partition: &Arc<PartitionHandle>) -> (Arc<Tail>, watch::Receiver<()>) {
        let hub = &self.shared.hub;
        let mut tails = hub.tails.lock().unwrap_or_else(PoisonError::into_inner);
        let id = partition.port.id;
        if let Some(tail) = tails.get(&id) {
            return (tail.clone(), tail.changes());
        }
        let tail = Arc::new(Tail::default());
        let changes = tail.changes();
        tails.insert(id, tail.clone());
        let broker = self.clone();
        let follow = tail::run(broker, partition.clone(), tail.clone());
        self.shared.tasks.spawn(follow);
        (tail, changes)
    }
}

impl Hub {
    /// Ends a tail, unless somebody listens and it can go on.
    fn end(&self, id: GroupId, tail: &Tail, is_over: bool) -> bool {
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_over && tail.is_heard() {
            return false;
        }
        tails.remove(&id);
        true
    }

    fn count(&self, before: usize, after: usize) {
        self.bytes.fetch_add(after, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        MAX_BYTES < self.bytes.load(Ordering::Relaxed)
    }
}
