//! The gateway: one entry point to every service, which retries what may be retried and keeps
//! away from what is broken.
//!
//! A request that is not for the gateway itself is judged ([`target`]), routed ([`table`]),
//! cleaned of what belongs to its connection ([`headers`]) and called ([`call`]): as many attempts
//! ([`attempt`]) as are safe, each to the endpoint that looks best ([`upstream`]) over a pooled
//! connection ([`pool`]). Its response streams back ([`relay`]), or becomes a tunnel ([`upgrade`]).
//!
//! **Invariant:** no body is gathered. What is kept of a request for a retry is at most 64 KiB.
//! **Invariant:** a request that may have been carried out is never sent again, unless doing it
//! twice is the same as doing it once.
//! **Invariant:** a response that ends early for the gateway ends early for the client.
//! **Invariant:** a client that leaves is no failure of the upstream.

mod config;
mod start;

mod edge;
mod gateway;
mod handlers;
mod later;

mod headers;
mod table;
mod target;

mod attempt;
mod body;
mod call;
mod pool;
mod relay;
mod upgrade;

mod discovery;
mod registry;
mod routes;
mod rpc;
mod upstream;

mod metrics;

pub use config::{Breaker, Config, Endpoints, Pool, RetryBudget};
pub use start::start;
