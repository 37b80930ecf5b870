//! The messages on the wire, as protobuf.
//!
//! A field number is never used for something else. A reader skips fields it does not know, so a
//! new field must be one that an old reader may ignore; anything else needs a new
//! [`VERSION`](super::VERSION).
//!
//! Ids and epochs are drawn at random, hence `fixed64`; counters start small, hence `uint64`.

use bytes::Bytes;
use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Frame {
    /// Only in the first frame of a stream.
    #[prost(message, optional, tag = "1")]
    pub(crate) hello: Option<Hello>,
    #[prost(message, optional, tag = "2")]
    pub(crate) heartbeat: Option<Heartbeat>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) envelopes: Vec<Envelope>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) forwards: Vec<Forward>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) replies: Vec<ForwardReply>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) marks: Vec<Mark>,
}

/// An entry that is part of a trace.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Mark {
    #[prost(uint64, tag = "1")]
    pub(crate) group: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
    /// As in the header `traceparent`.
    #[prost(string, tag = "3")]
    pub(crate) trace: String,
}

/// Who opens a stream, and to whom.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Hello {
    /// Of the sender.
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(fixed64, tag = "2")]
    pub(crate) cluster: u64,
    #[prost(fixed64, tag = "3")]
    pub(crate) from: u64,
    #[prost(fixed64, tag = "4")]
    pub(crate) to: u64,
    /// The sender's life.
    #[prost(fixed64, tag = "5")]
    pub(crate) epoch: u64,
    /// Where the sender is reached; empty if it does not say.
    #[prost(string, tag = "6")]
    pub(crate) url: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Heartbeat {
    #[prost(fixed64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) sent_ms: u64,
    #[prost(fixed64, tag = "3")]
    pub(crate) echo_epoch: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) echo_ms: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Envelope {
    #[prost(uint64, tag = "1")]
    pub(crate) group: u64,
    /// None: of a kind that this release does not know.
    #[prost(oneof = "Body", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub(crate) body: Option<Body>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Body {
    #[prost(message, tag = "2")]
    Vote(Vote),
    #[prost(message, tag = "3")]
    VoteReply(VoteReply),
    #[prost(message, tag = "4")]
    Append(Append),
    #[prost(message, tag = "5")]
    AppendReply(AppendReply),
    #[prost(message, tag = "6")]
    Snapshot(SnapshotOffer),
    #[prost(message, tag = "7")]
    Confirm(Confirm),
    #[prost(message, tag = "8")]
    ConfirmReply(Confirm),
    #[prost(message, tag = "9")]
    ReadIndex(ReadIndex),
    #[prost(message, tag = "10")]
    ReadIndexReply(ReadIndexReply),
    #[prost(message, tag = "11")]
    TimeoutNow(TimeoutNow),
    #[prost(message, tag = "12")]
    StepDown(StepDown),
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Vote {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) last_index: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) last_term: u64,
    #[prost(bool, tag = "4")]
    pub(crate) pre: bool,
    #[prost(bool, tag = "5")]
    pub(crate) transfer: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct VoteReply {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(bool, tag = "2")]
    pub(crate) pre: bool,
    #[prost(bool, tag = "3")]
    pub(crate) granted: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Append {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) prev_index: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) prev_term: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) commit: u64,
    #[prost(message, repeated, tag = "5")]
    pub(crate) entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
    /// As on disk: [`consensus::EntryKind`].
    #[prost(uint32, tag = "3")]
    pub(crate) kind: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) payload: Bytes,
    /// CRC-32C of the payload.
    #[prost(fixed32, tag = "5")]
    pub(crate) crc: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct AppendReply {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) commit: u64,
    #[prost(oneof = "AppendOutcome", tags = "3, 4")]
    pub(crate) outcome: Option<AppendOutcome>,
}

#[derive(Clone, Copy, PartialEq, Eq, Oneof)]
pub(crate) enum AppendOutcome {
    #[prost(uint64, tag = "3")]
    Matched(u64),
    #[prost(message, tag = "4")]
    Rejected(Rejected),
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Rejected {
    #[prost(uint64, tag = "1")]
    pub(crate) prev_index: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) hint_index: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) hint_term: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SnapshotOffer {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) snapshot_index: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) snapshot_term: u64,
    /// As in the log: [`consensus::Membership::encode`].
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) membership: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Confirm {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) round: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct ReadIndex {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(fixed64, tag = "2")]
    pub(crate) batch: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct ReadIndexReply {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(fixed64, tag = "2")]
    pub(crate) batch: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) index: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct TimeoutNow {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) last_index: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) last_term: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct StepDown {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Forward {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) group: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) command: Bytes,
    #[prost(bool, tag = "4")]
    pub(crate) freeing: bool,
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) trace: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct ForwardReply {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    /// One of [`code`](super::forward::code).
    #[prost(uint32, tag = "2")]
    pub(crate) code: u32,
    /// Placed.
    #[prost(uint64, tag = "3")]
    pub(crate) term: u64,
    /// Placed.
    #[prost(uint64, tag = "4")]
    pub(crate) index: u64,
    /// Not the leader: who is, if known.
    #[prost(fixed64, optional, tag = "5")]
    pub(crate) leader: Option<u64>,
    /// Too large: the limit.
    #[prost(uint64, tag = "6")]
    pub(crate) max: u64,
}
