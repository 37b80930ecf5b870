//! Where replicas connect.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, header};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;

use crate::peer::serve::Server;
use crate::peer::{OUTBOUND_MAX, STREAM};

pub(super) fn router(server: Server, tasks: TaskTracker) -> Router {
    Router::new().route(STREAM, post(stream)).with_state((server, tasks))
}

/// One replica: reports come in, entries go out, for as long as the connection lasts.
async fn stream(
    State((server, tasks)): State<(Server, TaskTracker)>,
    request: Request,
) -> Response {
    let (outbound, body) = mpsc::channel(OUTBOUND_MAX);
    let inbound = request.into_body().into_data_stream();
    tasks.spawn(server.serve(inbound, outbound));
    let frames = ReceiverStream::new(body).map(Ok::<Bytes, Infallible>);
    let binary = HeaderValue::from_static("application/octet-stream");
    let no_transform = HeaderValue::from_static("no-store");
    (
        [(header::CONTENT_TYPE, binary), (header::CACHE_CONTROL, no_transform)],
        Body::from_stream(frames),
    )
        .into_response()
}
