//! Redrives as tasks: begin, look, cancel.

use api::broker::{
    BeginRedrive, MAX_REDRIVE_RATE, REDRIVE_TASK, REDRIVES, RedriveList, RedriveState, RedriveView,
};
use api::problem::Code;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use chassis::extract::{Json, Path};
use chassis::problem::Problem;
use http::header::LOCATION;
use http::{HeaderName, StatusCode};
use messaging::ids::Name;
use messaging::queue::{MoveOrder, MoveState, MoveTask};

use super::outgoing::rfc3339;
use crate::broker::Broker;
use crate::error::MessageError;

pub(super) fn router() -> Router<Broker> {
    Router::new()
        .route(REDRIVES, get(list).post(begin))
        .route(REDRIVE_TASK, get(show).delete(cancel))
}

/// Begins to move dead letters back. It goes on by itself, over restarts and changes of leaders.
#[utoipa::path(post, path = "/v1/queues/{queue}/redrives", tag = "queues",
    params(("queue" = String, Path)), request_body = BeginRedrive,
    responses((status = 202, body = RedriveView)))]
async fn begin(
    State(broker): State<Broker>,
    Path(queue): Path<Name>,
    request: Option<Json<BeginRedrive>>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<RedriveView>), Problem> {
    let Json(BeginRedrive { to, rate_per_second, max }) = request.unwrap_or_default();
    if rate_per_second.is_some_and(|rate| !(1..=MAX_REDRIVE_RATE).contains(&rate)) {
        return Err(invalid(format!("rate_per_second must be 1 to {MAX_REDRIVE_RATE}")));
    }
    if max == Some(0) {
        return Err(invalid("max must be at least 1; leave it out to move all"));
    }
    let to: Option<Name> =
        to.map(|to| to.parse()).transpose().map_err(|error| invalid(format!("to: {error}")))?;
    let (from, order) = broker.way_back(&queue, to.as_ref())?;
    let order = MoveOrder { rate: rate_per_second, max, ..order };
    let task = broker.begin_move(&from, order).await?;
    let location = format!("{}/{}", REDRIVES.replace("{queue}", queue.as_str()), task.id);
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(view(&from, task))))
}

/// The last redrives of a queue, the oldest first.
#[utoipa::path(get, path = "/v1/queues/{queue}/redrives", tag = "queues",
    params(("queue" = String, Path)), responses((status = 200, body = RedriveList)))]
async fn list(
    State(broker): State<Broker>,
    Path(queue): Path<Name>,
) -> Result<Json<RedriveList>, Problem> {
    let (from, tasks) = tasks(&broker, &queue).await?;
    let redrives = tasks.into_iter().map(|task| view(&from, task)).collect();
    Ok(Json(RedriveList { redrives }))
}

/// One redrive and how far it is.
#[utoipa::path(get, path = "/v1/queues/{queue}/redrives/{id}", tag = "queues",
    params(("queue" = String, Path), ("id" = u64, Path)),
    responses((status = 200, body = RedriveView)))]
async fn show(
    State(broker): State<Broker>,
    Path((queue, id)): Path<(Name, u64)>,
) -> Result<Json<RedriveView>, Problem> {
    let (from, task) = task(&broker, &queue, id).await?;
    Ok(Json(view(&from, task)))
}

/// Ends a redrive. What it has moved stays moved; one that has ended stays as it is.
#[utoipa::path(delete, path = "/v1/queues/{queue}/redrives/{id}", tag = "queues",
    params(("queue" = String, Path), ("id" = u64, Path)),
    responses((status = 200, body = RedriveView)))]
async fn cancel(
    State(broker): State<Broker>,
    Path((queue, id)): Path<(Name, u64)>,
) -> Result<Json<RedriveView>, Problem> {
    let (from, _) = task(&broker, &queue, id).await?;
    let task = broker.cancel_move(&from, id).await?;
    Ok(Json(view(&from, task)))
}

/// The redrives that begin at this queue: of those in its dead-letter queue, only its own.
async fn tasks(broker: &Broker, queue: &Name) -> Result<(Name, Vec<MoveTask>), MessageError> {
    let (from, order) = broker.way_back(queue, None)?;
    let mut tasks = broker.moves(&from).await?;
    tasks.retain(|task| order.only.is_none() || task.order.only == order.only);
    Ok((from, tasks))
}

async fn task(broker: &Broker, queue: &Name, id: u64) -> Result<(Name, MoveTask), MessageError> {
    let (from, tasks) = tasks(broker, queue).await?;
    match tasks.into_iter().find(|task| task.id == id) {
        Some(task) => Ok((from, task)),
        None => Err(MessageError::NoMove { queue: from, id }),
    }
}

fn view(from: &Name, task: MoveTask) -> RedriveView {
    let state = match task.state {
        MoveState::Running => RedriveState::Running,
        MoveState::Done => RedriveState::Done,
        MoveState::Cancelled => RedriveState::Cancelled,
        MoveState::Failed => RedriveState::Failed,
    };
    RedriveView {
        id: task.id,
        from: from.to_string(),
        to: task.order.to.as_ref().map(Name::to_string),
        rate_per_second: task.order.rate,
        max: task.order.max,
        state,
        moved: task.moved,
        left: task.left,
        remaining: if state == RedriveState::Running { task.ahead() } else { 0 },
        reason: task.reason,
        began_at: rfc3339(task.begun_ms),
        ended_at: (task.ended_ms != 0).then(|| rfc3339(task.ended_ms)),
    }
}

fn invalid(detail: impl std::fmt::Display) -> Problem {
    Problem::new(Code::InvalidRequest, detail)
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(begin, list, show, cancel))]
pub(super) struct Api;
