//! What a request asks for: its host and path, judged before anything is routed.
//!
//! hyper checks the syntax of a request line and nothing of `Host`; rows `T1` to `T4` of the
//! checklist are here. What was judged is what is forwarded, byte for byte.

use http::Version;
use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::uri::Authority;

/// Why a request is refused before it is routed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("the request has no Host header; HTTP/1.1 needs exactly one")]
    HostMissing,
    #[error("the request has {count} Host headers; send exactly one")]
    HostRepeated { count: usize },
    #[error("the Host header is not `host` or `host:port`; correct it")]
    HostInvalid,
    #[error("the Host header contradicts the request's target; send the same host in both")]
    HostContradicts,
    #[error(
        "the header name `{name}` has an underscore, which servers confuse with a dash; rename it"
    )]
    Underscore { name: String },
    #[error("the path has a `.` or `..` segment; send the path that it stands for")]
    DotSegment,
    #[error("the path has {what}, which servers resolve differently; send a plain path")]
    Ambiguous { what: &'static str },
}

/// The host a request is for: lower case, without the port. `None` for HTTP/1.0 without `Host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// For routing.
    pub host: Option<String>,
    /// As the client sent it, for `X-Forwarded-Host`.
    pub authority: Option<HeaderValue>,
}

/// Judges host, header names and path of a request.
pub(crate) fn judge(parts: &Parts) -> Result<Target, TargetError> {
    if let Some(name) = parts.headers.keys().find(|name| name.as_str().contains('_')) {
        return Err(TargetError::Underscore { name: name.to_string() });
    }
    no_dot_segments(parts.uri.path())?;
    host(parts)
}

/// RFC 9112 §3.2: one `Host`; the authority of the target, where there is one, wins.
fn host(parts: &Parts) -> Result<Target, TargetError> {
    let lines = parts.headers.get_all(HOST).iter().count();
    if lines > 1 {
        return Err(TargetError::HostRepeated { count: lines });
    }
    let line = parts.headers.get(HOST);
    let named = line.map(|line| authority(line.as_bytes())).transpose()?;
    let target = parts.uri.authority().cloned();
    if let Some(target) = &target {
        authority(target.as_str().as_bytes())?;
        if parts.version == Version::HTTP_2
            && let Some(named) = &named
            && !named.as_str().eq_ignore_ascii_case(target.as_str())
        {
            return Err(TargetError::HostContradicts);
        }
    }
    if parts.version == Version::HTTP_11 && line.is_none() {
        return Err(TargetError::HostMissing);
    }
    let chosen = target.or(named);
    Ok(Target {
        host: chosen.as_ref().map(|authority| authority.host().to_ascii_lowercase()),
        authority: chosen.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()),
    })
}

fn authority(text: &[u8]) -> Result<Authority, TargetError> {
    // `Authority` also takes `user@host`, which has no business in a Host.
    let plain = !text.is_empty() && !text.contains(&b'@');
    let parsed = plain.then(|| Authority::try_from(text).ok()).flatten();
    let has_port = |authority: &Authority| authority.as_str() != authority.host();
    let well = |authority: &Authority| {
        !authority.host().is_empty() && (!has_port(authority) || authority.port_u16().is_some())
    };
    parsed.filter(well).ok_or(TargetError::HostInvalid)
}

/// A server that resolves `..` would serve another path than the one that was routed (T3).
fn no_dot_segments(path: &str) -> Result<(), TargetError> {
    let dots = |segment: &str| {
        let plain = segment.replace("%2e", ".").replace("%2E", ".");
        plain == "." || plain == ".."
    };
    if path.split('/').any(dots) { Err(TargetError::DotSegment) } else { Ok(()) }
}

/// Judges a path for a user route, whose upstream may resolve more than ours do: no `//`, no
/// backslash, no encoded slash, backslash or NUL.
///
/// The services of Quartet take the rest of a path as it is, and their keys may hold all of
/// these, so the routes to them ask only for [`judge`].
pub(crate) fn unambiguous(path: &str) -> Result<(), TargetError> {
    let lower = path.to_ascii_lowercase();
    let found = [
        ("//", "an empty segment"),
        ("\\", "a backslash"),
        ("%2f", "an encoded slash"),
        ("%5c", "an encoded backslash"),
        ("%00", "an encoded NUL"),
    ];
    match found.into_iter().find(|(part, _)| lower.contains(part)) {
        Some((_, what)) => Err(TargetError::Ambiguous { what }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(version: Version, uri: &str, hosts: &[&[u8]]) -> Parts {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(HOST, HeaderValue::from_bytes(host).unwrap());
        }
        request.body(()).unwrap().into_parts().0
    }

    fn hosts(hosts: &[&[u8]]) -> Result<Option<String>, TargetError> {
        judge(&parts(Version::HTTP_11, "/x", hosts)).map(|target| target.host)
    }

    #[test]
    fn t1_exactly_one_valid_host() {
        assert_eq!(hosts(&[b"Shop.Example:8080"]), Ok(Some("shop.example".into())));
        assert_eq!(hosts(&[b"[::1]:80"]), Ok(Some("[::1]".into())));
        assert_eq!(hosts(&[]), Err(TargetError::HostMissing));
        assert_eq!(hosts(&[b"a", b"a"]), Err(TargetError::HostRepeated { count: 2 }));
        for bad in [&b""[..], b"a b", b"u@h", b"a/b", b":80", b"a:b:c", b"a:b", b"a:", b"\xff"] {
            assert_eq!(hosts(&[bad]), Err(TargetError::HostInvalid), "{bad:?}");
        }
        let old = judge(&parts(Version::HTTP_10, "/x", &[])).unwrap();
        assert_eq!(old.host, None);
    }

    #[test]
    fn t2_the_target_wins_over_host() {
        let both = parts(Version::HTTP_11, "http://a.example/x", &[b"b.example"]);
        let target = judge(&both).unwrap();
        assert_eq!(target.host.as_deref(), Some("a.example"));
        assert_eq!(target.authority.unwrap(), "a.example");
        let both = parts(Version::HTTP_2, "http://a.example/x", &[b"b.example"]);
        assert_eq!(judge(&both), Err(TargetError::HostContradicts));
    }

    #[test]
    fn t3_a_path_is_served_as_it_was_judged() {
        for bad in ["/a/../b", "/..", "/./a", "/a/%2e%2E/b", "/a/.%2e"] {
            let judged = judge(&parts(Version::HTTP_11, bad, &[b"a"]));
            assert_eq!(judged, Err(TargetError::DotSegment), "{bad}");
        }
        for good in ["/a..b/c.", "/...", "/a%2eb"] {
            assert!(judge(&parts(Version::HTTP_11, good, &[b"a"])).is_ok(), "{good}");
        }
        for bad in ["/a//b", "/a%2Fb", "/a%5cb", "/a%00", "/a\\b"] {
            assert!(unambiguous(bad).is_err(), "{bad}");
        }
        assert_eq!(unambiguous("/a/b%20c"), Ok(()));
    }

    #[test]
    fn t4_no_underscores_in_header_names() {
        let mut parts = parts(Version::HTTP_11, "/", &[b"a"]);
        parts.headers.insert("x_user", HeaderValue::from_static("root"));
        let refused = TargetError::Underscore { name: "x_user".into() };
        assert_eq!(judge(&parts), Err(refused));
    }
}
