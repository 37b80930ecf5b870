//! `/v3/lock/*` and `/v3/election/*`.

use serde::{Deserialize, Serialize};

use super::codec::{Blob, Int, zero};
use super::{Header, KeyValue};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LockRequest {
    pub(crate) name: Blob,
    pub(crate) lease: Int,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct LockResponse {
    pub(crate) header: Header,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) key: Blob,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct UnlockRequest {
    pub(crate) key: Blob,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CampaignRequest {
    pub(crate) name: Blob,
    pub(crate) lease: Int,
    pub(crate) value: Blob,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct CampaignResponse {
    pub(crate) header: Header,
    pub(crate) leader: LeaderKey,
}

/// What a leader has to show for it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LeaderKey {
    #[serde(skip_serializing_if = "zero")]
    pub(crate) name: Blob,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) key: Blob,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) rev: Int,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) lease: Int,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProclaimRequest {
    pub(crate) leader: Option<LeaderKey>,
    pub(crate) value: Blob,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ResignRequest {
    pub(crate) leader: Option<LeaderKey>,
}

/// Leader and observe.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LeaderRequest {
    pub(crate) name: Blob,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct LeaderResponse {
    pub(crate) header: Header,
    pub(crate) kv: KeyValue,
}
