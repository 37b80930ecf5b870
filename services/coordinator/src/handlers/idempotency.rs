//! `Idempotency-Key`: a request that comes again is answered as it was the first time.
//!
//! It counts for everything that would do something else the second time. Keepalives and
//! heartbeats are meant to be repeated and take no notice of it.

use api::coordinator::MAX_IDEMPOTENCY_KEY_BYTES;
use axum::extract::{FromRequest, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use bytes::Bytes;
use chassis::extract::Body;
use chassis::problem::Problem;
use xxhash_rust::xxh3::Xxh3;

use super::App;
use super::params::invalid;
use crate::store;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static(api::headers::IDEMPOTENCY_KEY);

/// The body of a request, with its name if it has one.
pub(super) struct Once<T>(pub(super) Option<store::Request>, pub(super) T);

impl<T: FromRequest<App, Rejection = Problem>> FromRequest<App> for Once<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let Some(key) = key(request.headers())? else {
            return Ok(Self(None, T::from_request(request, app).await?));
        };
        let (parts, body) = request.into_parts();
        let Body(body) = Body::from_request(Request::from_parts(parts.clone(), body), app).await?;
        let fingerprint = fingerprint(&parts, &body);
        let request = Request::from_parts(parts, body.into());
        let body = T::from_request(request, app).await?;
        Ok(Self(Some(store::Request { key, fingerprint }), body))
    }
}

fn key(headers: &HeaderMap) -> Result<Option<Bytes>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.as_bytes();
    if !(1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len()) {
        let detail = format!("Idempotency-Key must have 1 to {MAX_IDEMPOTENCY_KEY_BYTES} bytes");
        return Err(invalid(detail));
    }
    Ok(Some(Bytes::copy_from_slice(key)))
}

/// What was asked: each part with its length in front. It is stored, so it stays as it is.
fn fingerprint(parts: &Parts, body: &[u8]) -> u128 {
    let condition = |name| parts.headers.get(name).map_or(&b""[..], |value| value.as_bytes());
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let mut hasher = Xxh3::new();
    for part in [
        parts.method.as_str().as_bytes(),
        target.as_bytes(),
        condition(header::IF_MATCH),
        condition(header::IF_NONE_MATCH),
        body,
    ] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, target: &str, if_match: Option<&str>) -> Parts {
        let mut request = http::Request::builder().method(method).uri(target);
        if let Some(tag) = if_match {
            request = request.header(header::IF_MATCH, tag);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn method_target_conditions_and_body_all_count() {
        let first = fingerprint(&parts("PUT", "/v1/kv/a", None), b"1");
        assert_eq!(first, fingerprint(&parts("PUT", "/v1/kv/a", None), b"1"));
        for (method, target, tag, body) in [
            ("DELETE", "/v1/kv/a", None, "1"),
            ("PUT", "/v1/kv/b", None, "1"),
            ("PUT", "/v1/kv/a?lease=1", None, "1"),
            ("PUT", "/v1/kv/a", Some("1"), ""),
            ("PUT", "/v1/kv/a", Some("\"1\""), "1"),
            ("PUT", "/v1/kv/a", None, "2"),
        ] {
            let other = fingerprint(&parts(method, target, tag), body.as_bytes());
            assert_ne!(first, other, "{method} {target} {tag:?} {body}");
        }
    }

    /// Stored answers are found by it.
    #[test]
    fn the_fingerprint_is_stable() {
        let fingerprint = fingerprint(&parts("PUT", "/v1/kv/a", Some("\"7\"")), b"body");
        assert_eq!(format!("{fingerprint:032x}"), "7c806a27911c19a787aafa9a8cb68265");
    }
}
