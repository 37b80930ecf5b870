//! A started server: sockets, service, layers; and the order in which it ends.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use client::etcd::Registration;
use futures_util::future::BoxFuture;
use telemetry::ServerLayer;
use telemetry::metrics::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::openapi::OpenApi;

use crate::bounds::Bounds;
use crate::clock::Clock;
use crate::config::{Base, ServiceConfig};
use crate::context::{Context, PeerGate, Service, StartError};
use crate::faces::Faces;
use crate::health::{Check, Health};
use crate::layers::{self, Edge, LOOKUP};
use crate::listen::{self, App, Ending};
use crate::operations::Operations;
use crate::problem::Problem;
use crate::register;

/// How long owner tasks may take to flush after `stop`. They only have to finish one batch.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The two listeners, bound before anything else happens: a port in use is noticed first.
#[derive(Debug)]
pub(crate) struct Sockets {
    public: TcpListener,
    /// A service without peers does not care whether its peer port is taken.
    peer: Result<TcpListener, StartError>,
}

/// A server that answers.
pub(crate) struct Server<C: ServiceConfig> {
    pub(crate) context: Context<C>,
    /// Resolves when the process must not go on.
    pub(crate) failed: BoxFuture<'static, String>,
    accepting: Check,
    ending: Ending,
    public_only: bool,
    /// Ends with the drain.
    _registration: Option<Registration>,
}

impl Sockets {
    /// Binds both addresses, or says which one is taken.
    pub(crate) async fn bind(
        listen: SocketAddr,
        peer_listen: SocketAddr,
    ) -> Result<Self, StartError> {
        Ok(Self {
            public: bind("listen", listen).await?,
            peer: bind("peer_listen", peer_listen).await,
        })
    }
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| {
        let message = format!("cannot listen on {address}; choose another `{key}`");
        StartError::with_source(message, error)
    })
}

/// Accepts at once, answering probes; serves once `start` has returned.
pub(crate) async fn start<C, F, Fut>(
    config: C,
    sockets: Sockets,
    clock: Clock,
    metrics: Registry,
    start: F,
) -> Result<Server<C>, StartError>
where
    C: ServiceConfig,
    F: FnOnce(Context<C>) -> Fut,
    Fut: Future<Output = Result<Service, StartError>>,
{
    telemetry::register_client_metrics(&metrics);
    let (gate, mut opened) = PeerGate::new();
    let context = context(config, &sockets, clock, metrics, gate)?;
    let started = context.health.check("started", "the service is starting");
    let accepting = context.health.check("accepting", "the service is starting");
    let ending = Ending::default();
    let house = House::new(&context, &ending);
    let settings = house.listen_settings();
    let public = house.app();
    listen::spawn(&context.tasks, sockets.public, public.clone(), settings.clone(), ending.clone());

    let mut peer_socket = Some(sockets.peer);
    let serve_peers = |router, socket: Result<TcpListener, StartError>| {
        let house = House::new(&context, &ending).for_peers();
        let app = house.app();
        let _ = app.ready.set(house.ready(router, &OpenApi::default()));
        listen::spawn(&context.tasks, socket?, app, settings.clone(), ending.clone());
        Ok::<(), StartError>(())
    };
    let starting = start(context.clone());
    tokio::pin!(starting);
    let service = loop {
        let outcome = tokio::select! {
            outcome = &mut starting => outcome.map(Some),
            Some(router) = opened.recv(), if peer_socket.is_some() => {
                let socket = peer_socket.take().expect("it was just there");
                serve_peers(router, socket).map(|()| None)
            }
        };
        if let Some(service) = outcome.inspect_err(|_| ending.refuse.cancel())? {
            break service;
        }
    };
    let _ = public.ready.set(house.ready(service.public, &service.openapi));
    if let Some(router) = service.peer
        && let Some(socket) = peer_socket.take()
    {
        serve_peers(router, socket)?;
    }
    let public_only = peer_socket.is_some();
    started.pass();
    accepting.pass();
    let registration = register::register(&context)?;
    Ok(Server {
        context,
        failed: service.failed,
        accepting,
        ending,
        public_only,
        _registration: registration,
    })
}

fn context<C: ServiceConfig>(
    config: C,
    sockets: &Sockets,
    clock: Clock,
    metrics: Registry,
    peers: PeerGate,
) -> Result<Context<C>, StartError> {
    let address = |socket: &TcpListener| {
        let failed = |error| StartError::with_source("a listener has no address", error);
        socket.local_addr().map_err(failed)
    };
    Ok(Context {
        node: config.base().node.clone(),
        listen: address(&sockets.public)?,
        peer_listen: match &sockets.peer {
            Ok(socket) => address(socket)?,
            Err(_taken) => config.base().peer_listen,
        },
        config: Arc::new(config),
        clock,
        tasks: TaskTracker::new(),
        draining: CancellationToken::new(),
        stop: CancellationToken::new(),
        health: Health::default(),
        metrics,
        faces: Faces::default(),
        bounds: Bounds::default(),
        peers,
    })
}

/// Builds the routers of one server, with the layers around them.
struct House {
    operations: Operations,
    edge: Arc<Edge>,
    layer: ServerLayer,
}

impl House {
    fn new<C: ServiceConfig>(context: &Context<C>, ending: &Ending) -> Self {
        let Base { node, limits, .. } = context.config.base();
        let (clock, closing) = (context.clock.clone(), Arc::clone(&ending.closing));
        Self {
            operations: Operations {
                service: C::SERVICE,
                node: node.as_str().into(),
                health: context.health.clone(),
                metrics: context.metrics.clone(),
            },
            edge: Arc::new(
                Edge::new(node, limits.clone(), clock, closing)
                    .with(&context.faces, &context.bounds),
            ),
            layer: ServerLayer::new(&context.metrics, LOOKUP),
        }
    }

    fn listen_settings(&self) -> listen::Settings {
        let Edge { node, limits, clock, .. } = &*self.edge;
        listen::Settings { limits: limits.clone(), node: node.clone(), clock: clock.clone() }
    }

    fn for_peers(self) -> Self {
        Self { edge: Arc::new(self.edge.for_peers()), ..self }
    }

    /// What is served before the service has started: probes, and 503 for all else.
    fn app(&self) -> Arc<App> {
        let unavailable = || async {
            let detail = "the service is starting; repeat in a moment";
            Problem::new(api::problem::Code::Unavailable, detail)
        };
        let router = Router::new()
            .route("/", axum::routing::any(unavailable))
            .route("/{*path}", axum::routing::any(unavailable))
            .merge(self.operations.clone().router(&OpenApi::default()));
        Arc::new(App { starting: self.wrap(router), ready: OnceLock::new() })
    }

    fn ready(&self, router: Router, openapi: &OpenApi) -> Router {
        self.wrap(router.merge(self.operations.clone().router(openapi)))
    }

    fn wrap(&self, router: Router) -> Router {
        layers::wrap(router, Arc::clone(&self.edge), self.layer.clone())
    }
}

impl<C: ServiceConfig> Server<C> {
    /// Whether only the public listener is used.
    pub(crate) fn public_only(&self) -> bool {
        self.public_only
    }

    /// Ends without losing a request, within bounds.
    ///
    /// Readiness fails first, so that balancers look elsewhere; then nothing new is accepted and
    /// long polls and event streams end; then requests in progress finish; then owners flush.
    pub(crate) async fn drain(self) {
        let drain = self.context.config.base().drain.clone();
        self.accepting.fail("the node is shutting down");
        tokio::time::sleep(Duration::from_millis(drain.delay_ms)).await;
        self.ending.refuse.cancel();
        self.ending.closing.store(true, Ordering::Relaxed);
        self.context.draining.cancel();
        self.ending.connections.close();
        let timeout = Duration::from_secs(drain.timeout_seconds);
        if tokio::time::timeout(timeout, self.ending.connections.wait()).await.is_err() {
            let left = self.ending.connections.len();
            tracing::warn!(connections = left, "still open after the drain timeout; closing them");
        }
        self.stop().await;
    }

    /// Ends now: connections are cut, owners flush.
    pub(crate) async fn stop(self) {
        self.ending.refuse.cancel();
        self.ending.closing.store(true, Ordering::Relaxed);
        self.context.draining.cancel();
        self.ending.abort.cancel();
        self.context.stop.cancel();
        self.context.tasks.close();
        if tokio::time::timeout(FLUSH_TIMEOUT, self.context.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.context.tasks.len(), "tasks did not end in time");
        }
    }
}
