//! Calls by name: a method is a request to a service, under a name that hides where it is.

pub(crate) mod builtin;
pub(crate) mod request;
pub(crate) mod template;

use std::future::Future;
use std::pin::Pin;

use api::gateway::{MethodSpec, RpcId, RpcRequest, RpcResponse, RpcStatus};
use api::headers::IDEMPOTENCY_KEY;
use api::problem::{Code, ProblemDetails};
use bytes::{Bytes, BytesMut};
use chassis::clock::Clock;
use chassis::problem::Problem;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use resilience::retry::Repeat;
use serde_json::value::{RawValue, to_raw_value};

use crate::body::{BoxBody, full};
use crate::edge;
use crate::gateway::{Gateway, Outbound};
use crate::registry::{Registry, RegistryError};
use crate::table::{Policy, SERVICE_POLICY};

use self::builtin::Builtin;
use self::request::Built;
use self::template::Template;

/// The largest answer of a method, which is gathered before it is wrapped.
pub(crate) const ANSWER_MAX_BYTES: usize = 8 * 1024 * 1024;
/// The longest method name of a call that is looked at.
const NAME_MAX_BYTES: usize = api::gateway::MAX_NAME_BYTES;

/// Calls methods. Clones share everything.
#[derive(Clone)]
pub(crate) struct Rpc {
    pub gateway: Gateway,
    pub methods: Registry<MethodSpec>,
}

/// What of the HTTP request matters to a call.
pub(crate) struct Caller {
    pub headers: HeaderMap,
    pub deadline: Option<std::time::Instant>,
}

/// What a call came to, before it is wrapped.
struct Outcome {
    status: StatusCode,
    retry_after: Option<HeaderValue>,
    result: Result<Option<Box<RawValue>>, Failed>,
}

struct Failed {
    error: String,
    code: String,
    data: Option<Box<RawValue>>,
}

/// The envelope with the HTTP status and header that go with it.
pub(crate) struct Reply {
    pub status: StatusCode,
    pub retry_after: Option<HeaderValue>,
    pub envelope: RpcResponse,
}

/// A call that is ready to be sent.
enum Prepared {
    /// The gateway answers it itself.
    Done(Outcome),
    Send {
        outbound: Box<Outbound>,
        shape: Shape,
    },
}

/// How a service's success becomes `data`.
enum Shape {
    AsIs,
    Value(Box<RawValue>),
    Written(Box<RawValue>),
}

impl Rpc {
    /// Makes one call. Whatever happens is in the envelope.
    pub(crate) async fn call(&self, call: RpcRequest, caller: Caller, clock: &Clock) -> Reply {
        let prepared = match Builtin::find(&call.method) {
            Some(builtin) => built_in(builtin, call.data, &caller),
            None => match self.methods.known().await {
                Ok(methods) => match methods.entries.get(&call.method) {
                    Some(spec) => registered(spec, call.data.as_deref(), &caller),
                    None => Prepared::Done(Outcome::unknown_method(&call.method)),
                },
                Err(error) => Prepared::Done(Outcome::registry(&error)),
            },
        };
        let outcome = match prepared {
            Prepared::Done(outcome) => outcome,
            Prepared::Send { outbound, shape } => {
                match fetch(self.gateway.clone(), *outbound).await {
                    Ok((head, body)) => answer(&head, &body, &shape),
                    Err(problem) => Outcome::problem(&problem),
                }
            }
        };
        wrap(call.id, outcome, clock.unix_ms())
    }
}

/// A response that was read to its end.
pub(crate) type Fetched = Result<(http::response::Parts, Bytes), Problem>;

/// Sends the request and gathers the answer, within the call's time. Boxed: a proxied request is
/// a large future, and a call is not on the fast path.
pub(crate) fn fetch(
    gateway: Gateway,
    outbound: Outbound,
) -> Pin<Box<dyn Future<Output = Fetched> + Send>> {
    Box::pin(async move {
        let service = outbound.upstream.clone();
        let timeout = outbound.policy.timeout;
        let fetched = async {
            let response = gateway.send(outbound).await.map_err(edge::problem)?;
            gather(&service, response).await
        };
        tokio::time::timeout(timeout, fetched).await.unwrap_or_else(|_| {
            let detail = format!("`{service}` did not finish its answer in time");
            Err(Problem::new(Code::Indeterminate, detail))
        })
    })
}

fn built_in(method: Builtin, data: Option<Box<RawValue>>, caller: &Caller) -> Prepared {
    let Some(service) = method.service() else {
        return Prepared::Done(Outcome::ok(data));
    };
    let request = match builtin::build(method, data.as_deref()) {
        Ok(request) => request,
        Err(error) => {
            let failed = Outcome::failed(Code::InvalidRequest, error.to_string());
            return Prepared::Done(failed);
        }
    };
    let repeat = if caller.headers.contains_key(IDEMPOTENCY_KEY) {
        Repeat::Safe
    } else {
        // A conditional write is not: the second time, its own first one would fail it.
        Repeat::of(&request.built.method, &request.headers)
    };
    let mut outbound = outbound((service, SERVICE_POLICY, repeat), request.built, caller);
    outbound.head.headers.extend(request.headers);
    let shape = match (method, data) {
        (Builtin::KvGet, Some(data)) => Shape::Value(data),
        (Builtin::KvPut, Some(data)) => Shape::Written(data),
        _ => Shape::AsIs,
    };
    Prepared::Send { outbound: Box::new(outbound), shape }
}

fn registered(spec: &MethodSpec, data: Option<&RawValue>, caller: &Caller) -> Prepared {
    let template = match Template::parse(&spec.path) {
        Ok(template) => template,
        // Written by something else than a gateway.
        Err(error) => return Prepared::Done(Outcome::failed(Code::Conflict, error.to_string())),
    };
    let built = match request::build(spec, &template, data) {
        Ok(built) => built,
        Err(error) => {
            let failed = Outcome::failed(Code::InvalidRequest, error.to_string());
            return Prepared::Done(failed);
        }
    };
    let repeat = match spec.idempotent {
        Some(true) => Repeat::Safe,
        Some(false) if !caller.headers.contains_key(IDEMPOTENCY_KEY) => Repeat::Unsafe,
        Some(false) | None => Repeat::of(&built.method, &caller.headers),
    };
    let timeout = std::time::Duration::from_millis(spec.timeout_ms);
    let policy = Policy { timeout, ..SERVICE_POLICY };
    let outbound = outbound((spec.service.as_str(), policy, repeat), built, caller);
    Prepared::Send { outbound: Box::new(outbound), shape: Shape::AsIs }
}

/// Reads a response to its end, up to a bound.
async fn gather(service: &str, response: Response<BoxBody>) -> Fetched {
    let (head, mut body) = response.into_parts();
    let mut gathered = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let detail = format!("the answer of `{service}` was cut off: {error}; repeat the call");
            Problem::new(Code::BadGateway, detail)
        })?;
        if let Ok(data) = frame.into_data() {
            gathered.extend_from_slice(&data);
        }
        if ANSWER_MAX_BYTES < gathered.len() {
            let detail = format!(
                "the answer of `{service}` is larger than {ANSWER_MAX_BYTES} bytes; ask for less, \
                 or ask the service itself"
            );
            return Err(Problem::new(Code::BadGateway, detail));
        }
    }
    Ok((head, gathered.freeze()))
}

fn outbound(
    (service, policy, repeat): (&str, Policy, Repeat),
    built: Built,
    caller: &Caller,
) -> Outbound {
    let mut request = Request::new(());
    *request.method_mut() = built.method;
    *request.uri_mut() = built.uri;
    for name in [AUTHORIZATION, http::HeaderName::from_static(IDEMPOTENCY_KEY)] {
        if let Some(value) = caller.headers.get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    if let Some(content_type) = built.content_type {
        request.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    let (head, ()) = request.into_parts();
    Outbound {
        upstream: service.to_owned(),
        head,
        body: full(built.body),
        policy,
        deadline: caller.deadline,
        repeat,
        upgrade: None,
        waits: false,
    }
}

/// What a service's answer means to the caller.
fn answer(head: &http::response::Parts, body: &Bytes, shape: &Shape) -> Outcome {
    let data = as_json(&head.headers, body);
    if head.status.is_success() {
        return Outcome::ok(match shape {
            Shape::AsIs => data,
            Shape::Value(asked) => Some(builtin::read_value(asked, &head.headers, body)),
            Shape::Written(asked) => Some(builtin::written(asked, &head.headers)),
        });
    }
    let problem: Option<ProblemDetails> = serde_json::from_slice(body).ok();
    let (error, code) = match problem.filter(|problem| !problem.code.is_empty()) {
        Some(problem) => (problem.detail, problem.code),
        None => (format!("the service answered {}", head.status), Code::BadGateway.to_string()),
    };
    // A redirect or an informational answer is nothing that a caller of a method could use.
    let is_error = head.status.is_client_error() || head.status.is_server_error();
    Outcome {
        status: if is_error { head.status } else { StatusCode::BAD_GATEWAY },
        retry_after: head.headers.get(RETRY_AFTER).cloned(),
        result: Err(Failed { error, code, data }),
    }
}

/// JSON as it is, other text as a string, nothing as null, bytes as base64.
fn as_json(headers: &HeaderMap, body: &Bytes) -> Option<Box<RawValue>> {
    if body.is_empty() {
        return None;
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let text = std::str::from_utf8(body).ok();
    if let Some(text) = text.filter(|_| content_type.is_some_and(builtin::is_json))
        && let Ok(raw) = RawValue::from_string(text.to_owned())
    {
        return Some(raw);
    }
    match text {
        Some(text) => to_raw_value(text).ok(),
        None => {
            use base64::Engine as _;
            let base64 = base64::engine::general_purpose::STANDARD.encode(body);
            to_raw_value(&serde_json::json!({ "base64": base64 })).ok()
        }
    }
}

impl Outcome {
    fn ok(data: Option<Box<RawValue>>) -> Self {
        Self { status: StatusCode::OK, retry_after: None, result: Ok(data) }
    }

    fn failed(code: Code, error: String) -> Self {
        let failed = Failed { error, code: code.to_string(), data: None };
        let status = StatusCode::from_u16(code.status()).expect("codes have statuses of HTTP");
        Self { status, retry_after: None, result: Err(failed) }
    }

    fn unknown_method(name: &str) -> Self {
        let name: String = name.chars().take(NAME_MAX_BYTES).collect();
        let detail = format!("method {name} not found; GET /v1/methods lists them");
        Self::failed(Code::MethodNotFound, detail)
    }

    fn problem(problem: &Problem) -> Self {
        Self::failed(problem.code(), problem.details().detail.clone())
    }

    fn registry(error: &RegistryError) -> Self {
        Self::failed(Code::Unavailable, error.to_string())
    }
}

fn wrap(id: Option<RpcId>, outcome: Outcome, unix_ms: u64) -> Reply {
    let (status, data, error, code) = match outcome.result {
        Ok(data) => (RpcStatus::Ok, data, None, None),
        Err(failed) => (RpcStatus::Error, failed.data, Some(failed.error), Some(failed.code)),
    };
    let timestamp = timestamp(unix_ms);
    let needs_wait =
        matches!(outcome.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let default = needs_wait.then(|| HeaderValue::from_static("1"));
    Reply {
        status: outcome.status,
        retry_after: outcome.retry_after.or(default),
        envelope: RpcResponse { id, status, data, error, code, timestamp },
    }
}

/// RFC 3339 with milliseconds, in UTC.
fn timestamp(unix_ms: u64) -> String {
    let nanos = i128::from(unix_ms) * 1_000_000;
    let at = time::OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_has_milliseconds_and_utc() {
        assert_eq!(timestamp(1_769_860_800_123), "2026-01-31T12:00:00.123Z");
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn text_and_bytes_become_json() {
        let headers = |content_type: &'static str| {
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))])
        };
        let json = |content_type, body: &'static [u8]| {
            as_json(&headers(content_type), &Bytes::from_static(body))
                .map(|raw| raw.get().to_owned())
        };
        assert_eq!(json("application/json", b"{\"a\": 1.0}").unwrap(), "{\"a\": 1.0}");
        assert_eq!(json("application/json", b"{").unwrap(), "\"{\"");
        assert_eq!(json("text/plain", b"hi").unwrap(), "\"hi\"");
        assert_eq!(json("x/y", b"\xff").unwrap(), "{\"base64\":\"/w==\"}");
        assert_eq!(json("application/json", b""), None);
    }
}
