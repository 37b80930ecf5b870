//! `/v3/lease/*` and its second names under `/v3/kv/lease/`.

use std::collections::VecDeque;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;

use super::super::App;
use super::super::caller::Unguarded;
use super::EtcdError;
use super::answer::{Message, Reply, chunk, live};
use super::documents::Documents;
use super::error;
use super::message::codec::{Blob, Int};
use super::message::{
    HeaderOnly, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRequest, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use crate::coordinator::CommandError;
use crate::store::LeaseId;

/// What etcd raises shorter TTLs to, at its default election timeout.
const MIN_TTL_SECONDS: i64 = 2;

pub(super) async fn grant(
    Unguarded(app): Unguarded,
    Message(request): Message<LeaseGrantRequest>,
) -> Result<Reply<LeaseGrantResponse>, EtcdError> {
    let ttl = request.ttl.0.max(MIN_TTL_SECONDS).unsigned_abs();
    let lease = app.coordinator().grant(LeaseId(request.id.0), ttl).await?;
    let header = app.header_now().await;
    let ttl = Int(lease.ttl_seconds.cast_signed());
    Ok(Reply(LeaseGrantResponse { header, id: Int(lease.id.0), ttl }))
}

pub(super) async fn revoke(
    Unguarded(app): Unguarded,
    Message(request): Message<LeaseRequest>,
) -> Result<Reply<HeaderOnly>, EtcdError> {
    let revoked = app.coordinator().revoke(LeaseId(request.id.0)).await?;
    Ok(Reply(HeaderOnly { header: app.header(revoked.revision) }))
}

pub(super) async fn time_to_live(
    Unguarded(app): Unguarded,
    Message(request): Message<LeaseTimeToLiveRequest>,
) -> Result<Reply<LeaseTimeToLiveResponse>, EtcdError> {
    let id = LeaseId(request.id.0);
    let store = app.coordinator().snapshot().await?;
    let lease = store.leases.get(id);
    let header = app.header(store.revision());
    let mut response = LeaseTimeToLiveResponse {
        header,
        id: request.id,
        ttl: Int(-1),
        granted_ttl: Int(0),
        keys: Vec::new(),
    };
    if let Some(lease) = lease {
        let remaining = lease.remaining_seconds(app.coordinator().now_ms());
        response.ttl = Int(remaining.cast_signed());
        response.granted_ttl = Int(lease.ttl_seconds.cast_signed());
        if request.keys {
            app.may_see_keys(&store, lease)?;
            response.keys = lease.keys.iter().cloned().map(Blob).collect();
        }
    }
    Ok(Reply(response))
}

pub(super) async fn leases(
    Unguarded(app): Unguarded,
) -> Result<Reply<LeaseLeasesResponse>, EtcdError> {
    let store = app.coordinator().snapshot().await?;
    let leases = store.leases.by_deadline().map(|lease| LeaseStatus { id: Int(lease.id.0) });
    Ok(Reply(LeaseLeasesResponse {
        header: app.header(store.revision()),
        leases: leases.collect(),
    }))
}

/// One answer per document, as they come; the response ends when the request does, because
/// clients read to the end.
pub(super) async fn keep_alive(Unguarded(app): Unguarded, request: Request) -> Response {
    let mut documents = Documents::new(request.into_body(), app.max_request_bytes());
    let first = match documents.first::<LeaseRequest>(&app).await {
        Ok(first) => first,
        Err(error) => return error.into_response(),
    };
    let turns = KeepAlives { app, documents, waiting: first.into_iter().collect(), ended: false };
    live(stream::unfold(turns, async |mut turns| {
        let answer = turns.next().await?;
        Some((answer, turns))
    }))
}

struct KeepAlives {
    app: App,
    documents: Documents,
    waiting: VecDeque<LeaseRequest>,
    ended: bool,
}

impl KeepAlives {
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let request = match self.waiting.pop_front() {
            Some(request) => Ok(Some(request)),
            None => tokio::select! {
                () = self.app.draining().cancelled() => Err(error::STOPPED),
                next = self.documents.next() => next,
            },
        };
        let answer = match request {
            Ok(Some(request)) => answer(&self.app, request).await,
            Ok(None) => return None,
            Err(error) => Err(error),
        };
        Some(answer.unwrap_or_else(|error| {
            self.ended = true;
            error.streamed().into()
        }))
    }
}

async fn answer(app: &App, request: LeaseRequest) -> Result<Bytes, EtcdError> {
    let coordinator = app.coordinator();
    // Read before the renewal: whoever sees a revocation must not see it undone by an older one.
    let revision = coordinator.snapshot().await?.revision();
    let ttl = match coordinator.keep_alive(LeaseId(request.id.0)).await {
        Ok(lease) => lease.ttl_seconds,
        Err(CommandError::Refused(_gone)) => 0,
        Err(CommandError::Failed(failure)) => return Err(failure.into()),
    };
    let ttl = Int(ttl.cast_signed());
    Ok(chunk(LeaseKeepAliveResponse { header: app.header(revision), id: request.id, ttl }))
}
