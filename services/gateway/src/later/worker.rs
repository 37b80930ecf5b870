//! Carries out calls that wait, of whichever gateway stored them.

use std::sync::Arc;
use std::time::Duration;

use api::broker::Delivery;
use api::headers::{IDEMPOTENCY_KEY, TRACEPARENT};
use chassis::clock::Clock;
use chassis::problem::Problem;
use http::{HeaderMap, HeaderName, HeaderValue};
use telemetry::trace::{ActiveSpan, InSpan as _, Span, TraceContext};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{CALLS, Later, RESULTS, Stored};
use crate::rpc::Caller;

/// Calls that one gateway carries out at a time.
const MAX_RUNNING: usize = 32;
/// Before the first look after a start: what a gateway left behind waits that long.
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// Between two looks while there is no queue of calls, or no broker.
const LOOK: Duration = Duration::from_secs(60);
/// Before the broker is asked again that could not answer.
const PAUSE: Duration = Duration::from_secs(2);
/// How often a call that runs is kept from others: well within its deadline.
const KEEP: Duration = Duration::from_secs(10);

/// What it takes to carry out calls.
pub(crate) struct Worker {
    pub(crate) later: Later,
    pub(crate) clock: Clock,
    pub(crate) tasks: TaskTracker,
    pub(crate) draining: CancellationToken,
}

impl Worker {
    /// Until the gateway drains.
    pub(crate) async fn run(self) {
        let draining = self.draining.clone();
        draining.run_until_cancelled(self.work()).await;
    }

    async fn work(self) {
        let places = Arc::new(Semaphore::new(MAX_RUNNING));
        self.pause(FIRST_LOOK).await;
        loop {
            let first = places.clone().acquire_owned().await.expect("it is never closed");
            let max = 1 + places.available_permits();
            match self.later.broker.receive(max).await {
                Ok(Some(calls)) => {
                    let mut first = Some(first);
                    for delivery in calls {
                        let place =
                            first.take().or_else(|| places.clone().try_acquire_owned().ok());
                        self.begin(delivery, place);
                    }
                }
                Ok(None) => self.pause(LOOK).await,
                Err(problem) => {
                    tracing::debug!(detail = problem.details().detail, "no calls were received");
                    self.pause(PAUSE).await;
                }
            }
        }
    }

    /// Shorter, if a call is stored here.
    async fn pause(&self, pause: Duration) {
        let _ = tokio::time::timeout(pause, self.later.stored.notified()).await;
    }

    fn begin(&self, delivery: Delivery, place: Option<OwnedSemaphorePermit>) {
        let (later, clock) = (self.later.clone(), self.clock.clone());
        self.tasks.spawn(async move {
            let mut span = process(&delivery);
            let done = later.carry_out(&delivery, &clock).in_span(&span).await;
            if let Err(problem) = done {
                span.fail(problem.code().to_string());
                // It comes again after its deadline.
                let detail = problem.details().detail.clone();
                tracing::warn!(
                    id = delivery.id,
                    detail,
                    "an asynchronous call is not answered yet"
                );
            }
            drop(place);
        });
    }
}

impl Later {
    async fn carry_out(&self, delivery: &Delivery, clock: &Clock) -> Result<(), Problem> {
        let data = delivery.data.as_ref().map_or("", |data| data.get());
        if let Ok(Stored { id, key, call }) = serde_json::from_str(data) {
            let caller = Caller { headers: keyed(&key), deadline: None };
            let reply = self.kept(delivery, self.rpc.call(call, caller, clock)).await;
            let body =
                serde_json::to_vec(&reply.envelope).map_err(|error| Problem::internal(&error))?;
            self.broker.send(RESULTS, &id, body).await?;
        } else {
            tracing::warn!(id = delivery.id, queue = CALLS, "what is in it is no call; dropped");
        }
        self.broker.settle("ack", &delivery.ack_id).await
    }

    /// Keeps a call from others while it runs.
    async fn kept<T>(&self, delivery: &Delivery, run: impl Future<Output = T>) -> T {
        let mut run = std::pin::pin!(run);
        loop {
            tokio::select! {
                done = &mut run => return done,
                () = tokio::time::sleep(KEEP) => {
                    if let Err(problem) = self.broker.settle("extend", &delivery.ack_id).await {
                        let detail = problem.details().detail.clone();
                        tracing::debug!(detail, "a call was not extended");
                    }
                }
            }
        }
    }
}

fn keyed(key: &str) -> HeaderMap {
    let name = HeaderName::from_static(IDEMPOTENCY_KEY);
    HeaderValue::try_from(key).map(|key| HeaderMap::from_iter([(name, key)])).unwrap_or_default()
}

fn process(delivery: &Delivery) -> ActiveSpan {
    let span = Span::consumer(format!("process {CALLS}"))
        .attr("messaging.system", "quartet")
        .attr("messaging.operation.name", "process")
        .attr("messaging.operation.type", "process")
        .attr("messaging.destination.name", CALLS)
        .attr("messaging.message.id", delivery.id.clone());
    let maker = delivery.attributes.get(TRACEPARENT);
    let maker = maker.and_then(|text| TraceContext::parse(text.as_bytes()).ok());
    match maker {
        // One call is one trace.
        Some(maker) => span.parent(maker).link(maker).start(),
        None => span.start(),
    }
}
