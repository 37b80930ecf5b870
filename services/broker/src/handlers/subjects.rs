//! Live reading of every topic that matches a pattern.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use api::broker::SUBJECTS;
use api::problem::Code;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use chassis::extract::Query;
use chassis::problem::Problem;
use chassis::sse::{self, Event};
use futures_util::stream;
use http::HeaderMap;
use messaging::config::Start;
use messaging::ids::Name;
use serde::Deserialize;

use super::position;
use crate::broker::Broker;
use crate::hub::Part;
use crate::subjects::{Heard, Listener, Positions};

/// Partitions that an id names at most. A stream of more has no ids, for they would outgrow its
/// messages and the header that brings them back.
const ID_PARTITIONS: usize = 256;

pub(super) fn router() -> Router<Broker> {
    Router::new().route(SUBJECTS, get(listen))
}

/// What to follow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectsQuery {
    /// Tokens between dots: a name, `*` for any one, `>` at the end for all that follow.
    #[serde(rename = "match")]
    pattern: String,
    /// `earliest`, `latest` (if absent), or an RFC 3339 time.
    from: Option<String>,
    /// The stream ends after so many messages. Absent: it does not.
    limit: Option<u32>,
}

/// Follows every topic that matches, also those made later: `text/event-stream`, each event a
/// message as a topic's own stream has it, with its `topic`. Order holds in each partition. Streams
/// resume with `Last-Event-ID`, unless more than 256 partitions match: their events have no id.
#[utoipa::path(get, path = "/v1/subjects", tag = "topics",
    params(("match" = String, Query), ("from" = Option<String>, Query),
        ("limit" = Option<u32>, Query), ("last-event-id" = Option<String>, Header)),
    responses((status = 200, content_type = "text/event-stream")))]
async fn listen(
    State(broker): State<Broker>,
    Query(query): Query<SubjectsQuery>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let pattern =
        query.pattern.parse().map_err(|error| Problem::from_error(Code::InvalidRequest, &error))?;
    let from = position::start(query.from.as_deref().unwrap_or("latest"))?;
    if matches!(from, Start::Offset(_)) {
        let detail = "topics have offsets of their own; use earliest, latest or a time";
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    let known = sse::last_event_id(&request).map_or_else(|| Ok(BTreeMap::new()), known)?;
    let listener = broker.listen(pattern, &known, from).await?;
    let pieces = stream::unfold(Some((listener, query.limit)), |state| async {
        let (mut listener, left) = state?;
        let mut heard = match listener.next().await {
            Ok(heard) => heard,
            Err(error) => {
                tracing::debug!(%error, "a live stream of subjects ends");
                return None;
            }
        };
        heard.part.keep(left);
        let left = left.map(|left| left - heard.part.range.len() as u32);
        let pieces = pieces(&mut listener, &heard);
        let more = (left != Some(0)).then_some((listener, left));
        Some((stream::iter(pieces), more))
    });
    Ok(sse::response(futures_util::StreamExt::flatten(pieces), broker.draining()))
}

/// The messages with the name of their topic, and ids where those are not too long.
fn pieces(listener: &mut Listener, heard: &Heard) -> Vec<Event> {
    let Heard { topic, part: Part { partition, run, range } } = heard;
    let named = run.named(topic);
    let has_ids = listener.partitions() <= ID_PARTITIONS;
    let event = |at| {
        let event = Event::from(named.encoded(at));
        listener.note(topic, *partition, run.offset(at) + 1);
        if has_ids { event.id(id(listener.positions())) } else { event }
    };
    range.clone().map(event).collect()
}

/// `topic:partition:next,…`: only that says what was seen.
fn id(at: &BTreeMap<Name, Positions>) -> String {
    let mut text = String::new();
    for (topic, partitions) in at {
        for (partition, next) in partitions {
            let comma = if text.is_empty() { "" } else { "," };
            write!(text, "{comma}{topic}:{partition}:{next}").expect("a string takes all");
        }
    }
    text
}

fn known(id: &str) -> Result<BTreeMap<Name, Positions>, Problem> {
    let part = |part: &str| {
        let (rest, next) = part.rsplit_once(':')?;
        let (topic, partition) = rest.rsplit_once(':')?;
        Some((topic.parse::<Name>().ok()?, partition.parse().ok()?, next.parse().ok()?))
    };
    let mut known: BTreeMap<Name, Positions> = BTreeMap::new();
    for text in id.split(',') {
        let Some((topic, partition, next)) = part(text) else {
            let detail = "Last-Event-ID is none that this stream gave; leave it out to begin anew";
            return Err(Problem::new(Code::InvalidRequest, detail));
        };
        known.entry(topic).or_default().insert(partition, next);
    }
    Ok(known)
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(listen))]
pub(super) struct Api;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_where_the_stream_was() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let at = BTreeMap::from([
            (name("a.b"), Positions::from([(0, 7), (1, 0)])),
            (name("c"), Positions::from([(0, 1)])),
        ]);
        let text = id(&at);
        assert_eq!(text, "a.b:0:7,a.b:1:0,c:0:1");
        assert_eq!(known(&text).unwrap(), at);
        for foreign in ["7", "a:b", "a:b:c", "a:0:1,", "a b:0:1"] {
            assert!(known(foreign).is_err(), "{foreign}");
        }
    }
}
