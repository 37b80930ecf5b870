//! What a browser must be told before it shows a page the answer: whose pages may read streams.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::secure;
use crate::broker::Broker;
use crate::config::ANY;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS");
/// What requests may carry.
const ALLOWED: HeaderValue = HeaderValue::from_static(
    "content-type, if-none-match, stream-seq, stream-ttl, stream-expires-at, stream-closed, \
     producer-id, producer-epoch, producer-seq, traceparent, tracestate",
);
/// What pages may see of answers.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "stream-next-offset, stream-cursor, stream-up-to-date, stream-closed, stream-ttl, \
     stream-expires-at, stream-sse-data-encoding, producer-epoch, producer-seq, \
     producer-expected-seq, producer-received-seq, etag, location, x-trace-id",
);
/// A browser asks again after so many seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

/// Every answer carries what browsers want, errors and live streams too.
pub(super) async fn secured(
    State(broker): State<Broker>,
    request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(ORIGIN).cloned();
    let mut response = next.run(request).await;
    secure(response.headers_mut());
    allow(response.headers_mut(), &broker.limits().streams.origins, origin);
    response
}

/// A browser asks whether a page may ask.
pub(super) async fn preflight() -> (StatusCode, HeaderMap) {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    (StatusCode::NO_CONTENT, headers)
}

fn allow(headers: &mut HeaderMap, origins: &[String], origin: Option<HeaderValue>) {
    let origin = match origin {
        _ if origins.iter().any(|allowed| allowed == ANY) => Some(HeaderValue::from_static(ANY)),
        origin => {
            // What is kept on the way is for this origin alone.
            headers.append(VARY, HeaderValue::from_name(ORIGIN));
            origin.filter(|origin| origins.iter().any(|allowed| origin == allowed.as_str()))
        }
    };
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_origins_see_nothing_unless_they_may() {
        let allowed = |origins: &[&str], origin: &'static str| {
            let origins: Vec<_> = origins.iter().map(|origin| (*origin).to_owned()).collect();
            let mut headers = HeaderMap::new();
            allow(&mut headers, &origins, Some(HeaderValue::from_static(origin)));
            headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).cloned()
        };
        assert_eq!(allowed(&[ANY], "https://a.example").unwrap(), "*");
        let one = ["https://a.example"];
        assert_eq!(allowed(&one, "https://a.example").unwrap(), "https://a.example");
        assert_eq!(allowed(&one, "https://b.example"), None);
        assert_eq!(allowed(&[], "https://a.example"), None);
    }
}
