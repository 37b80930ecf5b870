//! Wire types of the gateway: calls, methods, routes and what it knows of its upstreams.
//!
//! Paths are axum patterns. A name that fails its check is a 400 before anything else is looked
//! at.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Calls one method.
pub const RPC: &str = "/v1/rpc";
/// The answer of an asynchronous call.
pub const RPC_CALL: &str = "/v1/rpc/{id}";
/// All methods, built-in ones too.
pub const METHODS: &str = "/v1/methods";
/// One registered method.
pub const METHOD: &str = "/v1/methods/{name}";
/// All user routes.
pub const ROUTES: &str = "/v1/routes";
/// One user route.
pub const ROUTE: &str = "/v1/routes/{name}";
/// Every endpoint the gateway may call, with what it thinks of it.
pub const UPSTREAMS: &str = "/v1/upstreams";
/// What is registered in the coordinator.
pub const SERVICES: &str = "/v1/services";

/// Where registered methods are kept in the coordinator.
pub const METHOD_KEYS: &str = "quartet/methods/";
/// Where user routes are kept in the coordinator.
pub const ROUTE_KEYS: &str = "quartet/routes/";
/// Where service instances are kept in the coordinator: `<service>/<instance>` follows.
pub const SERVICE_KEYS: &str = "quartet/services/";

/// Longest name of a method, route or service, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest path of a method, path prefix of a route or URL of an endpoint, in bytes.
pub const MAX_PATH_BYTES: usize = 2048;
/// Longest timeout a method or route may ask for: by default no request takes longer than this
/// (`limits.request_timeout_seconds`).
pub const MAX_TIMEOUT_MS: u64 = 120_000;
/// Most repeats a route may ask for.
pub const MAX_RETRIES: u32 = 5;
/// Most endpoints one route may name.
pub const MAX_ENDPOINTS: usize = 64;

/// The name of a method, a route or a service: 1 to 128 of `a-z A-Z 0-9 . _ -`, not `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "orders.price")]
pub struct Name(String);

/// A name with a character, or of a length, that names may not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{shown}` is not a name: use 1 to {MAX_NAME_BYTES} letters, digits, dots, underscores and dashes"
)]
pub struct InvalidName {
    shown: String,
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let fits = (1..=MAX_NAME_BYTES).contains(&name.len());
        // A dot segment would be resolved away by every HTTP client.
        if fits && name.bytes().all(allowed) && name != "." && name != ".." {
            Ok(Self(name))
        } else {
            Err(InvalidName { shown: name.chars().take(40).collect() })
        }
    }
}

impl std::str::FromStr for Name {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::try_from(name.to_owned())
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One call. The caller's `id` comes back as it was.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RpcRequest {
    /// Chosen by the caller: a string or a number. Absent is answered as null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "42")]
    pub id: Option<RpcId>,
    /// A built-in or registered method.
    #[schema(example = "echo")]
    pub method: String,
    /// What the method is given. It reaches the service byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub data: Option<Box<RawValue>>,
}

/// A caller's id of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RpcId {
    /// Any text.
    Text(String),
    /// Any JSON number.
    Number(serde_json::Number),
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RpcStatus {
    /// The method answered.
    Ok,
    /// It did not, or answered with an error: see `error` and `code`.
    Error,
}

/// The answer to a call. The HTTP status says the same as `status`, in more detail.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RpcResponse {
    /// The caller's id, null if there was none.
    #[schema(value_type = Option<String>)]
    pub id: Option<RpcId>,
    /// `ok` or `error`.
    pub status: RpcStatus,
    /// What the method answered: its JSON as it was, other text as a string. With an error, what
    /// the service said about it, if it was JSON.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Box<RawValue>>,
    /// What went wrong and what to do about it; null if nothing did.
    pub error: Option<String>,
    /// The problem code behind `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When the gateway answered, RFC 3339 in UTC.
    #[schema(example = "2026-01-31T12:00:00.000Z")]
    pub timestamp: String,
}

/// An asynchronous call that is not answered yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RpcPending {
    /// Under which its answer will be: `GET /v1/rpc/{id}`.
    pub id: String,
    /// `pending`.
    pub status: String,
}

/// HTTP methods that RPC methods and routes may name.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// Read; `data` becomes the query.
    Get,
    /// Read without the body; `data` becomes the query.
    Head,
    /// The default; `data` becomes the body.
    #[default]
    Post,
    /// Replace; `data` becomes the body.
    Put,
    /// Change; `data` becomes the body.
    Patch,
    /// Remove; `data` becomes the query.
    Delete,
    /// Ask what is possible; `data` becomes the query.
    Options,
}

impl HttpMethod {
    /// As HTTP spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    /// Whether `data` travels in the body rather than in the query.
    pub const fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch)
    }
}

/// A registered method: a name for one request to one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MethodSpec {
    /// Which service answers: its name in the coordinator, or under `[upstreams]`.
    #[schema(example = "pricing")]
    pub service: Name,
    /// Where. `{field}` is filled in from that field of `data`.
    #[schema(example = "/v1/price/{sku}")]
    pub path: String,
    /// How. `POST` if absent.
    #[serde(default)]
    pub http_method: HttpMethod,
    /// How long a call may take, 1 to 120,000 ms. 15,000 if absent.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Whether a call may be sent twice when the answer to the first is lost. Absent: what the
    /// HTTP method says. Calls with an `Idempotency-Key` may always be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotent: Option<bool>,
}

/// Total timeout of methods and user routes that name none: 15 s.
pub const fn default_timeout_ms() -> u64 {
    15_000
}

/// One method as listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MethodView {
    /// Its name in a call.
    pub name: String,
    /// Whether it is part of the gateway and cannot be changed.
    pub built_in: bool,
    /// What a built-in method does and takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// What a registered method calls.
    #[serde(flatten)]
    pub spec: Option<MethodSpec>,
}

/// `GET /v1/methods`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MethodList {
    /// By name; built-in ones first.
    pub methods: Vec<MethodView>,
}

/// Which requests a route takes. What is absent matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteMatch {
    /// Host without a port, compared without case. `*.example.org` takes every name below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Whole path segments: `/shop` takes `/shop` and `/shop/x`, not `/shopping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "/shop")]
    pub path_prefix: Option<String>,
    /// HTTP methods; empty takes all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<HttpMethod>,
}

/// How an endpoint is chosen among those that are well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other.
    RoundRobin,
    /// Of two at random the one that is expected to answer sooner. Failures count as slow.
    #[default]
    LeastLatency,
}

/// How a route is served. What is absent has a safe default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RoutePolicy {
    /// From the request's arrival to the response's head, repeats included. 1 to 120,000 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The same for one attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout_ms: Option<u64>,
    /// Repeats of a failed request, 0 to 5, only where a repeat is safe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// How an endpoint is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance: Option<Balance>,
}

/// A user route: requests that match go to a service, or to fixed endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// Which requests. At least a host or a path prefix.
    #[serde(rename = "match")]
    pub matches: RouteMatch,
    /// The service that answers. Either this or `endpoints`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
    /// `http://host:port` of each endpoint. Either this or `service`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// Whether the path prefix is taken off before the request is passed on.
    #[serde(default)]
    pub strip_prefix: bool,
    /// How.
    #[serde(default)]
    pub policy: RoutePolicy,
}

/// One route as listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteView {
    /// Its name.
    pub name: String,
    /// What it does.
    #[serde(flatten)]
    pub spec: RouteSpec,
}

/// `GET /v1/routes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteList {
    /// By name.
    pub routes: Vec<RouteView>,
}

/// Whether an endpoint gets traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointHealth {
    /// It does.
    Healthy,
    /// Its breaker keeps traffic away, or lets a probe through.
    Ejected,
}

/// What a breaker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls flow.
    Closed,
    /// Calls are refused.
    Open,
    /// One call probes whether the endpoint is back.
    HalfOpen,
    /// The endpoint is back and gets a growing share of its calls.
    Recovering,
}

/// Where an endpoint is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointSource {
    /// The gateway's configuration, or a route.
    Static,
    /// Registered in the coordinator.
    Discovered,
}

/// The connections to one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolView {
    /// Open connections, those in use included.
    pub open: u64,
    /// Open and waiting for a request.
    pub idle: u64,
    /// Most that may be open at once.
    pub max: u64,
    /// Requests waiting for a connection.
    pub waiting: u64,
}

/// One endpoint of a service, and what this gateway thinks of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EndpointView {
    /// `http://host:port`.
    pub endpoint: String,
    /// The instance that registered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Where it is known from.
    pub source: EndpointSource,
    /// Whether it gets traffic.
    pub health: EndpointHealth,
    /// What its breaker does.
    pub breaker: BreakerState,
    /// When an open breaker lets the next call through, from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Requests sent and not fully answered.
    pub in_flight: u64,
    /// Moving average of the time to the response's head, failures counted as slow; null before
    /// the first answer.
    pub latency_ewma_ms: Option<f64>,
    /// Attempts since this endpoint became known.
    pub requests: u64,
    /// How many of them failed.
    pub failures: u64,
    /// Why the last one that failed did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Its connections.
    pub pool: PoolView,
}

/// One service as an upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamView {
    /// The service, or `route:<name>` for a route with its own endpoints.
    pub service: String,
    /// Repeats its retry budget would allow now.
    pub budget_left: u64,
    /// Its endpoints, by address.
    pub endpoints: Vec<EndpointView>,
}

/// `GET /v1/upstreams`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamList {
    /// By name.
    pub upstreams: Vec<UpstreamView>,
}

/// One registered instance of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    /// Its name.
    pub instance: String,
    /// Host name or IP address.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Free labels.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Free facts.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
}

/// One registered service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    /// Its name.
    pub service: String,
    /// Its instances, by name.
    pub instances: Vec<InstanceView>,
}

/// `GET /v1/services`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceList {
    /// Whether this is up to date. When not, it is the last that was heard of the coordinator.
    pub connected: bool,
    /// By name.
    pub services: Vec<ServiceView>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_checked_where_it_enters() {
        for good in ["a", "orders.price", "A_b-9", &"x".repeat(MAX_NAME_BYTES)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a%2f", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn data_keeps_the_callers_bytes() {
        let call: RpcRequest =
            serde_json::from_str(r#"{"id":1,"method":"m","data":{"n": 1.0000000000000000000001}}"#)
                .unwrap();
        assert_eq!(call.data.unwrap().get(), r#"{"n": 1.0000000000000000000001}"#);
    }

    #[test]
    fn an_id_is_text_or_a_number() {
        let id = |json: &str| serde_json::from_str::<RpcId>(json);
        assert_eq!(
            serde_json::to_string(&id("18446744073709551615").unwrap()).unwrap(),
            "18446744073709551615"
        );
        assert!(id(r#""a""#).is_ok());
        assert!(id("[1]").is_err());
        assert!(id("{}").is_err());
    }

    #[test]
    fn a_method_needs_only_a_service_and_a_path() {
        let spec: MethodSpec = serde_json::from_str(r#"{"service":"s","path":"/p"}"#).unwrap();
        assert_eq!(
            (spec.http_method, spec.timeout_ms, spec.idempotent),
            (HttpMethod::Post, 15_000, None)
        );
        let typo = serde_json::from_str::<MethodSpec>(r#"{"service":"s","path":"/p","methd":1}"#);
        assert!(typo.unwrap_err().to_string().contains("http_method"));
    }

    #[test]
    fn a_listed_built_in_method_has_no_target() {
        let view = MethodView {
            name: "echo".into(),
            built_in: true,
            summary: Some("answers what it is given".into()),
            spec: None,
        };
        let json = serde_json::to_string(&view).unwrap();
        assert_eq!(json, r#"{"name":"echo","built_in":true,"summary":"answers what it is given"}"#);
    }
}
