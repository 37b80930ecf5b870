//! Primary and replica, connected: one long HTTP exchange, entries one way, reports the other.
//!
//! The replica connects. Its request body carries its hello and its reports, the response body
//! the primary's entries; both are frames of [`replication::wire`]. The primary reads the log at
//! the replica's pace, so a slow replica costs it nothing but a place in the log.

mod connect;
pub(crate) mod follow;
mod install;
pub(crate) mod serve;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use replication::wire::{self, InvalidFrame};
use serde::de::DeserializeOwned;

/// Where a replica connects, on the peer listener.
pub(crate) const STREAM: &str = "/peer/v1/stream";

/// Frames that wait for the network.
pub(crate) const OUTBOUND_MAX: usize = 8;
/// A peer that says nothing for this long is gone. Heartbeats and reports come far more often.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How long connecting and each step of a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("cannot reach the peer")]
    Connect(#[source] std::io::Error),
    #[error("the connection to the peer failed")]
    Http(#[from] hyper::Error),
    #[error("the connection broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the peer answered {0}")]
    Status(http::StatusCode),
    #[error("the peer does not speak our protocol")]
    Frame(#[from] InvalidFrame),
    #[error("the peer sent an unexpected message")]
    Unexpected,
    #[error("the peer said nothing for too long")]
    Silent,
    #[error("the peer ended the connection")]
    Ended,
    #[error("the log cannot be read")]
    Log(#[from] crate::log::LogError),
    #[error("the storage engine failed")]
    Engine(#[from] crate::engine::EngineError),
    #[error("the snapshot's digest is not that of its records")]
    Digest,
    #[error("the owner has stopped")]
    Stopped,
}

/// Messages out of a body.
struct Frames<S> {
    body: S,
    buffer: BytesMut,
}

impl<S, E> Frames<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn new(body: S) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next message. Dropping the future loses nothing.
    async fn next<M: DeserializeOwned>(&mut self) -> Result<M, PeerError> {
        loop {
            if let Some(message) = wire::decode(&mut self.buffer)? {
                return Ok(message);
            }
            match tokio::time::timeout(SILENCE_MAX, self.body.next()).await {
                Ok(Some(Ok(data))) => self.buffer.extend_from_slice(&data),
                Ok(Some(Err(error))) => return Err(PeerError::Broken(error.into())),
                Ok(None) => return Err(PeerError::Ended),
                Err(_elapsed) => return Err(PeerError::Silent),
            }
        }
    }
}
