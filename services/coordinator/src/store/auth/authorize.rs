//! Who may do what.

use serde::{Deserialize, Serialize};

use super::super::Store;
use super::super::command::{AlarmKind, Command};
use super::super::ids::{KeyRange, LeaseId};
use super::super::line::places;
use super::super::txn::{Op, Txn};
use super::permission::{Access, Permission, cover};
use super::token::TokenDigest;
use super::{Auth, ROOT};

/// On whose behalf something is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Caller {
    /// A request without credentials. What forgets to say who asks is this, and gets nothing.
    #[default]
    Anonymous,
    Token(TokenDigest),
    /// The node itself, in its own duties.
    Node,
}

/// Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error(
        "authentication is on; send `Authorization: Bearer TOKEN` with a token from POST /v3/auth/authenticate"
    )]
    NoToken,
    #[error("the token is unknown or has expired; authenticate again")]
    InvalidToken,
    #[error("the user may not do this; ask for a role with a permission for these keys")]
    Forbidden,
    #[error("the alarm CORRUPT is raised: members differ; take it down once that is repaired")]
    Corrupt,
}

/// What a caller turned out to be.
#[derive(Clone, Copy, Debug)]
enum Identity<'a> {
    /// Nobody asks, or the node itself acts.
    Unlimited,
    Nobody,
    User(&'a str),
}

impl Auth {
    fn identify(&self, caller: Caller, now_ms: u64) -> Result<Identity<'_>, Denied> {
        if !self.enabled {
            return Ok(Identity::Unlimited);
        }
        match caller {
            Caller::Node => Ok(Identity::Unlimited),
            Caller::Anonymous => Ok(Identity::Nobody),
            Caller::Token(token) => {
                self.tokens.user(token, now_ms).map(Identity::User).ok_or(Denied::InvalidToken)
            }
        }
    }

    /// The user behind a token that is worth something.
    pub fn user_of(&self, caller: Caller, now_ms: u64) -> Result<Option<&str>, Denied> {
        match self.identify(caller, now_ms)? {
            Identity::Unlimited => Ok(None),
            Identity::Nobody => Err(Denied::NoToken),
            Identity::User(name) => Ok(Some(name)),
        }
    }

    /// Whether a token was used long enough ago that this use must be noted.
    #[must_use]
    pub fn is_worn(&self, token: TokenDigest, now_ms: u64) -> bool {
        self.tokens.is_worn(token, now_ms)
    }

    /// Fails unless this user may have this access to every key of the range.
    pub fn check_user(&self, user: &str, access: Access, range: &KeyRange) -> Result<(), Denied> {
        let user = self.users.get(user).ok_or(Denied::Forbidden)?;
        if user.roles.contains(ROOT) {
            return Ok(());
        }
        let permissions = user
            .roles
            .iter()
            .filter_map(|role| self.roles.get(role))
            .flatten()
            .filter(|permission| permission.grants(access))
            .map(|Permission { range, .. }| range);
        if cover(permissions, range) { Ok(()) } else { Err(Denied::Forbidden) }
    }

    fn is_root(&self, user: &str) -> bool {
        self.users.get(user).is_some_and(|user| user.roles.contains(ROOT))
    }

    fn check(
        &self,
        identity: Identity<'_>,
        access: Access,
        range: &KeyRange,
    ) -> Result<(), Denied> {
        match identity {
            Identity::Unlimited => Ok(()),
            Identity::Nobody => Err(Denied::NoToken),
            Identity::User(name) => self.check_user(name, access, range),
        }
    }

    fn check_root(&self, identity: Identity<'_>) -> Result<(), Denied> {
        match identity {
            Identity::Unlimited => Ok(()),
            Identity::Nobody => Err(Denied::NoToken),
            Identity::User(name) if self.is_root(name) => Ok(()),
            Identity::User(_) => Err(Denied::Forbidden),
        }
    }
}

impl Store {
    /// Fails unless the caller may have this access to every key of the range.
    pub fn check_access(
        &self,
        caller: Caller,
        now_ms: u64,
        access: Access,
        range: &KeyRange,
    ) -> Result<(), Denied> {
        self.auth.check(self.auth.identify(caller, now_ms)?, access, range)
    }

    /// Fails unless the caller may do everything.
    pub fn check_root(&self, caller: Caller, now_ms: u64) -> Result<(), Denied> {
        self.auth.check_root(self.auth.identify(caller, now_ms)?)
    }

    /// Fails unless the caller may do all that is in either branch: which one is taken must tell
    /// nobody more than reading would.
    pub fn check_txn(&self, caller: Caller, now_ms: u64, txn: &Txn) -> Result<(), Denied> {
        match self.auth.identify(caller, now_ms)? {
            Identity::Unlimited => Ok(()),
            identity => self.authorize_txn(identity, txn),
        }
    }

    /// Judges a command before it is carried out, at the time it is applied.
    pub(in crate::store) fn authorize(
        &self,
        caller: Caller,
        command: &Command,
    ) -> Result<(), Denied> {
        if caller != Caller::Node && self.is_frozen_for(command) {
            return Err(Denied::Corrupt);
        }
        // Clients renew leases without credentials: it gives nothing but time.
        if !self.auth.enabled
            || caller == Caller::Node
            || matches!(command, Command::KeepAlive { .. })
        {
            return Ok(());
        }
        let identity = self.auth.identify(caller, self.now_ms)?;
        let key = |key: &bytes::Bytes| {
            self.auth.check(identity, Access::Write, &KeyRange::One(key.clone()))
        };
        match command {
            // The first answer is for whoever might have been given it.
            Command::Once { command, .. } => self.authorize(caller, command),
            Command::Register(registration) => key(&registration.key),
            // Whoever stands in line learns whether others do.
            Command::Enqueue(ask) => {
                let places = places(&ask.name);
                self.auth.check(identity, Access::Write, &places)?;
                self.auth.check(identity, Access::Read, &places)?;
                self.authorize_lease(identity, ask.lease)
            }
            Command::Deregister { key: instance, own } => {
                key(instance)?;
                self.authorize_lease(identity, *own)
            }
            Command::Txn(txn) => self.authorize_txn(identity, txn),
            Command::Revoke { id } => self.authorize_lease(identity, *id),
            // A lease without keys is nobody's.
            Command::Grant { .. } | Command::KeepAlive { .. } => Ok(()),
            Command::Compact { .. } | Command::Alarm { .. } | Command::Auth(_) => {
                self.auth.check_root(identity)
            }
            // The node's own duties.
            Command::Expire { .. }
            | Command::Resume
            | Command::Tick
            | Command::Found { .. }
            | Command::Leave { .. } => Err(Denied::Forbidden),
        }
    }

    /// While members may differ, nothing is added to the difference.
    fn is_frozen_for(&self, command: &Command) -> bool {
        let changes = matches!(
            command,
            Command::Txn(_)
                | Command::Compact { .. }
                | Command::Grant { .. }
                | Command::Revoke { .. }
                | Command::Once { .. }
                | Command::Register(_)
                | Command::Deregister { .. }
                | Command::Enqueue(_)
        );
        changes && self.has_alarm(AlarmKind::Corrupt)
    }

    fn authorize_txn(&self, identity: Identity<'_>, txn: &Txn) -> Result<(), Denied> {
        for compare in &txn.compares {
            self.auth.check(identity, Access::Read, &compare.range)?;
        }
        txn.success.iter().chain(&txn.failure).try_for_each(|op| self.authorize_op(identity, op))
    }

    fn authorize_op(&self, identity: Identity<'_>, op: &Op) -> Result<(), Denied> {
        match op {
            Op::Range(query) => self.auth.check(identity, Access::Read, &query.range),
            Op::Put(put) => {
                let range = KeyRange::One(put.key.clone());
                self.auth.check(identity, Access::Write, &range)?;
                if put.previous {
                    self.auth.check(identity, Access::Read, &range)?;
                }
                // Whoever holds the lease decides when the key goes, and others see its keys.
                self.authorize_lease(identity, put.lease.unwrap_or_default())
            }
            Op::Delete(delete) => {
                self.auth.check(identity, Access::Write, &delete.range)?;
                if delete.previous {
                    self.auth.check(identity, Access::Read, &delete.range)?;
                }
                Ok(())
            }
            Op::Txn(txn) => self.authorize_txn(identity, txn),
        }
    }

    /// A lease is its keys': ending it deletes them.
    fn authorize_lease(&self, identity: Identity<'_>, id: LeaseId) -> Result<(), Denied> {
        let Some(lease) = self.leases.get(id) else { return Ok(()) };
        lease.keys.iter().try_for_each(|key| {
            self.auth.check(identity, Access::Write, &KeyRange::One(key.clone()))
        })
    }
}
