//! `GET /v1/digest`.

use api::problem::{Code, ProblemDetails};
use api::replica::{DIGEST, DigestResponse, Position as WirePosition};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use chassis::deadline::Deadline;
use chassis::extract::{Json, Query};
use chassis::problem::Problem;
use replication::digest::{ALGORITHM, Sum};
use replication::{Head, Index};
use serde::Deserialize;

use crate::replica::ReplicaHandle;
use crate::status::{from_wire, position};

pub(super) fn router() -> Router<ReplicaHandle> {
    Router::new().route(DIGEST, get(digest))
}

#[derive(Clone, Copy, Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DigestQuery {
    /// Wait until this state is reached and tell its digest. Default: the newest.
    at: Option<WirePosition>,
}

/// The digest of the committed state: equal on every node at the same position.
#[utoipa::path(
    get, path = "/v1/digest", tag = "replication", params(DigestQuery),
    responses(
        (status = 200, body = DigestResponse),
        (status = 409, body = ProblemDetails, description = "the position is of a lost history"),
        (status = 410, body = ProblemDetails, description = "too old: only the newest states are kept"),
        (status = 503, body = ProblemDetails, description = "not reached in time")
    )
)]
pub(super) async fn digest(
    State(replica): State<ReplicaHandle>,
    Query(query): Query<DigestQuery>,
    deadline: Option<Deadline>,
) -> Result<Json<DigestResponse>, Problem> {
    let digests = &replica.shared.digests;
    let until = replica.until(deadline.map(|deadline| deadline.0));
    let Some(at) = query.at.map(from_wire) else {
        // What is committed by now; the engine may be an instant behind.
        let _ = replica.carried_out(replica.view().commit, until).await;
        let newest = digests.last().expect("there is a state before the first entry");
        return Ok(Json(response(newest)));
    };
    replica.reached(at, until).await?;
    if !replica.carried_out(at.index, until).await {
        let detail = format!("the state at {at} is not committed here yet; repeat with more time");
        return Err(Problem::new(Code::TooStale, detail));
    }
    match digests.at(at.index) {
        Some(found) if at.index == Index::ZERO || found.0.position == at => {
            Ok(Json(response(found)))
        }
        Some((head, _)) => {
            let detail = format!("the entry at index {} is {}", at.index, head.position);
            Err(Problem::new(Code::HistoryLost, detail))
        }
        None => {
            let detail = "only the digests of the newest states are kept; leave out `at`";
            Err(Problem::new(Code::Compacted, detail))
        }
    }
}

fn response((head, root): (Head, Sum)) -> DigestResponse {
    DigestResponse {
        at: position(head.position),
        digest: root.to_string(),
        algorithm: ALGORITHM,
        history: head.hash.to_string(),
    }
}
