//! `GET /v1/changes`: committed entries as they come.

use std::collections::VecDeque;
use std::str::FromStr;
use std::sync::Arc;

use api::problem::{Code, ProblemDetails};
use api::replica::{CHANGES, Change, ChangeEvent, ChangeKind, Position as WirePosition};
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use chassis::extract::Query;
use chassis::problem::Problem;
use chassis::sse::{self, Event};
use futures_util::{Stream, stream};
use http::HeaderMap;
use replication::command::{Change as Logged, Command, Space};
use replication::consistency::{Session, session};
use replication::{Entry, Index, Position};
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::input;
use super::kv::text_or_base64;
use crate::log::Log;
use crate::replica::ReplicaHandle;
use crate::status::{from_wire, position};
use crate::view::View;

/// Bytes of log read at once.
const READ_BYTES: usize = 256 * 1024;

pub(super) fn router() -> Router<(ReplicaHandle, CancellationToken)> {
    Router::new().route(CHANGES, get(changes))
}

#[derive(Clone, Copy, Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ChangesQuery {
    /// Changes behind this position; `0:0` is the beginning. Default: from now on.
    from: Option<WirePosition>,
}

/// Streams committed changes in order. `Last-Event-ID` resumes, on any node.
#[utoipa::path(
    get, path = "/v1/changes", tag = "replication", params(ChangesQuery),
    responses(
        (status = 200, body = ChangeEvent, content_type = "text/event-stream"),
        (status = 409, body = ProblemDetails, description = "the position is of a lost history"),
        (status = 410, body = ProblemDetails, description = "compacted: begin with a snapshot")
    )
)]
pub(super) async fn changes(
    State((replica, draining)): State<(ReplicaHandle, CancellationToken)>,
    Query(query): Query<ChangesQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let last = sse::last_event_id(&headers).map(WirePosition::from_str).transpose();
    let last = last.map_err(|error| input::invalid(&format!("Last-Event-ID: {error}")))?;
    let view = replica.view();
    let from = last.or(query.from).map(from_wire);
    let after = match from {
        None => view.commit,
        Some(from) => begin(&view, from)?,
    };
    let follow = Follow {
        log: replica.shared.log.clone(),
        view: replica.shared.view.clone(),
        next: after.next(),
        ready: VecDeque::new(),
    };
    Ok(sse::response(follow.events(), &draining))
}

/// Whether the stream can begin behind `from`.
fn begin(view: &View, from: Position) -> Result<Index, Problem> {
    if session(&view.epochs, view.visible, from) == Session::Lost {
        let detail =
            format!("the history that {from} belongs to was given up; begin with a snapshot");
        let problem = Problem::new(Code::HistoryLost, detail);
        return Err(problem.with("snapshot", api::replica::SNAPSHOT));
    }
    if from.index.next() < view.first {
        let detail = format!(
            "the log no longer has what follows {from}, it begins with index {}; begin with a snapshot",
            view.first
        );
        let problem = Problem::new(Code::Compacted, detail);
        return Err(problem
            .with("first_index", view.first.0)
            .with("snapshot", api::replica::SNAPSHOT));
    }
    Ok(from.index)
}

/// A reader of the log behind the commit index.
struct Follow {
    log: Log,
    view: watch::Receiver<Arc<View>>,
    next: Index,
    ready: VecDeque<Event>,
}

impl Follow {
    fn events(self) -> impl Stream<Item = Event> + Send {
        stream::unfold(self, |mut follow| async move {
            let event = follow.next().await?;
            Some((event, follow))
        })
    }

    /// The next event; nothing if the log was compacted under it: the client comes again and is
    /// told so.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let next = self.next;
            let commit = {
                let view = self.view.wait_for(|view| next <= view.commit).await.ok()?;
                if next < view.first {
                    return None;
                }
                view.commit
            };
            let entries = self.log.fetch(next, READ_BYTES).await.ok()?;
            if entries.is_empty() {
                return None;
            }
            for entry in entries.iter().take_while(|entry| entry.position.index <= commit) {
                self.ready.extend(event(entry));
                self.next = entry.position.index.next();
            }
        }
    }
}

/// What an entry changed of users' keys, if anything.
fn event(entry: &Entry) -> Option<Event> {
    let at = position(entry.position);
    let user = |key: &[u8]| key.first() == Some(&(Space::User as u8));
    let name = |key: &[u8]| input::encode(key.get(1..).unwrap_or_default());
    let bare = |op, key: &[u8]| Change {
        op,
        key: name(key),
        value: None,
        value_base64: None,
        content_type: None,
        expires_at_ms: None,
    };
    let changes: Vec<Change> = match Command::decode(entry.position, &entry.command).ok()? {
        Command::Found { .. } | Command::Begin | Command::Digest { .. } => return None,
        Command::Expire { keys } => {
            keys.iter().filter(|key| user(key)).map(|key| bare(ChangeKind::Expire, key)).collect()
        }
        Command::Write { changes } => changes
            .into_iter()
            .filter_map(|change| match change {
                Logged::Delete { key } if user(&key) => Some(bare(ChangeKind::Delete, &key)),
                Logged::Put { key, value, content_type, expires_at_ms } if user(&key) => {
                    let (value, value_base64) = text_or_base64(&value);
                    let put = bare(ChangeKind::Put, &key);
                    Some(Change { value, value_base64, content_type, expires_at_ms, ..put })
                }
                Logged::Delete { .. } | Logged::Put { .. } => None,
            })
            .collect(),
    };
    if changes.is_empty() {
        return None;
    }
    let event = Event::json(&ChangeEvent { position: at, changes }).ok()?;
    Some(event.named("change").id(at))
}
