//! `/v3/cluster/*` and `/v3/maintenance/*`.

use serde::{Deserialize, Serialize};

use super::Header;
use super::codec::{Enum, Int, Named, Uint, zero};
use crate::store::AlarmKind;

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

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusResponse {
    pub(crate) header: Header,
    pub(crate) version: &'static str,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) db_size: Int,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) leader: Uint,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) raft_index: Uint,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) raft_term: Uint,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) raft_applied_index: Uint,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) errors: Vec<String>,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) db_size_in_use: Int,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AlarmRequest {
    pub(crate) action: Enum<AlarmAction>,
    #[serde(rename = "memberID")]
    pub(crate) member_id: Uint,
    pub(crate) alarm: Enum<Alarm>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AlarmAction {
    #[default]
    Get,
    Activate,
    Deactivate,
}

impl Named for AlarmAction {
    const VALUES: &[(&'static str, Self)] =
        &[("GET", Self::Get), ("ACTIVATE", Self::Activate), ("DEACTIVATE", Self::Deactivate)];
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Alarm {
    #[default]
    None,
    NoSpace,
    Corrupt,
}

impl Named for Alarm {
    const VALUES: &[(&'static str, Self)] =
        &[("NONE", Self::None), ("NOSPACE", Self::NoSpace), ("CORRUPT", Self::Corrupt)];
}

impl From<AlarmKind> for Alarm {
    fn from(kind: AlarmKind) -> Self {
        match kind {
            AlarmKind::NoSpace => Self::NoSpace,
            AlarmKind::Corrupt => Self::Corrupt,
        }
    }
}

impl Alarm {
    /// `NONE` is no alarm.
    pub(crate) const fn kind(self) -> Option<AlarmKind> {
        match self {
            Self::None => None,
            Self::NoSpace => Some(AlarmKind::NoSpace),
            Self::Corrupt => Some(AlarmKind::Corrupt),
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct AlarmResponse {
    pub(crate) header: Header,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) alarms: Vec<AlarmMember>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct AlarmMember {
    #[serde(rename = "memberID", skip_serializing_if = "zero")]
    pub(crate) member_id: Uint,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) alarm: Enum<Alarm>,
}
