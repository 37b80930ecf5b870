//! The coordinator's state: keys with history, leases, alarms. Pure.
//!
//! [`Store::apply`] takes one [`Command`] after the other and always gives the same result for
//! the same commands: the store is what the log says. Cloning a store is O(1) and shares
//! everything, so reads, watches and backups work on clones.
//!
//! **Invariant:** nothing in here reads a clock, draws a random number or does I/O. Time comes
//! in the stamp of each command and never goes back.
//! **Invariant:** a command that is refused changes nothing but the time, and what is known about
//! a lack of space.

mod auth;
mod check;
mod command;
mod compaction;
mod hash;
mod ids;
mod key;
mod lease;
mod line;
mod log;
mod mvcc;
mod quota;
mod range;
mod records;
mod registration;
mod requests;
mod restore;
mod snapshot;
mod txn;
mod watch;

use std::sync::Arc;

use imbl::OrdSet;
use requests::Now;
use serde::{Deserialize, Serialize};

pub use auth::{
    Access, Auth, AuthCommand, AuthError, Caller, Denied, PasswordHash, Permission, PermissionKind,
    Rights, TokenDigest,
};
pub use check::TxnInvalid;
pub use command::{AlarmKind, Command, DecodeError, Stamp};
pub use compaction::Compacted;
pub use hash::KeysHash;
pub use ids::{KeyRange, LeaseId, Revision};
pub use key::Key;
pub use lease::{GrantError, Lease, LeaseNotFound, LeaseSeen, Leases, MAX_TTL_SECONDS};
pub use line::{Enqueue, EnqueueError, Place, place_key, places};
pub use mvcc::{Mvcc, Record, RevisionError};
pub use quota::NoSpace;
pub use range::{Page, PageLimit, RangeQuery, RangeResult, RevisionFilter, SortOrder, SortTarget};
pub use registration::{Deregistered, Registered, Registration};
pub use requests::{
    MAX_REQUEST_BYTES, MAX_REQUESTS, REQUEST_WINDOW_MS, RepeatError, Request, Requests,
};
pub use restore::Restoring;
pub use snapshot::SnapshotError;
pub use txn::{Compare, Delete, Op, OpResult, Operand, Put, Relation, Txn, TxnError, TxnResult};
pub use watch::{Batch, Event, HistoryCompacted, WatchFilter};

#[derive(Clone, Debug)]
pub struct Store {
    pub mvcc: Mvcc,
    pub leases: Leases,
    /// What was answered to requests that may come again.
    pub requests: Requests,
    pub auth: Auth,
    alarms: OrdSet<(u64, AlarmKind)>,
    /// What the last write that found no space would have taken, while it still finds none.
    space_wanted: Option<u64>,
    /// 0 until the cluster is founded.
    cluster_id: u64,
    /// The highest stamp seen.
    now_ms: u64,
    /// In which the last command was made. 0: before terms were noted.
    term: u64,
}

/// The answer to a command, in its own variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Txn(Result<TxnResult, TxnError>),
    Compact(Result<Compacted, RevisionError>),
    Grant(Result<Lease, GrantError>),
    Revoke(Result<Revoked, LeaseNotFound>),
    KeepAlive(Result<Lease, LeaseNotFound>),
    /// The leases that ended.
    Expire(Vec<LeaseId>),
    /// Whether anything changed.
    Alarm(bool),
    Register(Result<Registered, GrantError>),
    Deregister(Deregistered),
    Enqueue(Result<Place, EnqueueError>),
    /// The request came before and cannot be answered as it was then.
    NotRepeated(RepeatError),
    Auth(Result<(), AuthError>),
    /// The caller may not do this, or nobody may now.
    Denied(Denied),
    Done,
}

/// A lease that ended, with its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    pub revision: Revision,
    pub deleted: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            mvcc: Mvcc::new(),
            leases: Leases::default(),
            requests: Requests::default(),
            auth: Auth::default(),
            alarms: OrdSet::new(),
            space_wanted: None,
            cluster_id: 0,
            now_ms: 0,
            term: 0,
        }
    }
}

impl Store {
    /// The time of the last command, in milliseconds since 1970.
    #[must_use]
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.mvcc.revision()
    }

    /// Which cluster this is: chosen at random when it was founded, and never again.
    #[must_use]
    pub const fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// Every alarm that somebody raised: the member it is about (0: none in particular), and what.
    pub fn alarms(&self) -> impl Iterator<Item = (u64, AlarmKind)> {
        self.alarms.iter().copied()
    }

    /// Whether somebody raised this alarm.
    #[must_use]
    pub fn has_alarm(&self, kind: AlarmKind) -> bool {
        self.alarms().any(|(_, raised)| raised == kind)
    }

    /// This store without what must not be shown or compared.
    fn without_secrets(&self) -> Self {
        Self { auth: self.auth.without_secrets(), ..self.clone() }
    }

    /// Before each command: in which term it was made. The clock of a new leader may be ahead of
    /// the old one's, and in between nobody could renew: leases go on from the last command.
    pub fn enter_term(&mut self, term: u64, stamp: Stamp) {
        // Not only later ones: a backup may have been made in a later term than the first one here.
        if self.term != term {
            self.term = term;
            self.leases.shift(stamp.now_ms.saturating_sub(self.now_ms));
            self.now_ms = self.now_ms.max(stamp.now_ms);
        }
    }

    /// Carries out one command of the node itself.
    pub fn apply(&mut self, stamp: Stamp, command: Command) -> Reply {
        self.apply_for(Caller::Node, stamp, command)
    }

    /// Carries out one command, if the caller may do that.
    pub fn apply_for(&mut self, caller: Caller, stamp: Stamp, command: Command) -> Reply {
        let paused_ms = stamp.now_ms.saturating_sub(self.now_ms);
        self.now_ms = self.now_ms.max(stamp.now_ms);
        if let Err(denied) = self.authorize(caller, &command) {
            return Reply::Denied(denied);
        }
        self.auth.note_use(caller, self.now_ms);
        let reply = match command {
            Command::Once { request, command } => self.once(stamp, paused_ms, request, *command),
            command => self.carry_out(stamp, paused_ms, command),
        };
        self.note_space(&reply, stamp.quota_bytes);
        reply
    }

    fn once(&mut self, stamp: Stamp, paused_ms: u64, request: Request, command: Command) -> Reply {
        self.requests.expire(self.now_ms);
        if let Some(first) = self.requests.repeat(&request) {
            return first;
        }
        let reply = self.carry_out(stamp, paused_ms, command);
        let now = Now { ms: self.now_ms, revision: self.revision() };
        self.requests.remember(request, &reply, now);
        reply
    }

    fn carry_out(&mut self, stamp: Stamp, paused_ms: u64, command: Command) -> Reply {
        match command {
            Command::Txn(txn) => Reply::Txn(self.run(&txn, stamp.quota_bytes)),
            Command::Compact { revision } => Reply::Compact(self.compact(revision)),
            Command::Grant { id, ttl_seconds } => {
                Reply::Grant(self.grant(id, ttl_seconds, stamp.quota_bytes))
            }
            Command::Revoke { id } => Reply::Revoke(self.revoke(id).ok_or(LeaseNotFound(id))),
            Command::KeepAlive { id } => Reply::KeepAlive(self.keep_alive(id)),
            Command::Expire { leases } => Reply::Expire(self.expire(&leases)),
            Command::Resume => {
                self.leases.shift(paused_ms);
                Reply::Done
            }
            Command::Tick => Reply::Done,
            Command::Alarm { member, kind, on } => {
                let alarm = (member, kind);
                let changed = if on {
                    self.alarms.insert(alarm).is_none()
                } else {
                    // Whoever takes it down wants to see whether it comes back.
                    self.space_wanted = self.space_wanted.filter(|_| kind != AlarmKind::NoSpace);
                    self.alarms.remove(&alarm).is_some()
                };
                Reply::Alarm(changed)
            }
            Command::Found { cluster_id } => {
                if self.cluster_id == 0 {
                    self.cluster_id = cluster_id;
                }
                Reply::Done
            }
            // Nobody wraps a command twice.
            Command::Once { command, .. } => self.carry_out(stamp, paused_ms, *command),
            Command::Register(registration) => {
                Reply::Register(self.register(registration, stamp.quota_bytes))
            }
            Command::Enqueue(ask) => Reply::Enqueue(self.enqueue(ask, stamp.quota_bytes)),
            Command::Leave { key, token, request } => {
                self.leave_for(key, token, request.as_ref());
                Reply::Done
            }
            Command::Deregister { key, own } => Reply::Deregister(self.deregister(key, own)),
            Command::Auth(command) => Reply::Auth(self.auth.apply(command, self.now_ms)),
        }
    }

    fn compact(&mut self, at: Revision) -> Result<Compacted, RevisionError> {
        self.mvcc.compact(at)?;
        Ok(Compacted { revision: self.revision(), compacted: self.mvcc.compacted() })
    }

    fn grant(&mut self, id: LeaseId, ttl_seconds: u64, quota: u64) -> Result<Lease, GrantError> {
        self.check_space(0, quota)?;
        self.leases.grant(id, ttl_seconds, self.now_ms)
    }

    /// Ends a lease: its keys go in key order, in one revision.
    fn revoke(&mut self, id: LeaseId) -> Option<Revoked> {
        let lease = self.leases.remove(id)?;
        let mut writer = self.mvcc.write();
        for key in &lease.keys {
            writer.delete(&KeyRange::One(key.clone()));
        }
        Some(Revoked { revision: writer.finish(), deleted: lease.keys.len() as u64 })
    }

    /// A lease whose time is over is not brought back: somebody may have seen its remaining time.
    fn keep_alive(&mut self, id: LeaseId) -> Result<Lease, LeaseNotFound> {
        let lease = self.leases.get(id).ok_or(LeaseNotFound(id))?;
        if lease.deadline_ms <= self.now_ms {
            self.revoke(id);
            return Err(LeaseNotFound(id));
        }
        self.leases.keep_alive(id, self.now_ms).ok_or(LeaseNotFound(id))
    }

    fn expire(&mut self, seen: &[LeaseSeen]) -> Vec<LeaseId> {
        let now_ms = self.now_ms;
        let over = |store: &Self, seen: &LeaseSeen| {
            store
                .leases
                .get(seen.id)
                .is_some_and(|lease| lease.renewals == seen.renewals && lease.deadline_ms <= now_ms)
        };
        seen.iter()
            .filter(|seen| over(self, seen) && self.revoke(seen.id).is_some())
            .map(|seen| seen.id)
            .collect()
    }
}

/// A store that nobody changes any more.
pub type Snapshot = Arc<Store>;
