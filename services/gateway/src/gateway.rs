//! What every request shares: routes, upstreams and how to call them.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Response;
use http::request::Parts;
use resilience::deadline::Deadline;
use resilience::retry::{self, Repeat};
use resilience::{Clock, SystemClock};

use tokio_util::sync::CancellationToken;

use crate::body::BoxBody;
use crate::call::{Call, CallError, Plan, Upgrade, call};
use crate::headers::Pseudonym;
use crate::metrics::Metrics;
use crate::table::{Policy, Table};
use crate::upstream::Upstreams;

/// The gateway's parts. Clones share them.
#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) table: ArcSwap<Table>,
    pub(crate) upstreams: Upstreams,
    pub(crate) metrics: Metrics,
    pub(crate) idle: Duration,
    pub(crate) us: Pseudonym,
    /// Cancelled when the gateway shuts down: event streams end, their readers go elsewhere.
    pub(crate) draining: CancellationToken,
}

/// A request on its way out: what it is and how it is to be served.
pub(crate) struct Outbound {
    pub upstream: String,
    /// Path and query in origin form; header cleaned.
    pub head: Parts,
    pub body: BoxBody,
    pub policy: Policy,
    /// The client's own deadline.
    pub deadline: Option<std::time::Instant>,
    pub repeat: Repeat,
    pub upgrade: Option<Upgrade>,
    /// Whether the upstream may hold its answer back until something happens.
    pub waits: bool,
}

impl Gateway {
    pub(crate) fn new(
        upstreams: Upstreams,
        metrics: Metrics,
        idle: Duration,
        (us, draining): (Pseudonym, CancellationToken),
    ) -> Self {
        let table = ArcSwap::default();
        let shared = Shared { table, upstreams, metrics, idle, us, draining };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn upstreams(&self) -> &Upstreams {
        &self.shared.upstreams
    }

    /// Sends a request to its upstream.
    pub(crate) async fn send(&self, outbound: Outbound) -> Result<Response<BoxBody>, CallError> {
        let began = SystemClock.now();
        let service = outbound.upstream.clone();
        let Some(upstream) = self.shared.upstreams.get(&service) else {
            return Err(CallError::NoEndpoint { service });
        };
        let plan = self.plan(&outbound, began);
        let mut prepared = Call::new(upstream, outbound.head, outbound.body, plan);
        prepared.upgrade = outbound.upgrade;
        let waits = prepared.plan.waits;
        let answered = tokio::select! {
            answered = call(prepared, &self.shared.metrics) => answered,
            // Nothing may come for a minute; its caller is better served by another gateway.
            () = self.shared.draining.cancelled(), if waits => {
                Err(CallError::Draining { service: service.clone() })
            }
        };
        let outcome = match &answered {
            Ok(response) => class(response.status().as_u16()),
            Err(_) => "error",
        };
        let took = SystemClock.now().saturating_duration_since(began);
        self.shared.metrics.called(&service, outcome, took);
        answered
    }

    fn plan(&self, outbound: &Outbound, now: std::time::Instant) -> Plan {
        let policy = &outbound.policy;
        let ours = Deadline::after(now, policy.timeout);
        let theirs =
            outbound.deadline.map(|at| Deadline::after(now, at.saturating_duration_since(now)));
        // A protocol change is never tried twice (U3).
        let retries_max = if outbound.upgrade.is_some() { 0 } else { policy.retries };
        Plan {
            deadline: theirs.map_or(ours, |theirs| theirs.sooner(ours)),
            per_try: policy.per_try,
            retry: retry::Policy { retries_max, ..retry::Policy::default() },
            repeat: outbound.repeat,
            outer_retries: outbound.head.headers.contains_key(api::headers::ATTEMPT),
            strategy: policy.strategy,
            waits: outbound.waits,
            tell_deadline: theirs.is_some() || !wants_events(&outbound.head),
            idle: self.shared.idle,
            draining: self.shared.draining.clone(),
        }
    }
}

fn wants_events(head: &Parts) -> bool {
    let accept = head.headers.get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok());
    head.headers.contains_key(api::headers::LAST_EVENT_ID)
        || accept.is_some_and(|accept| accept.contains(api::headers::EVENT_STREAM))
}

const fn class(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
