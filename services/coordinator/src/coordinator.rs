//! The handle that every face works with: commands in, consistent snapshots out.

use std::sync::Arc;
use std::time::Duration;

use raft_node::{Group, ProposeError, QueryError};
use telemetry::trace::{InSpan as _, Span};
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::state_machine::Machine;
use crate::store::{
    Command, GrantError, Lease, LeaseId, LeaseNotFound, LeaseSeen, Reply, Revision, RevisionError,
    Revoked, Snapshot, Stamp, Store, Txn, TxnError, TxnResult,
};
use crate::time::Time;

/// How long a command may take. After that its outcome is unknown.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// Cheap to clone; all clones are one coordinator.
#[derive(Clone)]
pub struct Coordinator(Arc<Inner>);

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

    /// Runs a transaction that [`Txn::check`] has passed. One that only reads takes no log entry.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResult, CommandError<TxnError>> {
        self.0.metrics.count_txn(&txn);
        if txn.is_read_only() {
            let snapshot = self.snapshot().await?;
            return snapshot.read(&txn).map_err(CommandError::Refused);
        }
        match self.propose(Command::Txn(txn)).await? {
            Reply::Txn(result) => result.map_err(CommandError::Refused),
            reply => unexpected(&reply),
        }
    }

    /// Drops history before `revision`.
    pub async fn compact(&self, revision: Revision) -> Result<(), CommandError<RevisionError>> {
        match self.propose(Command::Compact { revision }).await? {
            Reply::Compact(result) => result.map_err(CommandError::Refused),
            reply => unexpected(&reply),
        }
    }

    /// [`LeaseId::NONE`] lets the store choose.
    pub async fn grant(
        &self,
        id: LeaseId,
        ttl_seconds: u64,
    ) -> Result<Lease, CommandError<GrantError>> {
        let reply = self.propose(Command::Grant { id, ttl_seconds }).await?;
        self.0.metrics.leases_granted.inc();
        match reply {
            Reply::Grant(result) => result.map_err(CommandError::Refused),
            reply => unexpected(&reply),
        }
    }

    pub async fn revoke(&self, id: LeaseId) -> Result<Revoked, CommandError<LeaseNotFound>> {
        let reply = self.propose(Command::Revoke { id }).await?;
        self.0.metrics.leases_revoked.inc();
        match reply {
            Reply::Revoke(result) => result.map_err(CommandError::Refused),
            reply => unexpected(&reply),
        }
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
