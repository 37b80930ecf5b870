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
    /// Empty for one that was added without a name and has not come yet.
    pub name: String,
    pub role: MemberRole,
    /// False for one that was added and has not come yet.
    #[serde(default = "yes")]
    pub started: bool,
    /// A learner that becomes a voter by itself when it has caught up.
    #[serde(default)]
    pub to_vote: bool,
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

const fn yes() -> bool {
    true
}

/// `POST /v1/cluster/members`: makes a place for a node that is started afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberAddRequest {
    /// What the node will call itself. Absent: it says so when it comes.
    #[serde(default)]
    pub name: Option<String>,
    /// Where the other members will reach it: `http://host:port`.
    pub peer_url: String,
    /// Every new member begins as a learner. `true`: it stays one until it is promoted. `false`: it
    /// becomes a voter by itself when it has caught up.
    #[serde(default = "yes")]
    pub learner: bool,
}

/// The place that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MemberAdded {
    #[serde(flatten)]
    pub member: Member,
    pub start: MemberStart,
}

/// How to start the new node, in two ways. Addresses and directories are for its operator to adapt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MemberStart {
    /// A command line.
    pub command: String,
    /// A file for `--config`.
    pub config: String,
}

/// `PATCH /v1/cluster/members/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberMoveRequest {
    /// Where the other members reach it from now on.
    pub peer_url: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MemberRemoved {
    /// Who is gone.
    pub id: String,
    /// Who is left.
    pub members: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferRequest {
    /// Who is to lead: a member's id or name.
    pub to: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Transferred {
    /// Name of the leader.
    pub leader: String,
    pub term: u64,
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
