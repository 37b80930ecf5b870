//! Calls of endpoints that users name: one POST, no redirects, no second try.
//!
//! When to call, and what an answer means, is the caller's; this says what came of it.
//!
//! **Invariant:** an address that [`Reach`] does not allow is never connected to.

mod guard;

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use resilience::retry::retry_after;
use url::{Host, Url};

pub use guard::{Forbidden, Reach};

use crate::Error;

/// How much of an answer is read; what comes after it is of no interest.
const MAX_ANSWER: usize = 64 * 1024;
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections are closed after this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Idle connections kept for each endpoint.
const MAX_IDLE: usize = 32;

/// Calls endpoints. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Caller {
    http: reqwest::Client,
    reach: Reach,
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Letter {
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// For everything: names, connecting, sending, and the answer.
    pub timeout: Duration,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    pub status: u16,
    /// How long the endpoint asks to be left alone.
    pub retry_after: Option<Duration>,
    /// The beginning of the body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The address must not be called. Nothing was sent.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// Nobody took the call. Nothing was sent.
    #[error("cannot connect to {0}")]
    NotReached(String),
    /// The connection broke before there was an answer.
    #[error("the connection broke before there was an answer")]
    HungUp,
    /// There was no answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

impl Caller {
    /// # Errors
    ///
    /// When the HTTP client cannot be set up.
    pub fn new(reach: Reach) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // A proxy would resolve the name itself, and call what must not be called.
            .no_proxy()
            .dns_resolver(Arc::new(guard::Resolver(reach)))
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .user_agent(concat!("quartet-webhooks/", env!("CARGO_PKG_VERSION")))
            .build();
        let http = http.map_err(|error| {
            Error::invalid("the HTTP client of webhooks cannot be set up").because(error)
        })?;
        Ok(Self { http, reach })
    }

    /// Whether an address that a URL spells out may be called. Names are only known when called.
    ///
    /// # Errors
    ///
    /// When it may not.
    pub fn check(&self, url: &Url) -> Result<(), Forbidden> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            _ => return Ok(()),
        };
        match self.reach.allows(address) {
            true => Ok(()),
            false => Err(Forbidden { host: address.to_string(), address }),
        }
    }

    /// Sends it once.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn post(&self, letter: Letter) -> Result<Answered, CallError> {
        self.check(&letter.url)?;
        let Letter { url, headers, body, timeout } = letter;
        let host = url.host_str().unwrap_or_default().to_owned();
        let call = async {
            let request = self.http.post(url).headers(headers).body(body);
            let mut response = request.send().await.map_err(|error| failed(&error, host))?;
            let status = response.status().as_u16();
            let retry_after = retry_after(response.headers());
            let mut body = Vec::new();
            // Whoever answers a status has answered, however much of the rest comes.
            while body.len() < MAX_ANSWER
                && let Ok(Some(chunk)) = response.chunk().await
            {
                body.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER - body.len())]);
            }
            Ok(Answered { status, retry_after, body: body.into() })
        };
        tokio::time::timeout(timeout, call).await.unwrap_or(Err(CallError::TimedOut(timeout)))
    }
}

fn failed(error: &reqwest::Error, host: String) -> CallError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(forbidden) = cause.downcast_ref::<Forbidden>() {
            return forbidden.clone().into();
        }
        source = cause.source();
    }
    match error.is_connect() || error.is_builder() {
        true => CallError::NotReached(host),
        false => CallError::HungUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(url: &str) -> Letter {
        Letter {
            url: url.parse().unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"x"),
            timeout: Duration::from_secs(20),
        }
    }

    #[tokio::test]
    async fn an_address_that_is_not_allowed_is_not_called_by_number_or_by_name() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let caller = Caller::new(Reach::Public).unwrap();
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"] {
            let refused = caller.post(letter(&format!("http://{host}:{port}/"))).await;
            assert!(matches!(refused, Err(CallError::Forbidden(_))), "{host}: {refused:?}");
        }
        let accepted = listener.accept();
        let nobody = tokio::time::timeout(Duration::from_millis(50), accepted).await;
        assert!(nobody.is_err(), "somebody connected");
    }

    #[tokio::test]
    async fn nobody_there_is_told_apart_from_somebody_who_hangs_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let caller = Caller::new(Reach::Loopback).unwrap();
        let hang_up = async {
            drop(listener.accept().await.unwrap());
        };
        let (hung_up, ()) = tokio::join!(caller.post(letter(&url)), hang_up);
        assert!(matches!(hung_up, Err(CallError::HungUp)), "{hung_up:?}");
        drop(listener);
        let nobody = caller.post(letter(&url)).await;
        assert!(matches!(nobody, Err(CallError::NotReached(_))), "{nobody:?}");
    }
}
