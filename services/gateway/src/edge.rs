//! One request through the gateway: judged, routed, cleaned, sent on.
//!
//! This is the router's fallback: whatever is not a path of the gateway itself comes here. Bodies
//! are streamed in both directions; nothing in here waits for the end of one.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use api::problem::Code;
use bytes::Bytes;
use chassis::deadline::Deadline;
use chassis::problem::Problem;
use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri, Version};
use hyper::upgrade::OnUpgrade;
use resilience::retry::Repeat;
use tower::Service;

use crate::body::{BoxBody, BoxError, boxed};
use crate::call::{CallError, Upgrade};
use crate::gateway::{Gateway, Outbound};
use crate::headers::{Client, to_upstream, upgrade_of};
use crate::table::Destination;
use crate::target::{self, Target, TargetError};

/// The service behind every path that is not the gateway's own.
#[derive(Clone)]
pub(crate) struct Edge {
    gateway: Gateway,
}

/// An upstream's response, or why there is none.
pub(crate) type Answer = Result<Response<BoxBody>, Problem>;

impl Edge {
    pub(crate) fn new(gateway: Gateway) -> Self {
        Self { gateway }
    }
}

impl<B> Service<Request<B>> for Edge
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let gateway = self.gateway.clone();
        let (parts, body) = request.into_parts();
        Box::pin(async move { Ok(pass(&gateway, parts, boxed(body)).await) })
    }
}

/// Passes one request on.
async fn pass(gateway: &Gateway, mut head: Parts, body: BoxBody) -> Answer {
    let target = target::judge(&head).map_err(refuse)?;
    let destination = route(gateway, &target, &head)?;
    if !destination.ours {
        target::unambiguous(head.uri.path()).map_err(refuse)?;
    }
    refuse_loop(gateway, &head)?;
    let deadline = head.extensions.get::<Deadline>().map(|deadline| deadline.0);
    let upgrade = take_upgrade(&mut head);
    let client = Client { address: peer(&head), host: target.authority.clone() };
    let repeat = Repeat::of(&head.method, &head.headers);
    to_upstream(&mut head.headers, &client, &gateway.shared.us, head.version);
    if let Some(host) = target.authority {
        // Whoever routed by this host and whoever is served by it must mean the same (T2).
        head.headers.insert(HOST, host);
    }
    let waits = destination.ours && is_long_poll(&destination.target);
    head.uri = Uri::from(destination.target);
    head.version = Version::HTTP_11;
    let Destination { upstream, policy, .. } = destination;
    let outbound = Outbound { upstream, head, body, policy, deadline, repeat, upgrade, waits };
    gateway.send(outbound).await.map_err(problem)
}

fn route(gateway: &Gateway, target: &Target, head: &Parts) -> Result<Destination, Problem> {
    let root = PathAndQuery::from_static("/");
    let asked = head.uri.path_and_query().unwrap_or(&root);
    let table = gateway.shared.table.load();
    table.find(target.host.as_deref(), asked, head.method.as_str()).ok_or_else(|| {
        let path: String = asked.path().chars().take(200).collect();
        let detail = format!(
            "nothing is routed at {path}; use /coordinator/…, /broker/…, /replica/…, or add a \
             route with PUT /v1/routes/{{name}}"
        );
        Problem::new(Code::RouteNotFound, detail)
    })
}

fn refuse_loop(gateway: &Gateway, head: &Parts) -> Result<(), Problem> {
    if !gateway.shared.us.is_in(&head.headers) {
        return Ok(());
    }
    let detail = "this request has come back to the gateway that passed it on: a route or an \
                  endpoint leads to the gateway itself; correct it";
    Err(Problem::new(Code::BadGateway, detail))
}

/// HTTP/1.1 only: HTTP/2 changes protocols in another way, which is not offered (U4).
fn take_upgrade(head: &mut Parts) -> Option<Upgrade> {
    let protocol = upgrade_of(&head.headers).filter(|_| head.version == Version::HTTP_11)?;
    // A body would arrive as part of the tunnel.
    if head.headers.contains_key(CONTENT_LENGTH) {
        return None;
    }
    let client = head.extensions.remove::<OnUpgrade>()?;
    Some(Upgrade { protocol, client })
}

/// The paths of our services that wait when they are asked to; those that say so in their body do
/// so at these two.
fn is_long_poll(target: &PathAndQuery) -> bool {
    let asks = target.query().is_some_and(|query| query.contains("wait_seconds="));
    asks || target.path().ends_with("/pull") || target.path().ends_with("/receive")
}

fn peer(head: &Parts) -> Option<IpAddr> {
    chassis::peer_address(&head.extensions).map(|address| address.ip())
}

fn refuse(error: TargetError) -> Problem {
    Problem::from_error(Code::InvalidRequest, &error)
}

/// Maps what went wrong on the way to an upstream.
pub(crate) fn problem(error: CallError) -> Problem {
    let code = match &error {
        CallError::Client(error) => {
            let cause = error.source().unwrap_or(error);
            return chassis::extract::unreadable(cause);
        }
        CallError::NoEndpoint { .. } => Code::NoEndpoint,
        CallError::AllEjected { retry_after, .. } => {
            let retry_after = *retry_after;
            return Problem::from_error(Code::BreakerOpen, &error).retry_after(retry_after);
        }
        CallError::Draining { .. } => Code::Unavailable,
        CallError::DeadlineExceeded { .. } => Code::DeadlineExceeded,
        CallError::Unreachable { .. } => Code::Unreachable,
        CallError::BadAnswer { .. } => Code::BadGateway,
        CallError::Busy { .. } => Code::Overloaded,
        CallError::Timeout { .. } => Code::UpstreamTimeout,
        CallError::Indeterminate { .. } => Code::Indeterminate,
    };
    Problem::from_error(code, &error)
}
