//! The handle that every face works with: commands in, consistent snapshots out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft_node::{Group, ProposeError, QueryError};
use telemetry::trace::{InSpan as _, Span};
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::state_machine::Machine;
use crate::store::{
    Command, Compacted, Deregistered, GrantError, Lease, LeaseId, LeaseNotFound, LeaseSeen,
    Registered, Registration, RepeatError, Reply, Request, Revision, RevisionError, Revoked,
    Snapshot, Stamp, Store, Txn, TxnError, TxnResult,
};
use crate::time::Time;

/// How long a command may take. After that its outcome is unknown.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// Cheap to clone; all clones are one coordinator.
#[derive(Clone)]
pub struct Coordinator(Arc<Inner>);

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator").field("term", &self.term()).finish_non_exhaustive()
    }
}

struct Inner {
    group: Group<Machine>,
    published: watch::Receiver<Snapshot>,
    time: Time,
    quota_bytes: u64,
    metrics: Metrics,
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
        group: Group<Machine>,
        published: watch::Receiver<Snapshot>,
        time: Time,
        quota_bytes: u64,
        metrics: Metrics,
    ) -> Self {
        Self(Arc::new(Inner { group, published, time, quota_bytes, metrics }))
    }

    /// Reads the newest state: whatever was answered before is in it. Keep `read` short, it runs
    /// on the task that applies commands.
    pub async fn query<R: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> R + Send + 'static,
    ) -> Result<R, Failure> {
        Ok(self.0.group.query(|machine| read(&machine.store)).await?)
    }

    /// The newest state as a whole.
    pub async fn snapshot(&self) -> Result<Snapshot, Failure> {
        self.query(|store| Arc::new(store.clone())).await
    }

    /// A recent state, without asking anybody. It never goes back.
    #[must_use]
    pub fn recent(&self) -> Snapshot {
        self.0.published.borrow().clone()
    }

    /// Every state that watchers need to see: woken when there is a newer one.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Snapshot> {
        self.0.published.clone()
    }

    /// The store's clock.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.0.time.now_ms()
    }

    /// Higher after every restart and every change of leadership.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.0.group.term().0
    }

    /// The last applied entry of the log.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.0.group.applied().borrow().0
    }

    #[must_use]
    pub fn quota_bytes(&self) -> u64 {
        self.0.quota_bytes
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
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
        self.0.metrics.leases_renewed.inc();
        match reply {
            Reply::KeepAlive(result) => result.map_err(CommandError::Refused),
            reply => unexpected(&reply),
        }
    }

    /// Ends those leases that are as they were seen and whose time is over.
    pub(crate) async fn expire(&self, leases: Vec<LeaseSeen>) -> Result<Vec<LeaseId>, Failure> {
        match self.propose(Command::Expire { leases }).await? {
            Reply::Expire(ended) => Ok(ended),
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
        let stamp = Stamp { now_ms: self.0.time.now_ms(), quota_bytes: self.0.quota_bytes };
        let (encoded, group) = (command.encode(stamp), &self.0.group);
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
            self.0.metrics.proposals_failed.inc();
            span.fail(failure.name());
        }
        outcome.map(|applied| applied.reply)
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
        match self.propose(Command::Compact { revision }).await? {
            Reply::Compact(result) => result.map_err(CommandError::Refused),
            reply => unexpected(&reply),
        }
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

    fn metrics(&self) -> &'a Metrics {
        &self.coordinator.0.metrics
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
            QueryError::Stopped => Self::Stopped,
        }
    }
}
