//! A collector inside the test: takes OTLP over HTTP and keeps every span.

use std::io::Read;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A span and who made it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) service: String,
    pub(crate) instance: String,
    pub(crate) span: Span,
}

impl Seen {
    pub(crate) fn trace_id(&self) -> String {
        hex(&self.span.trace_id)
    }

    /// `service name`, short enough for a list in a failure.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.service, self.span.name)
    }

    pub(crate) fn is_child_of(&self, parent: &Self) -> bool {
        self.span.trace_id == parent.span.trace_id
            && self.span.parent_span_id == parent.span.span_id
    }

    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        text(&self.span.attributes, key)
    }
}

type Spans = Arc<Mutex<Vec<Seen>>>;

/// Listens until dropped.
pub(crate) struct Sink {
    port: u16,
    spans: Spans,
    _server: JoinSet<()>,
}

impl Sink {
    pub(crate) async fn start() -> Self {
        let spans = Spans::default();
        let router = Router::new()
            .route("/v1/traces", post(take))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&spans));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { port, spans, _server: server }
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn spans(&self) -> Vec<Seen> {
        self.spans.lock().expect("nobody panics while holding it").clone()
    }
}

async fn take(State(spans): State<Spans>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let zipped = headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
    let mut bytes = Vec::new();
    if zipped {
        flate2::read::GzDecoder::new(body.as_ref()).read_to_end(&mut bytes).expect("gzip");
    } else {
        bytes.extend_from_slice(&body);
    }
    let request = ExportTraceServiceRequest::decode(bytes.as_slice()).expect("an export request");
    let mut spans = spans.lock().expect("nobody panics while holding it");
    for of in request.resource_spans {
        let attributes = of.resource.unwrap_or_default().attributes;
        let resource = |key| text(&attributes, key).unwrap_or_default();
        for span in of.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let (service, instance) = (resource("service.name"), resource("service.instance.id"));
            spans.push(Seen { service, instance, span });
        }
    }
    StatusCode::OK
}

fn text(
    attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue],
    key: &str,
) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(truth) => Some(truth.to_string()),
        _ => None,
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
