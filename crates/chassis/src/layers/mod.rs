//! What every request passes through, once, in this order:
//!
//! 1. span, `x-trace-id`, duration (`telemetry`);
//! 2. `x-quartet-node`, and the trace id in problem documents;
//! 3. the bound on requests in progress;
//! 4. the deadline;
//! 5. the bound on the body;
//! 6. the panic guard;
//! 7. the route, or 404, or 405.
//!
//! Probes and `/metrics` skip 3 to 5: a server with too much to do still says that it lives.

pub(crate) mod body;
mod in_flight;

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::problem::Code;
use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse as _, Response};
use axum::routing::Route;
use axum::routing::future::RouteFuture;
use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue, Method, header};
use http_body::Body as _;
use resilience::deadline::for_caller;
use telemetry::{Lookup, ServerLayer};
use tower::{Layer as _, Service, layer::layer_fn, service_fn};

use crate::bounds::{Bounds, Own};
use crate::clock::Clock;
use crate::config::Limits;
use crate::deadline::Deadline;
use crate::extract::too_large;
use crate::faces::{Faces, Render};
use crate::listen::Peer;
use crate::problem::{self, Problem};
use body::{BoundedBody, MaxBody};
use in_flight::{InFlight, Permit};

/// Which node answered.
const X_QUARTET_NODE: HeaderName = HeaderName::from_static(api::headers::NODE);

/// How long an answer may take where the service bounds it: longer than anybody waits.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What some path or other takes.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// How the layers ask axum what `telemetry` wants to know.
pub(crate) const LOOKUP: Lookup = Lookup {
    route: |extensions| extensions.get::<MatchedPath>().map(MatchedPath::as_str),
    peer: |extensions| extensions.get::<Peer>().map(|peer| peer.address),
    is_quiet,
};

/// Asked every few seconds by machines.
fn is_quiet(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/healthz" | "/metrics" | "/health")
        || path.starts_with("/readyz/")
}

/// What the layers of one server share.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) node: HeaderValue,
    pub(crate) limits: Limits,
    in_flight: Arc<InFlight>,
    pub(crate) clock: Clock,
    closing: Arc<AtomicBool>,
    faces: Faces,
    bounds: Bounds,
}

impl Edge {
    pub(crate) fn new(node: &str, limits: Limits, clock: Clock, closing: Arc<AtomicBool>) -> Self {
        let node = HeaderValue::try_from(node).unwrap_or(HeaderValue::from_static("unnamed"));
        Self {
            node,
            in_flight: Arc::new(InFlight::new(limits.max_in_flight)),
            limits,
            clock,
            closing,
            faces: Faces::default(),
            bounds: Bounds::default(),
        }
    }

    /// What the service will say of its paths.
    pub(crate) fn with(self, faces: &Faces, bounds: &Bounds) -> Self {
        Self { faces: faces.clone(), bounds: bounds.clone(), ..self }
    }

    /// The same for the peer listener: what peers stream to each other has no end, so a body may
    /// have any length. Its silence stays bounded.
    pub(crate) fn for_peers(&self) -> Self {
        let limits = Limits { max_body_bytes: u64::MAX, ..self.limits.clone() };
        Self {
            node: self.node.clone(),
            in_flight: Arc::clone(&self.in_flight),
            limits,
            clock: self.clock.clone(),
            closing: Arc::clone(&self.closing),
            faces: self.faces.clone(),
            bounds: self.bounds.clone(),
        }
    }
}

/// Puts the layers around `router`. Its fallbacks are replaced: what no route takes is a problem.
pub(crate) fn wrap(router: Router, edge: Arc<Edge>, server: ServerLayer) -> Router {
    router
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(layer_fn(move |route| server.layer(stack(Arc::clone(&edge), route))))
}

async fn not_found(request: Request) -> Problem {
    Problem::nothing_at(request.uri().path())
}

/// CONNECT names no path, so no route could say which methods it takes.
fn refuse_connect() -> Problem {
    let detail = "this is no forward proxy: CONNECT is not served; send requests to this server \
                  itself";
    Problem::new(Code::MethodNotAllowed, detail).with_header(header::ALLOW, METHODS)
}

async fn method_not_allowed(request: Request) -> Problem {
    let method = request.method();
    let detail = format!("{method} is not possible here; the header `allow` lists what is");
    Problem::new(Code::MethodNotAllowed, detail)
}

/// The layers around one route. Written as one service, because axum boxes what each layer makes.
fn stack(
    edge: Arc<Edge>,
    mut route: Route,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + Sync
{
    service_fn(move |request: Request| {
        let manner = Manner {
            is_http1: request.version() < http::Version::HTTP_2,
            face: edge.faces.of(request.uri().path(), request.headers()),
        };
        let admitted = edge.admit(request);
        let admitted = admitted.map(|(request, terms)| (route.call(request), terms));
        answer(Arc::clone(&edge), admitted, manner)
    })
}

/// What of a request decides how its answer looks.
struct Manner {
    is_http1: bool,
    face: Option<Render>,
}

/// On what terms a request is answered.
enum Terms {
    /// A probe: always, and without a bound.
    Probe,
    Bounded {
        permit: Permit,
        /// The caller's own deadline.
        asked: Option<Deadline>,
        /// The shorter of it and ours.
        left: Duration,
        method: Method,
    },
}

async fn answer(
    edge: Arc<Edge>,
    admitted: Result<(RouteFuture<Infallible>, Terms), Problem>,
    manner: Manner,
) -> Result<Response, Infallible> {
    let outcome = match admitted {
        Err(problem) => Err(problem),
        Ok((work, Terms::Probe)) => Ok(guarded(work).await),
        Ok((work, Terms::Bounded { permit, asked, left, method })) => {
            let in_time = tokio::time::timeout(left, for_whom(asked, guarded(work))).await;
            drop(permit);
            in_time.map_err(|_elapsed| expired(&method))
        }
    };
    let mut response = outcome.unwrap_or_else(Problem::into_response);
    problem::finish(&mut response, manner.face);
    response.headers_mut().entry(X_QUARTET_NODE).or_insert_with(|| edge.node.clone());
    if manner.is_http1 && edge.closing.load(Ordering::Relaxed) {
        // The client opens its next connection elsewhere. HTTP/2 gets a GOAWAY instead.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Lets the calls that `work` makes end with its caller's deadline.
async fn for_whom(asked: Option<Deadline>, work: impl Future<Output = Response>) -> Response {
    match asked {
        Some(Deadline(at)) => for_caller(resilience::deadline::Deadline::new(at), work).await,
        None => work.await,
    }
}

impl Edge {
    /// Judges a request by what does not depend on its route.
    fn admit(&self, mut request: Request) -> Result<(Request, Terms), Problem> {
        if request.method() == Method::CONNECT {
            return Err(refuse_connect());
        }
        if is_quiet(request.uri().path()) {
            return Ok((request, Terms::Probe));
        }
        let Some(permit) = self.in_flight.try_enter() else {
            let detail = "this node has as much to do as it can bear; slow down and repeat";
            return Err(Problem::new(Code::Overloaded, detail));
        };
        let now = self.clock.now();
        let asked = Deadline::from_headers(request.headers(), now)?;
        if let Some(deadline) = asked {
            request.extensions_mut().insert(deadline);
        }
        let own = self.bounds.at(request.uri().path());
        let ours = match own {
            Some(Own::Time) => NEVER,
            _ => self.limits.request_timeout(),
        };
        let ours = Deadline(now + ours);
        let left = asked.map_or(ours, |asked| asked.min(ours)).remaining(now);
        let Some(left) = left else { return Err(expired(&Method::GET)) };
        let method = request.method().clone();
        let max = if own == Some(Own::Length) { u64::MAX } else { self.limits.max_body_bytes };
        let request = bounded(self, request, MaxBody(max))?;
        Ok((request, Terms::Bounded { permit, asked, left, method }))
    }
}

/// Refuses a body that says it is too large, and watches one that does not.
fn bounded(edge: &Edge, request: Request, max: MaxBody) -> Result<Request, Problem> {
    if max.0 < request.body().size_hint().lower() {
        return Err(too_large(max));
    }
    if request.extensions().get().is_some_and(|peer: &Peer| peer.is_read) {
        return Ok(request);
    }
    let silence = edge.limits.body_timeout();
    Ok(request.map(|body| {
        if body.is_end_stream() {
            return body;
        }
        Body::new(BoundedBody::new(body, max, silence))
    }))
}

/// A read that is given up has done nothing. A write may have.
fn expired(method: &Method) -> Problem {
    if method.is_safe() {
        let detail = "the answer was not ready in time; allow more or ask for less";
        return Problem::new(Code::DeadlineExceeded, detail);
    }
    let detail = "no answer in time: it may or may not have been done; repeat it with the same \
                  Idempotency-Key, or look";
    Problem::new(Code::Indeterminate, detail)
}

/// A panic is our mistake and costs one request, not the connection.
async fn guarded(work: RouteFuture<Infallible>) -> Response {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(response)) => response,
        Err(panic) => Problem::internal(&Panicked(message(panic.as_ref()))).into_response(),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a handler panicked: {0}")]
struct Panicked(String);

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref().cloned()).unwrap_or_else(|| "no message".to_owned())
}
