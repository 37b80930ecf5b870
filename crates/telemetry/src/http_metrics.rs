//! `http_server_request_duration_seconds` and `http_server_active_requests`.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use http::Method;

use crate::metrics::{Family, Gauge, Histogram, Registry, SECONDS};
use crate::server::known_method;
use crate::trace::TraceContext;

/// The route label of requests that no route matched: their paths are up to the caller.
const UNMATCHED: &str = "unmatched";

/// Series of one route that are found without a lock. A route has hardly more.
const SERIES: usize = 16;

/// The server's request metrics. Handles are found again without allocating.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    durations: Family<Histogram>,
    active: Gauge,
    routes: RwLock<BTreeMap<Box<str>, Arc<Route>>>,
}

/// One route's histograms by method and status; a handful each, so a scan beats a hash. They fill
/// from the front and stay: a lock that every request takes is passed around between all cores.
#[derive(Debug)]
pub(crate) struct Route {
    name: Box<str>,
    active: Gauge,
    durations: Family<Histogram>,
    series: [OnceLock<Series>; SERIES],
}

#[derive(Debug)]
struct Series {
    method: &'static str,
    status: u16,
    histogram: Histogram,
}

impl HttpMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            durations: registry.histograms(
                "http_server_request_duration_seconds",
                "Time from a request's head to its answer's head.",
                &["http_request_method", "http_route", "http_response_status_code"],
                SECONDS,
            ),
            active: registry.gauge("http_server_active_requests", "Requests in progress."),
            routes: RwLock::default(),
        }
    }

    /// Counts a request from `now` on. `known` remembers the route for the next of its requests.
    pub(crate) fn begin(
        &self,
        method: &Method,
        route: Option<&str>,
        known: &OnceLock<Arc<Route>>,
        now: Instant,
    ) -> InProgress {
        let name = route.unwrap_or(UNMATCHED);
        let known = known.get_or_init(|| self.route(name));
        let route = if *known.name == *name { Arc::clone(known) } else { self.route(name) };
        route.active.inc();
        InProgress { route, method: known_method(method), since: now }
    }

    fn route(&self, name: &str) -> Arc<Route> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = routes.get(name) {
            return Arc::clone(route);
        }
        drop(routes);
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let route = routes.entry(name.into()).or_insert_with(|| {
            Arc::new(Route {
                name: name.into(),
                active: self.active.clone(),
                durations: self.durations.clone(),
                series: [const { OnceLock::new() }; SERIES],
            })
        });
        Arc::clone(route)
    }
}

impl Route {
    fn observe(&self, method: &'static str, status: u16, seconds: f64, context: TraceContext) {
        for place in &self.series {
            let series = place.get_or_init(|| self.series(method, status));
            if (series.method, series.status) == (method, status) {
                return series.histogram.observe_for(seconds, Some(context));
            }
        }
        self.series(method, status).histogram.observe_for(seconds, Some(context));
    }

    fn series(&self, method: &'static str, status: u16) -> Series {
        let histogram = self.durations.with(&[method, &self.name, &status.to_string()]);
        Series { method, status, histogram }
    }
}

/// A request that counts as active until this is dropped.
#[derive(Debug)]
pub(crate) struct InProgress {
    route: Arc<Route>,
    method: &'static str,
    since: Instant,
}

impl InProgress {
    /// The answer's head is ready.
    pub(crate) fn finish(self, status: u16, context: TraceContext, now: Instant) {
        let seconds = now.duration_since(self.since).as_secs_f64();
        self.route.observe(self.method, status, seconds, context);
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.route.active.dec();
    }
}
