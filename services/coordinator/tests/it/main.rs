//! The service over real HTTP, each test on a server of its own.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod access;
mod auth;
mod backup;
mod bad_input;
mod captures;
mod differential;
mod durability;
mod elections;
mod etcd_refusals;
mod idempotency;
mod kv;
mod leases;
mod locks;
mod maintenance;
mod members;
mod model;
mod process;
mod ready;
mod requests_model;
mod server;
mod services;
mod stream;
mod watch;
