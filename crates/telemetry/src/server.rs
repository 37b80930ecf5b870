//! The server side of a request: its span, its trace id, its duration.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Extensions, HeaderName, HeaderValue, Request, Response, header};
use opentelemetry::trace::SpanKind;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::http_metrics::{HttpMetrics, InProgress, Route};
use crate::metrics::Registry;
use crate::trace::{self, ActiveSpan, InContext, InSpan as _, Span, TraceContext};

/// The trace id of the request, on every response.
const X_TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// What the layer asks the web framework, so that it depends on none.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    /// The pattern that matched, such as `/v1/kv/{key}`.
    pub route: fn(&Extensions) -> Option<&str>,
    /// The address of the caller.
    pub peer: fn(&Extensions) -> Option<SocketAddr>,
    /// Paths that are neither traced nor measured: probes and `/metrics`.
    pub is_quiet: fn(&str) -> bool,
}

/// Puts a SERVER span around each request, counts it, and answers with `x-trace-id`.
#[derive(Clone, Debug)]
pub struct ServerLayer {
    lookup: Lookup,
    metrics: Arc<HttpMetrics>,
}

impl ServerLayer {
    /// One per registry: it registers the `http_server_*` metrics.
    #[must_use]
    pub fn new(registry: &Registry, lookup: Lookup) -> Self {
        Self { lookup, metrics: Arc::new(HttpMetrics::new(registry)) }
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = ServerTrace<S>;

    fn layer(&self, inner: S) -> ServerTrace<S> {
        let (lookup, metrics) = (self.lookup, Arc::clone(&self.metrics));
        ServerTrace { inner, shared: Arc::new(Shared { lookup, metrics, route: OnceLock::new() }) }
    }
}

/// The service of [`ServerLayer`].
#[derive(Clone, Debug)]
pub struct ServerTrace<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// What the clones of a [`ServerTrace`] share.
#[derive(Debug)]
struct Shared {
    lookup: Lookup,
    metrics: Arc<HttpMetrics>,
    /// Of the first request. Frameworks put the layer around each route, so that it is that of most.
    route: OnceLock<Arc<Route>>,
}

impl<S, B, R> Service<Request<B>> for ServerTrace<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ServerFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> ServerFuture<S::Future> {
        let Shared { lookup, metrics, route: known } = &*self.shared;
        if (lookup.is_quiet)(request.uri().path()) {
            let quiet = TraceContext { sampled: false, ..TraceContext::random() };
            let inner = trace::WithContext::with_context(self.inner.call(request), quiet);
            return ServerFuture { inner, span: None, context: quiet, progress: None };
        }
        let route = (lookup.route)(request.extensions());
        let span = server_span(&request, route, *lookup);
        let progress = metrics.begin(request.method(), route, known, now());
        let context = span.context();
        let inner = self.inner.call(request).in_span(&span);
        ServerFuture { inner, span: Some(span), context, progress: Some(progress) }
    }
}

/// A span named by method and route, never by path: paths are unbounded.
fn server_span<B>(request: &Request<B>, route: Option<&str>, lookup: Lookup) -> ActiveSpan {
    let method = known_method(request.method());
    let name = if method == "_OTHER" { "HTTP" } else { method };
    let mut span = Span::new(name.into(), SpanKind::Server, trace::extract(request.headers()));
    if !span.is_recorded() {
        return span.start();
    }
    span = span
        .attr("http.request.method", method)
        .attr("url.path", request.uri().path())
        .attr("url.scheme", "http")
        .attr("network.protocol.version", version(request.version()));
    if let Some(route) = route {
        span = span.subject(route).attr("http.route", route);
    }
    if let Some(peer) = (lookup.peer)(request.extensions()) {
        span = span
            .attr("network.peer.address", peer.ip().to_string())
            .attr("network.peer.port", peer.port());
    }
    let text =
        |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let Some(host) = text(header::HOST) {
        span = span.attr("server.address", host.rsplit_once(':').map_or(host, |(host, _)| host));
    }
    if let Some(agent) = text(header::USER_AGENT) {
        span = span.attr("user_agent.original", agent);
    }
    span.start()
}

/// The methods of the convention; all others are one, as they are up to the caller.
pub(crate) fn known_method(method: &http::Method) -> &'static str {
    const KNOWN: [&str; 9] =
        ["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_2 => "2",
        http::Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

#[expect(clippy::disallowed_methods, reason = "measures how long an answer took, decides nothing")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

pin_project! {
    /// The future of [`ServerTrace`].
    #[derive(Debug)]
    pub struct ServerFuture<F> {
        #[pin]
        inner: InContext<F>,
        span: Option<ActiveSpan>,
        context: TraceContext,
        progress: Option<InProgress>,
    }
}

impl<F, R, E> Future for ServerFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut outcome = std::task::ready!(this.inner.poll(cx));
        let status = outcome.as_ref().map_or(500, |response| response.status().as_u16());
        if let Some(progress) = this.progress.take() {
            progress.finish(status, *this.context, now());
        }
        if let Some(mut span) = this.span.take() {
            span.set("http.response.status_code", status);
            if 500 <= status {
                span.fail(status.to_string());
            }
        }
        if let Ok(response) = &mut outcome {
            let id = HeaderValue::from_bytes(&this.context.trace_id.hex());
            let id = id.expect("hex digits are a valid header value");
            response.headers_mut().insert(X_TRACE_ID, id);
        }
        Poll::Ready(outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::metrics::Format;
    use crate::testing;

    const LOOKUP: Lookup = Lookup {
        route: |extensions| extensions.get::<&'static str>().copied(),
        peer: |_| None,
        is_quiet: |path| path == "/livez",
    };

    async fn send(registry: &Registry, request: Request<()>, status: u16) -> Response<()> {
        let inner = service_fn(move |_: Request<()>| async move {
            let response = Response::builder().status(status).body(()).unwrap();
            Ok::<_, Infallible>(response)
        });
        ServerLayer::new(registry, LOOKUP).layer(inner).oneshot(request).await.unwrap()
    }

    fn get(path: &str) -> http::request::Builder {
        Request::get(path).extension("/v1/kv/{key}")
    }

    #[tokio::test]
    async fn a_request_is_recorded_under_its_route_and_its_callers_trace() {
        let recorder = testing::record();
        let caller = TraceContext { sampled: true, ..TraceContext::random() };
        let request = get("/v1/kv/color?token=hunter2")
            .header("traceparent", caller.to_string())
            .header("authorization", "Bearer hunter2");
        let registry = Registry::default();
        let response = send(&registry, request.body(()).unwrap(), 503).await;
        assert_eq!(response.headers()[X_TRACE_ID], caller.trace_id.to_string());

        let spans = recorder.trace(caller.trace_id);
        let [span] = spans.as_slice() else { panic!("{spans:?}") };
        assert_eq!((span.name.as_str(), span.kind), ("GET /v1/kv/{key}", "server"));
        assert_eq!((span.parent, span.failed), (Some(caller.span_id), true));
        assert_eq!(span.attributes["http.response.status_code"], "503");
        assert!(!format!("{span:?}").contains("hunter2"), "{span:?}");

        let text = registry.encode(Format::OpenMetrics);
        let exemplar = format!("# {{trace_id=\"{}\"}}", caller.trace_id);
        assert!(text.contains(&exemplar), "{text}");
        assert!(text.contains(r#"http_route="/v1/kv/{key}""#), "{text}");
    }

    #[tokio::test]
    async fn a_callers_mistake_is_not_an_error_of_the_server() {
        let recorder = testing::record();
        let caller = TraceContext { sampled: true, ..TraceContext::random() };
        let request = get("/v1/kv/color").header("traceparent", caller.to_string());
        send(&Registry::default(), request.body(()).unwrap(), 404).await;
        assert!(!recorder.trace(caller.trace_id)[0].failed);
    }

    #[tokio::test]
    async fn a_thousand_paths_without_a_route_are_one_series() {
        let registry = Registry::default();
        for i in 0..1000 {
            let request = Request::get(format!("/random/{i}")).body(()).unwrap();
            send_on(&registry, request).await;
        }
        let text = registry.encode(Format::OpenMetrics);
        let series = text.lines().filter(|line| line.contains("_duration_seconds_count"));
        assert_eq!(series.count(), 1, "{text}");
    }

    async fn send_on(registry: &Registry, request: Request<()>) {
        // A layer per registry in real life; here the lines of one series must not double.
        static LAYER: OnceLock<ServerLayer> = OnceLock::new();
        let inner = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
        let layer = LAYER.get_or_init(|| ServerLayer::new(registry, LOOKUP));
        layer.layer(inner).oneshot(request).await.unwrap();
    }

    #[tokio::test]
    async fn probes_are_neither_traced_nor_counted_but_have_a_trace_id() {
        let registry = Registry::default();
        let response = send(&registry, Request::get("/livez").body(()).unwrap(), 200).await;
        assert_eq!(response.headers()[X_TRACE_ID].len(), 32);
        assert!(!registry.encode(Format::OpenMetrics).contains("_count"));
    }
}
