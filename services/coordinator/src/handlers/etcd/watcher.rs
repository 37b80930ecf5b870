//! One watch of a stream.

use std::sync::Arc;

use bytes::Bytes;

use super::super::App;
use super::EtcdError;
use super::answer::chunk;
use super::error::GrpcCode;
use super::message::codec::Int;
use super::message::{
    EncodedEvent, FilterType, WatchCreateRequest, WatchResponse, encode_event, key_range,
};
use crate::runs::{Encoding, Form, Read};
use crate::store::{Event, HistoryCompacted, KeyRange, Revision, Store, WatchFilter};

/// With `fragment`, messages are cut at about this size.
const FRAGMENT_BYTES: usize = 1 << 20;

pub(super) struct Watcher {
    id: i64,
    form: Arc<Form>,
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
        let filter = WatchFilter {
            range,
            puts: !without(FilterType::NoPut),
            deletes: !without(FilterType::NoDelete),
            previous: request.prev_kv,
        };
        let start = u64::try_from(request.start_revision.0).ok().filter(|start| 0 < *start);
        Ok(Self {
            id,
            form: Arc::new(Form { filter, encoding: Encoding::Message { watch_id: id } }),
            next: start.map_or(now.next(), Revision),
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            active: false,
        })
    }

    pub(super) fn range(&self) -> &KeyRange {
        &self.form.filter.range
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
        let encode = |events: &[Event]| self.tell(app, store, events, false);
        // What goes into one run needs no fragments.
        match app.runs().read(&self.form, self.next, store, encode)? {
            Read::Run { run, next, .. } => {
                self.next = next;
                self.active = true;
                Ok(vec![run])
            }
            Read::Batch(batch) => {
                self.next = batch.next;
                self.active |= !batch.events.is_empty();
                Ok(self.messages(app, store, &batch.events))
            }
        }
    }

    fn messages(&self, app: &App, store: &Store, events: &[Event]) -> Vec<Bytes> {
        if events.is_empty() {
            return Vec::new();
        }
        let limit = if self.fragment { FRAGMENT_BYTES } else { usize::MAX };
        let parts = split(events, limit);
        let last = parts.len() - 1;
        let parts = parts.into_iter().enumerate();
        parts.map(|(at, events)| self.tell(app, store, events, at < last)).collect()
    }

    fn tell(&self, app: &App, store: &Store, events: &[Event], fragment: bool) -> Bytes {
        chunk(WatchResponse {
            events: events.iter().map(|event| encoded(app, event)).collect(),
            fragment,
            ..self.message(app, store)
        })
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

fn encoded(app: &App, event: &Event) -> EncodedEvent {
    match event.previous {
        None => app.encoded_etcd().get(&event.record, || encode_event(event)),
        Some(_) => encode_event(event),
    }
}

/// Cuts events into parts of about `limit` bytes, one event at least.
fn split(events: &[Event], limit: usize) -> Vec<&[Event]> {
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

    fn event(bytes: usize) -> Event {
        let record = Record {
            key: "".into(),
            value: vec![0; bytes].into(),
            create_revision: Revision(2),
            mod_revision: Revision(2),
            version: 1,
            lease: LeaseId::NONE,
            order: 0,
        };
        Event { record: Arc::new(record), previous: None }
    }

    #[test]
    fn parts_stay_below_the_limit_and_hold_at_least_one_event() {
        let events: Vec<_> = [4, 4, 4, 20, 1].into_iter().map(event).collect();
        let parts: Vec<usize> = split(&events, 8).iter().map(|part| part.len()).collect();
        assert_eq!(parts, [2, 1, 1, 1]);
        assert_eq!(split(&events, usize::MAX).len(), 1);
    }
}
