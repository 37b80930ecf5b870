//! `http_server_request_duration_seconds` and `http_server_active_requests`.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use http::Method;

use crate::metrics::{Family, Gauge, Histogram, Registry, SECONDS};
use crate::server::known_method;
use crate::trace::TraceContext;

/// The route label of requests that no route matched: their paths are up to the caller.
const UNMATCHED: &str = "unmatched";

/// The server's request metrics. Handles are found again without allocating.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    durations: Family<Histogram>,
    active: Gauge,
    routes: RwLock<BTreeMap<Box<str>, Arc<Route>>>,
}

/// One route's histograms by method and status; a handful each, so a scan beats a hash.
#[derive(Debug)]
struct Route {
    name: Box<str>,
    durations: Family<Histogram>,
    series: RwLock<Vec<(&'static str, u16, Histogram)>>,
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

    /// Counts a request from `now` on.
    pub(crate) fn begin(&self, method: &Method, route: Option<&str>, now: Instant) -> InProgress {
        self.active.inc();
        InProgress {
            route: self.route(route.unwrap_or(UNMATCHED)),
            method: known_method(method),
            active: self.active.clone(),
            since: now,
        }
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
                durations: self.durations.clone(),
                series: RwLock::default(),
            })
        });
        Arc::clone(route)
    }
}

impl Route {
    fn histogram(&self, method: &'static str, status: u16) -> Histogram {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((.., histogram)) = series.iter().find(|s| (s.0, s.1) == (method, status)) {
            return histogram.clone();
        }
        drop(series);
        let histogram = self.durations.with(&[method, &self.name, &status.to_string()]);
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        series.push((method, status, histogram.clone()));
        histogram
    }
}

/// A request that counts as active until this is dropped.
#[derive(Debug)]
pub(crate) struct InProgress {
    route: Arc<Route>,
    method: &'static str,
    active: Gauge,
    since: Instant,
}

impl InProgress {
    /// The answer's head is ready.
    pub(crate) fn finish(self, status: u16, context: TraceContext, now: Instant) {
        let seconds = now.duration_since(self.since).as_secs_f64();
        self.route.histogram(self.method, status).observe_for(seconds, Some(context));
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.active.dec();
    }
}
