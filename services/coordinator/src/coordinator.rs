//! The handle that every face works with: commands in, consistent snapshots out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft_node::{Group, Leadership, ProposeError, QueryError};
use telemetry::trace::{InSpan as _, Span};
use tokio::sync::{Notify, mpsc, watch};

use crate::metrics::Metrics;
use crate::state_machine::{Machine, Newest};
use crate::store::{
    Access, AlarmKind, AuthCommand, AuthError, Caller, Command, Compacted, Denied, Deregistered,
    Enqueue, EnqueueError, GrantError, KeyRange, Lease, LeaseId, LeaseNotFound, LeaseSeen, Place,
    Registered, Registration, RepeatError, Reply, Request, Revision, RevisionError, Revoked,
    Snapshot, Stamp, Store, TokenDigest, Txn, TxnError, TxnResult,
};
use crate::time::Time;

/// How long a command may take. After that its outcome is unknown.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// Revisions that one command forgets: a few milliseconds.
const COMPACTION_STEP: usize = 1000;

/// Uses of tokens that wait to be noted.
const USED_TOKENS_MAX: usize = 1024;

/// Cheap to clone; all clones are one coordinator. Each acts for somebody: what it changes is
/// judged by that, and who reads the store asks [`Coordinator::may_read`] first.
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
    caller: Caller,
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator").field("term", &self.term()).finish_non_exhaustive()
    }
}

struct Inner {
    group: Group<Machine>,
    newest: Newest,
    published: watch::Receiver<Snapshot>,
    /// Somebody watches who did not before.
    subscribed: Arc<Notify>,
    time: Time,
    quota_bytes: u64,
    metrics: Metrics,
    used_tokens: mpsc::Sender<TokenDigest>,
}

/// What every operation may meet, besides its own refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("too many requests are waiting on this node; slow down and repeat")]
    Overloaded,
    #[error("the request is {len} bytes in the log, the limit is {max}; send less at once")]
    TooLarge { len: usize, max: usize },
    #[error("the disk is full; free space on this node, reads still work")]
    DiskFull,
    #[error("nobody leads the cluster right now; repeat shortly")]
    NoLeader,
    #[error("this node is stopping; repeat shortly or elsewhere")]
    Stopped,
    #[error("the change may or may not have been made; read the key to find out")]
    Indeterminate,
    #[error(transparent)]
    NotRepeated(#[from] RepeatError),
    #[error("{0}")]
    Denied(Denied),
}

/// A command that was not carried out: refused by the state, or never got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError<E: std::error::Error> {
    #[error("{0}")]
    Refused(E),
    #[error("{0}")]
    Failed(#[from] Failure),
}

impl Coordinator {
    pub(crate) fn new(
        (group, newest): (Group<Machine>, Newest),
        (published, subscribed): (watch::Receiver<Snapshot>, Arc<Notify>),
        time: Time,
        quota_bytes: u64,
        metrics: Metrics,
    ) -> (Self, mpsc::Receiver<TokenDigest>) {
        let (used_tokens, used) = mpsc::channel(USED_TOKENS_MAX);
        let inner =
            Inner { group, newest, published, subscribed, time, quota_bytes, metrics, used_tokens };
        (Self { inner: Arc::new(inner), caller: Caller::Node }, used)
    }

    /// The same coordinator, acting for somebody.
    #[must_use]
    pub fn acting_for(&self, caller: Caller) -> Self {
        Self { inner: Arc::clone(&self.inner), caller }
    }

    #[must_use]
    pub const fn caller(&self) -> Caller {
        self.caller
    }

    /// Fails unless the caller may read every key of the range.
    pub fn may_read(&self, store: &Store, range: &KeyRange) -> Result<(), Failure> {
        self.judge(store, |now_ms| store.check_access(self.caller, now_ms, Access::Read, range))
    }

    /// Fails unless the caller may write every key of the range.
    pub fn may_write(&self, store: &Store, range: &KeyRange) -> Result<(), Failure> {
        self.judge(store, |now_ms| store.check_access(self.caller, now_ms, Access::Write, range))
    }

    /// Fails unless the caller may do everything.
    pub fn may_administer(&self, store: &Store) -> Result<(), Failure> {
        self.judge(store, |now_ms| store.check_root(self.caller, now_ms))
    }

    /// Fails unless the caller may do all that is in either branch.
    pub fn check_txn(&self, store: &Store, txn: &Txn) -> Result<(), Failure> {
        self.judge(store, |now_ms| store.check_txn(self.caller, now_ms, txn))
    }

    /// The caller's user; `None` if nobody asks who is who.
    pub fn user<'a>(&self, store: &'a Store) -> Result<Option<&'a str>, Failure> {
        let user = store.auth.user_of(self.caller, self.now_ms());
        user.map_err(Failure::Denied)
    }

    fn judge(
        &self,
        store: &Store,
        judge: impl FnOnce(u64) -> Result<(), Denied>,
    ) -> Result<(), Failure> {
        let now_ms = self.now_ms();
        judge(now_ms).map_err(Failure::Denied)?;
        if let Caller::Token(token) = self.caller
            && store.auth.is_worn(token, now_ms)
        {
            // If too many wait, the next use is noted.
            let _full = self.inner.used_tokens.try_send(token);
        }
        Ok(())
    }

    /// Changes users, roles, permissions or tokens.
    pub async fn auth(&self, command: AuthCommand) -> Result<(), CommandError<AuthError>> {
        match self.propose(Command::Auth(command)).await? {
            Reply::Auth(result) => result.map_err(CommandError::Refused),
            reply => unexpected(&reply),
        }
    }

    /// The newest state: whatever was answered before, by any member, is in it.
    pub async fn snapshot(&self) -> Result<Snapshot, Failure> {
        self.inner.group.barrier().await?;
        Ok(self.recent().await)
    }

    /// The state that this node has, without asking anybody: whatever it has answered itself is in
    /// it, and it never goes back.
    pub async fn recent(&self) -> Snapshot {
        self.inner.newest.current(&self.inner.group).await
    }

    /// As [`recent`](Self::recent), where nothing can be awaited.
    #[must_use]
    pub fn recent_blocking(&self) -> Snapshot {
        self.inner.newest.load()
    }

    /// 0 until the cluster is founded.
    #[must_use]
    pub fn cluster_id(&self) -> u64 {
        self.inner.newest.cluster_id()
    }

    #[must_use]
    pub fn is_auth_enabled(&self) -> bool {
        self.inner.newest.is_auth_enabled()
    }

    /// For watchers: woken when there is a newer state, but not for every single one.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Snapshot> {
        let receiver = self.inner.published.clone();
        self.inner.subscribed.notify_one();
        receiver
    }

    /// The store's clock.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.inner.time.follow(self.inner.newest.now_ms());
        self.inner.time.now_ms()
    }

    /// The store's clock goes on, for this node leads.
    pub(crate) fn begin_time(&self) {
        self.inner.time.begin();
    }

    /// Higher after every restart and every change of leadership.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.inner.group.term().0
    }

    /// This node leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.inner.group.leadership().borrow().is_here
    }

    /// Who leads, and every change of that.
    pub(crate) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.group.leadership()
    }

    /// Who leads, by member id; 0 is nobody known.
    #[must_use]
    pub fn leader(&self) -> u64 {
        self.inner.group.leadership().borrow().leader.map_or(0, |node| node.0)
    }

    /// What consensus knows: members, positions.
    pub async fn status(&self) -> Result<consensus::Status, Failure> {
        self.inner.group.status().await.map_err(|_stopped| Failure::Stopped)
    }

    /// The last applied entry of the log.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.inner.group.applied().borrow().0
    }

    #[must_use]
    pub fn quota_bytes(&self) -> u64 {
        self.inner.quota_bytes
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Makes one change on behalf of a request, which is carried out once however often it comes.
    #[must_use]
    pub const fn once(&self, request: Option<Request>) -> Change<'_> {
        Change { coordinator: self, request }
    }

    /// As [`Change::txn`], for a caller that does not repeat itself.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResult, CommandError<TxnError>> {
        self.once(None).txn(txn).await
    }

    /// As [`Change::compact`].
    pub async fn compact(
        &self,
        revision: Revision,
    ) -> Result<Compacted, CommandError<RevisionError>> {
        self.once(None).compact(revision).await
    }

    /// As [`Change::grant`].
    pub async fn grant(
        &self,
        id: LeaseId,
        ttl_seconds: u64,
    ) -> Result<Lease, CommandError<GrantError>> {
        self.once(None).grant(id, ttl_seconds).await
    }

    /// As [`Change::revoke`].
    pub async fn revoke(&self, id: LeaseId) -> Result<Revoked, CommandError<LeaseNotFound>> {
        self.once(None).revoke(id).await
    }

    /// Answers once the renewal is durable: a TTL that was promised survives a crash.
    pub async fn keep_alive(&self, id: LeaseId) -> Result<Lease, CommandError<LeaseNotFound>> {
        let reply = self.propose(Command::KeepAlive { id }).await?;
        self.inner.metrics.leases_renewed.inc();
        match reply {
            Reply::KeepAlive(result) => result.map_err(CommandError::Refused),
            reply => unexpected(&reply),
        }
    }

    /// Gives up a place in line, so that the request that asked for it may get another.
    pub(crate) async fn leave(&self, place: &Place, request: Option<Bytes>) -> Result<(), Failure> {
        let key = place.key.clone();
        self.command(Command::Leave { key, token: place.token, request }).await
    }

    /// Ends those leases that are as they were seen and whose time is over.
    pub(crate) async fn expire(&self, leases: Vec<LeaseSeen>) -> Result<Vec<LeaseId>, Failure> {
        match self.propose(Command::Expire { leases }).await? {
            Reply::Expire(ended) => Ok(ended),
            reply => unexpected(&reply),
        }
    }

    /// Raises an alarm or takes it down. False if it was so already.
    pub(crate) async fn raise_alarm(
        &self,
        member: u64,
        kind: AlarmKind,
        on: bool,
    ) -> Result<bool, Failure> {
        match self.propose(Command::Alarm { member, kind, on }).await? {
            Reply::Alarm(changed) => Ok(changed),
            reply => unexpected(&reply),
        }
    }

    /// Carries out a command whose reply says nothing that the caller needs.
    pub(crate) async fn command(&self, command: Command) -> Result<(), Failure> {
        self.propose(command).await.map(|_reply| ())
    }

    async fn propose(&self, command: Command) -> Result<Reply, Failure> {
        let mut span = Span::internal(command.name())
            .attr("db.system.name", "quartet.coordinator")
            .attr("db.operation.name", command.name())
            .start();
        let stamp = Stamp { now_ms: self.now_ms(), quota_bytes: self.inner.quota_bytes };
        let (encoded, group) = (command.encode(stamp, self.caller), &self.inner.group);
        let proposed = async {
            match command.is_freeing() {
                true => group.propose_freeing(encoded).await,
                false => group.propose(encoded).await,
            }
        };
        let outcome = match tokio::time::timeout(COMMAND_TIMEOUT, proposed.in_span(&span)).await {
            Ok(outcome) => outcome.map_err(Failure::from),
            Err(_elapsed) => Err(Failure::Indeterminate),
        };
        if let Err(failure) = &outcome {
            self.inner.metrics.proposals_failed.inc();
            span.fail(failure.name());
        }
        match outcome?.reply {
            Reply::Denied(denied) => Err(Failure::Denied(denied)),
            reply => Ok(reply),
        }
    }
}

/// One change. It is used up by making it: two changes under one key would answer for each other.
#[derive(Debug)]
pub struct Change<'a> {
    coordinator: &'a Coordinator,
    request: Option<Request>,
}

impl<'a> Change<'a> {
    /// Whose state it changes.
    #[must_use]
    pub const fn coordinator(&self) -> &'a Coordinator {
        self.coordinator
    }

    /// Runs a transaction that [`Txn::check`] has passed. One that only reads takes no log entry
    /// and reads anew when it is repeated.
    pub async fn txn(self, txn: Txn) -> Result<TxnResult, CommandError<TxnError>> {
        self.metrics().count_txn(&txn);
        if txn.is_read_only() {
            let snapshot = self.coordinator.snapshot().await?;
            self.coordinator.check_txn(&snapshot, &txn)?;
            return snapshot.read(&txn).map_err(CommandError::Refused);
        }
        match self.propose(Command::Txn(txn)).await? {
            Reply::Txn(result) => result.map_err(CommandError::Refused),
            reply => unexpected(&reply),
        }
    }

    /// Drops history before `revision`.
    pub async fn compact(
        self,
        revision: Revision,
    ) -> Result<Compacted, CommandError<RevisionError>> {
        self.approach(revision).await?;
        match self.propose(Command::Compact { revision }).await? {
            Reply::Compact(result) => result.map_err(CommandError::Refused),
            reply => unexpected(&reply),
        }
    }

    /// Drops most of a long history beforehand, step by step: other commands would wait until all
    /// of it is gone.
    async fn approach(&self, revision: Revision) -> Result<(), Failure> {
        let store = self.coordinator.recent().await;
        let (oldest, newest) = (store.mvcc.compacted(), store.revision());
        // It keeps what it shows.
        drop(store);
        // What is refused as a whole must not be done in part.
        let end = if revision <= newest { revision.0 } else { 0 };
        for step in (oldest.0..end).step_by(COMPACTION_STEP).skip(1) {
            // Refused if somebody else was faster.
            self.coordinator.propose(Command::Compact { revision: Revision(step) }).await?;
        }
        Ok(())
    }

    /// [`LeaseId::NONE`] lets the store choose.
    pub async fn grant(
        self,
        id: LeaseId,
        ttl_seconds: u64,
    ) -> Result<Lease, CommandError<GrantError>> {
        self.metrics().leases_granted.inc();
        match self.propose(Command::Grant { id, ttl_seconds }).await? {
            Reply::Grant(result) => result.map_err(CommandError::Refused),
            reply => unexpected(&reply),
        }
    }

    pub async fn revoke(self, id: LeaseId) -> Result<Revoked, CommandError<LeaseNotFound>> {
        self.metrics().leases_revoked.inc();
        match self.propose(Command::Revoke { id }).await? {
            Reply::Revoke(result) => result.map_err(CommandError::Refused),
            reply => unexpected(&reply),
        }
    }

    /// Writes a service instance together with its lease.
    pub(crate) async fn register(
        self,
        registration: Registration,
    ) -> Result<Registered, CommandError<GrantError>> {
        match self.propose(Command::Register(registration)).await? {
            Reply::Register(result) => result.map_err(CommandError::Refused),
            reply => unexpected(&reply),
        }
    }

    /// Removes one, and the lease `own` if it was made for it.
    pub(crate) async fn deregister(
        self,
        key: Bytes,
        own: LeaseId,
    ) -> Result<Deregistered, Failure> {
        match self.propose(Command::Deregister { key, own }).await? {
            Reply::Deregister(deregistered) => Ok(deregistered),
            reply => unexpected(&reply),
        }
    }

    /// Takes a place in line.
    pub(crate) async fn enqueue(self, ask: Enqueue) -> Result<Place, CommandError<EnqueueError>> {
        match self.propose(Command::Enqueue(ask)).await? {
            Reply::Enqueue(result) => result.map_err(CommandError::Refused),
            reply => unexpected(&reply),
        }
    }

    fn metrics(&self) -> &'a Metrics {
        &self.coordinator.inner.metrics
    }

    async fn propose(self, command: Command) -> Result<Reply, Failure> {
        let command = match self.request {
            Some(request) => Command::Once { request, command: Box::new(command) },
            None => command,
        };
        match self.coordinator.propose(command).await? {
            Reply::NotRepeated(error) => Err(error.into()),
            reply => Ok(reply),
        }
    }
}

/// The store answers each command in its own variant.
fn unexpected(reply: &Reply) -> ! {
    unreachable!("a reply of another command: {reply:?}")
}

impl Failure {
    const fn name(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::TooLarge { .. } => "too-large",
            Self::DiskFull => "disk-full",
            Self::NoLeader => "no-leader",
            Self::Stopped => "stopped",
            Self::Indeterminate => "indeterminate",
            Self::NotRepeated(_) => "not-repeated",
            Self::Denied(_) => "denied",
        }
    }
}

impl From<ProposeError> for Failure {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Overloaded => Self::Overloaded,
            ProposeError::TooLarge { len, max } => Self::TooLarge { len, max },
            ProposeError::DiskFull => Self::DiskFull,
            ProposeError::NotLeader { .. } => Self::NoLeader,
            ProposeError::Stopped => Self::Stopped,
            ProposeError::Indeterminate => Self::Indeterminate,
        }
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::NotLeader { .. } => Self::NoLeader,
            QueryError::Overloaded => Self::Overloaded,
            QueryError::Stopped => Self::Stopped,
        }
    }
}
