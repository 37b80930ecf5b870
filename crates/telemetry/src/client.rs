//! `http_client_request_duration_seconds`: every attempt of every call that this process makes.
//!
//! The metric belongs to the process, as its connections do, and shows up in every registry that
//! [`register_client_metrics`] was called for. Its labels come from closed sets but for the
//! peer's address; the series of an address go when the last [`Peer`] of it does, so a process
//! that meets thousands of short-lived peers keeps the series of those it knows.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Instant;

use http::Method;

use crate::metrics::{Family, Histogram, Registry, SECONDS};
use crate::server::{known_method, now};
use crate::trace::{self, TraceContext};

const NAME: &str = "http_client_request_duration_seconds";

const LABELS: &[&str] = &[
    "http_request_method",
    "server_address",
    "server_port",
    "http_response_status_code",
    "error_type",
];

static DURATIONS: LazyLock<Family<Histogram>> =
    LazyLock::new(|| Family::new(LABELS, || Histogram::new(SECONDS)));

/// Who is known, so that two clients of one address share its series.
static PEERS: Mutex<BTreeMap<Address, Weak<Known>>> = Mutex::new(BTreeMap::new());

type Address = (Box<str>, u16);

/// Lets `registry` show the durations of this process's calls.
pub fn register_client_metrics(registry: &Registry) {
    let help = "Time from a call's start to the end of its answer's head, for each attempt.";
    registry.register_family(NAME, help, &DURATIONS);
}

/// A server that this process calls. Clones share it.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Known>);

#[derive(Debug)]
struct Known {
    address: Address,
    /// A handful of combinations for each peer, so a scan beats a hash.
    series: RwLock<Vec<(Key, Histogram)>>,
}

/// What differs between the series of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    method: &'static str,
    /// Zero: there was no answer.
    status: u16,
    /// Empty: there was one.
    error: &'static str,
}

impl Peer {
    /// The server at this host and port.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        let address = (host.into(), port);
        let mut peers = lock();
        if let Some(known) = peers.get(&address).and_then(Weak::upgrade) {
            return Self(known);
        }
        let known = Arc::new(Known { address: address.clone(), series: RwLock::default() });
        peers.insert(address, Arc::downgrade(&known));
        Self(known)
    }

    /// An attempt begins now, for the request at hand.
    pub fn begin(&self, method: &Method) -> Attempt {
        let context = trace::current();
        Attempt { peer: self.clone(), method: known_method(method), context, since: now() }
    }
}

/// An attempt in progress. One that is dropped was given up by its caller, and counts for nothing.
#[derive(Debug)]
#[must_use = "its end is what counts"]
pub struct Attempt {
    peer: Peer,
    method: &'static str,
    context: Option<TraceContext>,
    since: Instant,
}

impl Attempt {
    /// An answer began.
    pub fn answered(self, status: u16) {
        self.finish(status, "");
    }

    /// None came, for a reason from a closed set.
    pub fn failed(self, error_type: &'static str) {
        self.finish(0, error_type);
    }

    fn finish(self, status: u16, error: &'static str) {
        let seconds = now().duration_since(self.since).as_secs_f64();
        let key = Key { method: self.method, status, error };
        self.peer.0.histogram(key).observe_for(seconds, self.context);
    }
}

impl Known {
    fn histogram(&self, key: Key) -> Histogram {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, histogram)) = series.iter().find(|(known, _)| *known == key) {
            return histogram.clone();
        }
        drop(series);
        let histogram = self.with_values(key, |values| DURATIONS.with(values));
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        if !series.iter().any(|(known, _)| *known == key) {
            series.push((key, histogram.clone()));
        }
        histogram
    }

    fn with_values<T>(&self, key: Key, then: impl FnOnce(&[&str]) -> T) -> T {
        let (host, port) = &self.address;
        let (port, status) = (port.to_string(), key.status.to_string());
        let answered = 0 < key.status;
        // By the convention, a status that says of an error is its type.
        let error = if 400 <= key.status { &status } else { key.error };
        let status = if answered { status.as_str() } else { "" };
        then(&[key.method, host, &port, status, error])
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        let mut peers = lock();
        // Somebody may have met the address again since the last handle went.
        if peers.get(&self.address).is_some_and(|known| 0 < known.strong_count()) {
            return;
        }
        peers.remove(&self.address);
        let series = std::mem::take(self.series.get_mut().unwrap_or_else(PoisonError::into_inner));
        for (key, _) in series {
            self.with_values(key, |values| DURATIONS.remove(values));
        }
    }
}

fn lock() -> MutexGuard<'static, BTreeMap<Address, Weak<Known>>> {
    PEERS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Format;

    fn lines(registry: &Registry, host: &str) -> Vec<String> {
        let text = registry.encode(Format::OpenMetrics);
        let ours = text.lines().filter(|line| line.contains(host) && line.contains("_count{"));
        ours.map(ToOwned::to_owned).collect()
    }

    #[test]
    fn an_attempt_counts_by_method_peer_and_outcome() {
        let registry = Registry::default();
        register_client_metrics(&registry);
        let peer = Peer::new("outcomes.test", 7070);
        peer.begin(&Method::GET).answered(200);
        peer.begin(&Method::GET).answered(200);
        peer.begin(&Method::from_bytes(b"BREW").unwrap()).answered(418);
        Peer::new("outcomes.test", 7070).begin(&Method::PUT).failed("timeout");
        drop(peer.begin(&Method::GET));
        let mut found = lines(&registry, "outcomes.test");
        found.sort();
        let line = |method: &str, status: &str, error: &str, count: u32| {
            format!(
                "{NAME}_count{{http_request_method=\"{method}\",server_address=\"outcomes.test\",\
                 server_port=\"7070\",http_response_status_code=\"{status}\",\
                 error_type=\"{error}\"}} {count}"
            )
        };
        let expected = [
            line("GET", "200", "", 2),
            line("PUT", "", "timeout", 1),
            line("_OTHER", "418", "418", 1),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_series_of_a_peer_go_with_it() {
        let registry = Registry::default();
        register_client_metrics(&registry);
        let (first, second) = (Peer::new("gone.test", 1), Peer::new("gone.test", 1));
        first.begin(&Method::GET).answered(200);
        drop(first);
        assert_eq!(lines(&registry, "gone.test").len(), 1);
        drop(second);
        assert_eq!(lines(&registry, "gone.test"), Vec::<String>::new());
        Peer::new("gone.test", 1).begin(&Method::GET).answered(200);
    }
}
