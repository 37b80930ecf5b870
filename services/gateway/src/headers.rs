//! Which header fields cross the gateway.
//!
//! A field that speaks of one connection ends here, in both directions and in trailers; what the
//! gateway says about the client is its own word and replaces whatever the client claimed.
//! The rows `H1` to `H6` of the checklist are tested at the foot and over sockets.

use std::net::IpAddr;

use api::headers::{FORWARDED_BY, TRACEPARENT, TRACESTATE};
use http::Version;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap,
    HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, VIA,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields that belong to one connection, whether or not `Connection` names them.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What a client may not have removed by naming it in `Connection`: an upstream would otherwise
/// see a request without its credentials or its origin, and trust it (golang/go#50580).
const NEVER_STRIPPED: [HeaderName; 6] =
    [HOST, CONTENT_LENGTH, AUTHORIZATION, COOKIE, SET_COOKIE, FORWARDED];

/// Claims about the client that only a proxy may make.
const CLAIMS: [HeaderName; 6] = [
    FORWARDED,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-real-ip"),
];

/// Removes what belongs to the connection the message came on. Used for requests, responses and
/// trailers alike.
///
/// Every `Connection` line counts: `HeaderMap::remove` would look at the first one only.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = connection_tokens(headers)
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            .filter(|name| !is_protected(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn is_protected(name: &HeaderName) -> bool {
    NEVER_STRIPPED.contains(name)
        || name.as_str().starts_with("x-forwarded-")
        || matches!(name.as_str(), TRACEPARENT | TRACESTATE)
}

fn connection_tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// The protocol a message wants to change to, if `Connection` says that it means it.
pub(crate) fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = connection_tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| asked).cloned()
}

/// Whether the client reads trailers: gRPC refuses to work without.
pub(crate) fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(TE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// Who sent a request, as far as the gateway itself can tell.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The address of the other end of the connection.
    pub address: Option<IpAddr>,
    /// What it asked for as host.
    pub host: Option<HeaderValue>,
}

/// What this gateway calls itself in `Via`.
#[derive(Clone, Debug)]
pub(crate) struct Pseudonym {
    name: String,
}

impl Pseudonym {
    /// Of this process: two gateways may have the same node name when one is behind the other.
    pub(crate) fn new(node: &str, random: u64) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let node: String = node.chars().map(plain).collect();
        Self { name: format!("{node}.{:08x}", random as u32) }
    }

    /// Whether a request has been here before: passing it on once more would go on forever.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(VIA).iter().filter_map(|line| line.to_str().ok());
        let mut hops = lines.flat_map(|line| line.split(','));
        hops.any(|hop| hop.split_ascii_whitespace().nth(1) == Some(self.name.as_str()))
    }

    /// RFC 9110 §7.6.3: a proxy adds itself.
    fn add_to(&self, headers: &mut HeaderMap, version: Version) {
        let version = match version {
            Version::HTTP_2 => "2.0",
            Version::HTTP_10 => "1.0",
            _ => "1.1",
        };
        headers.append(VIA, text(&format!("{version} {}", self.name)));
    }
}

/// Turns the header of a client's request into that of the request to an upstream. `Host`,
/// framing and per-attempt fields are added later.
pub(crate) fn to_upstream(
    headers: &mut HeaderMap,
    client: &Client,
    us: &Pseudonym,
    version: Version,
) {
    let te_trailers = accepts_trailers(headers);
    let announced = announced_trailers(headers);
    strip_hop_by_hop(headers);
    // The outbound body decides its own framing (F1); `Expect` was answered here (H7).
    headers.remove(CONTENT_LENGTH);
    headers.remove(EXPECT);
    headers.remove(HOST);
    headers.remove(FORWARDED_BY);
    for claim in &CLAIMS {
        headers.remove(claim);
    }
    if te_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    announce(headers, announced);
    if let Some(address) = client.address {
        headers.insert(X_FORWARDED_FOR, text(&address.to_string()));
    }
    if let Some(host) = &client.host {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    us.add_to(headers, version);
}

/// Turns the header of an upstream's response into that of the response to the client.
pub(crate) fn to_client(headers: &mut HeaderMap) {
    let announced = announced_trailers(headers);
    // RFC 9112 §6.3: a length beside a transfer coding is not to be believed (F4).
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
    announce(headers, announced);
}

/// The `Trailer` lines of a message. hyper writes only trailers that are announced, so they are
/// announced again on the next hop.
fn announced_trailers(headers: &HeaderMap) -> Vec<HeaderValue> {
    headers.get_all(TRAILER).iter().cloned().collect()
}

fn announce(headers: &mut HeaderMap, trailers: Vec<HeaderValue>) {
    for line in trailers {
        headers.append(TRAILER, line);
    }
}

/// A header value of text that is known to be printable ASCII.
pub(crate) fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("addresses, numbers and ids are printable ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn nobody() -> Client {
        Client { address: None, host: None }
    }

    fn pass(map: &mut HeaderMap, client: &Client) {
        to_upstream(map, client, &Pseudonym::new("gw", 1), Version::HTTP_11);
        assert_eq!(map.remove(VIA).unwrap(), "1.1 gw.00000001");
    }

    #[test]
    fn a_request_that_comes_back_is_recognized() {
        let us = Pseudonym::new("gate way", 7);
        let mut map = headers(&[("via", "1.0 fred, 1.1 other.00000007 (comment)")]);
        assert!(!us.is_in(&map));
        to_upstream(&mut map, &nobody(), &us, Version::HTTP_2);
        assert!(us.is_in(&map));
        assert_eq!(map.get_all(VIA).iter().next_back().unwrap(), "2.0 gate-way.00000007");
    }

    #[test]
    fn h1_connection_fields_end_here() {
        let mut map = headers(&[
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eA=="),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-kept", "1"),
        ]);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("x-kept", "1")]));
    }

    #[test]
    fn h2_every_connection_line_counts() {
        let mut map = headers(&[
            ("connection", "x-one"),
            ("connection", "close, X-Two"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
        ]);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("x-three", "3")]));
    }

    #[test]
    fn h3_a_client_cannot_have_credentials_or_origin_removed() {
        let mut map = headers(&[
            ("connection", "x-forwarded-for, authorization, traceparent, host"),
            ("authorization", "Bearer t"),
            ("traceparent", "00-1-2-01"),
        ]);
        let client = Client { address: Some("192.0.2.7".parse().unwrap()), host: None };
        pass(&mut map, &client);
        assert_eq!(map["authorization"], "Bearer t");
        assert_eq!(map["traceparent"], "00-1-2-01");
        assert_eq!(map["x-forwarded-for"], "192.0.2.7");
    }

    #[test]
    fn h4_te_keeps_trailers_and_nothing_else() {
        let mut map = headers(&[("te", "gzip, Trailers;q=1"), ("te", "trailers")]);
        pass(&mut map, &nobody());
        assert_eq!(map["te"], "trailers");
        let mut map = headers(&[("te", "gzip")]);
        pass(&mut map, &nobody());
        assert!(!map.contains_key("te"));
    }

    #[test]
    fn h6_claims_of_the_client_are_replaced() {
        let mut map = headers(&[
            ("forwarded", "for=10.0.0.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-real-ip", "10.0.0.1"),
            ("x-quartet-forwarded-by", "broker-1"),
        ]);
        let client = Client {
            address: Some("2001:db8::1".parse().unwrap()),
            host: Some(HeaderValue::from_static("shop.example")),
        };
        pass(&mut map, &client);
        let expected = headers(&[
            ("x-forwarded-for", "2001:db8::1"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-proto", "http"),
        ]);
        assert_eq!(map, expected);
    }

    #[test]
    fn f4_a_length_beside_a_transfer_coding_is_dropped() {
        let mut map = headers(&[("content-length", "3"), ("transfer-encoding", "chunked")]);
        to_client(&mut map);
        assert!(map.is_empty());
        let mut map = headers(&[("content-length", "3")]);
        to_client(&mut map);
        assert_eq!(map["content-length"], "3");
    }

    #[test]
    fn an_upgrade_needs_both_fields() {
        let upgrade = |lines| upgrade_of(&headers(lines));
        assert_eq!(upgrade(&[("upgrade", "websocket")]), None);
        assert_eq!(upgrade(&[("connection", "upgrade")]), None);
        let both = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        assert_eq!(upgrade(&both).unwrap(), "websocket");
    }
}
