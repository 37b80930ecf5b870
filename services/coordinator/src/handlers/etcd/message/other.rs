//! `/v3/cluster/*`.

use serde::Serialize;

use super::Header;
use super::codec::{Uint, zero};

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
}
