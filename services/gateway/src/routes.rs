//! What a user route must be before it is stored.

use api::gateway::{MAX_ENDPOINTS, MAX_PATH_BYTES, MAX_RETRIES, MAX_TIMEOUT_MS, RouteSpec};

use crate::table::{RESERVED, is_below};
use crate::target::{TargetError, unambiguous};
use crate::upstream::{InvalidEndpoint, authority_of};

/// Why a route cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidRoute {
    #[error("name exactly one of `service` and `endpoints`")]
    OneTarget,
    #[error("at most {MAX_ENDPOINTS} endpoints; register them as a service instead")]
    TooManyEndpoints,
    #[error(transparent)]
    Endpoint(#[from] InvalidEndpoint),
    #[error("match needs a `host` or a `path_prefix`, else the route would take everything")]
    MatchesAll,
    #[error("match.host must be a host name without a port, or `*.` and one")]
    Host,
    #[error("match.path_prefix must begin with `/` and have no query")]
    Path,
    #[error("match.path_prefix: {0}")]
    AmbiguousPath(#[from] TargetError),
    #[error("match.path_prefix: `{0}` belongs to the gateway; choose another one")]
    Reserved(&'static str),
    #[error("policy.{field} must be 1 to {MAX_TIMEOUT_MS} ms")]
    Timeout { field: &'static str },
    #[error("policy.retries must be 0 to {MAX_RETRIES}")]
    Retries,
}

/// Checks what the types cannot say.
pub(crate) fn check(spec: &RouteSpec) -> Result<(), InvalidRoute> {
    if spec.service.is_some() != spec.endpoints.is_empty() {
        return Err(InvalidRoute::OneTarget);
    }
    if spec.endpoints.len() > MAX_ENDPOINTS {
        return Err(InvalidRoute::TooManyEndpoints);
    }
    for url in &spec.endpoints {
        authority_of(url)?;
    }
    if spec.matches.host.is_none() && spec.matches.path_prefix.is_none() {
        return Err(InvalidRoute::MatchesAll);
    }
    spec.matches.host.as_deref().map_or(Ok(()), host)?;
    spec.matches.path_prefix.as_deref().map_or(Ok(()), path_prefix)?;
    let policy = &spec.policy;
    for (field, value) in
        [("timeout_ms", policy.timeout_ms), ("per_try_timeout_ms", policy.per_try_timeout_ms)]
    {
        if value.is_some_and(|ms| !(1..=MAX_TIMEOUT_MS).contains(&ms)) {
            return Err(InvalidRoute::Timeout { field });
        }
    }
    if policy.retries.is_some_and(|retries| retries > MAX_RETRIES) {
        return Err(InvalidRoute::Retries);
    }
    Ok(())
}

fn host(host: &str) -> Result<(), InvalidRoute> {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'[' | b']');
    let v6 = name.starts_with('[') && name.ends_with(']');
    let plain = name.bytes().all(|c| allowed(c) || (v6 && c == b':'));
    let fits = (1..=253).contains(&name.len());
    if fits && plain { Ok(()) } else { Err(InvalidRoute::Host) }
}

fn path_prefix(path: &str) -> Result<(), InvalidRoute> {
    let plain = path.bytes().all(|c| c.is_ascii_graphic()) && !path.contains(['?', '#', '{']);
    if !path.starts_with('/') || path.len() > MAX_PATH_BYTES || !plain {
        return Err(InvalidRoute::Path);
    }
    unambiguous(path)?;
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(InvalidRoute::AmbiguousPath(TargetError::DotSegment));
    }
    match RESERVED.iter().find(|reserved| is_below(path, reserved)) {
        Some(reserved) => Err(InvalidRoute::Reserved(reserved)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_json(json: &str) -> Result<(), InvalidRoute> {
        check(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_route_is_a_match_and_a_target() {
        for good in [
            r#"{"match":{"path_prefix":"/shop"},"service":"shop"}"#,
            r#"{"match":{"host":"*.example.org"},"endpoints":["http://127.0.0.1:1"]}"#,
            r#"{"match":{"host":"[::1]"},"service":"shop","policy":{"retries":0,"timeout_ms":1}}"#,
        ] {
            assert_eq!(check_json(good), Ok(()), "{good}");
        }
        for bad in [
            r#"{"match":{"path_prefix":"/shop"}}"#,
            r#"{"match":{"path_prefix":"/s"},"service":"s","endpoints":["http://127.0.0.1:1"]}"#,
            r#"{"match":{},"service":"shop"}"#,
            r#"{"match":{"path_prefix":"shop"},"service":"shop"}"#,
            r#"{"match":{"path_prefix":"/a//b"},"service":"shop"}"#,
            r#"{"match":{"path_prefix":"/a/../b"},"service":"shop"}"#,
            r#"{"match":{"path_prefix":"/a?b"},"service":"shop"}"#,
            r#"{"match":{"path_prefix":"/broker/x"},"service":"shop"}"#,
            r#"{"match":{"path_prefix":"/v1"},"service":"shop"}"#,
            r#"{"match":{"host":"a:80"},"service":"shop"}"#,
            r#"{"match":{"host":"a b"},"service":"shop"}"#,
            r#"{"match":{"host":"a"},"endpoints":["127.0.0.1:1"]}"#,
            r#"{"match":{"host":"a"},"service":"s","policy":{"timeout_ms":0}}"#,
            r#"{"match":{"host":"a"},"service":"s","policy":{"retries":6}}"#,
        ] {
            assert!(check_json(bad).is_err(), "{bad}");
        }
    }
}
