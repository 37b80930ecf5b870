//! Answers in the form of the JSON protocol.

use api::problem::ProblemDetails;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::sqs::{Code, Fault};

const JSON: &str = "application/x-amz-json-1.0";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const QUERY_ERROR: HeaderName = HeaderName::from_static("x-amzn-query-error");
/// Where shapes are defined.
const SHAPES: &str = "com.amazonaws.sqs";
/// When to come back, in seconds.
const RETRY_AFTER: &str = "1";

pub(super) fn success(value: &Value) -> Response {
    (head(), value.to_string()).into_response()
}

/// An error. botocore takes its code from the header and its class from `__type`.
pub(super) fn fault(fault: &Fault) -> Response {
    let mut headers = head();
    let blame = if fault.code.is_senders() { "Sender" } else { "Receiver" };
    let code = format!("{};{blame}", fault.code.query_code());
    let code = HeaderValue::try_from(code).expect("codes are letters and dots");
    headers.insert(QUERY_ERROR, code);
    let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    }
    let body = json!({
        "__type": format!("{SHAPES}#{}", fault.code.shape()),
        "message": fault.message,
    });
    (status, headers, body.to_string()).into_response()
}

/// What is refused before a handler runs, or by the layers around it.
pub(crate) fn render(details: &ProblemDetails) -> Response {
    let code = match details.status {
        404 => Code::InvalidAddress,
        405 => Code::UnsupportedOperation,
        429 => Code::RequestThrottled,
        408 | 503 | 507 => Code::ServiceUnavailable,
        500.. => Code::InternalFailure,
        _ => Code::InvalidParameterValue,
    };
    fault(&Fault { status: Some(details.status), ..Fault::new(code, &details.detail) })
}

/// The answer to the protocol before this one, in its own form.
pub(super) fn query_protocol() -> Response {
    let body = format!(
        "<?xml version=\"1.0\"?>\n\
         <ErrorResponse xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\"><Error>\
         <Type>Sender</Type><Code>{}</Code><Message>The query protocol is not spoken here: use an \
         SDK of 2023-11 or later, which speaks the JSON protocol.</Message></Error>\
         <RequestId>{}</RequestId></ErrorResponse>",
        Code::UnsupportedOperation.query_code(),
        request_id()
    );
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let xml = HeaderValue::from_static("text/xml");
    response.headers_mut().insert(header::CONTENT_TYPE, xml);
    response
}

fn head() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    if let Ok(id) = HeaderValue::try_from(request_id()) {
        headers.insert(REQUEST_ID, id);
    }
    headers
}

/// The trace of the request, as a UUID is written: logs and traces know it.
fn request_id() -> String {
    let trace = telemetry::trace::current().map(|context| context.trace_id.to_string());
    let trace = trace.unwrap_or_else(|| "0".repeat(32));
    let part = |from: usize, to: usize| trace.get(from..to).unwrap_or_default();
    let parts = [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)];
    parts.join("-")
}
