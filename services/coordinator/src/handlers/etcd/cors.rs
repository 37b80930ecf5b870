//! What a browser must be told before it shows a page the answer: whose pages may read it.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;

const METHODS: (HeaderName, HeaderValue) = (
    header::ACCESS_CONTROL_ALLOW_METHODS,
    HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE"),
);
const HEADERS: (HeaderName, HeaderValue) = (
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    HeaderValue::from_static("accept, content-type, authorization"),
);

/// Any page may.
pub(in super::super) fn open(response: Response) -> Response {
    allow(response, HeaderValue::from_static("*"))
}

fn allow(mut response: Response, origin: HeaderValue) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    for (name, value) in [METHODS, HEADERS] {
        headers.insert(name, value);
    }
    response
}

/// Pages of this origin may, or none: instead of any.
pub(in super::super) fn only(mut response: Response, origin: Option<HeaderValue>) -> Response {
    let headers = response.headers_mut();
    for name in [header::ACCESS_CONTROL_ALLOW_ORIGIN, METHODS.0, HEADERS.0] {
        headers.remove(name);
    }
    // What is kept on the way is for this origin alone.
    headers.append(header::VARY, HeaderValue::from_name(header::ORIGIN));
    match origin {
        Some(origin) => allow(response, origin),
        None => response,
    }
}
