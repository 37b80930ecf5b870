//! What the gateway may call: services, their endpoints, and how each of them is doing.
//!
//! An upstream is a service, or a route that names its own endpoints. Its endpoints come from the
//! configuration and from the coordinator; both together are the set. A change of the set keeps
//! the pool, load and breaker of every endpoint that stays.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use api::gateway::{BreakerState, EndpointHealth, EndpointSource, EndpointView, PoolView};
use arc_swap::ArcSwap;
use resilience::balance::{EndpointSet, PickError, Picked, Strategy, Tried};
use resilience::breaker::{self, State};
use resilience::budget::BudgetHandle;
use resilience::{Clock, SystemClock};
use telemetry::client::Peer;

use crate::pool::{Pool, PoolConfig, Tasks};

/// `host:port` of an endpoint, in lower case.
pub(crate) type Authority = String;
/// One endpoint of an upstream.
pub(crate) type Endpoint = resilience::balance::Endpoint<EndpointKey, Remote>;
/// One endpoint with the right to call it once.
pub(crate) type Pick = Picked<EndpointKey, Remote>;

/// Which endpoint. One that registers anew after a crash is a new one: what its predecessor did
/// is not held against it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EndpointKey {
    pub authority: Authority,
    /// The revision of its registration; zero if it was configured.
    pub incarnation: i64,
}

/// What the gateway keeps for one endpoint besides its load and breaker.
pub(crate) struct Remote {
    pub pool: Pool,
    /// What is measured of the attempts at it.
    pub peer: Peer,
    /// Exchanges that have begun and whose response has not ended.
    pub in_flight: Arc<AtomicU64>,
    requests: AtomicU64,
    failures: AtomicU64,
    last_failure: Mutex<Option<String>>,
}

impl Remote {
    fn new(authority: &str, parts: &Parts) -> Self {
        let (host, port) = host_and_port(authority);
        Self {
            pool: Pool::new(authority.to_owned(), parts.pool.clone(), parts.tasks.clone()),
            peer: Peer::new(host, port),
            in_flight: Arc::default(),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            last_failure: Mutex::new(None),
        }
    }

    /// Counts an attempt.
    pub(crate) fn begin(&self) -> InFlight {
        self.requests.fetch_add(1, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(Arc::clone(&self.in_flight))
    }

    /// Counts a failure and remembers why, for whoever asks `/v1/upstreams`.
    pub(crate) fn failed(&self, reason: String) {
        self.failures.fetch_add(1, Relaxed);
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}

/// An exchange that has not ended; dropped, it has.
pub(crate) struct InFlight(Arc<AtomicU64>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Where an endpoint is known from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub source: EndpointSource,
    pub instance: Option<String>,
}

/// One service, or one route with its own endpoints.
pub(crate) struct Upstream {
    name: String,
    endpoints: EndpointSet<EndpointKey, Remote>,
    origins: ArcSwap<BTreeMap<EndpointKey, Origin>>,
    budget: BudgetHandle,
}

/// What every upstream is made with.
#[derive(Clone)]
pub(crate) struct Parts {
    pub pool: PoolConfig,
    pub breaker: breaker::Config,
    pub budget: resilience::budget::Config,
    pub tasks: Tasks,
}

impl Upstream {
    fn new(name: String, parts: &Parts) -> Self {
        Self {
            name,
            endpoints: EndpointSet::new(Strategy::default(), parts.breaker),
            origins: ArcSwap::default(),
            budget: BudgetHandle::new(parts.budget, SystemClock),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn budget(&self) -> &BudgetHandle {
        &self.budget
    }

    /// Whether one is known that was not tried and would be called.
    pub(crate) fn has_other_than(&self, key: &EndpointKey) -> bool {
        let set = self.endpoints.snapshot();
        set.iter().any(|one| one.key != *key && one.state() != State::Open)
    }

    /// Chooses an endpoint for the next attempt.
    pub(crate) fn pick(&self, tried: &Tried<EndpointKey>, by: Strategy) -> Result<Pick, PickError> {
        self.endpoints.pick_by(by, tried)
    }

    fn replace(&self, endpoints: &BTreeMap<EndpointKey, Origin>, parts: &Parts) {
        self.origins.store(Arc::new(endpoints.clone()));
        let remote = |key: &EndpointKey| Remote::new(&key.authority, parts);
        self.endpoints.replace(endpoints.keys().cloned(), remote);
    }

    fn sweep(&self) {
        let now = SystemClock.now();
        self.endpoints.snapshot().iter().for_each(|endpoint| endpoint.value.pool.sweep(now));
    }

    fn clear(&self) {
        self.endpoints.snapshot().iter().for_each(|endpoint| endpoint.value.pool.clear());
    }

    /// For `/v1/upstreams`.
    pub(crate) fn view(&self) -> api::gateway::UpstreamView {
        let origins = self.origins.load();
        let endpoints = self.endpoints.snapshot();
        let view = |endpoint: &Arc<Endpoint>| view(endpoint, origins.get(&endpoint.key));
        api::gateway::UpstreamView {
            service: self.name.clone(),
            budget_left: self.budget.left(),
            endpoints: endpoints.iter().map(view).collect(),
        }
    }
}

fn view(endpoint: &Endpoint, origin: Option<&Origin>) -> EndpointView {
    let remote = &endpoint.value;
    let breaker = match endpoint.state() {
        State::Closed => BreakerState::Closed,
        State::Open => BreakerState::Open,
        State::HalfOpen => BreakerState::HalfOpen,
        State::Ramping => BreakerState::Recovering,
    };
    let health = match breaker {
        BreakerState::Closed | BreakerState::Recovering => EndpointHealth::Healthy,
        BreakerState::Open | BreakerState::HalfOpen => EndpointHealth::Ejected,
    };
    let requests = remote.requests.load(Relaxed);
    let latency = endpoint.latency(SystemClock.now()).as_secs_f64() * 1000.0;
    let pool = remote.pool.stats();
    EndpointView {
        endpoint: format!("http://{}", endpoint.key.authority),
        instance: origin.and_then(|origin| origin.instance.clone()),
        source: origin.map_or(EndpointSource::Static, |origin| origin.source),
        health,
        breaker,
        retry_after_ms: endpoint.retry_after().map(|wait| wait.as_millis() as u64),
        in_flight: remote.in_flight.load(Relaxed),
        latency_ewma_ms: (requests > 0).then_some((latency * 1000.0).round() / 1000.0),
        requests,
        failures: remote.failures.load(Relaxed),
        last_failure: remote.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        pool: PoolView {
            open: pool.open as u64,
            idle: pool.idle as u64,
            max: pool.max as u64,
            waiting: pool.waiting as u64,
        },
    }
}

/// All upstreams, by name. Read on every request, changed rarely and as a whole.
pub(crate) struct Upstreams {
    parts: Parts,
    by_name: ArcSwap<BTreeMap<String, Arc<Upstream>>>,
}

/// What an upstream's set of endpoints should be.
pub(crate) type Wanted = BTreeMap<String, BTreeMap<EndpointKey, Origin>>;

impl Upstreams {
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts, by_name: ArcSwap::default() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Upstream>> {
        self.by_name.load().get(name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Upstream>> {
        self.by_name.load().values().cloned().collect()
    }

    /// Makes `wanted` the upstreams. Requests on their way finish with what they hold.
    ///
    /// One task calls this (`discovery`), so that two changes never race.
    pub(crate) fn replace(&self, wanted: &Wanted) {
        let known = self.by_name.load_full();
        let mut next = BTreeMap::new();
        for (name, endpoints) in wanted {
            let upstream = known
                .get(name)
                .cloned()
                .unwrap_or_else(|| Arc::new(Upstream::new(name.clone(), &self.parts)));
            upstream.replace(endpoints, &self.parts);
            next.insert(name.clone(), upstream);
        }
        self.by_name.store(Arc::new(next));
    }

    /// Closes connections that nobody has used for a while.
    pub(crate) fn sweep(&self) {
        self.by_name.load().values().for_each(|upstream| upstream.sweep());
    }

    /// Closes every connection that is not in use.
    pub(crate) fn clear(&self) {
        self.by_name.load().values().for_each(|upstream| upstream.clear());
    }
}

/// An [`Authority`] taken apart.
pub(crate) fn host_and_port(authority: &str) -> (&str, u16) {
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    (host, port.parse().unwrap_or(80))
}

/// Reads an endpoint as people write it: `http://host:port`, nothing more.
///
/// # Errors
///
/// When it is something else; the text says what is wrong.
pub(crate) fn authority_of(url: &str) -> Result<Authority, InvalidEndpoint> {
    let invalid = |why| InvalidEndpoint { url: url.chars().take(100).collect(), why };
    if url.len() > api::gateway::MAX_PATH_BYTES {
        return Err(invalid("it is too long"));
    }
    let uri: http::Uri = url.parse().map_err(|_| invalid("it is not a URL"))?;
    if uri.scheme_str() != Some("http") {
        return Err(invalid("it must begin with `http://`"));
    }
    if uri.path() != "/" || uri.query().is_some() {
        return Err(invalid("it must end after the port"));
    }
    let authority = uri.authority().ok_or_else(|| invalid("it has no host"))?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(invalid("it must be only host and port"));
    }
    let port = match authority.port() {
        Some(port) => port.as_u16(),
        None if authority.as_str() == authority.host() => 80,
        None => return Err(invalid("its port is not one")),
    };
    if port == 0 {
        return Err(invalid("port 0 cannot be called"));
    }
    Ok(format!("{}:{port}", authority.host().to_ascii_lowercase()))
}

/// An endpoint that is not `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` is not an endpoint: {why}; write http://host:port")]
pub(crate) struct InvalidEndpoint {
    url: String,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        assert_eq!(authority_of("http://127.0.0.1:7070").unwrap(), "127.0.0.1:7070");
        assert_eq!(authority_of("http://Broker.Local:7070/").unwrap(), "broker.local:7070");
        assert_eq!(authority_of("http://[::1]:80").unwrap(), "[::1]:80");
        assert_eq!(authority_of("http://shop").unwrap(), "shop:80");
        for bad in [
            "",
            "127.0.0.1:7070",
            "https://a:1",
            "http://",
            "http://u@h:1",
            "http://h:0",
            "http://h:99999",
            "http://h:1/path",
            "http://h:1?q",
            "ftp://h:1",
            "http://h h:1",
        ] {
            assert!(authority_of(bad).is_err(), "{bad}");
        }
    }
}
