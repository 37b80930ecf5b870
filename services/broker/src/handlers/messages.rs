//! Publishing to a topic, and reading it without a subscription.

use std::collections::BTreeMap;

use api::broker::{
    Appended, DEFAULT_READ, MAX_READ, Message, Messages, PublishLine, TOPIC_MESSAGES,
};
use api::headers;
use api::problem::Code;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use chassis::deadline::Deadline;
use chassis::extract::{Json, Path, Query, Whole};
use chassis::problem::Problem;
use chassis::sse::{self, Event, Piece};
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use messaging::ids::Name;
use serde::Deserialize;

use super::{incoming, outgoing, position, settings, traceparent};
use crate::broker::Broker;
use crate::hub::Part;
use crate::publish::{Batch, Receipt};
use crate::read::From;
use crate::wait::Patience;

/// `from` of the page after an NDJSON page, which has no place for it in its body.
const NEXT: HeaderName = HeaderName::from_static("x-next");

pub(super) fn router() -> Router<Broker> {
    Router::new().route(TOPIC_MESSAGES, post(publish).get(read))
}

/// How to publish.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PublishQuery {
    /// Only say where the messages would go.
    dry_run: bool,
}

/// Publishes one message (the raw body) or a batch (`application/x-ndjson`). Answers once all of
/// it is on disk. `x-key` chooses the partition; `x-attr-*` and `ce-*` headers are kept.
///
/// With `x-producer-id`, `x-producer-epoch` and `x-producer-seq` a request is appended once however
/// often it is repeated: requests of an epoch are numbered from 0, one after the other, in each
/// partition; a repeat is answered 200 with what was appended then (`[]` if more than four newer
/// ones were) and the newest number in `x-producer-seq`; one that was left out is 409
/// `producer-gap` with `expected`; an older epoch than the newest is 409 `producer-fenced`. A producer
/// is remembered for an hour at least after its last publish.
///
/// With `dry_run=true` nothing is stored: 200 says of each message in which partition it would be,
/// on which brokers, and which subscriptions would deliver it.
#[utoipa::path(post, path = "/v1/topics/{topic}/messages", tag = "topics",
    params(("topic" = String, Path), ("dry_run" = Option<bool>, Query), ("x-key" = Option<String>, Header),
        ("idempotency-key" = Option<String>, Header), ("x-producer-id" = Option<String>, Header),
        ("x-producer-epoch" = Option<u64>, Header), ("x-producer-seq" = Option<u64>, Header)),
    request_body(content((Vec<u8> = "application/octet-stream"),
        (PublishLine = "application/x-ndjson"))),
    responses((status = 201, body = Vec<Appended>), (status = 200, body = Vec<Appended>)))]
async fn publish(
    State(broker): State<Broker>,
    Path(topic): Path<Name>,
    Query(PublishQuery { dry_run }): Query<PublishQuery>,
    Whole { headers: request, body }: Whole,
) -> Result<Response, Problem> {
    if dry_run {
        let messages = incoming::messages(&request, body, broker.limits())?;
        let producer = incoming::producer(&request)?.map(|producer| producer.id);
        let remembered = producer.or(incoming::idempotency_key(&request)?);
        let would = broker.would_publish(&topic, messages, remembered.as_deref())?;
        return Ok(Json(would).into_response());
    }
    let batch = Batch {
        messages: incoming::messages(&request, body, broker.limits())?,
        idempotency_key: incoming::idempotency_key(&request)?,
        producer: incoming::producer(&request)?,
        tracestate: incoming::tracestate(&request),
    };
    let Receipt { appended, repeated, context } = broker.publish(&topic, batch).await?;
    let appended = appended.into_iter().map(|it| Appended {
        partition: it.partition,
        count: it.count,
        first: it.first,
        last: it.first + it.count - 1,
    });
    let appended: Vec<_> = appended.collect();
    let answer = (traceparent(context), Json(appended));
    let Some(newest) = repeated else { return Ok((StatusCode::CREATED, answer).into_response()) };
    let seq = [(HeaderName::from_static(headers::PRODUCER_SEQ), HeaderValue::from(newest))];
    Ok((StatusCode::OK, seq, answer).into_response())
}

/// What to read of a topic.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ReadQuery {
    /// One partition; absent: all of them.
    partition: Option<u32>,
    /// `earliest`, `latest`, an offset, `partition:offset,…`, or an RFC 3339 time. Absent:
    /// `earliest` for a page, `latest` for a live stream.
    from: Option<String>,
    /// Most messages, 1 to 10,000. 100 if absent; a live stream then does not end.
    limit: Option<u32>,
    /// How long a page waits for its first message, 0 to 60.
    wait_seconds: Option<f64>,
}

/// Reads a topic: a JSON page, `application/x-ndjson`, or a live `text/event-stream`, by `Accept`.
/// Streams resume with `Last-Event-ID`.
#[utoipa::path(get, path = "/v1/topics/{topic}/messages", tag = "topics",
    params(("topic" = String, Path), ("partition" = Option<u32>, Query),
        ("from" = Option<String>, Query), ("limit" = Option<u32>, Query),
        ("wait_seconds" = Option<f64>, Query), ("last-event-id" = Option<String>, Header)),
    responses((status = 200, body = Messages)))]
async fn read(
    State(broker): State<Broker>,
    Path(topic): Path<Name>,
    Query(query): Query<ReadQuery>,
    deadline: Option<Deadline>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let max = settings::count("limit", query.limit, (DEFAULT_READ, MAX_READ))?;
    let wait = settings::wait(query.wait_seconds)?;
    let accept = Accept::of(&request);
    if accept == Accept::Events {
        if query.wait_seconds.is_some() {
            let detail = "a live stream waits anyway; leave wait_seconds out";
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
        return live(broker, topic, query, &request).await;
    }
    let from = position::from(query.from.as_deref().unwrap_or("earliest"))?;
    let mut reader = broker.reader(&topic, query.partition, &from, max).await?;
    let messages = reader.read(Patience { wait, deadline }).await?;
    let next = reader.cursor();
    let messages: Vec<_> = messages.into_iter().map(outgoing::message).collect();
    match accept {
        Accept::Lines => lines(&messages, &next),
        _ => Ok(Json(Messages { messages, next }).into_response()),
    }
}

async fn live(
    broker: Broker,
    topic: Name,
    query: ReadQuery,
    request: &HeaderMap,
) -> Result<Response, Problem> {
    let from = match sse::last_event_id(request) {
        Some(id) => after(id)?,
        None => position::from(query.from.as_deref().unwrap_or("latest"))?,
    };
    let reader = broker.reader(&topic, query.partition, &from, 1).await?;
    let ids = Ids { at: reader.positions().collect() };
    let live = reader.live()?;
    let pieces = stream::unfold(Some((live, ids, query.limit)), |state| async {
        let (mut live, mut ids, left) = state?;
        let mut part = match live.next().await {
            Ok(part) => part,
            Err(error) => {
                tracing::debug!(%error, "a live stream ends");
                return None;
            }
        };
        part.keep(left);
        let left = left.map(|left| left - part.range.len() as u32);
        let pieces = ids.pieces(&part);
        let more = (left != Some(0)).then_some((live, ids, left));
        Some((stream::iter(pieces), more))
    });
    Ok(sse::response(futures_util::StreamExt::flatten(pieces), broker.draining()))
}

/// Where a stream is, after each of its events.
struct Ids {
    at: BTreeMap<u32, u64>,
}

impl Ids {
    /// The id of an event is the offset of its message, as all streams of one partition have it;
    /// in a stream of several partitions it is the next offset of each, as only that says what was
    /// seen.
    fn pieces(&mut self, part: &Part) -> Vec<Piece> {
        let Part { partition, run, range } = part;
        if self.at.len() == 1 {
            return vec![Piece::Written(run.events().written(range.clone()))];
        }
        let event = |at| {
            self.at.insert(*partition, run.offset(at) + 1);
            let next = self.at.iter().map(|(partition, next)| format!("{partition}:{next}"));
            let id = next.collect::<Vec<_>>().join(",");
            Event::from(run.events().encoded(at)).id(id).into()
        };
        range.clone().map(event).collect()
    }
}

/// Where to go on after the event of this id.
fn after(id: &str) -> Result<From, Problem> {
    let next = id.parse::<u64>().ok().and_then(|offset| offset.checked_add(1));
    position::from(&next.map_or_else(|| id.to_owned(), |next| next.to_string()))
}

/// One message a line. A line break inside a payload is white space in its JSON, so a space does.
fn lines(messages: &[Message], next: &str) -> Result<Response, Problem> {
    let mut text = Vec::new();
    for message in messages {
        let line = serde_json::to_vec(message).map_err(|error| Problem::internal(&error))?;
        text.extend(line.into_iter().map(|byte| match byte {
            b'\n' | b'\r' => b' ',
            byte => byte,
        }));
        text.push(b'\n');
    }
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(headers::NDJSON));
    let next = HeaderValue::try_from(next).map_err(|error| Problem::internal(&error))?;
    Ok(([content_type, (NEXT, next)], text).into_response())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accept {
    Page,
    Lines,
    Events,
}

impl Accept {
    fn of(request: &HeaderMap) -> Self {
        let accept = request.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        let accept = accept.unwrap_or_default().to_ascii_lowercase();
        if accept.contains(headers::EVENT_STREAM) {
            Self::Events
        } else if accept.contains(headers::NDJSON) {
            Self::Lines
        } else {
            Self::Page
        }
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(publish, read))]
pub(super) struct Api;
