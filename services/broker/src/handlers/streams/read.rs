//! GET: what is there, or what comes next.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use chassis::deadline::Deadline;
use chassis::extract::{Path, Query};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use messaging::stream::StreamPath;
use tokio::time::Instant;

use super::failure::Failure;
use super::request::{Mode, Wanted};
use super::{CURSOR, NO_STORE, TRUE, UP_TO_DATE, cursor, live, request, state, text};
use crate::broker::Broker;
use crate::directory::StreamsHandle;
use crate::streams::{Start, View, Waiting, json};
use crate::wait::Patience;

/// What is at a position stays there: caches may answer for it.
const CACHED: HeaderValue =
    HeaderValue::from_static("public, max-age=60, stale-while-revalidate=300");

/// Reads a stream from `offset` on: what is there (at most about 1 MiB at a time), with
/// `live=long-poll` also what comes within the wait, with `live=sse` for as long as it comes.
#[utoipa::path(get, path = "/streams/{path}", tag = "streams",
    params(("path" = String, Path),
        ("offset" = Option<String>, Query, description = "`-1` (if absent), `now`, or one that was given"),
        ("live" = Option<String>, Query, description = "`long-poll` or `sse`"),
        ("cursor" = Option<u64>, Query), ("if-none-match" = Option<String>, Header)),
    responses((status = 200, description = "Stream-Next-Offset, Stream-Up-To-Date, Stream-Closed, Stream-Cursor, ETag"),
              (status = 204, description = "nothing came within the wait"), (status = 304), (status = 400), (status = 404)))]
pub(super) async fn read(
    State(broker): State<Broker>,
    Path(path): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
    deadline: Option<Deadline>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let path = request::path(&path)?;
    let wanted = request::wanted(&parameters)?;
    match wanted.mode {
        Mode::CatchUp => {
            let (home, view) = broker.read_stream(&path, wanted.start).await?;
            Ok(page(&home, &view, &wanted, &headers))
        }
        Mode::LongPoll => long_poll(&broker, &path, &wanted, (deadline, &headers)).await,
        Mode::Events => live::events(&broker, &path, &wanted).await,
    }
}

async fn long_poll(
    broker: &Broker,
    path: &StreamPath,
    wanted: &Wanted,
    (deadline, headers): (Option<Deadline>, &HeaderMap),
) -> Result<Response, Failure> {
    let mut reader = broker.live_stream(path, wanted.start).await?;
    let wait = Duration::from_secs(broker.limits().streams.long_poll_seconds);
    let now = broker.shared.clock.now();
    let until = Instant::now() + Patience { wait, deadline }.left(now);
    let waited = reader.wait(until).await?;
    let (view, cursor) = (reader.view(), cursor::next(broker.now_ms(), wanted.cursor));
    let mut response = match waited {
        Waiting::Over if !view.appends.is_empty() => page(reader.home(), view, wanted, headers),
        Waiting::Over | Waiting::TimedOut => {
            let mut answer = state(view.tail, view.closed);
            answer.insert(UP_TO_DATE, TRUE);
            answer.insert(CACHE_CONTROL, NO_STORE);
            (StatusCode::NO_CONTENT, answer).into_response()
        }
    };
    response.headers_mut().insert(CURSOR, HeaderValue::from(cursor));
    Ok(response)
}

/// A part of a stream.
fn page(home: &StreamsHandle, view: &View, wanted: &Wanted, headers: &HeaderMap) -> Response {
    let mut answer = state(view.next, view.is_end());
    answer.insert(CONTENT_TYPE, text(&view.config.content_type));
    if view.is_up_to_date() {
        answer.insert(UP_TO_DATE, TRUE);
    }
    if wanted.start == Start::Tail {
        // Where the end is changes, and is never what anybody asked for before.
        answer.insert(CACHE_CONTROL, NO_STORE);
    } else {
        let tag = tag(home, view);
        let is_known = headers.get_all(IF_NONE_MATCH).iter().any(|known| names(known, &tag));
        answer.insert(CACHE_CONTROL, CACHED);
        answer.insert(ETAG, text(&tag));
        if is_known {
            answer.remove(CONTENT_TYPE);
            return (StatusCode::NOT_MODIFIED, answer).into_response();
        }
    }
    (answer, body(view)).into_response()
}

/// The content of a part, as readers get it at once.
pub(super) fn body(view: &View) -> Vec<u8> {
    match view.config.is_json() {
        true => json::array(&view.appends),
        false => view.appends.concat(),
    }
}

/// Names a part of one stream. Another has another identity, also at the same path.
fn tag(home: &StreamsHandle, view: &View) -> String {
    let View { id, start, next, .. } = view;
    let closed = if view.is_end() { ":c" } else { "" };
    format!("\"{}-{}:{start}:{next}{closed}\"", home.port.id.0, id.0)
}

/// Whether a list of tags names this one.
fn names(list: &HeaderValue, tag: &str) -> bool {
    let tags = list.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.map(|one| one.strip_prefix("W/").unwrap_or(one)).any(|one| one == tag || one == "*")
}
