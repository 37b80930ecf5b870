//! What peers ask of this node: one service to mount on the peer listener.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::problem::Code;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};

use super::peers::Shared;
use super::respond::{self, BodyError, PeerBody, problem};
use super::{connect, entries, inbound, snapshots};
use crate::members::Asked;

/// Who describes itself here, as JSON.
pub(super) const IDENTITY: &str = "/peer/v1/identity";
/// Requests about the members of a group are POSTed here.
pub(super) const MEMBERS: &str = "/peer/v1/members";
/// The longest of them, in bytes.
const REQUEST_MAX: usize = 64 << 10;
/// The cluster that the caller means, 16 hex digits. On requests, optional.
pub(super) const CLUSTER: &str = "x-quartet-cluster";
/// The node that the caller means, 16 hex digits. On requests, optional.
pub(super) const TO: &str = "x-quartet-to";

/// Answers what peers ask under `/peer/v1/`: streams, snapshots, who this node is.
///
/// With axum: `Router::new().route_service("/peer/v1/{*path}", service)`. The listener must not
/// bound the length of a request's body, for that of a stream has no end.
#[derive(Clone)]
pub struct PeerService {
    pub(super) shared: Arc<Shared>,
    /// Answers requests about members.
    pub(super) members: Option<Asked>,
    /// Has entries for members that lack some.
    pub(super) entries: Option<entries::Source>,
}

impl PeerService {
    /// With somebody who answers requests about members.
    pub(crate) fn with_members(self, asked: Asked) -> Self {
        Self { members: Some(asked), ..self }
    }

    /// With a log that entries are read from.
    pub(crate) fn with_entries(self, source: entries::Source) -> Self {
        Self { entries: Some(source), ..self }
    }

    /// Answers one request.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<PeerBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let (head, body) = request.into_parts();
        if let Err(detail) = self.check(&head.headers) {
            return problem(Code::Conflict, detail);
        }
        let path = head.uri.path();
        let is_get = head.method == Method::GET;
        if path == connect::STREAM {
            if head.method != Method::POST {
                return not_allowed("POST");
            }
            let body = body.map_err(Into::into).boxed_unsync();
            return inbound::accept(self.shared.clone(), body).await;
        }
        if path == IDENTITY {
            return if is_get {
                respond::json(&self.shared.identity.load())
            } else {
                not_allowed("GET")
            };
        }
        if path == MEMBERS {
            let Some(asked) = self.members.clone().filter(|_| head.method == Method::POST) else {
                return not_allowed("POST");
            };
            return match Limited::new(body, REQUEST_MAX).collect().await {
                Ok(body) => asked(body.to_bytes()).await,
                Err(_) => problem(Code::InvalidRequest, "the request is too long or broke off"),
            };
        }
        if entries::is_path(path) {
            let Some(source) = self.entries.clone().filter(|_| head.method == Method::POST) else {
                return not_allowed("POST");
            };
            let Some(asked) = entries::parse(path, head.uri.query()) else {
                return problem(Code::InvalidRequest, "name the group and `through`");
            };
            return match Limited::new(body, entries::REQUEST_MAX).collect().await {
                Ok(body) => entries::serve(&self.shared, source, asked, &body.to_bytes()),
                Err(_) => problem(Code::InvalidRequest, "the request is too long or broke off"),
            };
        }
        match snapshots::parse(path) {
            Some(_) if !is_get => not_allowed("GET"),
            Some((group, index)) => {
                snapshots::serve(&self.shared, group, index, &head.headers).await
            }
            None => {
                let here = "peers find streams, snapshots, entries, members and identity here";
                problem(Code::NotFound, here)
            }
        }
    }

    /// A caller that says whom it means is not served by somebody else.
    fn check(&self, headers: &HeaderMap) -> Result<(), String> {
        let config = &self.shared.config;
        for (name, ours) in [(CLUSTER, config.cluster), (TO, config.node.0)] {
            let Some(asked) = headers.get(name) else { continue };
            let ours = format!("{ours:016x}");
            if asked.as_bytes() != ours.as_bytes() {
                let hint = match name {
                    CLUSTER => "; compare the cluster.token of both",
                    _ => "",
                };
                return Err(format!("{name} is {asked:?}, of this node it is {ours}{hint}"));
            }
        }
        Ok(())
    }
}

fn not_allowed(method: &'static str) -> Response<PeerBody> {
    let mut response = problem(Code::MethodNotAllowed, format!("use {method}"));
    let allow = http::HeaderValue::from_static(method);
    response.headers_mut().insert(header::ALLOW, allow);
    response
}

impl<B> tower::Service<Request<B>> for PeerService
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    type Response = Response<PeerBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.handle(request).await) })
    }
}
