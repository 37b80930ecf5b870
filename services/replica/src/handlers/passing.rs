//! Requests that only the primary can answer, on a node that is not.

use std::time::Instant;

use api::headers;
use api::problem::Code;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use chassis::problem::Problem;
use http::request::Parts;
use http::{HeaderName, header};

use super::problem::passed_on;
use crate::config::Role;
use crate::forward::{Forward, Passing, left};
use crate::replica::ReplicaHandle;
use crate::view::Side;

/// Headers of the primary's answer that the caller gets.
const ANSWERED: [&str; 9] = [
    "content-type",
    "etag",
    "retry-after",
    headers::SESSION,
    headers::ACKED_BY,
    headers::LAG_MS,
    headers::SERVED_BY,
    headers::ROLE,
    headers::NODE,
];

/// Whether this node has to ask the primary.
pub(super) fn is_elsewhere(replica: &ReplicaHandle) -> bool {
    replica.shared.config.replication.role == Role::Replica
}

/// Passes a request on, once, and answers what the primary answers.
pub(super) async fn pass_on(
    replica: &ReplicaHandle,
    parts: &Parts,
    body: Bytes,
    until: Instant,
) -> Result<Response, Problem> {
    let primary = match &replica.view().side {
        Side::Replica { primary, .. } => primary.clone(),
        Side::Primary { .. } => None,
    };
    let Some(primary) = primary.filter(|_| !Forward::is_passed_on(&parts.headers)) else {
        let detail = "this node is not the primary and does not know it yet; repeat shortly";
        return Err(Problem::new(Code::NoLeader, detail));
    };
    let passing = Passing {
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers.clone(),
        body,
    };
    let left = left(until, replica.shared.clock.now());
    let sent = replica.shared.forward.send(&primary, passing, left).await;
    let reply = sent.map_err(passed_on)?;
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = reply.status;
    for name in ANSWERED {
        if let Some(value) = reply.headers.get(name) {
            let name = HeaderName::from_static(name);
            response.headers_mut().insert(name, value.clone());
        }
    }
    response.headers_mut().remove(header::CONTENT_LENGTH);
    Ok(response)
}
