//! Waiting in line for a lock or for leadership.
//!
//! A place is taken by one command ([`store::Enqueue`]); whose turn it is, everybody sees in the
//! keys. Whoever waits looks at the place right before its own, and nothing else, until that one
//! is gone. A caller that leaves, for whatever reason, gives its place up.
//!
//! [`store::Enqueue`]: crate::store::Enqueue

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chassis::deadline::Deadline;
use chassis::long_poll;
use telemetry::metrics::Gauge;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::coordinator::{CommandError, Coordinator, Failure};
use crate::metrics::Metrics;
use crate::store::{
    Caller, Enqueue, EnqueueError, LeaseId, MAX_TTL_SECONDS, Place, Record, Request, Revision,
};

/// How long a caller without a deadline is kept until its place is given up.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);
/// How long an endless wait goes on without a leader: several elections.
const LEADER_PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries to renew a lease.
const RENEW_RETRY: Duration = Duration::from_millis(200);
/// How often giving up a place is tried. If it fails, the place ends with its lease.
const LEAVE_ATTEMPTS: u32 = 5;
const LEAVE_RETRY: Duration = Duration::from_millis(200);

/// Takes places for somebody and waits on them. What follows from having one, the node does
/// itself: it was allowed when the place was taken, and a token may end while its owner waits.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    coordinator: Coordinator,
    tasks: TaskTracker,
    draining: CancellationToken,
    /// Of this node, for all who wait here.
    room: Arc<Semaphore>,
}

/// How long a caller waits for its turn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// Until it comes or the caller leaves, on a lease that the caller renews, or nobody.
    Endless,
    /// At most so long. Meanwhile a lease that was made for the place is renewed.
    Bounded { wait: Duration, deadline: Option<Deadline> },
}

/// A turn that has come.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) place: Place,
    /// Where the store was when it came.
    pub(crate) revision: Revision,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TurnError {
    #[error("{0}")]
    Refused(EnqueueError),
    #[error("{0}")]
    Failed(#[from] Failure),
    #[error("somebody else has it; wait longer, or try again later")]
    Held { holder: Option<Arc<Record>> },
    #[error("the lease of this place has ended; start again")]
    Ended(LeaseId),
}

/// Gives its place up when it is dropped.
#[derive(Debug)]
struct Guard {
    line: Line,
    request: Option<Bytes>,
    /// `None` once it is to be kept.
    place: Option<Place>,
}

impl Line {
    pub(crate) fn new(
        coordinator: Coordinator,
        tasks: TaskTracker,
        draining: CancellationToken,
        room: Arc<Semaphore>,
    ) -> Self {
        Self { coordinator, tasks, draining, room }
    }

    /// Takes a place and waits until it is the first one.
    pub(crate) async fn turn(
        &self,
        request: Option<Request>,
        ask: Enqueue,
        patience: Patience,
    ) -> Result<Turn, TurnError> {
        let mut ended = None;
        loop {
            let guard = self.enqueue(request.clone(), ask.clone()).await?;
            let place = guard.place().clone();
            if place.first && request.is_none() {
                guard.keep();
                return Ok(Turn { revision: place.revision, place });
            }
            match self.wait(&ask, &place, patience).await {
                Ok(revision) => {
                    guard.keep();
                    return Ok(Turn { place, revision });
                }
                // Another call for the same request may just have given its place up: then this
                // one gets a new place. If not, it is told that its lease has ended.
                Err(TurnError::Ended(lease)) => {
                    guard.keep();
                    if request.is_none() || ended.replace(place.token) == Some(place.token) {
                        return Err(TurnError::Ended(lease));
                    }
                }
                Err(error) => {
                    let leaving = guard.leave();
                    // Whoever has a deadline is told in time, and the place goes behind its back.
                    if !patience.has_deadline() {
                        let _late = tokio::time::timeout(LEAVE_PATIENCE, leaving).await;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Runs on a task of its own: a caller that goes away meanwhile leaves no place behind.
    async fn enqueue(&self, request: Option<Request>, ask: Enqueue) -> Result<Guard, TurnError> {
        let (reply, placed) = oneshot::channel();
        let line = self.clone();
        self.tasks.spawn(async move {
            let key = request.as_ref().map(|request| request.key.clone());
            let place = line.coordinator.once(request).enqueue(ask).await;
            let guarded = place.map(|place| Guard { line, request: key, place: Some(place) });
            let _ = reply.send(guarded);
        });
        match placed.await {
            Ok(Ok(guard)) => Ok(guard),
            Ok(Err(CommandError::Refused(refusal))) => Err(TurnError::Refused(refusal)),
            Ok(Err(CommandError::Failed(failure))) => Err(failure.into()),
            Err(_ended) => Err(Failure::Indeterminate.into()),
        }
    }

    async fn wait(
        &self,
        ask: &Enqueue,
        place: &Place,
        patience: Patience,
    ) -> Result<Revision, TurnError> {
        let renewed = ask.lease == LeaseId::NONE && matches!(patience, Patience::Bounded { .. });
        // However short the wait is: one look.
        if let Some(revision) = self.look(&ask.name, place).await? {
            if renewed {
                self.renew(place.lease, ask.ttl_seconds).await?;
            }
            return Ok(revision);
        }
        let _room = match patience {
            Patience::Bounded { wait: Duration::ZERO, .. } => None,
            _ => Some(self.room.try_acquire().map_err(|_full| Failure::Overloaded)?),
        };
        let _waiting = Waiting::new(self.coordinator.metrics());
        let came = self.until_first(&ask.name, place);
        let outcome = match patience {
            Patience::Endless => tokio::select! {
                biased;
                outcome = came => Some(outcome),
                () = self.draining.cancelled() => None,
                () = self.leaderless() => Some(Err(Failure::NoLeader.into())),
            },
            Patience::Bounded { wait, deadline } => {
                let event = async {
                    let revision = tokio::select! {
                        outcome = came => outcome?,
                        error = self.keep(place.lease, ask.ttl_seconds), if renewed => return Err(error),
                    };
                    if renewed {
                        // The caller's time begins now.
                        self.renew(place.lease, ask.ttl_seconds).await?;
                    }
                    Ok(revision)
                };
                long_poll::wait(event, wait, deadline, &self.draining).await
            }
        };
        match outcome {
            Some(outcome) => outcome,
            None if self.draining.is_cancelled() => Err(Failure::Stopped.into()),
            None => {
                // What this node knows: asking the others takes time that the caller has not.
                let store = self.coordinator.recent().await;
                let holds = store.mvcc.holds(&place.key, place.token);
                if holds && store.mvcc.ahead(&ask.name, place.token).is_none() {
                    return Ok(store.revision());
                }
                Err(TurnError::Held { holder: store.mvcc.line(&ask.name).first().cloned() })
            }
        }
    }

    /// Whether it is the turn of this place, asked where everything that was answered is known.
    async fn look(&self, name: &Bytes, place: &Place) -> Result<Option<Revision>, TurnError> {
        let store = self.coordinator.snapshot().await?;
        if !store.mvcc.holds(&place.key, place.token) {
            return Err(TurnError::Ended(place.lease));
        }
        let is_first = store.mvcc.ahead(name, place.token).is_none();
        Ok(is_first.then(|| store.revision()))
    }

    async fn until_first(&self, name: &[u8], place: &Place) -> Result<Revision, TurnError> {
        let mut changes = self.coordinator.subscribe();
        // What is published may be older than the place; what this node has is not.
        let mut store = self.coordinator.recent().await;
        let mut ahead: Option<Arc<Record>> = None;
        loop {
            if !store.mvcc.holds(&place.key, place.token) {
                return Err(TurnError::Ended(place.lease));
            }
            let is_there =
                |ahead: &Arc<Record>| store.mvcc.holds(&ahead.key, ahead.create_revision);
            if !ahead.as_ref().is_some_and(is_there) {
                ahead = store.mvcc.ahead(name, place.token);
                if ahead.is_none() {
                    return Ok(store.revision());
                }
            }
            store = loop {
                changes.changed().await.map_err(|_stopped| Failure::Stopped)?;
                let newer = changes.borrow_and_update().clone();
                if store.revision() < newer.revision() {
                    break newer;
                }
            };
        }
    }

    /// Resolves when nobody has led for a while, as far as this node knows: the turn could come, or
    /// the lease end, and it would not learn of it.
    async fn leaderless(&self) {
        let mut leadership = self.coordinator.leadership();
        loop {
            let lost = leadership.wait_for(|known| known.leader.is_none()).await.is_ok();
            let led = leadership.wait_for(|known| known.leader.is_some());
            if !lost || tokio::time::timeout(LEADER_PATIENCE, led).await.is_err() {
                return;
            }
        }
    }

    /// Keeps a lease for as long as its caller is there. Answers when that is in vain.
    async fn keep(&self, lease: LeaseId, ttl_seconds: u64) -> TurnError {
        let period = Duration::from_millis(ttl_seconds.saturating_mul(1000) / 3);
        loop {
            tokio::time::sleep(period).await;
            if let Err(error) = self.renew(lease, ttl_seconds).await {
                return error;
            }
        }
    }

    /// Renews a lease. While the cluster does not answer the lease goes on, and so do the tries,
    /// until its time would be over.
    async fn renew(&self, lease: LeaseId, ttl_seconds: u64) -> Result<(), TurnError> {
        let renewing = async {
            loop {
                match self.renew_once(lease).await {
                    Err(TurnError::Failed(failure)) if failure != Failure::Stopped => {
                        tracing::debug!(%failure, %lease, "a lease in line was not renewed");
                        tokio::time::sleep(RENEW_RETRY).await;
                    }
                    outcome => return outcome,
                }
            }
        };
        let over = Duration::from_secs(ttl_seconds.min(MAX_TTL_SECONDS));
        let renewed = tokio::time::timeout(over, renewing).await;
        renewed.unwrap_or(Err(Failure::Indeterminate.into()))
    }

    fn node(&self) -> Coordinator {
        self.coordinator.acting_for(Caller::Node)
    }

    async fn renew_once(&self, lease: LeaseId) -> Result<(), TurnError> {
        match self.node().keep_alive(lease).await {
            Ok(_) => Ok(()),
            Err(CommandError::Refused(_gone)) => Err(TurnError::Ended(lease)),
            Err(CommandError::Failed(failure)) => Err(failure.into()),
        }
    }
}

/// Counted while it exists.
struct Waiting(Gauge);

impl Waiting {
    fn new(metrics: &Metrics) -> Self {
        metrics.places_waiting.inc();
        Self(metrics.places_waiting.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Patience {
    const fn has_deadline(self) -> bool {
        matches!(self, Self::Bounded { deadline: Some(_), .. })
    }
}

impl Guard {
    fn place(&self) -> &Place {
        self.place.as_ref().expect("only `keep` and `leave` take it, and they take the guard")
    }

    /// The caller has it now.
    fn keep(mut self) {
        self.place = None;
    }

    /// Gives the place up, also if nobody waits until that is done.
    fn leave(mut self) -> impl Future<Output = ()> {
        let leaving = self.begin_leaving();
        async move {
            if let Some(leaving) = leaving {
                let _ended = leaving.await;
            }
        }
    }

    fn begin_leaving(&mut self) -> Option<JoinHandle<()>> {
        let place = self.place.take()?;
        let (coordinator, request) = (self.line.node(), self.request.take());
        Some(self.line.tasks.spawn(async move { leave(&coordinator, place, request).await }))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _detached = self.begin_leaving();
    }
}

async fn leave(coordinator: &Coordinator, place: Place, request: Option<Bytes>) {
    for _ in 0..LEAVE_ATTEMPTS {
        match coordinator.leave(&place, request.clone()).await {
            Ok(()) => return,
            Err(Failure::Stopped) => break,
            Err(_) => tokio::time::sleep(LEAVE_RETRY).await,
        }
    }
    tracing::warn!(lease = %place.lease, "a place in line was not given up; it ends with its lease");
}
