//! Wire types of the replica service: keys, batches, positions, replication status and digests.
//!
//! Values travel as raw bodies under `/v1/kv/{key}`. Where a value stands inside JSON it is a
//! string if it is UTF-8, else base64 in the field ending in `_base64`; keys likewise.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

/// All keys, in pages.
pub const KEYS: &str = "/v1/kv";
/// One key. A slash belongs to the key; other bytes are percent-encoded.
pub const KEY: &str = "/v1/kv/{*key}";
/// Puts, deletes and compares that happen all or not at all.
pub const BATCH: &str = "/v1/batch";
/// The change stream.
pub const CHANGES: &str = "/v1/changes";
/// Role, position and lag.
pub const REPLICATION: &str = "/v1/replication";
/// The state digest.
pub const DIGEST: &str = "/v1/digest";
/// The whole state as NDJSON.
pub const SNAPSHOT: &str = "/v1/snapshot";

/// Longest key: 1 KiB.
pub const MAX_KEY_BYTES: usize = 1024;
/// Largest value: 1 MiB.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
/// Most operations of one batch.
pub const MAX_BATCH_OPERATIONS: usize = 1024;
/// Largest sum of keys and values in one batch: 4 MiB.
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Longest `Content-Type` and `Idempotency-Key`.
pub const MAX_NAME_BYTES: usize = 255;
/// Longest time to live: ten years.
pub const MAX_TTL_SECONDS: u64 = 10 * 366 * 24 * 3600;
/// Most keys on one page.
pub const MAX_PAGE: usize = 1000;
/// Keys on one page if `limit` is absent.
pub const DEFAULT_PAGE: usize = 100;

/// A place in a history, written `<epoch>:<index>`. Also the version of a key, hence its ETag,
/// and the session token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Who wrote: at most one primary has an epoch.
    pub epoch: u64,
    /// Where in the log. The first entry is 1.
    pub index: u64,
}

/// Not `<epoch>:<index>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position is written <epoch>:<index>, such as 7:18342")]
pub struct InvalidPosition;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.index)
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `u64::from_str` takes a leading `+`, which no position has.
        let number = |part: &str| match part.bytes().all(|c| c.is_ascii_digit()) {
            true => part.parse().map_err(|_| InvalidPosition),
            false => Err(InvalidPosition),
        };
        let (epoch, index) = text.split_once(':').ok_or(InvalidPosition)?;
        Ok(Self { epoch: number(epoch)?, index: number(index)? })
    }
}

impl utoipa::PartialSchema for Position {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).examples(["7:18342"]);
        text.pattern(Some("^[0-9]+:[0-9]+$")).into()
    }
}

impl ToSchema for Position {}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What has to be true before a write is answered.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum AckLevel {
    /// The primary has it on disk.
    Async,
    /// Besides, one replica has received it.
    Semi,
    /// A majority, the primary included, has it on disk.
    #[default]
    Quorum,
    /// Every member has it on disk.
    All,
}

impl AckLevel {
    /// As the wire spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Async => "async",
            Self::Semi => "semi",
            Self::Quorum => "quorum",
            Self::All => "all",
        }
    }
}

/// How current a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// Whatever the asked node has on disk.
    Eventual,
    /// At most `max_lag_ms` behind the primary, else the read is refused.
    Bounded,
    /// At least as new as the token in `x-session`.
    Session,
    /// The newest committed state: nothing that it shows can be lost.
    Strong,
}

impl Consistency {
    /// As the wire spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eventual => "eventual",
            Self::Bounded => "bounded",
            Self::Session => "session",
            Self::Strong => "strong",
        }
    }
}

/// What a node is in its replication group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes the writes.
    Primary,
    /// Follows the primary and serves reads.
    Replica,
}

impl Role {
    /// As the wire spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

/// The answer to a put, a delete or a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Written {
    /// Where the write stands in the history: the new version, also in `ETag` and `x-session`.
    pub version: Position,
    /// How many members confirmed it, the primary included; also in `x-acked-by`.
    pub acked_by: u32,
    /// The level that was asked for and reached.
    pub ack: AckLevel,
    /// Whether this repeats the answer to an earlier request with the same `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
}

/// `GET /v1/kv`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page {
    /// In key order.
    pub items: Vec<Item>,
    /// Give this as `start` to read on; absent on the last page. Percent-encode it in a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The state the page was read from: all of it, at one position.
    pub position: Position,
}

/// One key as listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Item {
    /// The key, percent-encoded as in its URL: put it behind `/v1/kv/` to read it.
    pub key: String,
    /// The version, also its ETag.
    pub version: Position,
    /// The value, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// The `Content-Type` it was written with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// When it goes, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
}

/// `POST /v1/batch`: if all of `if` holds, all of `operations` happens, as one entry of the log.
///
/// Keys are percent-encoded as in their URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// Every one must hold, else 412 and nothing happens.
    #[serde(default, rename = "if", skip_serializing_if = "Vec::is_empty")]
    pub compares: Vec<Compare>,
    /// In order; of several on one key the last one stays. At most 1,024.
    pub operations: Vec<Operation>,
}

/// A condition on one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Compare {
    /// Percent-encoded.
    pub key: String,
    /// What must be true of it.
    #[serde(flatten)]
    pub is: Condition,
}

/// What must be true of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It has exactly this version.
    Version(Position),
    /// It exists (`true`) or does not (`false`).
    Exists(bool),
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub enum Operation {
    /// Sets a key. One of `value` and `value_base64` is given.
    Put {
        /// Percent-encoded.
        key: String,
        /// The value as text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
        /// The value as base64.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value_base64: Option<String>,
        /// What a read answers as `Content-Type`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content_type: Option<String>,
        /// How long it stays; for ever if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_seconds: Option<u64>,
    },
    /// Removes a key. Removing what is not there is no error.
    Delete {
        /// Percent-encoded.
        key: String,
    },
}

/// `GET /v1/replication`. What is not known is null, never 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplicationStatus {
    /// The name of the replication group.
    pub group: String,
    /// The answering node.
    pub node: String,
    /// What it is.
    pub role: Role,
    /// The epoch it is in.
    pub epoch: u64,
    /// The last entry of its log.
    pub last: Position,
    /// The oldest index its log still holds.
    pub first_index: u64,
    /// Up to here the log is on this node's disk.
    pub durable_index: u64,
    /// Up to here a quorum has it. On a replica: as far as its primary told.
    pub commit_index: u64,
    /// Up to here the engine has it.
    pub applied_index: u64,
    /// The digest of the state at `applied_index`.
    pub digest: String,
    /// Why this node takes no writes or serves no reads, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// On a replica: what it knows of its primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<PrimaryStatus>,
    /// On a primary: each replica that is configured, connected or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<ReplicaStatus>,
    /// Counters of how replicas were brought up to date.
    pub resyncs: Resyncs,
}

/// A replica's view of its primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrimaryStatus {
    /// Its name, null before the first contact.
    pub node: Option<String>,
    /// Whether the log streams now.
    pub connected: bool,
    /// How far behind this node is; null when unknown.
    pub lag_ms: Option<u64>,
    /// The same in entries.
    pub lag_entries: Option<u64>,
}

/// One replica, as its primary sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaStatus {
    /// Its name.
    pub node: String,
    /// Whether it streams now.
    pub connected: bool,
    /// The epoch its log is in, null before it said so.
    pub epoch: Option<u64>,
    /// The last index it has received, has on disk, has applied; null while it is not known to
    /// be on the primary's history.
    pub received_index: Option<u64>,
    /// See `received_index`.
    pub durable_index: Option<u64>,
    /// See `received_index`.
    pub applied_index: Option<u64>,
    /// How far its disk is behind, in entries; null across epochs.
    pub lag_entries: Option<u64>,
    /// The same in bytes of the log.
    pub lag_bytes: Option<u64>,
    /// The age of the oldest entry it has not confirmed.
    pub lag_ms: Option<u64>,
}

/// How often replicas resumed, on the node that answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resyncs {
    /// From the log.
    pub log: u64,
    /// From the log after dropping entries that are not on the primary's history.
    pub truncate: u64,
    /// By a whole snapshot.
    pub snapshot: u64,
}

/// `GET /v1/digest`: equal on every node at the same position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DigestResponse {
    /// The state this is the digest of.
    pub at: Position,
    /// 32 hex digits: the sum over all records.
    pub digest: String,
    /// How it is computed; compare only equal versions.
    pub algorithm: u32,
    /// The chained hash of the log up to `at`, 32 hex digits.
    pub history: String,
}

/// One event of the change stream: one committed entry of the log, `id:` is its position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeEvent {
    /// Where it stands.
    pub position: Position,
    /// What it changed, all at once.
    pub changes: Vec<Change>,
}

/// What happened to one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// `put`, `delete` or `expire`.
    pub op: ChangeKind,
    /// Percent-encoded.
    pub key: String,
    /// A put's value, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// A put's value, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// A put's `Content-Type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// When it will expire, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
}

/// The kinds of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// A key was set.
    Put,
    /// A key was removed.
    Delete,
    /// A key's time was over.
    Expire,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_what_it_writes_and_nothing_else() {
        let position = Position { epoch: 7, index: 18342 };
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", ":", "7", "7:", ":7", "+7:1", "7:1:1", " 7:1", "7:-1", "7:1e3"] {
            assert_eq!(bad.parse::<Position>(), Err(InvalidPosition), "{bad}");
        }
    }

    #[test]
    fn a_batch_reads_as_documented() {
        let text = r#"{"if":[{"key":"a","version":"1:4"},{"key":"b","exists":false}],
            "operations":[{"op":"put","key":"a","value":"1","ttl_seconds":5},{"op":"delete","key":"b"}]}"#;
        let batch: BatchRequest = serde_json::from_str(text).unwrap();
        assert_eq!(batch.compares[0].is, Condition::Version(Position { epoch: 1, index: 4 }));
        assert_eq!(batch.compares[1].is, Condition::Exists(false));
        assert_eq!(batch.operations.len(), 2);
        let typo = r#"{"operations":[{"op":"put","key":"a","valeu":"1"}]}"#;
        assert!(serde_json::from_str::<BatchRequest>(typo).is_err());
    }
}
