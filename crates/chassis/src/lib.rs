//! What every service shares: settings, listener, middleware, problems, health, drain.
//!
//! A service is a start function: it gets a [`Context`], opens what it owns, and returns a
//! [`Service`], which is routers, their OpenAPI document and a future that says when the process
//! must end.
//!
//! **Invariant:** axum appears in here and in `services/*/src/handlers`, nowhere else.
//! **Invariant:** every error answer of ours is a [`problem::Problem`]; only a compatible face
//! shows it in another form ([`faces`]).
//! **Invariant:** nothing waits without a bound: heads, bodies, idle connections, requests, drains.
//! A service names the paths on which it keeps one of its own ([`bounds`]).

pub mod config;
mod context;
mod listen;
mod process;
mod register;
mod server;

mod layers;
mod operations;

pub mod bounds;
pub mod clock;
pub mod deadline;
pub mod extract;
pub mod faces;
pub mod health;
pub mod log;
pub mod long_poll;
pub mod problem;
pub mod sse;
pub mod testing;

pub use config::{Base, ServiceConfig, milliseconds, seconds};
pub use context::{Context, PeerGate, Service, StartError};
pub use listen::peer_address;
pub use process::{Given, run, run_given};
pub use register::coordinator;

/// The version of everything in this workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// glibc's allocator keeps what it once had; this one gives it back and is faster under threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
