//! Typed client of the four services: how the command line, the demo and the services themselves
//! call a service.
//!
//! One call goes through [`http::Client`]: it chooses an endpoint, asks its breaker, carries the
//! deadline and the trace context, and repeats what is safe to repeat. [`broker`], [`replica`],
//! [`coordinator`] and [`gateway`] put the wire types of `api` around it; they work directly and
//! through the gateway's prefix (`http://host:8080/broker`). [`etcd`] is what services ask of a
//! coordinator: a real etcd can take its place.
//!
//! Contract: a failed call is an [`Error`] that says whether it was certainly not done or whether
//! nobody knows ([`Outcome`]), with the service's `code`, the text that says what to do, and the
//! trace id.
//!
//! **Invariant:** nothing is sent twice unless twice is the same as once, or the first sending
//! certainly had no effect.
//! **Invariant:** every reply that is read into memory has a bound, and so has every wait.
//! **Invariant:** only this crate names reqwest; no service is named in any other crate's code but
//! by its URL.

mod error;

pub mod http;
pub mod webhook;

pub mod etcd;

pub mod broker;
pub mod coordinator;
pub mod gateway;
pub mod replica;

pub use error::{Error, Outcome};

/// A new random name for a request, for the header `Idempotency-Key`: 32 hex digits.
#[must_use]
pub fn idempotency_key() -> String {
    format!("{:016x}{:016x}", resilience::system_random(), resilience::system_random())
}

/// Re-exported, because clients are built from URLs.
pub use url::Url;
