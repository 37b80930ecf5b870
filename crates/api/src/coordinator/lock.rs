//! `/v1/locks` and `/v1/elections`: one line of waiters per name, and whoever is first has its
//! turn.
//!
//! A place in line is the key `<name>/<lease in hex>`, also for those that come through `/v3`. It
//! ends with its lease. The **fencing token** of a turn is higher than those of all turns before:
//! hand it to what the lock protects, which refuses lower ones than it has seen. A lease alone
//! excludes nobody: its owner may have been paused and not know that it has ended.

use serde::{Deserialize, Serialize};

use super::{LeaseId, Text};

/// `POST /v1/locks/{name}`. Answers 409 `held` if the lock is not free in time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LockRequest {
    /// The lock ends so long after its last keepalive; 60 when absent. Not with `lease`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// How long to wait in line, 0 (try once, when absent) to 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u64>,
    /// Shown to others; the lease when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// A lease of the caller's own, which may hold several locks. The same lease gets the same
    /// lock again. When absent one is made for this lock, and ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
}

/// A lock that the caller holds now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Lock {
    pub name: String,
    /// Keep it alive with `PUT /v1/leases/{lease}/keepalive`; give it up with
    /// `DELETE /v1/locks/{name}?lease=`.
    pub lease: LeaseId,
    pub fencing_token: u64,
    pub owner: String,
}

/// `GET /v1/locks/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LockState {
    pub name: String,
    pub revision: u64,
    /// Nobody, when the lock is free.
    pub holder: Option<LockPlace>,
    /// In the order in which they will have their turn.
    pub waiters: Vec<LockPlace>,
}

/// Whoever holds a lock or waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LockPlace {
    pub owner: String,
    pub lease: LeaseId,
    pub fencing_token: u64,
    /// What is left of its lease, rounded down.
    pub remaining_seconds: u64,
}

/// `DELETE /v1/locks/{name}` and `POST /v1/elections/{name}/resign`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Released {
    pub revision: u64,
}

/// `POST /v1/elections/{name}/campaign`. Answers when the caller leads, or 409 `held`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CampaignRequest {
    /// What the leader says of itself, such as its address. With the lease of a candidacy that
    /// exists it replaces the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Text>,
    /// The candidacy ends so long after its last keepalive; 60 when absent. Not with `lease`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// How long to wait in line, 0 (try once, when absent) to 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u64>,
    /// A lease of the caller's own. When absent one is made for this candidacy, and ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
}

/// A leader, or a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Candidate {
    pub name: String,
    pub value: Text,
    pub lease: LeaseId,
    pub fencing_token: u64,
    /// When its value was last changed.
    pub revision: u64,
}

/// `GET /v1/elections/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Election {
    pub name: String,
    pub revision: u64,
    /// Nobody, when there is no candidate.
    pub leader: Option<Candidate>,
    /// Those who wait, in the order in which they will lead.
    pub candidates: Vec<Candidate>,
}

/// `POST /v1/elections/{name}/resign`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResignRequest {
    pub lease: LeaseId,
}

/// Data of the event `vacant` of an observer: nobody leads. The event `leader` has a
/// [`Candidate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VacantEvent {
    pub name: String,
    pub revision: u64,
}
