//! The HTTP exchange, from the replica's side.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;

use super::{HANDSHAKE_TIMEOUT, PeerError, STREAM};

/// Opens the exchange with `peer_url`. What is sent on `outbound` goes out; what comes in comes
/// out of the returned stream.
pub(super) async fn open(
    peer_url: &str,
    outbound: mpsc::Receiver<Bytes>,
    tasks: &TaskTracker,
) -> Result<impl Stream<Item = Result<Bytes, hyper::Error>> + Unpin + use<>, PeerError> {
    let exchange = exchange(peer_url, outbound, tasks);
    let response = tokio::time::timeout(HANDSHAKE_TIMEOUT, exchange);
    let response = response.await.map_err(|_elapsed| PeerError::Silent)??;
    if response.status() != StatusCode::OK {
        return Err(PeerError::Status(response.status()));
    }
    Ok(response.into_body().into_data_stream())
}

async fn exchange(
    peer_url: &str,
    outbound: mpsc::Receiver<Bytes>,
    tasks: &TaskTracker,
) -> Result<http::Response<hyper::body::Incoming>, PeerError> {
    let authority = authority(peer_url);
    let socket = TcpStream::connect(&authority).await.map_err(PeerError::Connect)?;
    socket.set_nodelay(true).map_err(PeerError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    // It ends with its two bodies.
    tasks.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a peer ended");
        }
    });
    let frames = ReceiverStream::new(outbound).map(|data| Ok::<_, Infallible>(Frame::data(data)));
    let request = Request::post(STREAM)
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .body(StreamBody::new(frames))
        .expect("the parts of this request are constant or were checked with the configuration");
    Ok(sender.send_request(request).await?)
}

/// `host:port` of a URL that `Config::validate` has seen.
fn authority(url: &str) -> String {
    let uri: Uri = url.parse().unwrap_or_default();
    let host = uri.host().unwrap_or("localhost");
    format!("{host}:{}", uri.port_u16().unwrap_or(80))
}
