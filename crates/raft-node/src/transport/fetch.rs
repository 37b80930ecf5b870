//! Fetches a snapshot from a peer, across broken connections.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use consensus::{GroupId, Index, NodeId, Term};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming as IncomingBody;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use storage::snapshot::Snapshot;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::backoff::Backoff;
use super::connect::{LinkError, authority, dial, words};
use super::silence::heard_within;
use super::{Transport, service, snapshots};

/// Attempts in a row that bring nothing new before the fetch is given up.
const FRUITLESS_MAX: u32 = 8;
/// Times that a whole snapshot may arrive damaged.
const DAMAGED_MAX: u32 = 2;
/// The longest wait before the second attempt.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);

/// Why a snapshot was not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The source is no peer (any more).
    #[error("node {0} is not a peer")]
    UnknownPeer(NodeId),
    /// The source does not have this snapshot (any more). A newer one will be offered.
    #[error("the peer has no such snapshot: {detail}")]
    Gone {
        /// What it says.
        detail: String,
    },
    /// The source will not serve it.
    #[error("the peer refuses with status {status}: {detail}")]
    Refused {
        /// Its answer.
        status: u16,
        /// What it says.
        detail: String,
    },
    /// It is longer than this node holds in memory.
    #[error("the snapshot has {len} bytes, the limit is {max}")]
    TooLarge {
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// It does not have its checksum, more than once.
    #[error("the snapshot arrives damaged; the peer's disk may be failing")]
    Damaged,
    /// This node stops.
    #[error("this node is stopping")]
    Stopped,
    /// Connections fail or break, without progress.
    #[error("the snapshot cannot be fetched: no progress in {FRUITLESS_MAX} attempts")]
    GaveUp {
        /// The last one's end.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// How one attempt ended, if not with the whole snapshot.
enum Broken {
    /// For good.
    Final(FetchError),
    /// What has come so far is of another snapshot.
    Changed,
    /// Another attempt may go on from here.
    Retry(Box<dyn std::error::Error + Send + Sync>),
}

impl From<LinkError> for Broken {
    fn from(error: LinkError) -> Self {
        Self::Retry(error.into())
    }
}

/// What has come so far.
#[derive(Default)]
struct Partial {
    bytes: BytesMut,
    about: Option<About>,
}

/// What the source says about the snapshot.
struct About {
    etag: HeaderValue,
    term: Term,
    len: u64,
    crc: u32,
}

impl Transport {
    /// Fetches the snapshot of a group as of `index` from a peer, into memory. Goes on where a
    /// connection broke off, and checks the whole. It may take long; dropping the future ends it.
    ///
    /// # Errors
    ///
    /// When the peer does not have it, or there is no progress.
    pub(crate) async fn fetch(
        &self,
        from: NodeId,
        group: GroupId,
        index: Index,
    ) -> Result<Snapshot, FetchError> {
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => Err(FetchError::Stopped),
            fetched = self.fetch_whole(from, group, index) => fetched,
        }
    }

    async fn fetch_whole(
        &self,
        from: NodeId,
        group: GroupId,
        index: Index,
    ) -> Result<Snapshot, FetchError> {
        let mut partial = Partial::default();
        let mut backoff = Backoff::default();
        let (mut fruitless, mut damaged) = (0, 0);
        loop {
            let before = partial.bytes.len();
            let cause = match self.attempt(from, (group, index), &mut partial).await {
                Ok(()) => match partial.finish(index) {
                    Some(snapshot) => return Ok(snapshot),
                    None if damaged == DAMAGED_MAX => return Err(FetchError::Damaged),
                    None => {
                        damaged += 1;
                        tracing::warn!(peer = %from, %group, "a snapshot arrived damaged");
                        partial = Partial::default();
                        continue;
                    }
                },
                Err(Broken::Final(error)) => return Err(error),
                Err(Broken::Changed) => {
                    partial = Partial::default();
                    "the snapshot changed meanwhile".into()
                }
                Err(Broken::Retry(cause)) => cause,
            };
            fruitless = if before < partial.bytes.len() { 0 } else { fruitless + 1 };
            if fruitless == FRUITLESS_MAX {
                return Err(FetchError::GaveUp { cause });
            }
            if fruitless == 0 {
                backoff.reset();
            }
            let got = partial.bytes.len();
            tracing::info!(peer = %from, %group, got, %cause, "a snapshot's transfer broke off");
            let wait = backoff.next(BACKOFF_FIRST, self.shared.config.backoff_max);
            tokio::time::sleep(wait).await;
        }
    }

    /// One connection's worth.
    async fn attempt(
        &self,
        from: NodeId,
        (group, index): (GroupId, Index),
        partial: &mut Partial,
    ) -> Result<(), Broken> {
        let peer = self.shared.peer(from);
        let peer = peer.ok_or(Broken::Final(FetchError::UnknownPeer(from)))?;
        let authority = authority(&peer.url.borrow())?;
        let limit = self.shared.config.connect_timeout;
        let socket = dial(&authority, limit).await?;
        let opened = http1::handshake(TokioIo::new(socket)).await;
        let (mut sender, connection) = opened.map_err(LinkError::from)?;
        let _connection = AbortOnDropHandle::new(self.shared.tasks.spawn(async move {
            // Its end shows at the body.
            let _ = connection.await;
        }));
        let request = self.request(from, &authority, snapshots::path(group, index), partial);
        let answer = timeout(limit, sender.send_request(request)).await;
        let answer = answer.map_err(|_elapsed| LinkError::Timeout)?.map_err(LinkError::from)?;
        let mut body = self.begin(answer, partial).await?;
        loop {
            let next = heard_within(self.shared.config.silence, body.frame()).await;
            let Some(frame) = next.ok_or(LinkError::Silent)? else { break };
            let data = frame.map_err(LinkError::from)?.into_data().unwrap_or_default();
            partial.bytes.extend_from_slice(&data);
            peer.metrics.snapshot_received_bytes.add(data.len() as u64);
        }
        let len = partial.about.as_ref().map_or(0, |about| about.len);
        match (partial.bytes.len() as u64).cmp(&len) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => Err(Broken::Retry("the body ended early".into())),
            std::cmp::Ordering::Greater => Err(Broken::Changed),
        }
    }

    fn request(
        &self,
        to: NodeId,
        authority: &str,
        path: String,
        partial: &Partial,
    ) -> Request<Empty<Bytes>> {
        let config = &self.shared.config;
        let mut request = Request::get(path)
            .header(header::HOST, authority)
            .header(service::CLUSTER, format!("{:016x}", config.cluster))
            .header(service::TO, format!("{:016x}", to.0))
            .header(snapshots::FROM, format!("{:016x}", config.node.0));
        if let Some(about) = partial.about.as_ref().filter(|_| !partial.bytes.is_empty()) {
            request = request
                .header(header::RANGE, format!("bytes={}-", partial.bytes.len()))
                .header(header::IF_MATCH, &about.etag);
        }
        request.body(Empty::new()).expect("its parts are numbers, constants and a parsed authority")
    }

    /// Looks at the head of an answer.
    async fn begin(
        &self,
        answer: Response<IncomingBody>,
        partial: &mut Partial,
    ) -> Result<IncomingBody, Broken> {
        let (head, body) = answer.into_parts();
        let malformed = || Broken::Retry("the answer does not describe a snapshot".into());
        match head.status {
            StatusCode::OK => {
                let about = About::parse(&head.headers).ok_or_else(malformed)?;
                let max = self.shared.config.max_snapshot_bytes;
                if max < about.len {
                    return Err(Broken::Final(FetchError::TooLarge { len: about.len, max }));
                }
                partial.bytes.clear();
                partial.bytes.reserve(usize::try_from(about.len).unwrap_or(0));
                partial.about = Some(about);
                Ok(body)
            }
            // It was asked to be the same snapshot, from here on.
            StatusCode::PARTIAL_CONTENT if !partial.bytes.is_empty() => Ok(body),
            StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE => {
                Err(Broken::Changed)
            }
            status => {
                let limit = self.shared.config.connect_timeout;
                let detail = timeout(limit, words(body)).await.unwrap_or_default();
                Err(match status {
                    StatusCode::NOT_FOUND | StatusCode::GONE => {
                        Broken::Final(FetchError::Gone { detail })
                    }
                    status if status.is_client_error() => {
                        let status = status.as_u16();
                        Broken::Final(FetchError::Refused { status, detail })
                    }
                    status => LinkError::Status { status, detail }.into(),
                })
            }
        }
    }
}

impl About {
    fn parse(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name)?.to_str().ok();
        Some(Self {
            etag: headers.get(header::ETAG)?.clone(),
            term: Term(text(snapshots::TERM)?.parse().ok()?),
            len: text(header::CONTENT_LENGTH)?.parse().ok()?,
            crc: u32::from_str_radix(text(snapshots::CRC)?, 16).ok()?,
        })
    }
}

impl Partial {
    /// The snapshot, if its bytes are what the source holds.
    fn finish(&mut self, index: Index) -> Option<Snapshot> {
        let about = self.about.take()?;
        let bytes = std::mem::take(&mut self.bytes).freeze();
        let is_intact = crc32c::crc32c(&bytes) == about.crc;
        is_intact.then_some(Snapshot { index, term: about.term, bytes })
    }
}
