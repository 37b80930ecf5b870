//! `/v3/maintenance/*`.

use serde::{Deserialize, Serialize};

use super::Header;
use super::codec::{Blob, Enum, Int, Named, Uint, nullable, zero};
use crate::store::AlarmKind;

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
    #[serde(skip_serializing_if = "zero")]
    pub(crate) is_learner: bool,
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

/// As etcd lists it among the errors of a status, blank at the end included.
impl std::fmt::Display for AlarmMember {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.member_id.0 != 0 {
            write!(f, "memberID:{} ", self.member_id.0)?;
        }
        let named = Alarm::VALUES.iter().find(|(_, alarm)| *alarm == self.alarm.0);
        write!(f, "alarm:{} ", named.map_or("NONE", |(name, _)| name))
    }
}

/// A reply without any field, not even a header.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Empty {}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct HashResponse {
    pub(crate) header: Header,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) hash: u32,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct HashKvRequest {
    pub(crate) revision: Int,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct HashKvResponse {
    pub(crate) header: Header,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) hash: u32,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) compact_revision: Int,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) hash_revision: Int,
}

/// One message of a backup. The last one holds the checksum of all before it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SnapshotResponse {
    #[serde(skip_serializing_if = "zero")]
    pub(crate) remaining_bytes: Uint,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) blob: Blob,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MoveLeaderRequest {
    #[serde(rename = "targetID")]
    pub(crate) target_id: Uint,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DowngradeRequest {
    pub(crate) action: Enum<DowngradeAction>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) version: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DowngradeAction {
    #[default]
    Validate,
    Enable,
    Cancel,
}

impl Named for DowngradeAction {
    const VALUES: &[(&'static str, Self)] =
        &[("VALIDATE", Self::Validate), ("ENABLE", Self::Enable), ("CANCEL", Self::Cancel)];
}
