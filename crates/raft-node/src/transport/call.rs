//! One request to a node, on a connection of its own: who it is, and who the members are.

use std::time::Duration;

use bytes::Bytes;
use consensus::NodeId;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::Transport;
use super::connect::{LinkError, authority, dial, words};
use super::service::{CLUSTER, IDENTITY, MEMBERS, TO};
use crate::identity::NodeCard;
use crate::members::{Envelope, Outcome};

/// The longest answer, in bytes.
const ANSWER_MAX: usize = 256 << 10;

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nothing was done.
    #[error(transparent)]
    NotSent(LinkError),
    /// It may have been done.
    #[error(transparent)]
    Broken(LinkError),
}

/// Who asks, and on whose time.
pub(crate) struct Caller<'a> {
    pub(crate) tasks: &'a TaskTracker,
    pub(crate) cluster: u64,
    /// For connecting.
    pub(crate) connect_timeout: Duration,
}

impl Caller<'_> {
    async fn call(
        &self,
        (url, to): (&str, Option<NodeId>),
        (method, path): (Method, &str),
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        let authority = authority(url).map_err(CallError::NotSent)?;
        let socket = dial(&authority, self.connect_timeout).await.map_err(CallError::NotSent)?;
        let opened = http1::handshake(TokioIo::new(socket)).await;
        let (mut sender, connection) = opened.map_err(|error| CallError::NotSent(error.into()))?;
        let _connection = AbortOnDropHandle::new(self.tasks.spawn(async move {
            // Its end shows at the answer.
            let _ = connection.await;
        }));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, authority)
            .header(CLUSTER, format!("{:016x}", self.cluster));
        if let Some(to) = to {
            request = request.header(TO, format!("{:016x}", to.0));
        }
        let request = request.body(Full::new(body));
        let request = request.expect("its parts are numbers, constants and a parsed authority");
        let asked = async {
            let answer = sender.send_request(request).await;
            let answer = answer.map_err(|error| CallError::Broken(error.into()))?;
            let status = answer.status();
            if !status.is_success() {
                let detail = words(answer.into_body()).await;
                return Err(CallError::NotSent(LinkError::Status { status, detail }));
            }
            let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            let body = body.map_err(|_| CallError::Broken(LinkError::Silent))?;
            Ok(body.to_bytes())
        };
        timeout(limit, asked).await.unwrap_or(Err(CallError::Broken(LinkError::Timeout)))
    }

    /// What the node at this base URL says about itself.
    pub(crate) async fn identify(&self, url: &str) -> Result<NodeCard, CallError> {
        let request = (Method::GET, IDENTITY);
        let body = self.call((url, None), request, Bytes::new(), self.connect_timeout).await?;
        serde_json::from_slice(&body).map_err(|_| strange(url))
    }

    /// What becomes of a request about members at the node at this base URL.
    pub(crate) async fn ask(
        &self,
        (url, to): (&str, Option<NodeId>),
        envelope: &Envelope,
        limit: Duration,
    ) -> Result<Outcome, CallError> {
        let body = serde_json::to_vec(envelope).expect("ids and addresses are plain data");
        let request = (Method::POST, MEMBERS);
        let body = self.call((url, to), request, body.into(), limit).await?;
        serde_json::from_slice(&body).map_err(|_| strange(url))
    }
}

fn strange(url: &str) -> CallError {
    CallError::Broken(LinkError::Strange { url: url.to_owned() })
}

impl Transport {
    fn caller(&self) -> Caller<'_> {
        let config = &self.shared.config;
        let (cluster, connect_timeout) = (config.cluster, config.connect_timeout);
        Caller { tasks: &self.shared.tasks, cluster, connect_timeout }
    }

    /// As [`Caller::identify`].
    pub(crate) async fn identify(&self, url: &str) -> Result<NodeCard, CallError> {
        self.caller().identify(url).await
    }

    /// As [`Caller::ask`].
    pub(crate) async fn ask(
        &self,
        url: &str,
        to: Option<NodeId>,
        envelope: &Envelope,
        limit: Duration,
    ) -> Result<Outcome, CallError> {
        self.caller().ask((url, to), envelope, limit).await
    }
}
