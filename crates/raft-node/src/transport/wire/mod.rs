//! The bytes of a stream.
//!
//! ```text
//! frame = length: u32 LE, crc32c: u32 LE (of the body), body: protobuf [`schema::Frame`]
//! ```
//!
//! The first frame of a stream is a hello. An empty frame only says that the sender lives.
//!
//! **Invariant:** no input panics. What is damaged is an error and ends the stream; what is only
//! unknown, because the sender is newer, is skipped and counted.

mod forward;
mod message;
pub(super) mod schema;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use consensus::{GroupId, Index, NodeId, Term};
use prost::Message as _;

use super::frame::PeerFrame;

/// What this release speaks. Both sides must agree.
pub(super) const VERSION: u32 = 1;
/// The longest frame, in bytes: longer than any command with its surroundings.
pub(super) const FRAME_MAX: usize = 32 << 20;
/// The longest first frame: nobody reserves memory for strangers.
pub(super) const HELLO_MAX: usize = 4096;
/// No term and no index ever reaches this.
pub(super) const NUMBER_MAX: u64 = 1 << 62;
const HEADER: usize = 8;

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("a frame of {len} bytes, the limit is {max}")]
    TooLong { len: usize, max: usize },
    #[error("a frame does not have its checksum: it was damaged on the way")]
    Frame,
    #[error("a frame is not what this release reads")]
    Malformed(#[from] prost::DecodeError),
    #[error(
        "entry {index} of term {term} of group {group} does not have its checksum: the sender holds it damaged"
    )]
    Entry { group: GroupId, term: Term, index: Index },
    #[error("a message about group {group} speaks of entries or terms that cannot be")]
    Position { group: GroupId },
    #[error("the membership in a snapshot offer of group {group} cannot be read")]
    Membership { group: GroupId },
}

/// What a newer release says and this one does not understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    Message,
    EntryKind(u32),
}

/// Who opens a stream, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) version: u32,
    pub(super) cluster: u64,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) epoch: u64,
    /// Where the sender is reached; empty if it does not say.
    pub(super) url: String,
}

/// A frame as it came.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) hello: Option<Hello>,
    pub(super) frame: PeerFrame,
    /// Skipped.
    pub(super) unknown: Vec<Unknown>,
}

impl Hello {
    pub(super) fn encode(self) -> Bytes {
        let hello = schema::Hello {
            version: self.version,
            cluster: self.cluster,
            from: self.from.0,
            to: self.to.0,
            epoch: self.epoch,
            url: self.url,
        };
        let mut bytes = BytesMut::new();
        let frame = schema::Frame { hello: Some(hello), ..schema::Frame::default() };
        encode_body(&frame, &mut bytes);
        bytes.freeze()
    }
}

/// A frame that only says that the sender lives.
pub(super) const KEEPALIVE: [u8; HEADER] = [0; HEADER];

/// Appends a frame's bytes.
pub(super) fn encode(frame: &PeerFrame, bytes: &mut BytesMut) {
    let body = schema::Frame {
        hello: None,
        heartbeat: frame.heartbeat.map(Into::into),
        envelopes: frame.messages.iter().map(|(group, m)| message::encode(*group, m)).collect(),
        forwards: frame.forwards.iter().map(Into::into).collect(),
        replies: frame.replies.iter().copied().map(Into::into).collect(),
        marks: frame.marks.iter().map(Into::into).collect(),
    };
    encode_body(&body, bytes);
}

fn encode_body(body: &schema::Frame, bytes: &mut BytesMut) {
    let len = body.encoded_len();
    bytes.reserve(HEADER + len);
    // Whoever fills a frame bounds it far below 4 GiB.
    bytes.put_u32_le(u32::try_from(len).unwrap_or(u32::MAX));
    let crc_at = bytes.len();
    bytes.put_u32_le(0);
    body.encode(bytes).expect("a BytesMut grows as needed");
    let crc = crc32c::crc32c(&bytes[crc_at + 4..]);
    bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub(super) struct Decoder {
    buffer: BytesMut,
    /// The longest frame it takes.
    max: usize,
}

impl Decoder {
    pub(super) fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), max }
    }

    /// The first frame has come: from now on they may be long.
    pub(super) fn allow(&mut self, max: usize) {
        self.max = max;
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if it is here.
    pub(super) fn next(&mut self) -> Result<Option<Received>, DecodeError> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else { return Ok(None) };
        let [l0, l1, l2, l3, c0, c1, c2, c3] = *header;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if self.max < len {
            return Err(DecodeError::TooLong { len, max: self.max });
        }
        let missing = (HEADER + len).saturating_sub(self.buffer.len());
        if 0 < missing {
            // At once: growing step by step would copy a long frame several times.
            self.buffer.reserve(missing);
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        let body = self.buffer.split_to(len).freeze();
        if crc32c::crc32c(&body) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(DecodeError::Frame);
        }
        decode(body).map(Some)
    }
}

fn decode(body: Bytes) -> Result<Received, DecodeError> {
    let len = body.len();
    let mut wire = schema::Frame::decode(body)?;
    let hello = wire.hello.map(|hello| Hello {
        version: hello.version,
        cluster: hello.cluster,
        from: NodeId(hello.from),
        to: NodeId(hello.to),
        epoch: hello.epoch,
        url: hello.url,
    });
    let mut received = Received { hello, ..Received::default() };
    let frame = &mut received.frame;
    frame.heartbeat = wire.heartbeat.map(Into::into);
    frame.messages.reserve_exact(wire.envelopes.len());
    for mut envelope in wire.envelopes {
        if let Some(schema::Body::Append(append)) = &mut envelope.body {
            append.entries.iter_mut().for_each(|entry| message::detach(&mut entry.payload, len));
        }
        match message::decode(envelope)? {
            Ok(message) => frame.messages.push(message),
            Err(unknown) => received.unknown.push(unknown),
        }
    }
    for forward in &mut wire.forwards {
        message::detach(&mut forward.command, len);
        message::detach(&mut forward.trace, len);
    }
    frame.forwards = wire.forwards.into_iter().map(Into::into).collect();
    frame.replies = wire.replies.into_iter().map(Into::into).collect();
    frame.marks = wire.marks.iter().filter_map(schema::Mark::read).collect();
    Ok(received)
}

#[cfg(test)]
mod tests;
