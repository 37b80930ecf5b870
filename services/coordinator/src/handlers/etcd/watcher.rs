//! One watch of a stream.

use bytes::Bytes;

use super::super::App;
use super::EtcdError;
use super::answer::chunk;
use super::error::GrpcCode;
use super::message::codec::Int;
use super::message::{
    EncodedEvent, FilterType, WatchCreateRequest, WatchResponse, encode_event, key_range,
};
use crate::store::{HistoryCompacted, KeyRange, Revision, Store, WatchFilter};

/// Bytes of keys and values read for one watch before the next one has its turn.
const BATCH_BYTES: usize = 256 << 10;
/// With `fragment`, messages are cut at about this size.
const FRAGMENT_BYTES: usize = 1 << 20;

pub(super) struct Watcher {
    id: i64,
    filter: WatchFilter,
    /// The first revision that has not been looked at.
    next: Revision,
    fragment: bool,
    pub(super) progress_notify: bool,
    /// Whether anything was sent since the last progress notification.
    pub(super) active: bool,
}

impl Watcher {
    /// `now` is the store's revision when the watch was asked for.
    pub(super) fn new(
        id: i64,
        request: WatchCreateRequest,
        now: Revision,
    ) -> Result<Self, EtcdError> {
        // No key is the first possible one.
        let key = request.key.0;
        let key = if key.is_empty() { Bytes::from_static(b"\0") } else { key };
        let range = key_range(key, request.range_end.0);
        if range.is_empty() {
            const EMPTY: &str = "mvcc: watcher range is empty";
            return Err(EtcdError::new(GrpcCode::InvalidArgument, EMPTY));
        }
        let without = |kind| request.filters.iter().any(|filter| filter.0 == kind);
        let start = u64::try_from(request.start_revision.0).ok().filter(|start| 0 < *start);
        Ok(Self {
            id,
            filter: WatchFilter {
                range,
                puts: !without(FilterType::NoPut),
                deletes: !without(FilterType::NoDelete),
                previous: request.prev_kv,
            },
            next: start.map_or(now.next(), Revision),
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            active: false,
        })
    }

    pub(super) const fn range(&self) -> &KeyRange {
        &self.filter.range
    }

    /// Whether everything in `store` has been looked at.
    pub(super) fn has_seen(&self, store: &Store) -> bool {
        store.revision() < self.next
    }

    /// The messages for the next events, if there are any.
    pub(super) fn read(
        &mut self,
        app: &App,
        store: &Store,
    ) -> Result<Vec<Bytes>, HistoryCompacted> {
        let batch = store.mvcc.events(self.next, &self.filter, BATCH_BYTES)?;
        self.next = batch.next;
        if batch.events.is_empty() {
            return Ok(Vec::new());
        }
        self.active = true;
        let limit = if self.fragment { FRAGMENT_BYTES } else { usize::MAX };
        let parts = split(&batch.events, limit);
        let last = parts.len() - 1;
        let message = |(at, events): (usize, &[crate::store::Event])| {
            chunk(WatchResponse {
                events: events.iter().map(|event| encoded(app, event)).collect(),
                fragment: at < last,
                ..self.message(app, store)
            })
        };
        Ok(parts.into_iter().enumerate().map(message).collect())
    }

    /// A message about this watch that says nothing yet.
    pub(super) fn message(&self, app: &App, store: &Store) -> WatchResponse {
        WatchResponse {
            header: app.header(store.revision()),
            watch_id: Int(self.id),
            ..WatchResponse::default()
        }
    }
}

fn encoded(app: &App, event: &crate::store::Event) -> EncodedEvent {
    match event.previous {
        None => app.encoded_etcd().get(&event.record, || encode_event(event)),
        Some(_) => encode_event(event),
    }
}

/// Cuts events into parts of about `limit` bytes, one event at least.
fn split(events: &[crate::store::Event], limit: usize) -> Vec<&[crate::store::Event]> {
    let mut parts = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (at, event) in events.iter().enumerate() {
        let previous = event.previous.as_ref().map_or(0, |previous| previous.value.len());
        let size = event.record.key.len() + event.record.value.len() + previous;
        if from < at && limit < bytes + size {
            parts.push(&events[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += size;
    }
    parts.push(&events[from..]);
    parts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{LeaseId, Record};

    fn event(bytes: usize) -> crate::store::Event {
        let record = Record {
            key: Bytes::new(),
            value: vec![0; bytes].into(),
            create_revision: Revision(2),
            mod_revision: Revision(2),
            version: 1,
            lease: LeaseId::NONE,
            order: 0,
        };
        crate::store::Event { record: Arc::new(record), previous: None }
    }

    #[test]
    fn parts_stay_below_the_limit_and_hold_at_least_one_event() {
        let events: Vec<_> = [4, 4, 4, 20, 1].into_iter().map(event).collect();
        let parts: Vec<usize> = split(&events, 8).iter().map(|part| part.len()).collect();
        assert_eq!(parts, [2, 1, 1, 1]);
        assert_eq!(split(&events, usize::MAX).len(), 1);
    }
}
