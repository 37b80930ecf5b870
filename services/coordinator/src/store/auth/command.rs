//! What changes users, roles, permissions and tokens, and why it may be refused.

use serde::{Deserialize, Serialize};

use super::super::ids::KeyRange;
use super::permission::Permission;
use super::token::TokenDigest;

/// What an Argon2id password hash consists of. Made and compared outside.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
    pub salt: [u8; 16],
    pub hash: [u8; 32],
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthCommand {
    Enable,
    Disable,
    AddUser {
        name: String,
        password: Option<PasswordHash>,
    },
    DeleteUser {
        name: String,
    },
    SetPassword {
        name: String,
        password: Option<PasswordHash>,
    },
    GrantRole {
        user: String,
        role: String,
    },
    RevokeRole {
        user: String,
        role: String,
    },
    AddRole {
        name: String,
    },
    DeleteRole {
        name: String,
    },
    GrantPermission {
        role: String,
        permission: Permission,
    },
    RevokePermission {
        role: String,
        range: KeyRange,
    },
    /// Somebody has given the password that was set at this revision.
    Issue {
        user: String,
        password_revision: u64,
        token: TokenDigest,
        ttl_ms: u64,
    },
    /// These were used.
    Refresh {
        tokens: Vec<TokenDigest>,
    },
}

/// Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("authentication is not enabled")]
    NotEnabled,
    #[error("the user `root` does not exist; add it first")]
    NoRootUser,
    #[error("the user `root` does not have the role `root`; grant it first")]
    NoRootRole,
    #[error("a user needs a name")]
    UserNameEmpty,
    #[error("a role needs a name")]
    RoleNameEmpty,
    #[error("the user exists already")]
    UserExists,
    #[error("the user does not exist")]
    UserNotFound,
    #[error("the role exists already")]
    RoleExists,
    #[error("the role does not exist")]
    RoleNotFound,
    #[error("the user does not have this role")]
    RoleNotGranted,
    #[error("the role does not have this permission")]
    PermissionNotGranted,
    #[error("while authentication is on, `root` stays what it is")]
    RootNeeded,
    #[error("the user was changed meanwhile; authenticate again")]
    Changed,
}
