//! `GET /health`, as etcd answers it.

use std::time::Duration;

use axum::extract::RawQuery;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::super::caller::Unguarded;
use super::cors;
use crate::coordinator::Failure;
use crate::store::{AlarmKind, Snapshot};

/// Probes count no answer as a bad one, and rarely wait longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// 200 when reads work and no alarm is raised; `?exclude=NOSPACE` looks away, and
/// `?serializable=true` asks this node alone.
pub(super) async fn health(Unguarded(app): Unguarded, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let local = asks(&query, "serializable=true");
    let looked = tokio::time::timeout(PATIENCE, app.read(local)).await;
    let reason = reason(&query, looked.unwrap_or(Err(Failure::NoLeader)));
    let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    if reason.is_empty() {
        return cors::open((plain, r#"{"health":"true","reason":""}"#).into_response());
    }
    let body = format!("{{\"health\":\"false\",\"reason\":{}}}\n", serde_json::json!(reason));
    cors::open((StatusCode::SERVICE_UNAVAILABLE, plain, body).into_response())
}

fn asks(query: &str, pair: &str) -> bool {
    query.split('&').any(|asked| asked == pair)
}

/// What is wrong; nothing if it is empty.
fn reason(query: &str, looked: Result<Snapshot, Failure>) -> String {
    match looked {
        Ok(store) if store.is_out_of_space() && !asks(query, "exclude=NOSPACE") => {
            "ALARM NOSPACE".to_owned()
        }
        Ok(store) if store.has_alarm(AlarmKind::Corrupt) && !asks(query, "exclude=CORRUPT") => {
            "ALARM CORRUPT".to_owned()
        }
        Ok(_) => String::new(),
        Err(Failure::NoLeader) => "RAFT NO LEADER".to_owned(),
        Err(failure) => format!("RANGE ERROR:{failure}"),
    }
}

pub(super) async fn only_get() -> Response {
    let allow = [(header::ALLOW, "GET")];
    (StatusCode::METHOD_NOT_ALLOWED, allow, "Method Not Allowed\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Command, Stamp, Store};

    #[test]
    fn a_reason_is_said_in_the_words_that_probes_look_for() {
        let mut store = Store::default();
        assert_eq!(reason("", Ok(store.clone().into())), "");
        let (member, kind, on) = (1, AlarmKind::Corrupt, true);
        let stamp = Stamp { now_ms: 0, quota_bytes: u64::MAX };
        store.apply(stamp, Command::Alarm { member, kind, on });
        let store = Snapshot::from(store);
        assert_eq!(reason("", Ok(Snapshot::clone(&store))), "ALARM CORRUPT");
        assert_eq!(reason("exclude=NOSPACE&exclude=CORRUPT", Ok(store)), "");
        assert_eq!(reason("", Err(Failure::NoLeader)), "RAFT NO LEADER");
        assert!(reason("", Err(Failure::Overloaded)).starts_with("RANGE ERROR:"));
    }
}
