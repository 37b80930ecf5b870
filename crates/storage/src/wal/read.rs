//! Reading entries back from a segment: steps over record headers from the nearest known place.
//!
//! **Invariant:** an entry is handed out only if the checksums of its header and of its payload
//! hold, and its group and index are the ones asked for.

use std::io;

use bytes::Bytes;
use consensus::{GroupId, Index, Term};

use super::format::{Kind, RECORD, RecordHeader};
use super::ranges::Span;
use super::state::OpenFile;
use crate::mutants::{self, Mutant};
use consensus::Entry;

/// One system call reads this much, between the bounds, if the caller takes as much.
const READ_MIN: usize = 8 * 1024;
const READ_MAX: usize = 256 * 1024;

/// Why entries could not be read from a segment.
#[derive(Debug)]
pub(crate) enum Fail {
    Io(io::Error),
    /// What stands here is not what was written.
    Corrupt(u64),
}

/// Entries collected for one caller.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) entries: Vec<Entry>,
    bytes: usize,
    max_bytes: usize,
}

impl Collected {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { entries: Vec::new(), bytes: 0, max_bytes }
    }

    /// The first entry always has room.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.entries.is_empty() || self.bytes.saturating_add(len) <= self.max_bytes
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.bytes += entry.payload.len();
        self.entries.push(entry);
    }
}

/// Where to read what.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) group: GroupId,
    /// The segment, by number and by handle.
    pub(crate) segment: u64,
    pub(crate) open: OpenFile,
    /// A record at or before the first wanted entry.
    pub(crate) at: u64,
    /// Nothing durable lies behind.
    pub(crate) limit: u64,
    /// Indexes, all of which are there.
    pub(crate) wanted: Vec<Span>,
}

/// Where reading stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    /// The record that did not fit any more.
    pub(crate) at: u64,
    pub(crate) index: u64,
}

impl Plan {
    /// Goes on where a read stopped.
    pub(crate) fn resume(&mut self, rest: Rest) {
        self.at = rest.at;
        self.wanted.retain_mut(|span| {
            span.start = span.start.max(rest.index);
            span.start <= span.end
        });
    }

    /// Adds the wanted entries as far as there is room. Without room for all of them, returns what
    /// is left to read.
    pub(crate) fn read(&self, into: &mut Collected) -> Result<Option<Rest>, Fail> {
        let chunk = into.max_bytes.saturating_sub(into.bytes).clamp(READ_MIN, READ_MAX);
        let mut window = Window { plan: self, chunk, start: 0, bytes: Bytes::new() };
        let mut at = self.at;
        for want in self.wanted.iter().flat_map(|span| span.start..=span.end) {
            loop {
                let header = window.header(at)?;
                let payload_at = at + RECORD as u64;
                let record = at;
                at += header.size();
                if header.kind != Kind::Entry || header.group != self.group.0 || header.index < want
                {
                    continue;
                }
                if header.index > want {
                    return Err(Fail::Corrupt(record));
                }
                if !into.has_room(header.len as usize) {
                    return Ok(Some(Rest { at: record, index: want }));
                }
                let payload = window.get(payload_at, header.len as usize)?;
                let intact = crc32c::crc32c(&payload) == header.payload_crc;
                if !intact && !mutants::is(Mutant::PayloadUnchecked) {
                    return Err(Fail::Corrupt(record));
                }
                let (term, index) = (Term(header.term), Index(want));
                into.push(Entry { term, index, kind: header.entry_kind, payload });
                break;
            }
        }
        Ok(None)
    }
}

/// A piece of the file. Payloads are slices of it, not copies.
struct Window<'a> {
    plan: &'a Plan,
    chunk: usize,
    start: u64,
    bytes: Bytes,
}

impl Window<'_> {
    fn header(&mut self, at: u64) -> Result<RecordHeader, Fail> {
        let bytes = self.get(at, RECORD)?;
        RecordHeader::decode(&bytes, self.plan.open.salt).ok_or(Fail::Corrupt(at))
    }

    fn get(&mut self, at: u64, len: usize) -> Result<Bytes, Fail> {
        let end = at + len as u64;
        if end > self.plan.limit {
            return Err(Fail::Corrupt(at));
        }
        if at < self.start || end > self.start + self.bytes.len() as u64 {
            let left = usize::try_from(self.plan.limit - at).unwrap_or(usize::MAX);
            let mut buffer = vec![0; len.max(self.chunk).min(left)];
            let read = self.plan.open.file.read_at(&mut buffer, at).map_err(Fail::Io)?;
            if read < len {
                return Err(Fail::Corrupt(at));
            }
            buffer.truncate(read);
            self.bytes = buffer.into();
            self.start = at;
        }
        let from = usize::try_from(at - self.start).expect("inside the window");
        Ok(self.bytes.slice(from..from + len))
    }
}
