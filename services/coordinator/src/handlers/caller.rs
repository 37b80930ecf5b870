//! Who asks: credentials in `Authorization`, in every face the same.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use chassis::problem::Problem;

use super::App;
use crate::authn;
use crate::store::Caller;

/// The app, acting for whoever sent the request, who has passed the gate of the native face. Its
/// handlers take this one instead of axum's: with that they act for nobody, who may do nothing once
/// authentication is on. An extractor and no layer, because a layer costs every request two boxes.
pub(super) struct State<T>(pub(super) T);

impl FromRequestParts<App> for State<App> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let app = app.acting_for(caller(&parts.headers));
        let path = parts.extensions.get().map_or("", MatchedPath::as_str);
        admit(&app, path).await?;
        Ok(Self(app))
    }
}

/// The app, acting for whoever sent the request, without a gate: for the face of an etcd, whose
/// handlers judge by themselves.
pub(super) struct Unguarded(pub(super) App);

impl FromRequestParts<App> for Unguarded {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self(app.acting_for(caller(&parts.headers))))
    }
}

/// `Authorization: Bearer TOKEN`, or the token alone as clients of etcd send it. Another scheme is
/// a token that nobody has.
fn caller(headers: &HeaderMap) -> Caller {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Caller::Anonymous };
    let text = value.to_str().unwrap_or_default().trim();
    let token = match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => text,
    };
    if token.is_empty() {
        return Caller::Anonymous;
    }
    Caller::Token(authn::digest(token))
}

/// What the native face answers without credentials also when authentication is on: it shows no
/// key, and probes and clients of a cluster need it.
const OPEN: &[&str] = &["/version", api::coordinator::CLUSTER];

/// What judges by itself, key by key. All else is for `root`.
const JUDGED: &[&str] = &[
    api::coordinator::KEY,
    api::coordinator::KEYS,
    "/v1/kv/",
    api::coordinator::TXN,
    api::coordinator::WATCH,
    api::coordinator::LEASES,
    api::coordinator::LEASE,
    api::coordinator::LEASE_KEEPALIVE,
    api::coordinator::LOCK,
    api::coordinator::ELECTION,
    api::coordinator::CAMPAIGN,
    api::coordinator::OBSERVE,
    api::coordinator::RESIGN,
    api::coordinator::SERVICES,
    api::coordinator::SERVICE,
    api::coordinator::SERVICE_WATCH,
    api::coordinator::INSTANCE,
    api::coordinator::INSTANCE_HEARTBEAT,
];

/// The gate of the native face: a path nobody thought of is closed and not open.
async fn admit(app: &App, path: &str) -> Result<(), Problem> {
    let coordinator = app.coordinator();
    // What is judged again below may be judged by an old state here.
    if !coordinator.is_auth_enabled() && JUDGED.contains(&path) || OPEN.contains(&path) {
        return Ok(());
    }
    let store = coordinator.snapshot().await?;
    if JUDGED.contains(&path) {
        coordinator.user(&store)?;
    } else {
        coordinator.may_administer(&store)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, token: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        let expected = token.map_or(Caller::Anonymous, |token| Caller::Token(authn::digest(token)));
        assert_eq!(caller(&headers), expected, "{value}");
    }

    #[test]
    fn a_token_comes_alone_or_as_bearer() {
        check("abc.1", Some("abc.1"));
        check("Bearer abc.1", Some("abc.1"));
        check("bearer  abc.1 ", Some("abc.1"));
        check("Basic abc", Some("Basic abc"));
        check("", None);
        check("Bearer ", Some("Bearer"));
        assert_eq!(caller(&HeaderMap::new()), Caller::Anonymous);
    }
}
