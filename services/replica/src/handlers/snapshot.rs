//! `GET /v1/snapshot`: the whole committed state, while serving.

use std::ops::Bound;
use std::sync::Arc;

use api::headers;
use api::problem::Code;
use api::replica::SNAPSHOT;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use chassis::problem::Problem;
use futures_util::StreamExt as _;
use http::{HeaderValue, header};
use replication::command::Space;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::kv::item;
use crate::engine::{EngineError, Snapshot};
use crate::read::ReadError;
use crate::replica::ReplicaHandle;
use crate::status::position;

/// Chunks that wait for the network.
const CHUNKS_MAX: usize = 8;
const CHUNK_BYTES: usize = 256 * 1024;

pub(super) fn router() -> Router<ReplicaHandle> {
    Router::new().route(SNAPSHOT, get(snapshot))
}

/// The whole state as NDJSON: a line with position and digest, a line for each key, a last line
/// with the count. Without that last line it is not complete.
#[utoipa::path(
    get, path = "/v1/snapshot", tag = "replication",
    responses((status = 200, content_type = "application/x-ndjson", body = String))
)]
pub(super) async fn snapshot(State(replica): State<ReplicaHandle>) -> Result<Response, Problem> {
    let commit = replica.view().commit;
    if !replica.carried_out(commit, replica.until(None)).await {
        let detail = "the store is still catching up with its log; repeat shortly";
        return Err(Problem::new(Code::TooStale, detail));
    }
    let engine = Arc::clone(&replica.view().engine);
    let pin = tokio::task::spawn_blocking(move || engine.snapshot()).await;
    let pinned = pin.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    let pinned = pinned.map_err(ReadError::from)?;
    let (chunks, body) = mpsc::channel(CHUNKS_MAX);
    let group = replica.shared.config.replication.group.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write(&*pinned, &group, &chunks) {
            tracing::error!(%error, "a snapshot was cut short");
        }
    });
    let body = ReceiverStream::new(body).map(Ok::<Bytes, std::convert::Infallible>);
    let ndjson = HeaderValue::from_static(headers::NDJSON);
    Ok(([(header::CONTENT_TYPE, ndjson)], Body::from_stream(body)).into_response())
}

fn write(
    snapshot: &dyn Snapshot,
    group: &str,
    chunks: &mpsc::Sender<Bytes>,
) -> Result<(), EngineError> {
    let applied = snapshot.applied();
    let digest = snapshot.root().to_string();
    let first = json!({
        "group": group,
        "position": position(applied.head.position),
        "digest": digest,
        "algorithm": replication::digest::ALGORITHM,
    });
    let mut chunk = line(&first);
    let mut count = 0_u64;
    for record in snapshot.records(Bound::Included(Space::User.key(b""))) {
        let (key, record) = record?;
        chunk.extend(line(&item(&key, &record)));
        count += 1;
        if CHUNK_BYTES <= chunk.len()
            && chunks.blocking_send(std::mem::take(&mut chunk).into()).is_err()
        {
            // The caller has gone.
            return Ok(());
        }
    }
    chunk.extend(line(&json!({ "end": true, "count": count })));
    let _ = chunks.blocking_send(chunk.into());
    Ok(())
}

fn line(value: &impl serde::Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("strings and numbers always encode");
    line.push(b'\n');
    line
}
