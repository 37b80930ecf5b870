//! `GET /v1/watch`: the data of its server-sent events.
//!
//! Event names: `put`, `delete`, `bookmark`, `compacted`. The last event of a revision carries
//! `id: <revision>`, so that a client which reconnects with `Last-Event-ID` continues behind the
//! last revision it saw completely.

use serde::{Deserialize, Serialize};

use super::{KeyValue, LeaseId, Text};

/// `event: put` and `event: delete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WatchEvent {
    /// The revision of this change.
    pub revision: u64,
    pub key: Text,
    /// Absent when the key was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_revision: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
    /// What was there before, with `prev=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<KeyValue>,
}

/// `event: bookmark`: everything up to this revision has been sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BookmarkEvent {
    pub revision: u64,
}

/// `event: compacted`: the watch fell behind and ends here. Read the keys again, then watch from
/// the revision of that read + 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CompactedEvent {
    /// The oldest revision a watch may start from.
    pub oldest_revision: u64,
}
