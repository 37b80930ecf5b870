//! What readers see: published by the owner task, never changed.

use std::sync::Arc;

use bytes::Bytes;
use replication::ack::Confirmed;
use replication::command::Record;
use replication::consistency::Freshness;
use replication::{Epoch, Epochs, Head, Index, MemberId, Position, Progress};

use crate::config::Role;
use crate::engine::{Engine, EngineError};
use crate::overlay::Overlay;

/// One consistent picture of this node.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) role: Role,
    pub(crate) epoch: Epoch,
    /// Where the log ends, durable or not.
    pub(crate) head: Head,
    /// Where it begins.
    pub(crate) first: Index,
    /// The last entry readers may see: durable here.
    pub(crate) visible: Position,
    /// Committed, as far as this node knows.
    pub(crate) commit: Index,
    pub(crate) epochs: Arc<Epochs>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) overlay: Overlay,
    /// Why this node takes no writes, or does not follow.
    pub(crate) fault: Option<Arc<str>>,
    /// Its state is known to be wrong: nobody may read it.
    pub(crate) quarantined: bool,
    pub(crate) side: Side,
    pub(crate) resyncs: api::replica::Resyncs,
}

/// What depends on the role.
#[derive(Clone)]
pub(crate) enum Side {
    Primary {
        /// The first entry of this epoch is durable: writes are taken.
        open: bool,
        fenced_by: Option<Epoch>,
        replicas: Arc<Vec<(MemberId, Progress)>>,
        /// When each recent entry was appended: (index, time in ms, bytes of log so far).
        marks: Arc<Vec<Mark>>,
    },
    Replica {
        /// Who the primary is, once it has said so.
        primary: Option<Arc<str>>,
        connected: bool,
        freshness: Option<Freshness>,
        /// Where the primary's log ended when last heard of.
        primary_last: Option<Index>,
    },
}

/// How far the log was at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) index: Index,
    pub(crate) at_ms: u64,
    pub(crate) bytes: u64,
}

impl View {
    /// What `key` holds, and since which entry if that entry may be uncommitted.
    pub(crate) fn get(&self, key: &[u8]) -> Result<(Option<Record>, Option<Index>), EngineError> {
        match self.overlay.get(key, self.visible.index) {
            Some((index, record)) => Ok((record.clone(), Some(*index))),
            None => Ok((self.engine.get(key)?, None)),
        }
    }

    /// Up to `limit` records, live at `now_ms`, of keys from `start` on that begin with `prefix`,
    /// all of one position.
    pub(crate) fn list(
        &self,
        prefix: &Bytes,
        start: std::ops::Bound<Bytes>,
        limit: usize,
        now_ms: u64,
    ) -> Result<(Vec<(Bytes, Record)>, Position), EngineError> {
        let snapshot = self.engine.snapshot()?;
        let at = snapshot.applied().head.position;
        // The engine may be ahead of the overlay by now: what it has, it has.
        let newer = self.overlay.range(start.clone(), self.visible.index);
        let mut newer = newer.filter(|(_, (index, _))| at.index < *index).peekable();
        let mut older = snapshot.records(start).peekable();
        let mut page = Vec::new();
        while page.len() < limit {
            let take_newer = match (newer.peek(), older.peek()) {
                (Some((new, _)), Some(Ok((old, _)))) if *new == old => {
                    older.next();
                    true
                }
                (Some((new, _)), Some(Ok((old, _)))) => *new < old,
                (Some(_), None) => true,
                (None, None) => break,
                (_, Some(Err(_))) | (None, Some(Ok(_))) => false,
            };
            let (key, record) = match take_newer {
                true => newer.next().map(|(key, (_, record))| (key.clone(), record.clone())),
                false => older.next().transpose()?.map(|(key, record)| (key, Some(record))),
            }
            .expect("one of the two was just seen");
            if !key.starts_with(prefix) {
                break;
            }
            page.extend(record.filter(|record| record.is_live(now_ms)).map(|record| (key, record)));
        }
        Ok((page, at.max(self.visible)))
    }

    /// How far behind its primary this node is.
    pub(crate) fn lag_ms(&self, now_ms: u64) -> Option<u64> {
        match &self.side {
            Side::Primary { .. } => Some(0),
            Side::Replica { freshness, .. } => freshness.map(|fresh| fresh.lag_ms(now_ms)),
        }
    }

    /// Up to where each replica has confirmed the log.
    pub(crate) fn confirmed(&self) -> Vec<Confirmed> {
        let Side::Primary { replicas, .. } = &self.side else { return Vec::new() };
        replicas.iter().map(|(_, progress)| progress.confirmed.unwrap_or_default()).collect()
    }
}
