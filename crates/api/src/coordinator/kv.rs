//! `/v1/kv`: replies.

use serde::{Deserialize, Serialize};

use super::{LeaseId, Text};

/// One key with its value and its place in history (`?meta=true`, pages, transactions).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KeyValue {
    pub key: Text,
    /// Absent with `keys_only`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Text>,
    /// Revision at which this life of the key began.
    pub create_revision: u64,
    /// Revision of the last change: the `ETag`, and what `If-Match` compares.
    pub mod_revision: u64,
    /// Changes in this life of the key. The first put has version 1.
    pub version: u64,
    /// The lease that deletes this key when it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
}

/// `PUT /v1/kv/{key}`: 201 when the key was created, 200 when it was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PutReply {
    /// The new mod revision of the key, also in `ETag`.
    pub revision: u64,
    pub create_revision: u64,
    pub version: u64,
}

/// `GET /v1/kv`: one page of keys in byte order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KeyPage {
    /// The revision this page shows. Repeat it as `revision=` for the following pages to read
    /// all of them at one point in time.
    pub revision: u64,
    pub kvs: Vec<KeyValue>,
    /// More keys follow: repeat the request with `start=<next>`. Already percent-encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `DELETE /v1/kv/{key}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeleteReply {
    /// The store's revision after the delete. Unchanged when there was nothing to delete.
    pub revision: u64,
    pub deleted: u64,
}
