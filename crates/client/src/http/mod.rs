//! One HTTP call: endpoint, breaker, deadline, trace context, retries, and an error that says
//! what is known.
//!
//! [`Client::call`] begins one, [`Call::send`] reads the whole answer, [`Call::stream`] hands it
//! over as it comes. An answer that is read whole can still be retried when its connection breaks
//! in the middle, because nobody has seen a byte of it; a stream cannot.

mod attempt;
mod call;
mod config;
mod events;
mod lines;
mod path;
mod reply;
mod span;

use std::sync::Arc;

use http::Method;
use resilience::SystemClock;
use resilience::balance::EndpointSet;
use resilience::budget::BudgetHandle;
use resilience::limit::LimitHandle;
use resilience::retry::Retrier;
use telemetry::client::Peer;
use tokio::sync::watch;
use url::Url;

use crate::Error;

pub use call::Call;
pub use config::Config;
pub use events::{Event, EventParser, Events};
pub use lines::Lines;
pub use path::{Path, Query, encode_key};
pub use reply::{Reply, Streaming};

/// Which error documents the other side speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// RFC 9457, as all our native APIs.
    Problem,
    /// The JSON gateway of etcd.
    Etcd,
}

/// Calls one service. Clones share connections, breakers and the retry budget.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    http: reqwest::Client,
    config: Config,
    dialect: Dialect,
    endpoints: EndpointSet<Url, Peer>,
    source: watch::Receiver<Arc<Vec<Url>>>,
    retrier: Retrier,
    limit: LimitHandle,
}

impl Client {
    /// A client of fixed base URLs: one, or all nodes of a service. A base URL may have a path,
    /// such as the gateway's prefix of a service.
    ///
    /// # Errors
    ///
    /// When a URL is not `http://host[:port][/path]`, or there is none.
    pub fn new(config: Config, base: impl IntoIterator<Item = Url>) -> Result<Self, Error> {
        let base: Vec<Url> = base.into_iter().collect();
        if base.is_empty() {
            return Err(Error::invalid("no URL was given; pass at least one, like http://host:80"));
        }
        base.iter().try_for_each(check_base)?;
        // The sender may go: what it sent stays readable.
        let (_, source) = watch::channel(Arc::new(base));
        Self::following(config, source)
    }

    /// A client of an endpoint set that changes, such as discovery's.
    ///
    /// # Errors
    ///
    /// When the HTTP client cannot be set up.
    pub fn following(
        config: Config,
        source: watch::Receiver<Arc<Vec<Url>>>,
    ) -> Result<Self, Error> {
        Self::with_dialect(config, source, Dialect::Problem)
    }

    pub(crate) fn with_dialect(
        config: Config,
        mut source: watch::Receiver<Arc<Vec<Url>>>,
        dialect: Dialect,
    ) -> Result<Self, Error> {
        let http = config.build()?;
        let endpoints = EndpointSet::new(config.strategy, config.breaker);
        endpoints.replace(source.borrow_and_update().iter().cloned(), peer);
        let budget = BudgetHandle::new(config.budget, SystemClock);
        let retrier = Retrier::new(config.retry, budget);
        let limit = LimitHandle::new(config.limit);
        let shared = Shared { http, config, dialect, endpoints, source, retrier, limit };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Begins a call. The path is put behind the base URL's own.
    pub fn call(&self, method: Method, path: impl Into<Path>) -> Call {
        Call::new(self.clone(), method, path.into())
    }

    /// The base URLs as they are known now.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Url> {
        self.refresh();
        self.shared.endpoints.snapshot().iter().map(|endpoint| endpoint.key.clone()).collect()
    }

    /// Takes over the newest endpoint set. Cheap when nothing changed.
    fn refresh(&self) {
        let newest = self.shared.source.borrow();
        let known = self.shared.endpoints.snapshot();
        let unchanged = newest.len() == known.len()
            && known.iter().all(|endpoint| newest.contains(&endpoint.key));
        if !unchanged {
            self.shared.endpoints.replace(newest.iter().cloned(), peer);
        }
    }
}

/// What is measured of the calls to an endpoint.
fn peer(endpoint: &Url) -> Peer {
    let host = endpoint.host_str().unwrap_or_default();
    Peer::new(host, endpoint.port_or_known_default().unwrap_or_default())
}

/// A base URL that calls can be put behind.
fn check_base(url: &Url) -> Result<(), Error> {
    let plain = url.scheme() == "http"
        && url.has_host()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty();
    if plain {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "`{url}` is not a base URL: write http://host:port or \
         http://host:port/prefix"
    )))
}
