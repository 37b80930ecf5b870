//! A collector of traces that takes, refuses or hangs.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use chassis::extract::Body;
use http::StatusCode;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What it does with an export.
#[derive(Clone, Copy)]
pub(crate) enum Manner {
    Take,
    Refuse,
    Hang,
}

/// Listens until dropped.
pub(crate) struct Collector {
    url: String,
    state: Shared,
    _server: JoinSet<()>,
}

#[derive(Clone)]
struct Shared {
    manner: Manner,
    exported: Arc<Mutex<Vec<ResourceSpans>>>,
}

impl Collector {
    pub(crate) async fn start(manner: Manner) -> Self {
        let state = Shared { manner, exported: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/traces", post(take)).with_state(state.clone());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, state, _server: server }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn exported(&self) -> Vec<ResourceSpans> {
        self.state.exported.lock().unwrap().clone()
    }
}

async fn take(State(state): State<Shared>, Body(body): Body) -> StatusCode {
    match state.manner {
        Manner::Take => {
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            state.exported.lock().unwrap().extend(request.resource_spans);
            StatusCode::OK
        }
        Manner::Refuse => StatusCode::SERVICE_UNAVAILABLE,
        Manner::Hang => std::future::pending().await,
    }
}
