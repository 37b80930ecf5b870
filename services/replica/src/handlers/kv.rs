//! `/v1/kv`: one key, or a page of them.

use std::time::Instant;

use api::headers;
use api::problem::{Code, ProblemDetails};
use api::replica::{DEFAULT_PAGE, Item, KEY, KEYS, MAX_PAGE, Page, Written as WireWritten};
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get as on_get;
use bytes::Bytes;
use chassis::deadline::Deadline;
use chassis::extract::{Body, Json, Query};
use chassis::problem::Problem;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use replication::command::{Change, Record, Space};
use serde::Deserialize;
use telemetry::trace::{InSpan as _, Span};

use super::input::{self, Key, ReadQuery, WriteQuery};
use super::passing::{is_elsewhere, pass_on};
use crate::read::{Found, Freshness, Range};
use crate::replica::ReplicaHandle;
use crate::status::{position, role};
use crate::write::{Request, Write, Written, fingerprint};

/// What is not a key of any length.
const NO_KEY: &str = "/v1/kv/";

pub(super) fn router() -> Router<ReplicaHandle> {
    Router::new()
        .route(KEYS, on_get(list))
        .route(NO_KEY, on_get(list).put(no_key).delete(no_key))
        .route(KEY, on_get(get).put(put).delete(delete))
}

async fn no_key() -> Problem {
    input::invalid("the key is empty; write it behind /v1/kv/")
}

/// Sets a key to the body.
#[utoipa::path(
    put, path = "/v1/kv/{key}", tag = "kv", params(WriteQuery), request_body = Vec<u8>,
    responses(
        (status = 200, body = WireWritten, description = "reached the level asked for"),
        (status = 412, body = ProblemDetails, description = "If-Match or If-None-Match does not hold"),
        (status = 504, body = ProblemDetails, description = "indeterminate: not confirmed in time")
    )
)]
pub(super) async fn put(
    State(replica): State<ReplicaHandle>,
    key: Key,
    Query(query): Query<WriteQuery>,
    parts: Parts,
    Body(value): Body,
) -> Result<Response, Problem> {
    input::check_value(&value)?;
    let content_type = input::content_type(&parts.headers)?;
    let expires_at_ms = input::expires_at_ms(query.ttl_seconds, replica.now_ms())?;
    let until = give_up_at(&replica, &parts);
    let full = Space::User.key(&key.0);
    let ttl = query.ttl_seconds.unwrap_or_default().to_be_bytes();
    let typed = content_type.clone().unwrap_or_default();
    let asked = [&b"put"[..], &key.0, &value, typed.as_bytes(), &ttl];
    let change = Change::Put { key: full, value: value.clone(), content_type, expires_at_ms };
    let write = single(&parts.headers, query, &key, change, &asked)?;
    answer(&replica, write, query, (&parts, value.clone()), until).await
}

/// Removes a key. Removing what is not there is no error.
#[utoipa::path(
    delete, path = "/v1/kv/{key}", tag = "kv", params(WriteQuery),
    responses(
        (status = 200, body = WireWritten, description = "reached the level asked for"),
        (status = 412, body = ProblemDetails, description = "If-Match does not hold"),
        (status = 504, body = ProblemDetails, description = "indeterminate: not confirmed in time")
    )
)]
pub(super) async fn delete(
    State(replica): State<ReplicaHandle>,
    key: Key,
    Query(query): Query<WriteQuery>,
    parts: Parts,
) -> Result<Response, Problem> {
    if query.ttl_seconds.is_some() {
        return Err(input::invalid(
            "ttl_seconds belongs to PUT; a deleted key has no time to live",
        ));
    }
    let until = give_up_at(&replica, &parts);
    let change = Change::Delete { key: Space::User.key(&key.0) };
    let write = single(&parts.headers, query, &key, change, &[b"delete", &key.0])?;
    answer(&replica, write, query, (&parts, Bytes::new()), until).await
}

/// A write of one key, with the conditions and the idempotency key of its headers.
fn single(
    headers: &HeaderMap,
    query: WriteQuery,
    key: &Key,
    change: Change,
    asked: &[&[u8]],
) -> Result<Write, Problem> {
    let full = Space::User.key(&key.0);
    let conditions = input::conditions(headers)?;
    Ok(Write {
        compares: conditions.into_iter().map(|condition| (full.clone(), condition)).collect(),
        changes: vec![change],
        request: request(headers, asked)?,
        ack: input::level(query.ack),
    })
}

/// When to give up on a request: when its caller does, or else by our own patience.
pub(super) fn give_up_at(replica: &ReplicaHandle, parts: &Parts) -> Instant {
    replica.until(parts.extensions.get::<Deadline>().map(|deadline| deadline.0))
}

/// What makes a request repeatable: its key, and what it asked for.
pub(super) fn request(headers: &HeaderMap, asked: &[&[u8]]) -> Result<Option<Request>, Problem> {
    let Some(name) = input::idempotency_key(headers)? else { return Ok(None) };
    let condition = |name| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    let conditions = [condition(header::IF_MATCH), condition(header::IF_NONE_MATCH)];
    let fingerprint = fingerprint(asked.iter().copied().chain(conditions));
    Ok(Some(Request { key: Space::Request.key(&name), fingerprint }))
}

/// Carries out a write where the primary is, and answers.
pub(super) async fn answer(
    replica: &ReplicaHandle,
    write: Write,
    query: WriteQuery,
    (parts, body): (&Parts, Bytes),
    until: Instant,
) -> Result<Response, Problem> {
    if is_elsewhere(replica) {
        return pass_on(replica, parts, body, until).await;
    }
    let ack = query.ack.as_str();
    let started = replica.shared.clock.now();
    let mut span = operation(replica, parts).attr("quartet.ack", ack).start();
    let written = replica.write(write, until).in_span(&span).await.map_err(Problem::from);
    let metrics = &replica.shared.metrics;
    let outcome = written.as_ref().map_or_else(|problem| problem.code().as_str(), |_| "ok");
    metrics.writes.with(&[ack, outcome]).inc();
    let seconds = (replica.shared.clock.now() - started).as_secs_f64();
    metrics.write_seconds.with(&[ack]).observe_for(seconds, Some(span.context()));
    match &written {
        Ok(written) => span.set("quartet.quorum.acks", written.acked_by),
        Err(_) => span.fail(outcome),
    }
    Ok(accepted(replica, query, written?))
}

/// The span of one operation on the store. Neither keys nor values are in it.
fn operation(replica: &ReplicaHandle, parts: &Parts) -> Span {
    let name = match parts.method {
        http::Method::PUT => "PUT",
        http::Method::DELETE => "DELETE",
        http::Method::POST => "BATCH",
        _ => "GET",
    };
    Span::internal(name)
        .subject(&replica.shared.config.replication.group)
        .attr("db.system.name", "quartet")
        .attr("db.operation.name", name)
        .attr("db.collection.name", &replica.shared.config.replication.group)
        .attr("quartet.node.id", &replica.shared.node)
}

fn accepted(replica: &ReplicaHandle, query: WriteQuery, written: Written) -> Response {
    let version = position(written.position);
    let body = WireWritten {
        version,
        acked_by: written.acked_by,
        ack: query.ack,
        replayed: written.replayed,
    };
    let mut response = Json(body).into_response();
    let headers = response.headers_mut();
    set(headers, header::ETAG, format!("\"{version}\""));
    set(headers, HeaderName::from_static(headers::SESSION), version.to_string());
    set(headers, HeaderName::from_static(headers::ACKED_BY), written.acked_by.to_string());
    set(headers, HeaderName::from_static(headers::SERVED_BY), replica.shared.node.clone());
    set(headers, HeaderName::from_static(headers::ROLE), "primary".to_owned());
    response
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: String) {
    // Ours are numbers and names; a node's name that cannot be a header is left out.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// Reads a key: its value is the body.
#[utoipa::path(
    get, path = "/v1/kv/{key}", tag = "kv", params(ReadQuery),
    responses(
        (status = 200, body = Vec<u8>, description = "the value, with its ETag, x-session, x-lag-ms"),
        (status = 404, body = ProblemDetails, description = "no such key here"),
        (status = 409, body = ProblemDetails, description = "the session's history is lost"),
        (status = 503, body = ProblemDetails, description = "this node is too far behind")
    )
)]
pub(super) async fn get(
    State(replica): State<ReplicaHandle>,
    key: Key,
    Query(query): Query<ReadQuery>,
    parts: Parts,
) -> Result<Response, Problem> {
    let freshness = query.freshness(&parts.headers)?;
    let known = input::tags(&parts.headers, &header::IF_NONE_MATCH)?;
    let until = give_up_at(&replica, &parts);
    if freshness == Freshness::Strong && is_elsewhere(&replica) {
        return pass_on(&replica, &parts, Bytes::new(), until).await;
    }
    let mut span = operation(&replica, &parts).start();
    let read = replica.get(&Space::User.key(&key.0), freshness, until).in_span(&span).await;
    let found = counted(&replica, freshness, read.map_err(Problem::from))
        .inspect_err(|problem| span.fail(problem.code().as_str()))?;
    let mut response = match &found.value {
        None => {
            let detail = "the key does not exist on this node; a replica may not have it yet";
            Problem::new(Code::KeyNotFound, detail).into_response()
        }
        Some(record) if is_known(known.as_ref(), record) => {
            tagged(StatusCode::NOT_MODIFIED.into_response(), record)
        }
        Some(record) => value(record),
    };
    describe(&replica, &found, response.headers_mut());
    Ok(response)
}

fn counted<T>(
    replica: &ReplicaHandle,
    freshness: Freshness,
    read: Result<T, Problem>,
) -> Result<T, Problem> {
    let consistency = match freshness {
        Freshness::Eventual => "eventual",
        Freshness::Bounded { .. } => "bounded",
        Freshness::Session(_) => "session",
        Freshness::Strong => "strong",
    };
    let outcome = read.as_ref().map_or_else(|problem| problem.code().as_str(), |_| "ok");
    replica.shared.metrics.reads.with(&[consistency, outcome]).inc();
    read
}

fn is_known(known: Option<&Option<Vec<replication::Position>>>, record: &Record) -> bool {
    known.is_some_and(|tags| tags.as_ref().is_none_or(|tags| tags.contains(&record.version)))
}

fn value(record: &Record) -> Response {
    let mut response = record.value.clone().into_response();
    let content_type = record.content_type.as_deref().unwrap_or("application/octet-stream");
    set(response.headers_mut(), header::CONTENT_TYPE, content_type.to_owned());
    tagged(response, record)
}

fn tagged(mut response: Response, record: &Record) -> Response {
    let version = position(record.version);
    set(response.headers_mut(), header::ETAG, format!("\"{version}\""));
    response
}

/// Who answered, and how current it was.
fn describe<T>(replica: &ReplicaHandle, found: &Found<T>, headers: &mut HeaderMap) {
    let name = HeaderName::from_static;
    set(headers, name(headers::SESSION), position(found.position).to_string());
    set(headers, name(headers::SERVED_BY), replica.shared.node.clone());
    set(headers, name(headers::ROLE), role(found.role).as_str().to_owned());
    if let Some(lag_ms) = found.lag_ms {
        set(headers, name(headers::LAG_MS), lag_ms.to_string());
    }
}

/// The query of a listing.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only keys that begin like this, percent-encoded.
    prefix: String,
    /// The `next` of the page before; or any key to begin after.
    start: Option<String>,
    /// At most 1,000; 100 if absent.
    limit: Option<usize>,
    /// See the read of one key.
    consistency: Option<api::replica::Consistency>,
    /// See the read of one key.
    max_lag_ms: Option<u64>,
}

/// Lists keys with their values, in order.
#[utoipa::path(
    get, path = "/v1/kv", tag = "kv", params(ListQuery),
    responses((status = 200, body = Page), (status = 400, body = ProblemDetails))
)]
pub(super) async fn list(
    State(replica): State<ReplicaHandle>,
    Query(query): Query<ListQuery>,
    parts: Parts,
) -> Result<Response, Problem> {
    let read = ReadQuery { consistency: query.consistency, max_lag_ms: query.max_lag_ms };
    let freshness = read.freshness(&parts.headers)?;
    let until = give_up_at(&replica, &parts);
    if freshness == Freshness::Strong && is_elsewhere(&replica) {
        return pass_on(&replica, &parts, Bytes::new(), until).await;
    }
    let (range, limit) = range(&query, parts.uri.query().unwrap_or_default())?;
    let listed = replica.list(range, freshness, until).await.map_err(Problem::from);
    let mut found = counted(&replica, freshness, listed)?;
    let more = limit < found.value.len();
    found.value.truncate(limit);
    let mut items = Vec::with_capacity(found.value.len());
    let mut bytes = 0;
    let mut cut = false;
    for (key, record) in &found.value {
        bytes += key.len() + record.value.len();
        // A page of large values is shorter, but never empty.
        if api::replica::MAX_BATCH_BYTES < bytes && !items.is_empty() {
            cut = true;
            break;
        }
        items.push(item(key, record));
    }
    let next = items.last().filter(|_| more || cut).map(|item: &Item| item.key.clone());
    let page = Page { items, next, position: position(found.position) };
    let mut response = Json(page).into_response();
    describe(&replica, &found, response.headers_mut());
    Ok(response)
}

/// One record more than the page holds tells whether there is another page.
fn range(query: &ListQuery, raw: &str) -> Result<(Range, usize), Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(input::invalid(&format!("limit must be between 1 and {MAX_PAGE}")));
    }
    let prefix = Space::User.key(&parameter(raw, "prefix")?.unwrap_or_default());
    let start = match parameter(raw, "start")? {
        // Nothing with the prefix comes before the prefix itself.
        Some(after) if prefix <= Space::User.key(&after) => {
            std::ops::Bound::Excluded(Space::User.key(&after))
        }
        _ => std::ops::Bound::Included(prefix.clone()),
    };
    Ok((Range { prefix, start, limit: limit + 1 }, limit))
}

/// A parameter as bytes: what a form decoder makes of it is text.
fn parameter(raw: &str, name: &str) -> Result<Option<Vec<u8>>, Problem> {
    let pairs = raw.split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, value)) = pairs.rev().find(|(key, _)| *key == name) else { return Ok(None) };
    let value = input::decode(&value.replace('+', " "));
    let value = value.ok_or_else(|| {
        input::invalid(&format!("a `%` in `{name}` must be followed by two hex digits"))
    })?;
    if api::replica::MAX_KEY_BYTES < value.len() {
        return Err(input::invalid(&format!("`{name}` is longer than any key")));
    }
    Ok(Some(value))
}

/// One record as listed.
pub(super) fn item(key: &[u8], record: &Record) -> Item {
    let (value, value_base64) = text_or_base64(&record.value);
    Item {
        key: input::encode(key.get(1..).unwrap_or_default()),
        version: position(record.version),
        value,
        value_base64,
        content_type: record.content_type.clone(),
        expires_at_ms: record.expires_at_ms,
    }
}

/// A value inside JSON.
pub(super) fn text_or_base64(value: &[u8]) -> (Option<String>, Option<String>) {
    use base64::Engine as _;
    match std::str::from_utf8(value) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(base64::engine::general_purpose::STANDARD.encode(value))),
    }
}
