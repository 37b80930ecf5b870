//! Where the messages of a partition are in its log.
//!
//! A span stands for neighbouring publishes: up to [`MAX_ENTRIES`] of them, so a million
//! messages of one entry each need 16,000 spans. To find a message, go through the publishes
//! of its span in the log and count. A publish that appended nothing (a repeat under its
//! idempotency key) ends the span before it, so that within a span every publish counts.

use std::collections::VecDeque;

use consensus::Index;
use serde::{Deserialize, Serialize};

use crate::ids::{Millis, Offset};

/// Most publishes in one span: how many entries are read at most to find one.
pub const MAX_ENTRIES: u32 = 64;
/// A span that has this many bytes takes no further publish.
pub const MAX_BYTES: u64 = 256 * 1024;

/// Neighbouring publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Offset of the first message.
    pub first: Offset,
    /// How many messages.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many publishes.
    pub entries: u32,
    /// Log index of the first publish.
    pub first_index: Index,
    /// Log index of the last one.
    pub last_index: Index,
    /// When the first message was published.
    pub first_ms: Millis,
    /// When the last message was published.
    pub last_ms: Millis,
}

impl Span {
    /// The offset after the last message.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.first.0 + self.count
    }
}

/// The spans of a partition, oldest first, without gaps between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spans {
    spans: VecDeque<Span>,
    next: Offset,
    bytes: u64,
    /// The last span takes no further publish.
    closed: bool,
}

/// One publish.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) index: Index,
    pub(super) count: u64,
    pub(super) bytes: u64,
    pub(super) now: Millis,
}

/// What a span may grow to: small ones let retention be exact.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grain {
    pub(super) bytes: u64,
    pub(super) age_ms: u64,
}

impl Spans {
    /// Offset of the oldest message.
    #[must_use]
    pub fn earliest(&self) -> Offset {
        self.spans.front().map_or(self.next, |span| span.first)
    }

    /// Offset of the next message.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Bytes of all messages.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many spans there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The span that holds this offset; for one that is gone already, the oldest span.
    #[must_use]
    pub fn at(&self, offset: Offset) -> Option<Span> {
        let after = self.spans.partition_point(|span| span.end() <= offset.0);
        self.spans.get(after).copied()
    }

    /// The spans from the one that holds this offset on, up to `max` of them.
    #[must_use]
    pub fn from(&self, offset: Offset, max: usize) -> Vec<Span> {
        let first = self.spans.partition_point(|span| span.end() <= offset.0);
        self.spans.range(first..).take(max).copied().collect()
    }

    /// The spans that hold these offsets, each once. The offsets ascend.
    #[must_use]
    pub fn holding(&self, offsets: impl IntoIterator<Item = u64>) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for offset in offsets {
            if spans.last().is_none_or(|span| span.end() <= offset)
                && let Some(span) = self.at(Offset(offset))
            {
                spans.push(span);
            }
        }
        spans
    }

    /// The first span with a message of this time or later.
    #[must_use]
    pub fn since(&self, time: Millis) -> Option<Span> {
        let after = self.spans.partition_point(|span| span.last_ms < time);
        self.spans.get(after).copied()
    }

    /// The log index of the first message.
    #[must_use]
    pub fn first_index(&self) -> Option<Index> {
        Some(self.spans.front()?.first_index)
    }

    /// When the message at this offset was published at the latest.
    #[must_use]
    pub fn published_by(&self, offset: Offset) -> Option<Millis> {
        self.at(offset).map(|span| span.last_ms)
    }

    /// Appends one publish. Answers the offset of its first message.
    pub(super) fn append(&mut self, entry: Entry, grain: Grain) -> Offset {
        let first = self.next;
        self.next.0 += entry.count;
        self.bytes += entry.bytes;
        let open = !self.closed;
        match self.spans.back_mut() {
            Some(span)
                if open
                    && span.entries < MAX_ENTRIES
                    && span.bytes < grain.bytes.min(MAX_BYTES)
                    && entry.now - span.first_ms <= grain.age_ms =>
            {
                span.count += entry.count;
                span.bytes += entry.bytes;
                span.entries += 1;
                span.last_index = entry.index;
                span.last_ms = entry.now;
            }
            _ => self.spans.push_back(Span {
                first,
                count: entry.count,
                bytes: entry.bytes,
                entries: 1,
                first_index: entry.index,
                last_index: entry.index,
                first_ms: entry.now,
                last_ms: entry.now,
            }),
        }
        self.closed = false;
        first
    }

    /// The next publish begins a new span.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Drops spans from the oldest on while `drop` says so.
    pub(super) fn trim(&mut self, mut drop: impl FnMut(&Span, u64) -> bool) {
        while let Some(span) = self.spans.front()
            && drop(span, self.bytes)
        {
            self.bytes -= span.bytes;
            self.spans.pop_front();
        }
    }
}
