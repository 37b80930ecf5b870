//! `POST /v1/batch`: several changes, all or none.

use api::problem::{Code, ProblemDetails};
use api::replica::{
    BATCH, BatchRequest, Compare, Condition as WireCondition, MAX_BATCH_BYTES,
    MAX_BATCH_OPERATIONS, MAX_NAME_BYTES, Operation, Written,
};
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use chassis::extract::{Json, Query};
use chassis::problem::Problem;
use http::request::Parts;
use replication::command::{Change, Space};

use super::input::{self, Key, WriteQuery};
use super::kv;
use crate::replica::ReplicaHandle;
use crate::status::from_wire;
use crate::write::{Condition, Write};

pub(super) fn router() -> Router<ReplicaHandle> {
    Router::new().route(BATCH, post(batch))
}

/// Carries out puts and deletes as one entry of the log, if every condition holds.
#[utoipa::path(
    post, path = "/v1/batch", tag = "kv", params(WriteQuery), request_body = BatchRequest,
    responses(
        (status = 200, body = Written),
        (status = 412, body = ProblemDetails, description = "a condition does not hold: nothing happened"),
        (status = 504, body = ProblemDetails, description = "indeterminate: not confirmed in time")
    )
)]
pub(super) async fn batch(
    State(replica): State<ReplicaHandle>,
    Query(query): Query<WriteQuery>,
    parts: Parts,
    Json(batch): Json<BatchRequest>,
) -> Result<Response, Problem> {
    if query.ttl_seconds.is_some() {
        return Err(input::invalid("in a batch, ttl_seconds belongs to each put"));
    }
    // What is passed on, and what makes a repeat equal, is what was understood.
    let body = Bytes::from(serde_json::to_vec(&batch).map_err(|error| Problem::internal(&error))?);
    let now_ms = replica.now_ms();
    let write = Write {
        compares: batch.compares.iter().map(compare).collect::<Result<_, _>>()?,
        changes: changes(batch.operations, now_ms)?,
        request: kv::request(&parts.headers, &[b"batch", &body])?,
        ack: input::level(query.ack),
    };
    let until = kv::give_up_at(&replica, &parts);
    kv::answer(&replica, write, query, (&parts, body), until).await
}

fn compare(compare: &Compare) -> Result<(Bytes, Condition), Problem> {
    let Key(key) = Key::parse(&compare.key)?;
    let condition = match compare.is {
        WireCondition::Version(version) => Condition::AnyOf(vec![from_wire(version)]),
        WireCondition::Exists(true) => Condition::Exists,
        WireCondition::Exists(false) => Condition::Absent,
    };
    Ok((Space::User.key(&key), condition))
}

fn changes(operations: Vec<Operation>, now_ms: u64) -> Result<Vec<Change>, Problem> {
    if operations.is_empty() || MAX_BATCH_OPERATIONS < operations.len() {
        let detail = format!("`operations` must have 1 to {MAX_BATCH_OPERATIONS} entries");
        return Err(input::invalid(&detail));
    }
    let changes: Vec<_> =
        operations.into_iter().map(|it| change(it, now_ms)).collect::<Result<_, _>>()?;
    let size = |change: &Change| match change {
        Change::Put { key, value, .. } => key.len() + value.len(),
        Change::Delete { key } => key.len(),
    };
    if MAX_BATCH_BYTES < changes.iter().map(size).sum() {
        let detail = format!("keys and values exceed {MAX_BATCH_BYTES} bytes; split the batch");
        return Err(Problem::new(Code::TooLarge, detail).with("max_bytes", MAX_BATCH_BYTES));
    }
    Ok(changes)
}

fn change(operation: Operation, now_ms: u64) -> Result<Change, Problem> {
    let full = |key: &str| Key::parse(key).map(|Key(key)| Space::User.key(&key));
    match operation {
        Operation::Delete { key } => Ok(Change::Delete { key: full(&key)? }),
        Operation::Put { key, value, value_base64, content_type, ttl_seconds } => {
            let value = match (value, value_base64) {
                (Some(text), None) => Bytes::from(text),
                (None, Some(encoded)) => decode(&encoded)?,
                _ => return Err(input::invalid("a put has either `value` or `value_base64`")),
            };
            input::check_value(&value)?;
            let is_header = |text: &String| {
                text.len() <= MAX_NAME_BYTES && http::HeaderValue::from_str(text).is_ok()
            };
            if content_type.as_ref().is_some_and(|text| !is_header(text)) {
                return Err(input::invalid("`content_type` cannot be a header's value"));
            }
            let expires_at_ms = input::expires_at_ms(ttl_seconds, now_ms)?;
            Ok(Change::Put { key: full(&key)?, value, content_type, expires_at_ms })
        }
    }
}

fn decode(encoded: &str) -> Result<Bytes, Problem> {
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded);
    decoded.map(Bytes::from).map_err(|_| input::invalid("`value_base64` is not base64"))
}
