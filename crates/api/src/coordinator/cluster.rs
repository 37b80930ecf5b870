//! `/v1/cluster` and `/v1/compact`.

use serde::{Deserialize, Serialize};

/// `GET /v1/cluster`, as the answering node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Cluster {
    /// Decimal, as in `/v3` headers.
    pub cluster_id: String,
    /// Name of the leader; absent when nobody leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    pub term: u64,
    /// The store's revision.
    pub revision: u64,
    /// Older revisions can no longer be read. 0: nothing was compacted.
    pub compact_revision: u64,
    pub keys: u64,
    pub leases: u64,
    /// Size of all keys, values and history, which the quota limits.
    pub store_bytes: u64,
    pub quota_bytes: u64,
    pub members: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Member {
    /// Decimal, as in `/v3` headers.
    pub id: String,
    pub name: String,
    pub role: MemberRole,
    pub client_url: String,
    /// Where the other members reach it.
    #[serde(default)]
    pub peer_url: String,
    /// It answers. Here and below: absent where the node that answers does not know, as followers
    /// do of each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reachable: Option<bool>,
    /// The committed entries it has on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_index: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_index: Option<u64>,
    /// Committed entries it does not have, or of the node that answers, has not applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_entries: Option<u64>,
    /// Bytes of its log on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    Leader,
    Follower,
    Learner,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompactRequest {
    /// History before this revision is dropped. Between the last compaction and now.
    pub revision: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CompactReply {
    pub revision: u64,
    pub compact_revision: u64,
}
