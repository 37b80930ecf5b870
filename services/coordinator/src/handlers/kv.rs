//! `/v1/kv`: raw values, for curl.

use api::coordinator::{DeleteReply, KeyPage, PutReply, REVISION_HEADER};
use api::problem::Code;
use axum::Router;
use axum::extract::RawQuery;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use chassis::extract::{Body, Json};
use chassis::problem::Problem;

use super::condition::Condition;
use super::idempotency::Once;
use super::params::{Key, Params, encode, invalid};
use super::refusal::{Refusal as _, refused};
use super::wire::{key_value, lease_id};
use super::{App, State};
use crate::coordinator::Change;
use crate::store::{Delete, KeyRange, Op, OpResult, PageLimit, Put, Revision, Txn, TxnResult};

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 10_000;
/// Keys and values that one page may hold.
const PAGE_BYTES: usize = 4 << 20;

pub(super) fn router() -> Router<App> {
    let key = get(read).put(write).delete(remove);
    Router::new()
        .route(api::coordinator::KEYS, get(list))
        .route(api::coordinator::KEY, key.clone())
        // An empty key is refused by its extractor, with a text.
        .route("/v1/kv/", key)
}

/// The value of a key.
#[utoipa::path(get, path = "/v1/kv/{key}", tag = "kv",
    params(("key" = String, Path), ("meta" = Option<bool>, Query), ("revision" = Option<u64>, Query),
           ("consistency" = Option<String>, Query, description = "linearizable (default) or serializable")),
    responses((status = 200, description = "The value; `ETag` is its mod revision. With meta=true a KeyValue."),
              (status = 404, description = "key-not-found"), (status = 410, description = "compacted")))]
pub(super) async fn read(
    State(app): State<App>,
    Key(key): Key,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["meta", "revision", "consistency"])?;
    let (meta, revision) = (params.flag("meta")?, revision(&params)?);
    let store = app.read(is_serializable(&params)?).await?;
    app.coordinator().may_read(&store, &KeyRange::One(key.clone()))?;
    app.coordinator().metrics().ranges.inc();
    store.mvcc.check_revision(revision).map_err(|error| error.problem())?;
    let record = match revision {
        Some(revision) => store.mvcc.get_at(&key, revision),
        None => store.mvcc.get(&key),
    };
    let now = [(REVISION_HEADER, store.revision().to_string())];
    let Some(record) = record else {
        let problem = Problem::new(Code::KeyNotFound, "the key does not exist; PUT creates it");
        return Ok((now, problem).into_response());
    };
    let etag = [(header::ETAG, etag(record.mod_revision))];
    if Condition::is_unchanged(&headers, record.mod_revision) {
        return Ok((StatusCode::NOT_MODIFIED, now, etag).into_response());
    }
    if meta {
        return Ok((now, etag, Json(key_value(record, false))).into_response());
    }
    Ok((now, etag, value(&record.value)).into_response())
}

/// Whatever a value holds, a browser must not run it.
fn value(value: &Bytes) -> impl IntoResponse + use<> {
    let is_text = str::from_utf8(value).is_ok();
    let kind = if is_text { "text/plain; charset=utf-8" } else { "application/octet-stream" };
    let nosniff = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    ([(header::CONTENT_TYPE, kind), nosniff], value.clone())
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
pub(super) async fn write(
    State(app): State<App>,
    Key(key): Key,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Once(request, Body(body)): Once<Body>,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["lease"])?;
    let lease = lease_id(params.number("lease")?)?;
    app.check_len(body.len())?;
    let condition = Condition::from_headers(&headers)?;
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
    let now = [(REVISION_HEADER, result.revision.to_string())];
    Ok((status, now, [(header::ETAG, etag(record.mod_revision))], Json(reply)).into_response())
}

/// Deletes a key, or with prefix=true every key that begins with it.
#[utoipa::path(delete, path = "/v1/kv/{key}", tag = "kv",
    params(("key" = String, Path), ("prefix" = Option<bool>, Query), ("If-Match" = Option<String>, Header),
           ("Idempotency-Key" = Option<String>, Header, description = "a repeat answers the first result")),
    responses((status = 200, body = DeleteReply), (status = 412, description = "precondition-failed"),
              (status = 422, description = "idempotency-mismatch")))]
pub(super) async fn remove(
    State(app): State<App>,
    Key(key): Key,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Once(request, Body(_)): Once<Body>,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["prefix"])?;
    let condition = Condition::from_headers(&headers)?;
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
    let now = [(REVISION_HEADER, result.revision.to_string())];
    let reply = DeleteReply { revision: result.revision.0, deleted };
    Ok((now, Json(reply)).into_response())
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
pub(super) async fn list(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    const KNOWN: &[&str] = &["prefix", "start", "limit", "keys_only", "revision", "consistency"];
    let params = Params::parse(query.as_deref(), KNOWN)?;
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
    Ok(([(REVISION_HEADER, store.revision().to_string())], Json(reply)).into_response())
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

fn etag(revision: Revision) -> String {
    format!("\"{revision}\"")
}
