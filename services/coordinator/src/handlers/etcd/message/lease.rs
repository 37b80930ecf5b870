//! `/v3/lease/*`.

use serde::{Deserialize, Serialize};

use super::Header;
use super::codec::{Blob, Int, nullable, zero};

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LeaseGrantRequest {
    #[serde(rename = "TTL")]
    pub(crate) ttl: Int,
    #[serde(rename = "ID")]
    pub(crate) id: Int,
}

/// Revoke and keepalive.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LeaseRequest {
    #[serde(rename = "ID")]
    pub(crate) id: Int,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LeaseTimeToLiveRequest {
    #[serde(rename = "ID")]
    pub(crate) id: Int,
    #[serde(deserialize_with = "nullable")]
    pub(crate) keys: bool,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct LeaseGrantResponse {
    pub(crate) header: Header,
    #[serde(rename = "ID", skip_serializing_if = "zero")]
    pub(crate) id: Int,
    #[serde(rename = "TTL", skip_serializing_if = "zero")]
    pub(crate) ttl: Int,
}

/// Without a TTL the lease is gone.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct LeaseKeepAliveResponse {
    pub(crate) header: Header,
    #[serde(rename = "ID", skip_serializing_if = "zero")]
    pub(crate) id: Int,
    #[serde(rename = "TTL", skip_serializing_if = "zero")]
    pub(crate) ttl: Int,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct LeaseTimeToLiveResponse {
    pub(crate) header: Header,
    #[serde(rename = "ID", skip_serializing_if = "zero")]
    pub(crate) id: Int,
    /// -1 when the lease is gone.
    #[serde(rename = "TTL", skip_serializing_if = "zero")]
    pub(crate) ttl: Int,
    #[serde(rename = "grantedTTL", skip_serializing_if = "zero")]
    pub(crate) granted_ttl: Int,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) keys: Vec<Blob>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct LeaseLeasesResponse {
    pub(crate) header: Header,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) leases: Vec<LeaseStatus>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct LeaseStatus {
    #[serde(rename = "ID", skip_serializing_if = "zero")]
    pub(crate) id: Int,
}
