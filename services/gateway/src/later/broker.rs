//! The broker as asynchronous calls need it, through its HTTP interface.

use api::broker::{Deliveries, Delivery, PeekedMessage};
use api::headers::{CORRELATION_ID, DEDUP_ID, IDEMPOTENCY_KEY};
use api::problem::{Code, ProblemDetails};
use bytes::Bytes;
use chassis::problem::Problem;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use resilience::retry::Repeat;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{CALLS, KEPT_SECONDS, RESULTS};
use crate::body::full;
use crate::gateway::{Gateway, Outbound};
use crate::rpc::fetch;
use crate::table::SERVICE_POLICY;

/// How long a gateway has for a call before it has to ask for more time.
const DEADLINE_SECONDS: u64 = 30;
/// Which of the services it is.
const SERVICE: &str = "broker";

/// See the module.
#[derive(Clone)]
pub(super) struct Broker {
    gateway: Gateway,
}

/// A queue that is not there yet.
struct Missing;

impl Broker {
    pub(super) fn new(gateway: Gateway) -> Self {
        Self { gateway }
    }

    /// Stores a message, once for each id. The queues are made if need be.
    pub(super) async fn send(&self, queue: &str, id: &str, body: Vec<u8>) -> Result<(), Problem> {
        let path = format!("/v1/queues/{queue}/messages");
        let (mut headers, body) = as_json(body);
        let value = HeaderValue::try_from(id).map_err(|error| Problem::internal(&error))?;
        for name in [DEDUP_ID, CORRELATION_ID, IDEMPOTENCY_KEY] {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
        let send = || self.exchange(Method::POST, &path, (headers.clone(), body.clone()));
        let sent: Result<Ignored, Missing> = read(send().await?)?;
        if sent.is_err() {
            self.make_queues().await?;
            let sent: Result<Ignored, Missing> = read(send().await?)?;
            sent.map_err(|Missing| gone(queue))?;
        }
        Ok(())
    }

    /// The message of this correlation, if it is there.
    pub(super) async fn peek(
        &self,
        queue: &str,
        id: &str,
    ) -> Result<Option<PeekedMessage>, Problem> {
        let path = format!("/v1/queues/{queue}/peek?correlation_id={id}");
        let answer = self.exchange(Method::GET, &path, Default::default()).await?;
        let peeked: Result<api::broker::Peeked, Missing> = read(answer)?;
        Ok(peeked.ok().and_then(|peeked| peeked.messages.into_iter().next()))
    }

    /// Calls to carry out; `None`, if there is no queue of them.
    pub(super) async fn receive(&self, max: usize) -> Result<Option<Vec<Delivery>>, Problem> {
        let path = format!("/v1/queues/{CALLS}/receive");
        let body = json!({ "max": max, "wait_seconds": 20 }).to_string();
        let answer = self.exchange(Method::POST, &path, as_json(body)).await?;
        let received: Result<Deliveries, Missing> = read(answer)?;
        Ok(received.ok().map(|received| received.messages))
    }

    /// `ack` or `extend`.
    pub(super) async fn settle(&self, how: &str, ack_id: &str) -> Result<(), Problem> {
        let path = format!("/v1/queues/{CALLS}/{how}");
        let body = json!({ "ack_ids": [ack_id] }).to_string();
        let settled = self.exchange(Method::POST, &path, as_json(body)).await?;
        let settled: Result<Ignored, Missing> = read(settled)?;
        settled.map(drop).map_err(|Missing| gone(CALLS))
    }

    async fn make_queues(&self) -> Result<(), Problem> {
        let calls = json!({
            "ack_deadline_seconds": DEADLINE_SECONDS,
            "message_ttl_seconds": KEPT_SECONDS,
        });
        for (queue, spec) in
            [(RESULTS, json!({ "message_ttl_seconds": KEPT_SECONDS })), (CALLS, calls)]
        {
            let path = format!("/v1/queues/{queue}");
            let made = self.exchange(Method::PUT, &path, as_json(spec.to_string())).await?;
            let made: Result<Ignored, Missing> = read(made)?;
            made.map_err(|Missing| gone(queue))?;
        }
        Ok(())
    }

    /// All that is sent here may be sent twice.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        (headers, body): (HeaderMap, Bytes),
    ) -> Result<(StatusCode, Bytes), Problem> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| Problem::internal(&error))?;
        *request.headers_mut() = headers;
        let (head, ()) = request.into_parts();
        let outbound = Outbound {
            upstream: SERVICE.to_owned(),
            head,
            body: full(body),
            policy: SERVICE_POLICY,
            deadline: None,
            repeat: Repeat::Safe,
            upgrade: None,
            waits: true,
        };
        let (head, body) = fetch(self.gateway.clone(), outbound).await?;
        Ok((head.status, body))
    }
}

/// An answer of which only the status matters.
#[derive(Deserialize)]
struct Ignored {}

fn as_json(body: impl Into<Bytes>) -> (HeaderMap, Bytes) {
    let json = HeaderValue::from_static("application/json");
    (HeaderMap::from_iter([(CONTENT_TYPE, json)]), body.into())
}

fn read<T: DeserializeOwned>(
    (status, body): (StatusCode, Bytes),
) -> Result<Result<T, Missing>, Problem> {
    if status.is_success() {
        return serde_json::from_slice(&body).map(Ok).map_err(|error| {
            let detail = format!("the broker's answer cannot be read: {error}");
            Problem::new(Code::BadGateway, detail)
        });
    }
    let problem: Option<ProblemDetails> = serde_json::from_slice(&body).ok();
    let code = problem.as_ref().map(|problem| &*problem.code);
    if code == Some(&*Code::QueueNotFound.to_string()) {
        return Ok(Err(Missing));
    }
    let detail = problem.map_or_else(|| status.to_string(), |problem| problem.detail);
    let detail = format!("the broker, which carries asynchronous calls, refused: {detail}");
    let code = match status {
        StatusCode::TOO_MANY_REQUESTS => Code::Overloaded,
        StatusCode::GATEWAY_TIMEOUT => Code::Indeterminate,
        StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
        _ => Code::Unavailable,
    };
    Err(Problem::new(code, detail))
}

fn gone(queue: &str) -> Problem {
    let detail = format!("queue `{queue}` is being deleted; repeat shortly");
    Problem::new(Code::Unavailable, detail)
}
