//! How a client behaves. The defaults suit a call between services of one site.

use std::time::Duration;

use resilience::balance::Strategy;
use resilience::{breaker, budget, limit, retry};

use crate::Error;

/// Settings of a [`super::Client`].
#[derive(Clone, Debug)]
pub struct Config {
    /// How long a call may take, retries included, unless it says otherwise.
    pub timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// Idle connections are closed after this long. Keep it below the server's own limit: a
    /// request written into a connection that the other side closes is lost.
    pub idle_timeout: Duration,
    /// Idle connections kept for each endpoint.
    pub max_idle_connections: usize,
    /// The largest answer that is read into memory, in bytes.
    pub max_reply_bytes: usize,
    /// A stream that is silent for this long is given up.
    pub stream_idle_timeout: Duration,
    pub strategy: Strategy,
    pub retry: retry::Policy,
    pub budget: budget::Config,
    pub breaker: breaker::Config,
    pub limit: limit::Config,
    /// What the `User-Agent` says.
    pub user_agent: &'static str,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(5),
            max_idle_connections: 64,
            max_reply_bytes: 64 * 1024 * 1024,
            stream_idle_timeout: Duration::from_secs(60),
            strategy: Strategy::LeastLatency,
            retry: retry::Policy::default(),
            budget: budget::Config::default(),
            // A client often knows a single endpoint: it must notice soon that it is back.
            breaker: breaker::Config {
                open_max: Duration::from_secs(5),
                ramp: Duration::from_secs(2),
                ..breaker::Config::default()
            },
            limit: limit::Config {
                max_in_flight: 1024,
                max_waiting: 1024,
                wait_timeout: Duration::from_secs(5),
            },
            user_agent: concat!("quartet-client/", env!("CARGO_PKG_VERSION")),
        }
    }
}

impl Config {
    pub(super) fn build(&self) -> Result<reqwest::Client, Error> {
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // Proxy variables are meant for the outside world, not for calls within the site.
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(self.idle_timeout)
            .pool_max_idle_per_host(self.max_idle_connections)
            .user_agent(self.user_agent)
            .build()
            .map_err(|error| Error::invalid("the HTTP client cannot be set up").because(error))
    }
}
