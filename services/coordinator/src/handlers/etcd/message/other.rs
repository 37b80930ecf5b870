//! `/v3/cluster/*`.

use serde::{Deserialize, Serialize};

use super::Header;
use super::codec::{Uint, nullable, zero};

#[derive(Clone, Debug, Serialize)]
pub(crate) struct MemberListResponse {
    pub(crate) header: Header,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) members: Vec<Member>,
}

#[derive(Clone, Debug, Serialize)]
#[expect(non_snake_case, reason = "the names of the protocol")]
pub(crate) struct Member {
    #[serde(rename = "ID")]
    pub(crate) id: Uint,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) name: String,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) peerURLs: Vec<String>,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) clientURLs: Vec<String>,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) isLearner: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MemberListRequest {
    #[serde(deserialize_with = "nullable")]
    pub(crate) linearizable: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(non_snake_case, reason = "the names of the protocol")]
pub(crate) struct MemberAddRequest {
    #[serde(deserialize_with = "nullable")]
    pub(crate) peerURLs: Vec<String>,
    #[serde(alias = "is_learner", deserialize_with = "nullable")]
    pub(crate) isLearner: bool,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct MemberAddResponse {
    pub(crate) header: Header,
    pub(crate) member: Member,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) members: Vec<Member>,
}

/// Of a removal or a promotion.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MemberRequest {
    #[serde(rename = "ID")]
    pub(crate) id: Uint,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(non_snake_case, reason = "the names of the protocol")]
pub(crate) struct MemberUpdateRequest {
    #[serde(rename = "ID")]
    pub(crate) id: Uint,
    #[serde(deserialize_with = "nullable")]
    pub(crate) peerURLs: Vec<String>,
}
