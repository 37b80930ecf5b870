//! `/v3/auth/*`.

use serde::{Deserialize, Serialize};

use super::Header;
use super::codec::{Blob, Enum, Named, Uint, nullable, zero};
use super::kv::key_range;
use crate::store::{KeyRange, Permission, PermissionKind};

/// Every request that names a user, a role or both, in the fields of its kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AuthRequest {
    #[serde(deserialize_with = "nullable")]
    pub(crate) name: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) user: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) role: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PasswordRequest {
    #[serde(deserialize_with = "nullable")]
    pub(crate) name: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) password: String,
    #[serde(rename = "hashedPassword", deserialize_with = "nullable")]
    pub(crate) hashed_password: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) options: UserOptions,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct UserOptions {
    #[serde(alias = "noPassword", deserialize_with = "nullable")]
    pub(crate) no_password: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GrantPermissionRequest {
    #[serde(deserialize_with = "nullable")]
    pub(crate) name: String,
    pub(crate) perm: Option<PermissionMessage>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RevokePermissionRequest {
    #[serde(deserialize_with = "nullable")]
    pub(crate) role: String,
    key: Blob,
    #[serde(alias = "rangeEnd")]
    range_end: Blob,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PermissionMessage {
    #[serde(rename = "permType", alias = "perm_type", skip_serializing_if = "zero")]
    kind: Enum<PermissionKind>,
    #[serde(skip_serializing_if = "zero")]
    key: Blob,
    #[serde(alias = "rangeEnd", skip_serializing_if = "zero")]
    range_end: Blob,
}

impl Named for PermissionKind {
    const VALUES: &[(&'static str, Self)] =
        &[("READ", Self::Read), ("WRITE", Self::Write), ("READWRITE", Self::ReadWrite)];
}

impl RevokePermissionRequest {
    pub(crate) fn range(self) -> KeyRange {
        key_range(self.key.0, self.range_end.0)
    }
}

impl PermissionMessage {
    pub(crate) fn permission(self) -> Permission {
        Permission { kind: self.kind.0, range: key_range(self.key.0, self.range_end.0) }
    }
}

impl From<&Permission> for PermissionMessage {
    fn from(permission: &Permission) -> Self {
        let end = match &permission.range {
            KeyRange::One(_) => bytes::Bytes::new(),
            KeyRange::From(_) => bytes::Bytes::from_static(b"\0"),
            KeyRange::Between { end, .. } => end.clone(),
        };
        Self {
            kind: Enum(permission.kind),
            key: Blob(permission.range.start().clone()),
            range_end: Blob(end),
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct AuthStatusResponse {
    pub(crate) header: Header,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) enabled: bool,
    #[serde(rename = "authRevision", skip_serializing_if = "zero")]
    pub(crate) auth_revision: Uint,
}

#[derive(Clone, Serialize)]
pub(crate) struct AuthenticateResponse {
    pub(crate) header: Header,
    pub(crate) token: String,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct UsersResponse {
    pub(crate) header: Header,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) users: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct RolesResponse {
    pub(crate) header: Header,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) roles: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct RoleResponse {
    pub(crate) header: Header,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) perm: Vec<PermissionMessage>,
}
