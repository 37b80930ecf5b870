//! What primary and replica say to each other: frames of a length (4 bytes, little endian) and a
//! postcard message. Variants and fields are only ever added at the end.
//!
//! There is no checksum per frame: every entry carries the chained hash, which the replica
//! recomputes, and a snapshot ends with the digest of all its records.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ack::Confirmed;
use crate::command::Record;
use crate::digest::Sum;
use crate::handshake::{Hello, Plan, Refusal};
use crate::{Entry, Epoch, Epochs, Hash, Head, Index};

/// The largest frame. The largest command is a batch, well below.
pub const FRAME_MAX: usize = 32 * 1024 * 1024;

/// From the primary to a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromPrimary {
    /// The connection is of no use; it ends.
    Refused(Refusal),
    /// What is the hash of your entry at this index?
    Compare {
        /// Not above the replica's head.
        index: Index,
    },
    /// The handshake is done.
    Welcome {
        /// The primary's.
        epoch: Epoch,
        /// What happens next.
        plan: Plan,
        /// The common head, or what the snapshot is of.
        at: Head,
    },
    /// Consecutive entries after the last ones.
    Entries {
        /// The primary's.
        epoch: Epoch,
        /// Of this or earlier epochs.
        entries: Vec<Entry>,
        /// The primary's.
        commit: Index,
        /// See [`Stamp`].
        stamp: Stamp,
    },
    /// Nothing new, at least every heartbeat interval.
    Heartbeat {
        /// The primary's.
        epoch: Epoch,
        /// The primary's.
        commit: Index,
        /// See [`Stamp`].
        stamp: Stamp,
    },
    /// Part of a snapshot, in key order.
    Records {
        /// With their spaces.
        records: Vec<(Bytes, Record)>,
    },
    /// The snapshot is complete.
    SnapshotEnd {
        /// The digest of all records.
        root: Sum,
        /// The hash of the history's first entry.
        birth: Option<Hash>,
        /// Where its epochs begin.
        epochs: Epochs,
    },
}

/// "At this time of my clock, my log ended here."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The last index.
    pub last: Index,
    /// Milliseconds since 1970.
    pub now_ms: u64,
}

/// From a replica to the primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromReplica {
    /// First.
    Hello(Hello),
    /// The answer to a question; none if the entry is no longer there.
    Compared {
        /// At the index asked for.
        hash: Option<Hash>,
    },
    /// How far the replica is, at once after every change.
    Report {
        /// In memory.
        received: Index,
        /// On disk.
        durable: Index,
        /// In the engine.
        applied: Index,
    },
}

impl FromReplica {
    /// A report of these.
    #[must_use]
    pub const fn report(confirmed: Confirmed, applied: Index) -> Self {
        Self::Report { received: confirmed.received, durable: confirmed.durable, applied }
    }
}

/// A peer that does not speak this protocol.
#[derive(Debug, thiserror::Error)]
pub enum InvalidFrame {
    /// More than [`FRAME_MAX`].
    #[error("a frame of {0} bytes is longer than any we send")]
    TooLong(usize),
    /// Not one of our messages.
    #[error("a frame that is not a message of this protocol")]
    Malformed(#[source] postcard::Error),
}

const LENGTH_BYTES: usize = size_of::<u32>();

/// One frame.
pub fn encode(message: &impl Serialize) -> Bytes {
    let body = postcard::to_extend(message, vec![0; LENGTH_BYTES])
        .expect("a message is plain data, which postcard always encodes");
    let mut frame = BytesMut::from(Bytes::from(body));
    let length = u32::try_from(frame.len() - LENGTH_BYTES).expect("senders bound their batches");
    (&mut frame[..LENGTH_BYTES]).put_u32_le(length);
    frame.freeze()
}

/// Takes the first whole frame off `buffer`, if there is one.
pub fn decode<M: DeserializeOwned>(buffer: &mut BytesMut) -> Result<Option<M>, InvalidFrame> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if FRAME_MAX < length {
        return Err(InvalidFrame::TooLong(length));
    }
    if buffer.len() < LENGTH_BYTES + length {
        buffer.reserve(LENGTH_BYTES + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    postcard::from_bytes(&buffer.split_to(length)).map(Some).map_err(InvalidFrame::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(index: u64) -> FromReplica {
        let index = Index(index);
        FromReplica::Report { received: index, durable: index, applied: index }
    }

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        let sent = [report(1), report(300), report(70_000)];
        let bytes: Vec<u8> = sent.iter().flat_map(encode).collect();
        let mut buffer = BytesMut::new();
        let mut received = Vec::new();
        for byte in bytes {
            buffer.put_u8(byte);
            while let Some(message) = decode::<FromReplica>(&mut buffer).unwrap() {
                received.push(message);
            }
        }
        assert_eq!(received, sent);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_buffered() {
        let mut buffer = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        assert!(matches!(decode::<FromReplica>(&mut buffer), Err(InvalidFrame::TooLong(_))));
    }

    #[test]
    fn another_protocol_is_refused() {
        let mut buffer = BytesMut::from(&[1, 0, 0, 0, 0xee][..]);
        assert!(matches!(decode::<FromReplica>(&mut buffer), Err(InvalidFrame::Malformed(_))));
    }
}
