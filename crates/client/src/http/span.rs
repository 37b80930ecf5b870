//! The span of one attempt, and the context that travels with it.

use http::HeaderMap;
use telemetry::trace::{ActiveSpan, Span, TraceContext, current, inject, insert_traceparent};
use url::Url;

use super::attempt::{Answer, AttemptError};
use super::{Call, Dialect};

/// Begins the attempt's span, if it is made on behalf of a request that is traced. Work that
/// nobody asked for, such as keeping a lease alive, does not begin traces of its own.
pub(super) fn begin(call: &Call, endpoint: &Url, retries: u32) -> Option<ActiveSpan> {
    current()?;
    let method = call.method.as_str();
    let template = call.path.template();
    let span = Span::client(call.method.to_string());
    let span = match template {
        Some(template) => span.subject(template).attr("url.template", template),
        None => span,
    };
    if !span.is_recorded() {
        return Some(span.start());
    }
    let span = span
        .attr("http.request.method", method)
        .attr("server.address", endpoint.host_str().unwrap_or_default())
        .attr("server.port", endpoint.port_or_known_default().unwrap_or_default());
    let span = if retries == 0 { span } else { span.attr("http.request.resend_count", retries) };
    Some(span.start())
}

/// Notes how the attempt ended.
pub(super) fn finish(span: Option<ActiveSpan>, result: &Result<Answer, AttemptError>) {
    let Some(mut span) = span else { return };
    match result {
        Ok(answer) => span.set("http.response.status_code", answer.status.as_u16()),
        Err(AttemptError { error, .. }) => {
            if let Some(status) = error.status {
                span.set("http.response.status_code", status.as_u16());
            }
            span.fail(&*error.code);
        }
    }
}

/// Writes the context of the request at hand. Background work at the coordinator is marked as not
/// sampled: thousands of renewals are no traces worth keeping.
pub(super) fn propagate(headers: &mut HeaderMap, dialect: Dialect) {
    if current().is_some() {
        inject(headers);
    } else if dialect == Dialect::Etcd {
        insert_traceparent(headers, TraceContext { sampled: false, ..TraceContext::random() });
    }
}
