//! `/v3/watch`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::codec::{Blob, Enum, Int, Named, nullable, zero};
use super::{Header, KeyValue};

/// One of these. The first that is given counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WatchRequest {
    #[serde(alias = "createRequest")]
    pub(crate) create_request: Option<WatchCreateRequest>,
    #[serde(alias = "cancelRequest")]
    pub(crate) cancel_request: Option<WatchCancelRequest>,
    #[serde(alias = "progressRequest")]
    pub(crate) progress_request: Option<WatchProgressRequest>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WatchCreateRequest {
    pub(crate) key: Blob,
    #[serde(alias = "rangeEnd")]
    pub(crate) range_end: Blob,
    #[serde(alias = "startRevision")]
    pub(crate) start_revision: Int,
    #[serde(alias = "progressNotify", deserialize_with = "nullable")]
    pub(crate) progress_notify: bool,
    #[serde(deserialize_with = "nullable")]
    pub(crate) filters: Vec<Enum<FilterType>>,
    #[serde(alias = "prevKv", deserialize_with = "nullable")]
    pub(crate) prev_kv: bool,
    #[serde(alias = "watchId")]
    pub(crate) watch_id: Int,
    #[serde(deserialize_with = "nullable")]
    pub(crate) fragment: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WatchCancelRequest {
    #[serde(alias = "watchId")]
    pub(crate) watch_id: Int,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct WatchProgressRequest {}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FilterType {
    #[default]
    NoPut,
    NoDelete,
}

impl Named for FilterType {
    const VALUES: &[(&'static str, Self)] = &[("NOPUT", Self::NoPut), ("NODELETE", Self::NoDelete)];
}

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct WatchResponse {
    pub(crate) header: Header,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) watch_id: Int,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) created: bool,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) canceled: bool,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) compact_revision: Int,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) cancel_reason: String,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) fragment: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) events: Vec<EncodedEvent>,
}

/// An event as it is written.
pub(crate) type EncodedEvent = Arc<RawValue>;

#[derive(Clone, Debug, Serialize)]
struct Event {
    #[serde(rename = "type", skip_serializing_if = "zero")]
    kind: Enum<EventType>,
    kv: KeyValue,
    #[serde(skip_serializing_if = "zero")]
    prev_kv: Option<KeyValue>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum EventType {
    #[default]
    Put,
    Delete,
}

impl Named for EventType {
    const VALUES: &[(&'static str, Self)] = &[("PUT", Self::Put), ("DELETE", Self::Delete)];
}

pub(crate) fn encode_event(event: &crate::store::Event) -> EncodedEvent {
    let kind = if event.record.is_delete() { EventType::Delete } else { EventType::Put };
    let event = Event {
        kind: Enum(kind),
        kv: KeyValue::from(&*event.record),
        prev_kv: event.previous.as_deref().map(KeyValue::from),
    };
    to_raw_value(&event).expect("an event is plain data with string keys").into()
}
