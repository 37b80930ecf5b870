//! What browsers may do: by which names this node may be called, and whose pages may read what it
//! answers. Only stands before the handlers where something is restricted.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::problem::Code;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use chassis::problem::Problem;

use super::etcd::cors;
use crate::config::{self, ANY};

/// What is restricted; `None` of a list is "any".
#[derive(Debug)]
pub(super) struct Access {
    hosts: Option<BTreeSet<String>>,
    origins: Option<BTreeSet<String>>,
}

impl Access {
    /// `None` if everybody may do everything.
    pub(super) fn of(config: &config::Access) -> Option<Self> {
        let listed = |list: &[String], form: fn(&str) -> String| {
            let is_any = list.iter().any(|name| name == ANY);
            (!is_any).then(|| list.iter().map(|name| form(name)).collect())
        };
        let access =
            Self { hosts: listed(&config.hosts, bare), origins: listed(&config.origins, plain) };
        (access.hosts.is_some() || access.origins.is_some()).then_some(access)
    }

    fn knows(&self, host: &str) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.contains(&bare(host)))
    }

    /// The origin of the page that asks, if it may.
    fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let listed = self.origins.as_ref()?.contains(&plain(origin.to_str().ok()?));
        listed.then(|| origin.clone())
    }
}

/// A name as it is compared.
fn bare(host: &str) -> String {
    host.trim_matches(['[', ']']).to_ascii_lowercase()
}

/// An origin as browsers send it: without the port that goes without saying.
fn plain(origin: &str) -> String {
    let origin = origin.to_ascii_lowercase();
    let port = if origin.starts_with("https:") { ":443" } else { ":80" };
    origin.strip_suffix(port).unwrap_or(&origin).to_owned()
}

/// The name that a request calls this node by, without a port.
fn host(request: &Request) -> &str {
    // HTTP/2 has it in the URI.
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let named = || request.headers().get(header::HOST)?.to_str().ok();
    let authority = authority.or_else(named).unwrap_or_default();
    match authority.rsplit_once(':') {
        // The last colon of a bare IPv6 address is none before a port.
        Some((host, port))
            if !port.contains(']') && (host.ends_with(']') || !host.contains(':')) =>
        {
            host
        }
        _ => authority,
    }
}

/// The paths of an etcd.
fn is_etcds(path: &str) -> bool {
    matches!(path, "/health" | "/version")
        || ["/v3/", "/v3beta/"].iter().any(|face| path.starts_with(face))
}

pub(super) async fn guard(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    let is_etcds = is_etcds(request.uri().path());
    if !access.knows(host(&request)) {
        return misdirected(host(&request), is_etcds);
    }
    if !is_etcds || access.origins.is_none() {
        return next.run(request).await;
    }
    let origin = access.origin(request.headers());
    cors::only(next.run(request).await, origin)
}

/// For etcd's paths in its own words: scripts look for them.
fn misdirected(host: &str, is_etcds: bool) -> Response {
    let host: String = host.chars().take(300).collect();
    if !is_etcds {
        let detail = format!(
            "this node is not known as {host:?}; call it by a name it has, or add this one to \
             access.hosts"
        );
        return Problem::new(Code::Misdirected, detail).into_response();
    }
    let text = format!(
        "\netcd received your request, but the Host header was unrecognized.\n\n\
         To fix this, choose one of the following options:\n\
         - Enable TLS, then any HTTPS request will be allowed.\n\
         - Add the hostname you want to use to the whitelist in settings.\n  \
         - e.g. etcd --host-whitelist {host:?}\n\n\
         This requirement has been added to help prevent \"DNS Rebinding\" attacks \
         (CVE-2018-5702).\n\n"
    );
    (StatusCode::MISDIRECTED_REQUEST, [(header::X_CONTENT_TYPE_OPTIONS, "nosniff")], text)
        .into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_host_is_compared_without_its_port() {
        for (named, expected) in [
            ("a.example", "a.example"),
            ("A.example:2379", "a.example"),
            ("[::1]:2379", "::1"),
            ("[::1]", "::1"),
            ("::1", "::1"),
            ("", ""),
        ] {
            let request = Request::builder().header(header::HOST, named).body(Body::empty());
            assert_eq!(bare(host(&request.unwrap())), expected, "{named}");
        }
        let request = Request::builder().uri("http://b.example:1/v3/kv/put").body(Body::empty());
        assert_eq!(host(&request.unwrap()), "b.example");
    }

    #[test]
    fn an_origin_is_the_same_with_the_port_that_it_has_anyway() {
        assert_eq!(plain("https://A.example:443"), "https://a.example");
        assert_eq!(plain("http://a.example:80"), "http://a.example");
        assert_eq!(plain("http://a.example:443"), "http://a.example:443");
    }

    #[test]
    fn nothing_stands_before_the_handlers_where_everything_is_allowed() {
        assert!(Access::of(&config::Access::default()).is_none());
    }
}
