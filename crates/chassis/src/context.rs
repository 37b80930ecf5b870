//! What the chassis gives a service, and what it gets back.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use futures_util::future::BoxFuture;
use telemetry::metrics::Registry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::openapi::OpenApi;

use crate::bounds::Bounds;
use crate::clock::Clock;
use crate::config::ServiceConfig;
use crate::faces::Faces;
use crate::health::Health;

/// Handed to a service's start function.
#[derive(Clone, Debug)]
pub struct Context<C: ServiceConfig> {
    /// The checked settings.
    pub config: Arc<C>,
    /// This node's name.
    pub node: String,
    /// The address that users really reach: `listen` with the port that was bound.
    pub listen: SocketAddr,
    /// The address that peers really reach.
    pub peer_listen: SocketAddr,
    /// Where time comes from.
    pub clock: Clock,
    /// Spawn everything here: the process waits for it after `stop`.
    pub tasks: TaskTracker,
    /// Cancelled when the drain begins: long polls and event streams end, nothing else does.
    pub draining: CancellationToken,
    /// Cancelled when no request is left: owner tasks flush and end.
    pub stop: CancellationToken,
    /// Readiness checks.
    pub health: Health,
    /// Metrics of this process.
    pub metrics: Registry,
    /// Opens the peer listener before the service has started.
    pub peers: PeerGate,
    /// Paths whose problems have the form of another protocol.
    pub faces: Faces,
    /// Paths on which the service keeps bounds itself.
    pub bounds: Bounds,
}

/// For a service that has to talk to its peers before it can start.
#[derive(Clone, Debug)]
pub struct PeerGate(mpsc::Sender<Router>);

impl PeerGate {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Router>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// Serves this on the peer listener from now on. [`Service::peer`] stays `None` then. Only
    /// the first call counts.
    pub fn open(&self, router: Router) {
        // Full: it is open already. Closed: the service has started without peers.
        let _ = self.0.try_send(router);
    }
}

/// A started service.
pub struct Service {
    /// What users reach.
    pub public: Router,
    /// What peers reach, if anything.
    pub peer: Option<Router>,
    /// Describes `public`; served as `/openapi.json` and `/docs`.
    pub openapi: OpenApi,
    /// Resolves when the process must not go on (the log failed). The text says why.
    /// `Box::pin(std::future::pending())` if there is no such thing.
    pub failed: BoxFuture<'static, String>,
}

/// A service could not start. The text tells the operator what to do.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(Box<dyn std::error::Error + Send + Sync>);

/// What the starting service adds to a cause, or says without one.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Said {
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StartError {
    /// A failure without a cause of its own.
    pub fn new(message: impl Into<String>) -> Self {
        Self(Box::new(Said { message: message.into(), source: None }))
    }

    /// A failure whose own text tells what to do.
    pub fn from_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }

    /// A failure with its cause.
    pub fn with_source(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self(Box::new(Said { message: message.into(), source: Some(source.into()) }))
    }
}
