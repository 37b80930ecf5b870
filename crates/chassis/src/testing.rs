//! Real servers for tests: the whole chassis on port 0, in the test's own runtime.

use std::net::{Ipv4Addr, SocketAddr};

use telemetry::metrics::Registry;

use crate::clock::Clock;
use crate::config::{self, ServiceConfig};
use crate::context::{Context, Service, StartError};
use crate::server::{self, Server, Sockets};

/// A server under test. Dropping it leaves it running until its runtime ends; [`Running::stop`]
/// ends it as SIGTERM would.
pub struct Running<C: ServiceConfig> {
    /// `http://127.0.0.1:<port>` of the public listener, without a trailing slash.
    pub url: String,
    /// The same of the peer listener.
    pub peer_url: String,
    /// What the service was given.
    pub context: Context<C>,
    server: Server<C>,
}

/// Starts a service on free ports of 127.0.0.1. What `config` says about addresses is not used.
///
/// # Panics
/// If it does not start.
pub async fn start<C, F, Fut>(config: C, start: F) -> Running<C>
where
    C: ServiceConfig,
    F: FnOnce(Context<C>) -> Fut,
    Fut: Future<Output = Result<Service, StartError>>,
{
    try_start(config, Clock::system(), start).await.expect("the service under test starts")
}

/// As [`start`], with a clock of the test's and the error if it fails.
pub async fn try_start<C, F, Fut>(
    config: C,
    clock: Clock,
    start: F,
) -> Result<Running<C>, StartError>
where
    C: ServiceConfig,
    F: FnOnce(Context<C>) -> Fut,
    Fut: Future<Output = Result<Service, StartError>>,
{
    let free_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    start_on(config, clock, (free_port, free_port), start).await
}

/// As [`start`], on the addresses that `config` names: for nodes that have to find each other.
///
/// # Panics
/// If it does not start.
pub async fn start_where_configured<C, F, Fut>(config: C, start: F) -> Running<C>
where
    C: ServiceConfig,
    F: FnOnce(Context<C>) -> Fut,
    Fut: Future<Output = Result<Service, StartError>>,
{
    let base = config.base();
    let addresses = (base.listen, base.peer_listen);
    let started = start_on(config, Clock::system(), addresses, start).await;
    started.expect("the service under test starts")
}

async fn start_on<C, F, Fut>(
    config: C,
    clock: Clock,
    (listen, peer_listen): (SocketAddr, SocketAddr),
    start: F,
) -> Result<Running<C>, StartError>
where
    C: ServiceConfig,
    F: FnOnce(Context<C>) -> Fut,
    Fut: Future<Output = Result<Service, StartError>>,
{
    config.validate().map_err(StartError::new)?;
    let sockets = Sockets::bind(listen, peer_listen).await?;
    let server = server::start(config, sockets, clock, Registry::default(), start).await?;
    let context = server.context.clone();
    Ok(Running {
        url: format!("http://{}", context.listen),
        peer_url: format!("http://{}", context.peer_listen),
        context,
        server,
    })
}

/// Checks a file of default settings, as under `deploy/config/`: it names every key, commented out
/// or not, and what it sets is the default.
///
/// # Panics
/// If it does not.
pub fn assert_default_file<C: ServiceConfig>(toml: &str) {
    config::check_default_file::<C>(toml).unwrap_or_else(|complaint| panic!("{complaint}"));
}

impl<C: ServiceConfig> Running<C> {
    /// Drains and stops, as SIGTERM does. Afterwards the data directory is free again.
    pub async fn stop(self) {
        self.server.drain().await;
    }

    /// Cuts connections and stops without draining.
    pub async fn abort(self) {
        self.server.stop().await;
    }

    /// Resolves when the service says that the process must end.
    pub async fn failed(&mut self) -> String {
        (&mut self.server.failed).await
    }
}
