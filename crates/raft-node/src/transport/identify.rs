//! Asks a node who it is, before anything else is known of it.

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::Transport;
use super::connect::{LinkError, authority, dial, words};
use super::service::{CLUSTER, IDENTITY};
use crate::identity::NodeCard;

/// The longest card, in bytes.
const CARD_MAX: usize = 256 << 10;

impl Transport {
    /// What the node at this base URL says about itself.
    ///
    /// # Errors
    ///
    /// When it does not answer, is of another cluster, or says something else.
    pub(crate) async fn identify(&self, url: &str) -> Result<NodeCard, LinkError> {
        let limit = self.shared.config.connect_timeout;
        let authority = authority(url)?;
        let socket = dial(&authority, limit).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let _connection = AbortOnDropHandle::new(self.shared.tasks.spawn(async move {
            // Its end shows at the answer.
            let _ = connection.await;
        }));
        let request = Request::get(IDENTITY)
            .header(header::HOST, authority)
            .header(CLUSTER, format!("{:016x}", self.shared.config.cluster))
            .body(Empty::<Bytes>::new())
            .expect("its parts are a number, constants and a parsed authority");
        let asked = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            if !status.is_success() {
                let detail = words(answer.into_body()).await;
                return Err(LinkError::Status { status, detail });
            }
            let body = Limited::new(answer.into_body(), CARD_MAX).collect().await;
            let card = body.ok().and_then(|body| serde_json::from_slice(&body.to_bytes()).ok());
            card.ok_or_else(|| LinkError::Status { status, detail: "not a node's card".into() })
        };
        timeout(limit, asked).await.map_err(|_elapsed| LinkError::Timeout)?
    }
}
