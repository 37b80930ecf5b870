//! `/livez` and `/readyz`.

use std::fmt::Write as _;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use super::Operations;
use crate::extract::{JsonBytes, Path, Query};
use crate::health::Finding;
use crate::problem::Problem;

/// `?verbose`, with or without a value.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Options {
    verbose: Option<String>,
}

pub(super) async fn livez() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(
    State(operations): State<Operations>,
    Query(options): Query<Options>,
    headers: HeaderMap,
) -> Response {
    answer(&operations.health.findings(), options.verbose.is_some(), &headers)
}

/// One check by name, such as `/readyz/leader`.
pub(super) async fn readyz_check(
    State(operations): State<Operations>,
    Path(check): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let findings = operations.health.findings();
    match findings.into_iter().find(|finding| finding.name == check) {
        Some(finding) => Ok(answer(&[finding], true, &headers)),
        None => {
            let detail = format!("there is no check `{check}`; GET /readyz?verbose lists them");
            Err(Problem::new(api::problem::Code::NotFound, detail))
        }
    }
}

fn answer(findings: &[Finding], verbose: bool, headers: &HeaderMap) -> Response {
    let ready = findings.iter().all(|finding| finding.failure.is_none());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let body = if accept.is_some_and(|accept| accept.contains("application/json")) {
        as_json(findings, ready).into_response()
    } else {
        as_text(findings, ready, verbose).into_response()
    };
    let mut response = (status, body).into_response();
    if !ready {
        response.headers_mut().insert(header::RETRY_AFTER, 1.into());
    }
    response
}

fn as_json(findings: &[Finding], ready: bool) -> JsonBytes {
    let checks = findings.iter().map(|Finding { name, failure }| {
        json!({ "name": name, "ok": failure.is_none(), "reason": failure })
    });
    let answer = json!({ "ready": ready, "checks": checks.collect::<Vec<_>>() });
    JsonBytes(answer.to_string().into())
}

/// What fails is always listed; what passes only when asked for.
fn as_text(findings: &[Finding], ready: bool, verbose: bool) -> String {
    let mut text = String::new();
    for Finding { name, failure } in findings {
        let _ = match failure {
            Some(reason) => writeln!(text, "[-]{name} failed: {reason}"),
            None if verbose => writeln!(text, "[+]{name} ok"),
            None => Ok(()),
        };
    }
    text.push_str(if ready { "ok\n" } else { "not ready\n" });
    text
}
