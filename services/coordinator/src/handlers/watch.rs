//! `/v1/watch`: changes as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use api::coordinator::{BookmarkEvent, CompactedEvent, Text, WatchEvent};
use axum::Router;
use axum::extract::RawQuery;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use chassis::problem::Problem;
use chassis::sse::{self, Event, Piece};
use futures_util::Stream;

use super::params::{Params, check_key, invalid};
use super::refusal::Refusal as _;
use super::wire::{attached, key_value};
use super::{App, State};
use crate::runs::{Crowd, Encoding, Form};
use crate::store::{self, Denied, HistoryCompacted, KeyRange, Revision, Store, WatchFilter};
use crate::watching::{Reader, Seen, Watching};

/// How often a quiet watch hears where the store is, if the store has moved.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(5);

pub(super) fn router() -> Router<App> {
    Router::new().route(api::coordinator::WATCH, get(watch))
}

/// Changes of a key or of all keys with a prefix, from now or from a revision on.
#[utoipa::path(get, path = "/v1/watch", tag = "kv",
    params(("key" = Option<String>, Query), ("prefix" = Option<String>, Query, description = "empty: every key"),
           ("from_revision" = Option<u64>, Query), ("prev" = Option<bool>, Query),
           ("Last-Event-ID" = Option<u64>, Header, description = "resumes behind this revision")),
    responses((status = 200, content_type = "text/event-stream", body = WatchEvent,
               description = "events put, delete, bookmark, compacted, denied"),
              (status = 410, description = "compacted; oldest_revision says where a watch can start")))]
pub(super) async fn watch(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let params = Params::parse(query.as_deref(), &["key", "prefix", "from_revision", "prev"])?;
    let range = match (params.bytes("key"), params.bytes("prefix")) {
        (Some(key), None) => KeyRange::One(check_key(key)?),
        (None, Some(prefix)) => KeyRange::prefix(prefix),
        _ => return Err(invalid("name what to watch: key=K or prefix=P; prefix= is every key")),
    };
    let previous = params.flag("prev")?;
    let from = start(&params, &headers)?;
    let filter = WatchFilter { range, puts: true, deletes: true, previous };
    let encoded = Arc::clone(app.encoded_sse());
    let encode = move |event: &store::Event| {
        Some(match event.previous {
            None => encoded.get(&event.record, || put_or_delete(event).encode()).into(),
            Some(_) => put_or_delete(event),
        })
    };
    let told = Told { form: Form { filter, encoding: Encoding::Change }, encode };
    told.open(&app, from).await
}

/// `Last-Event-ID` wins: it is what a reconnecting client has really seen.
pub(super) fn start(params: &Params, headers: &HeaderMap) -> Result<Option<Revision>, Problem> {
    let asked = params.number("from_revision")?.map(Revision);
    if asked == Some(Revision(0)) {
        return Err(invalid("from_revision must be at least 1; leave it out to watch from now"));
    }
    let Some(seen) = sse::last_event_id(headers) else { return Ok(asked) };
    match seen.parse::<u64>() {
        Ok(seen) if seen < u64::MAX => Ok(Some(Revision(seen).next())),
        _ => Err(invalid("Last-Event-ID must be a revision: the id of an event of this stream")),
    }
}

/// What the watchers of a stream are told.
pub(super) struct Told<E> {
    pub(super) form: Form,
    /// May drop a change by answering `None`. The same for all of the form.
    pub(super) encode: E,
}

impl<E: Fn(&store::Event) -> Option<Event> + Clone + Send + 'static> Told<E> {
    /// Fails with 410 at once if history from there on is gone.
    pub(super) async fn open(self, app: &App, from: Option<Revision>) -> Result<Response, Problem> {
        let store = app.coordinator().snapshot().await?;
        app.coordinator().may_read(&store, &self.form.filter.range)?;
        let (now, compacted) = (store.revision(), store.mvcc.compacted());
        let from = from.unwrap_or(now.next());
        if from < compacted {
            return Err(HistoryCompacted { oldest: compacted }.problem());
        }
        Ok(self.stream(app, &store, Some(from)))
    }

    /// Begins with what is there now, then goes on with what changes.
    pub(super) async fn open_with_state(self, app: &App) -> Result<Response, Problem> {
        let store = app.coordinator().snapshot().await?;
        app.coordinator().may_read(&store, &self.form.filter.range)?;
        Ok(self.stream(app, &store, None))
    }

    /// `None` begins with what `store` holds.
    fn stream(self, app: &App, store: &Store, from: Option<Revision>) -> Response {
        let Self { form, encode } = self;
        let one_by_one = encode.clone();
        let encode = move |events: &[store::Event]| run(events, &encode);
        let crowd = Crowd { runs: Arc::clone(app.runs()), form: Arc::new(form), encode };
        let next = from.unwrap_or(store.revision().next());
        let watching = Watching::new(app.coordinator(), store, crowd, next, BOOKMARK_PERIOD);
        let watching = match from {
            Some(_) => watching,
            None => watching.beginning_with(store),
        };
        sse::response(pieces(watching, one_by_one), app.draining())
    }
}

/// Turns what is seen into events.
fn pieces<R: Reader<Run = Bytes> + Send>(
    watching: Watching<R>,
    encode: impl Fn(&store::Event) -> Option<Event> + Send,
) -> impl Stream<Item = Piece> + Send {
    futures_util::stream::unfold(Some((watching, encode)), async |state| {
        let (mut watching, encode) = state?;
        let (piece, ended) = loop {
            match watching.next().await? {
                Seen::Run(run) => break (Piece::Written(run), false),
                Seen::Change { event, completes } => {
                    let Some(encoded) = with_id(&encode, &event, completes) else { continue };
                    break (encoded.into(), false);
                }
                Seen::Bookmark(revision) => break (bookmark(revision).into(), false),
                Seen::Compacted(oldest) => break (compacted(oldest).into(), true),
                Seen::Denied => break (denied().into(), true),
            }
        };
        Some((piece, (!ended).then_some((watching, encode))))
    })
}

/// Resuming behind an id skips its revision, so only what completes one has an id.
fn with_id(
    encode: impl Fn(&store::Event) -> Option<Event>,
    event: &store::Event,
    completes: bool,
) -> Option<Event> {
    let encoded = encode(event)?;
    Some(if completes { encoded.id(event.record.mod_revision) } else { encoded })
}

/// Whole revisions, as they are written.
fn run(events: &[store::Event], encode: impl Fn(&store::Event) -> Option<Event>) -> Bytes {
    let following = events.iter().skip(1).map(Some).chain([None]);
    sse::written(events.iter().zip(following).filter_map(|(event, following)| {
        let revision = event.record.mod_revision;
        let completes = following.is_none_or(|next| revision < next.record.mod_revision);
        with_id(&encode, event, completes)
    }))
}

fn put_or_delete(event: &store::Event) -> Event {
    let record = &event.record;
    let is_put = !record.is_delete();
    let data = WatchEvent {
        revision: record.mod_revision.0,
        key: Text::from_bytes(&record.key),
        value: is_put.then(|| Text::from_bytes(&record.value)),
        create_revision: is_put.then_some(record.create_revision.0),
        version: is_put.then_some(record.version),
        lease: attached(record.lease),
        prev: event.previous.as_deref().map(|previous| key_value(previous, false)),
    };
    json(&data).named(if is_put { "put" } else { "delete" })
}

fn bookmark(revision: Revision) -> Event {
    json(&BookmarkEvent { revision: revision.0 }).named("bookmark").id(revision)
}

fn compacted(oldest: Revision) -> Event {
    json(&CompactedEvent { oldest_revision: oldest.0 }).named("compacted")
}

fn denied() -> Event {
    json(&serde_json::json!({ "detail": Denied::Forbidden.to_string() })).named("denied")
}

pub(super) fn json(data: &impl serde::Serialize) -> Event {
    Event::json(data).expect("wire types are plain data with string keys")
}
