//! Users, roles, permissions and tokens, as etcd knows them.
//!
//! Everything in here is replicated: whether authentication is on, who may do what, and which
//! tokens are worth something. A write is judged when it is applied, by the state it meets, so a
//! right that was taken back is gone for every write behind it in the log. A read is judged by the
//! snapshot that answers it.
//!
//! **Invariant:** no password and no token is in here, only what can tell whether one is right.

mod authorize;
mod command;
mod permission;
mod token;

use std::collections::BTreeSet;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

pub use authorize::{Caller, Denied};
pub use command::{AuthCommand, AuthError, PasswordHash};
pub use permission::{Access, Permission, PermissionKind};
pub use token::TokenDigest;
use token::{Token, Tokens};

use super::ids::KeyRange;

/// The user without whom authentication cannot be turned on, and the role that may do everything.
pub(super) const ROOT: &str = "root";

#[derive(Clone, Debug)]
pub struct Auth {
    enabled: bool,
    /// Counts the changes of users, roles and permissions.
    revision: u64,
    users: OrdMap<String, User>,
    /// By name. Sorted by the first key of each range; of equal ones, the older comes first.
    roles: OrdMap<String, Vec<Permission>>,
    tokens: Tokens,
}

/// Changes whenever somebody may do more or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    enabled: bool,
    revision: u64,
}

impl Rights {
    /// Whether these were in force before the others were.
    #[must_use]
    pub const fn precede(self, others: Self) -> bool {
        self.revision < others.revision
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// `None`: nobody can authenticate as this user.
    pub password: Option<PasswordHash>,
    /// The auth revision at which the password was set.
    pub password_revision: u64,
    pub roles: BTreeSet<String>,
}

/// As part of a snapshot.
#[derive(Serialize, Deserialize)]
pub(super) struct AuthImage {
    enabled: bool,
    revision: u64,
    users: Vec<(String, User)>,
    roles: Vec<(String, Vec<Permission>)>,
    tokens: Vec<(TokenDigest, Token)>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            enabled: false,
            revision: 1,
            users: OrdMap::new(),
            roles: OrdMap::new(),
            tokens: Tokens::default(),
        }
    }
}

impl Auth {
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.enabled
    }

    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    #[must_use]
    pub const fn rights(&self) -> Rights {
        Rights { enabled: self.enabled, revision: self.revision }
    }

    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// In the order of their names.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    #[must_use]
    pub fn role(&self, name: &str) -> Option<&[Permission]> {
        self.roles.get(name).map(Vec::as_slice)
    }

    /// In the order of their names.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.keys().map(String::as_str)
    }

    pub(super) fn apply(&mut self, command: AuthCommand, now_ms: u64) -> Result<(), AuthError> {
        match command {
            AuthCommand::Enable => return self.enable(),
            AuthCommand::Disable if !self.enabled => return Ok(()),
            AuthCommand::Disable => {
                self.enabled = false;
                self.tokens.clear();
            }
            AuthCommand::AddUser { name, password } => self.add_user(name, password)?,
            AuthCommand::DeleteUser { name } => self.delete_user(&name)?,
            AuthCommand::SetPassword { name, password } => self.set_password(&name, password)?,
            AuthCommand::GrantRole { user, role } => {
                if !self.grant_role(&user, role)? {
                    return Ok(());
                }
            }
            AuthCommand::RevokeRole { user, role } => self.revoke_role(&user, &role)?,
            AuthCommand::AddRole { name } => self.add_role(name)?,
            AuthCommand::DeleteRole { name } => self.delete_role(&name)?,
            AuthCommand::GrantPermission { role, permission } => {
                self.grant_permission(&role, permission)?;
            }
            AuthCommand::RevokePermission { role, range } => {
                self.revoke_permission(&role, &range)?;
            }
            AuthCommand::Issue { user, password_revision, token, ttl_ms } => {
                return self.issue(user, password_revision, token, (ttl_ms, now_ms));
            }
            AuthCommand::Refresh { tokens } => {
                tokens.into_iter().for_each(|token| self.tokens.refresh(token, now_ms));
                return Ok(());
            }
        }
        self.revision += 1;
        Ok(())
    }

    fn enable(&mut self) -> Result<(), AuthError> {
        let root = self.users.get(ROOT).ok_or(AuthError::NoRootUser)?;
        if !root.roles.contains(ROOT) {
            return Err(AuthError::NoRootRole);
        }
        self.enabled = true;
        Ok(())
    }

    fn add_user(&mut self, name: String, password: Option<PasswordHash>) -> Result<(), AuthError> {
        if name.is_empty() {
            return Err(AuthError::UserNameEmpty);
        }
        if self.users.contains_key(&name) {
            return Err(AuthError::UserExists);
        }
        let password_revision = self.revision + 1;
        self.users.insert(name, User { password, password_revision, roles: BTreeSet::new() });
        Ok(())
    }

    fn delete_user(&mut self, name: &str) -> Result<(), AuthError> {
        if self.enabled && name == ROOT {
            return Err(AuthError::RootNeeded);
        }
        self.users.remove(name).ok_or(AuthError::UserNotFound)?;
        self.tokens.revoke(name);
        Ok(())
    }

    fn set_password(
        &mut self,
        name: &str,
        password: Option<PasswordHash>,
    ) -> Result<(), AuthError> {
        let user = self.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
        user.password = password;
        user.password_revision = self.revision + 1;
        self.tokens.revoke(name);
        Ok(())
    }

    /// False if the user had it already.
    fn grant_role(&mut self, user: &str, role: String) -> Result<bool, AuthError> {
        let granted = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
        // The role of that name may do everything, whether it was added or not.
        if role != ROOT && !self.roles.contains_key(&role) {
            return Err(AuthError::RoleNotFound);
        }
        Ok(granted.roles.insert(role))
    }

    fn revoke_role(&mut self, user: &str, role: &str) -> Result<(), AuthError> {
        if self.enabled && user == ROOT && role == ROOT {
            return Err(AuthError::RootNeeded);
        }
        let granted = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
        if granted.roles.remove(role) { Ok(()) } else { Err(AuthError::RoleNotGranted) }
    }

    fn add_role(&mut self, name: String) -> Result<(), AuthError> {
        if name.is_empty() {
            return Err(AuthError::RoleNameEmpty);
        }
        if self.roles.contains_key(&name) {
            return Err(AuthError::RoleExists);
        }
        self.roles.insert(name, Vec::new());
        Ok(())
    }

    fn delete_role(&mut self, name: &str) -> Result<(), AuthError> {
        if self.enabled && name == ROOT {
            return Err(AuthError::RootNeeded);
        }
        self.roles.remove(name).ok_or(AuthError::RoleNotFound)?;
        let holders: Vec<String> = self
            .users
            .iter()
            .filter(|(_, user)| user.roles.contains(name))
            .map(|(holder, _)| holder.clone())
            .collect();
        for holder in holders {
            if let Some(user) = self.users.get_mut(&holder) {
                user.roles.remove(name);
            }
        }
        Ok(())
    }

    /// Another kind for the same range replaces what was granted.
    fn grant_permission(&mut self, role: &str, permission: Permission) -> Result<(), AuthError> {
        let granted = self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?;
        if let Some(same) = granted.iter_mut().find(|known| known.range == permission.range) {
            same.kind = permission.kind;
            return Ok(());
        }
        let at = granted.partition_point(|known| known.range.start() <= permission.range.start());
        granted.insert(at, permission);
        Ok(())
    }

    fn revoke_permission(&mut self, role: &str, range: &KeyRange) -> Result<(), AuthError> {
        let granted = self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?;
        let at = granted.iter().position(|known| known.range == *range);
        granted.remove(at.ok_or(AuthError::PermissionNotGranted)?);
        Ok(())
    }

    fn issue(
        &mut self,
        name: String,
        password_revision: u64,
        token: TokenDigest,
        (ttl_ms, now_ms): (u64, u64),
    ) -> Result<(), AuthError> {
        if !self.enabled {
            return Err(AuthError::NotEnabled);
        }
        let user = self.users.get(&name).ok_or(AuthError::Changed)?;
        if user.password_revision != password_revision {
            return Err(AuthError::Changed);
        }
        self.tokens.issue(token, name, ttl_ms, now_ms);
        Ok(())
    }

    /// Whoever writes is there.
    pub(super) fn note_use(&mut self, caller: Caller, now_ms: u64) {
        if let Caller::Token(token) = caller
            && self.is_worn(token, now_ms)
        {
            self.tokens.refresh(token, now_ms);
        }
    }

    /// What members compare: everything but tokens and password hashes.
    pub(super) fn without_secrets(&self) -> Self {
        let mut this = self.clone();
        this.tokens.clear();
        let names: Vec<String> = self.users().map(str::to_owned).collect();
        for name in names {
            if let Some(user) = this.users.get_mut(&name) {
                user.password = None;
            }
        }
        this
    }

    /// Whether nothing was ever changed.
    pub(super) fn is_new(&self) -> bool {
        self.revision == Self::default().revision
    }

    /// For another cluster: nobody is authenticated there.
    pub(super) fn forget_tokens(&mut self) {
        self.tokens.clear();
    }

    pub(super) fn image(&self) -> AuthImage {
        AuthImage {
            enabled: self.enabled,
            revision: self.revision,
            users: self.users.iter().map(|(name, user)| (name.clone(), user.clone())).collect(),
            roles: self.roles.iter().map(|(name, role)| (name.clone(), role.clone())).collect(),
            tokens: self.tokens.image(),
        }
    }

    pub(super) fn from_image(image: AuthImage) -> Self {
        Self {
            enabled: image.enabled,
            revision: image.revision,
            users: image.users.into_iter().collect(),
            roles: image.roles.into_iter().collect(),
            tokens: Tokens::from_image(image.tokens),
        }
    }
}
