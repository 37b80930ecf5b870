//! `GET /health`, as etcd answers it.

use axum::extract::RawQuery;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::super::{App, State};
use crate::store::AlarmKind;

/// 200 when reads work and no alarm is raised; `?exclude=NOSPACE` looks away.
pub(super) async fn health(State(app): State<App>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let excluded = |alarm: &str| query.split('&').any(|pair| pair == format!("exclude={alarm}"));
    let reason = match app.coordinator().snapshot().await {
        Ok(store) if store.is_out_of_space() && !excluded("NOSPACE") => "ALARM NOSPACE".to_owned(),
        Ok(store) if store.has_alarm(AlarmKind::Corrupt) && !excluded("CORRUPT") => {
            "ALARM CORRUPT".to_owned()
        }
        Ok(_) => String::new(),
        Err(failure) => format!("RANGE ERROR:{failure}"),
    };
    let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    if reason.is_empty() {
        return (plain, r#"{"health":"true","reason":""}"#).into_response();
    }
    let body = format!("{{\"health\":\"false\",\"reason\":{}}}\n", serde_json::json!(reason));
    (StatusCode::SERVICE_UNAVAILABLE, plain, body).into_response()
}

pub(super) async fn only_get() -> Response {
    let allow = [(header::ALLOW, "GET")];
    (StatusCode::METHOD_NOT_ALLOWED, allow, "Method Not Allowed\n").into_response()
}
