//! Changing the protocol, as WebSocket does.
//!
//! A tunnel begins only when the upstream has answered 101 with the protocol that was asked for
//! (U1): a proxy that believes the *request* lets a client speak past it to the upstream. From
//! there on no policy applies but the idle timeout (U3).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::body::{BoxBody, full};
use crate::call::Upgrade;
use crate::headers::to_client;
use crate::relay::Exchange;

/// Bytes moved at a time, in each direction.
const CHUNK_BYTES: usize = 16 * 1024;

/// Makes a tunnel out of an upstream's 101, or refuses it when nobody asked for it.
pub(crate) fn switch(
    upgrade: Option<Upgrade>,
    mut response: Response<Incoming>,
    exchange: Exchange,
    idle: Duration,
) -> Option<Response<BoxBody>> {
    let Upgrade { protocol, client } = upgrade?;
    let agreed = response.headers().get(UPGRADE).filter(|agreed| same_protocol(agreed, &protocol));
    let agreed = agreed?.clone();
    let upstream = hyper::upgrade::on(&mut response);
    let (mut head, _) = response.into_parts();
    to_client(&mut head.headers);
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(UPGRADE, agreed);
    head.extensions.clear();
    let tasks = exchange.connection.tasks();
    tasks.tracker.spawn(async move {
        tokio::select! {
            () = tunnel(client, upstream, idle) => (),
            () = tasks.stop.cancelled() => (),
        }
        // Until here the connection counted against the endpoint's bound.
        exchange.span.end();
        drop(exchange.connection);
    });
    Some(Response::from_parts(head, full("")))
}

/// RFC 9110 §7.8: protocol names compare without case.
fn same_protocol(one: &HeaderValue, other: &HeaderValue) -> bool {
    one.as_bytes().eq_ignore_ascii_case(other.as_bytes())
}

async fn tunnel(client: OnUpgrade, upstream: OnUpgrade, idle: Duration) {
    let (client, upstream) = match tokio::try_join!(client, upstream) {
        Ok(ends) => ends,
        Err(error) => {
            tracing::debug!(%error, "the upgrade was not completed");
            return;
        }
    };
    let (client_read, client_write) = tokio::io::split(TokioIo::new(client));
    let (upstream_read, upstream_write) = tokio::io::split(TokioIo::new(upstream));
    let moved = AtomicU64::new(0);
    let both = async {
        tokio::join!(
            pump(client_read, upstream_write, &moved),
            pump(upstream_read, client_write, &moved)
        );
    };
    tokio::select! {
        () = both => (),
        () = silence(&moved, idle) => tracing::debug!("an idle tunnel was closed"),
    }
}

/// Moves bytes until one side ends; the end is passed on, the other direction goes on.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicU64,
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(len @ 1..) = from.read(&mut chunk).await {
        moved.fetch_add(len as u64, Relaxed);
        if to.write_all(&chunk[..len]).await.is_err() {
            break;
        }
    }
    // The peer may be gone already; then there is nobody to tell.
    let _ = to.shutdown().await;
}

/// Ends when nothing moved in either direction for `idle`.
async fn silence(moved: &AtomicU64, idle: Duration) {
    let mut before = moved.load(Relaxed);
    loop {
        tokio::time::sleep(idle).await;
        let now = moved.load(Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
}
