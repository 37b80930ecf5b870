//! The gateway as its clients and upstreams meet it: real sockets on both sides.
//!
//! Tests named after a row of the proxy checklist (`f1_…`, `h2_…`) say what that row demands.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

mod bodies;
mod control;
mod discovery;
mod framing;
mod headers;
mod later;
mod retries;
mod target;
mod traces;
mod upgrades;
