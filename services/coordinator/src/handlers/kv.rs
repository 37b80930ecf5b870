//! `/v1/kv`: raw values, for curl.

use api::coordinator::{DeleteReply, KeyPage, PutReply, REVISION_HEADER};
use api::problem::Code;
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest as _, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use chassis::extract;
use chassis::problem::Problem;
use serde::Serialize;

use super::condition::Condition;
use super::idempotency::Once;
use super::params::{Params, encode, invalid, key};
use super::refusal::{Refusal as _, refused};
use super::wire::{key_value, lease_id};
use super::{App, State};
use crate::coordinator::Change;
use crate::store::{Delete, KeyRange, Op, OpResult, PageLimit, Put, Revision, Txn, TxnResult};

const REVISION: HeaderName = HeaderName::from_static(REVISION_HEADER);

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 10_000;
/// Keys and values that one page may hold.
const PAGE_BYTES: usize = 4 << 20;

pub(super) fn router() -> Router<App> {
    let key = get(read).put(write).delete(remove);
    Router::new()
        .route(api::coordinator::KEYS, get(list))
        .route(api::coordinator::KEY, key.clone())
        // An empty key is refused by its handlers, with a text.
        .route("/v1/kv/", key)
}

/// The value of a key.
#[utoipa::path(get, path = "/v1/kv/{key}", tag = "kv",
    params(("key" = String, Path), ("meta" = Option<bool>, Query), ("revision" = Option<u64>, Query),
           ("consistency" = Option<String>, Query, description = "linearizable (default) or serializable")),
    responses((status = 200, description = "The value; `ETag` is its mod revision. With meta=true a KeyValue."),
              (status = 404, description = "key-not-found"), (status = 410, description = "compacted")))]
pub(super) async fn read(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let key = key(request.uri())?;
    let params = Params::parse(request.uri().query(), &["meta", "revision", "consistency"])?;
    let (meta, revision) = (params.flag("meta")?, revision(&params)?);
    let store = app.read(is_serializable(&params)?).await?;
    app.coordinator().may_read(&store, &KeyRange::One(key.clone()))?;
    app.coordinator().metrics().ranges.inc();
    store.mvcc.check_revision(revision).map_err(|error| error.problem())?;
    let record = match revision {
        Some(revision) => store.mvcc.get_at(&key, revision),
        None => store.mvcc.get(&key),
    };
    let Some(record) = record else {
        let problem = Problem::new(Code::KeyNotFound, "the key does not exist; PUT creates it");
        return Ok(([(REVISION_HEADER, store.revision().to_string())], problem).into_response());
    };
    let answer = Answer { now: store.revision(), tag: Some(record.mod_revision) };
    if Condition::is_unchanged(request.headers(), record.mod_revision) {
        return Ok(answer.empty(StatusCode::NOT_MODIFIED));
    }
    if meta {
        return Ok(answer.json(StatusCode::OK, &key_value(record, false)));
    }
    Ok(answer.value(&record.value))
}

/// Creates or changes a key.
#[utoipa::path(put, path = "/v1/kv/{key}", tag = "kv", request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    params(("key" = String, Path), ("lease" = Option<String>, Query),
           ("If-Match" = Option<String>, Header, description = "mod revision, or * for any"),
           ("If-None-Match" = Option<String>, Header, description = "* to create only"),
           ("Idempotency-Key" = Option<String>, Header, description = "a repeat answers the first result")),
    responses((status = 200, body = PutReply), (status = 201, body = PutReply),
              (status = 404, description = "lease-not-found"), (status = 412, description = "precondition-failed"),
              (status = 422, description = "idempotency-mismatch"),
              (status = 429, description = "limit-reached: the store is full")))]
pub(super) async fn write(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let key = key(request.uri())?;
    let params = Params::parse(request.uri().query(), &["lease"])?;
    let lease = lease_id(params.number("lease")?)?;
    let condition = Condition::from_headers(request.headers())?;
    let Once(request, extract::Body(body)) = Once::from_request(request, &app).await?;
    app.check_len(body.len())?;
    let put = Put { key: key.clone(), value: Some(body), lease: Some(lease), previous: false };
    let result =
        conditional(app.coordinator().once(request), &key, condition, Op::Put(put)).await?;
    let Some(OpResult::Put { record, .. }) = result.results.first() else {
        unreachable!("a put answers as a put")
    };
    let created = record.version == 1;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let reply = PutReply {
        revision: record.mod_revision.0,
        create_revision: record.create_revision.0,
        version: record.version,
    };
    let answer = Answer { now: result.revision, tag: Some(record.mod_revision) };
    Ok(answer.json(status, &reply))
}

/// Deletes a key, or with prefix=true every key that begins with it.
#[utoipa::path(delete, path = "/v1/kv/{key}", tag = "kv",
    params(("key" = String, Path), ("prefix" = Option<bool>, Query), ("If-Match" = Option<String>, Header),
           ("Idempotency-Key" = Option<String>, Header, description = "a repeat answers the first result")),
    responses((status = 200, body = DeleteReply), (status = 412, description = "precondition-failed"),
              (status = 422, description = "idempotency-mismatch")))]
pub(super) async fn remove(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    let key = key(request.uri())?;
    let params = Params::parse(request.uri().query(), &["prefix"])?;
    let condition = Condition::from_headers(request.headers())?;
    let Once(request, extract::Body(_)) = Once::from_request(request, &app).await?;
    let range = match params.flag("prefix")? {
        true if condition != Condition::None => {
            return Err(invalid("If-Match and If-None-Match name one key; leave out prefix=true"));
        }
        true => KeyRange::prefix(key.clone()),
        false => KeyRange::One(key.clone()),
    };
    let delete = Op::Delete(Delete { range, previous: false });
    let result = conditional(app.coordinator().once(request), &key, condition, delete).await?;
    let deleted = match result.results.first() {
        Some(OpResult::Delete { deleted, .. }) => *deleted,
        _ => 0,
    };
    let reply = DeleteReply { revision: result.revision.0, deleted };
    Ok(Answer { now: result.revision, tag: None }.json(StatusCode::OK, &reply))
}

/// Runs `op` if the condition on `key` holds, else answers 412 with what is there.
async fn conditional(
    change: Change<'_>,
    key: &Bytes,
    condition: Condition,
    op: Op,
) -> Result<TxnResult, Problem> {
    let look = crate::store::RangeQuery::of(KeyRange::One(key.clone()));
    // Without a condition nothing is read: it takes no permission to.
    let failure = if condition == Condition::None { vec![] } else { vec![Op::Range(look)] };
    let txn = Txn { compares: condition.compares(key), success: vec![op], failure };
    let result = change.txn(txn).await.map_err(refused)?;
    if result.succeeded {
        return Ok(result);
    }
    let current = match result.results.first() {
        Some(OpResult::Range(range)) => range.records.first().map(|record| record.mod_revision),
        _ => None,
    };
    Err(match current {
        Some(revision) => {
            let detail = format!("the key is at revision {revision}; read it and decide again");
            Problem::new(Code::PreconditionFailed, detail).with("current_revision", revision.0)
        }
        None => {
            let detail = "the key does not exist; create it with If-None-Match: *";
            Problem::new(Code::PreconditionFailed, detail).with("current_revision", 0)
        }
    })
}

/// Keys by prefix, a page at a time.
#[utoipa::path(get, path = "/v1/kv", tag = "kv",
    params(("prefix" = Option<String>, Query), ("start" = Option<String>, Query, description = "`next` of the page before"),
           ("limit" = Option<u64>, Query), ("keys_only" = Option<bool>, Query), ("revision" = Option<u64>, Query),
           ("consistency" = Option<String>, Query)),
    responses((status = 200, body = KeyPage)))]
pub(super) async fn list(State(app): State<App>, request: Request) -> Result<Response, Problem> {
    const KNOWN: &[&str] = &["prefix", "start", "limit", "keys_only", "revision", "consistency"];
    let params = Params::parse(request.uri().query(), KNOWN)?;
    let (revision, keys_only) = (revision(&params)?, params.flag("keys_only")?);
    let keys @ 1..=PAGE_MAX = params.number("limit")?.unwrap_or(PAGE_DEFAULT) else {
        return Err(invalid(format!("limit must be between 1 and {PAGE_MAX}")));
    };
    let range = page_range(params.bytes("prefix").unwrap_or_default(), params.bytes("start"));
    let store = app.read(is_serializable(&params)?).await?;
    app.coordinator().may_read(&store, &range)?;
    app.coordinator().metrics().ranges.inc();
    let limit = PageLimit { keys, bytes: PAGE_BYTES };
    let page =
        store.mvcc.page(&range, revision, limit, keys_only).map_err(|error| error.problem())?;
    let reply = KeyPage {
        revision: revision.unwrap_or(store.revision()).0,
        kvs: page.records.iter().map(|record| key_value(record, keys_only)).collect(),
        next: page.next.as_deref().map(encode),
    };
    Ok(Answer { now: store.revision(), tag: None }.json(StatusCode::OK, &reply))
}

/// The keys of a prefix, from `start` on.
fn page_range(prefix: Bytes, start: Option<Bytes>) -> KeyRange {
    let all = KeyRange::prefix(prefix);
    let Some(start) = start.filter(|start| all.start() < start) else { return all };
    match all {
        KeyRange::Between { end, .. } => KeyRange::Between { start, end },
        KeyRange::From(_) | KeyRange::One(_) => KeyRange::From(start),
    }
}

fn revision(params: &Params) -> Result<Option<Revision>, Problem> {
    match params.number("revision")? {
        Some(0) => Err(invalid("revision must be at least 1; leave it out to read the newest")),
        revision => Ok(revision.map(Revision)),
    }
}

fn is_serializable(params: &Params) -> Result<bool, Problem> {
    Ok(params.choice("consistency", &["linearizable", "serializable"])? == "serializable")
}

/// What all answers have: the store's revision and, where there is one, the key's as a tag.
struct Answer {
    now: Revision,
    tag: Option<Revision>,
}

impl Answer {
    /// Whatever a value holds, a browser must not run it.
    fn value(&self, value: &Bytes) -> Response {
        let is_text = str::from_utf8(value).is_ok();
        let kind = if is_text { "text/plain; charset=utf-8" } else { "application/octet-stream" };
        let mut response = self.with(StatusCode::OK, Body::from(value.clone()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    fn json(&self, status: StatusCode, reply: &impl Serialize) -> Response {
        let body = serde_json::to_vec(reply).expect("plain data with string keys always encodes");
        let mut response = self.with(status, Body::from(body));
        let kind = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    fn empty(&self, status: StatusCode) -> Response {
        self.with(status, Body::empty())
    }

    fn with(&self, status: StatusCode, body: Body) -> Response {
        let mut headers = HeaderMap::with_capacity(App::HEADERS);
        headers.insert(REVISION, HeaderValue::from(self.now.0));
        if let Some(revision) = self.tag {
            let tag = HeaderValue::try_from(format!("\"{revision}\""));
            headers.insert(header::ETAG, tag.expect("digits in quotes are a valid value"));
        }
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}
