//! Streams of bytes: appended to, read from any position, closed for ever. Many live in one group.
//!
//! The rules are those of Durable Streams, <https://github.com/durable-streams/durable-streams>
//! (`PROTOCOL.md`). A stream is created, appended to, closed, deleted and found expired by single
//! log entries, so that each of these is done wholly or not at all, and is decided in one place. A
//! group holds the streams whose paths hash to it: a new stream costs one log entry, and one that
//! nobody uses costs memory only.
//!
//! The body of an entry is what it appends, as readers get it: of a JSON stream the messages with
//! commas between them. So a read is a concatenation.
//!
//! **Invariant:** what a position stands for never changes while its stream lives.
//! **Invariant:** a closed stream never gets longer.
//! **Invariant:** what a producer numbers is appended once, and in the same entry as it is noted.

mod apply;
mod due;
mod path;
mod position;
mod producers;

use std::ops::RangeInclusive;
use std::sync::Arc;

use consensus::Index;
use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, Millis};
use crate::partition::Producer;
use crate::ranges::Ranges;
use due::Due;
use producers::Producers;

pub use apply::{StreamDone, StreamRefused, StreamReply};
pub use due::Overdue;
pub use path::{InvalidPath, RESERVED, StreamPath};
pub use position::{InvalidPosition, Position};
pub use producers::MAX_PRODUCERS;

/// Most streams of one group.
pub const MAX_STREAMS: usize = 16_384;
/// Most pieces of one group's streams together: what it keeps in memory of what is in the log.
pub const MAX_PIECES: u64 = 2_000_000;
/// Most appends in one piece: how many entries are read at most to find one.
pub const MAX_PIECE_APPENDS: u32 = 64;
/// A piece that has this many bytes takes no further append.
pub const MAX_PIECE_BYTES: u64 = 256 * 1024;
/// Longest content type, producer id or `Stream-Seq`, in bytes.
pub const MAX_TEXT: usize = 256;

/// The identity of a stream in its group: one that is deleted and made again has another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub u64);

/// What is fixed when a stream is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamConfig {
    /// As its creator wrote it. At most [`MAX_TEXT`] bytes.
    pub content_type: String,
    /// When it expires.
    pub lifetime: Lifetime,
}

/// How long a stream lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// Until it is deleted.
    #[default]
    Unbounded,
    /// So many seconds after it was last read or appended to.
    Idle(u64),
    /// Until this time.
    Until(Millis),
}

impl StreamConfig {
    /// Whether messages are JSON values.
    #[must_use]
    pub fn is_json(&self) -> bool {
        media_type(&self.content_type).eq_ignore_ascii_case("application/json")
    }

    /// Whether readers get text in live events; otherwise base64.
    #[must_use]
    pub fn is_text(&self) -> bool {
        let media_type = media_type(&self.content_type).to_ascii_lowercase();
        media_type.starts_with("text/") || media_type == "application/json"
    }
}

/// A content type without its parameters.
#[must_use]
pub fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// What is logged in a group of streams. What is appended follows the command. Variants are only
/// ever added, at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamCommand {
    /// Creates a stream with its first content, which may be none.
    Create {
        /// Where.
        path: StreamPath,
        /// What it is.
        config: StreamConfig,
        /// Its first content is all of it.
        closed: bool,
    },
    /// Appends to a stream, closes it, or both.
    Append {
        /// Which.
        path: StreamPath,
        /// Of what is appended.
        content_type: Option<String>,
        /// Must be greater than the one before it.
        seq: Option<String>,
        /// Who appends, and which of its requests it is.
        producer: Option<Producer>,
        /// Nothing comes after it.
        close: bool,
    },
    /// Removes a stream with everything in it.
    Delete {
        /// Which.
        path: StreamPath,
    },
    /// Removes those of these streams to which nothing has happened since.
    Expire {
        /// As their leader saw them.
        streams: Vec<Overdue>,
    },
}

/// Neighbouring entries with appends of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Where the first append begins.
    pub start: Position,
    /// The entry of the first append. The others follow it without a gap.
    pub first: Index,
    /// How many appends.
    pub count: u32,
}

impl Piece {
    /// Its entries.
    #[must_use]
    pub fn indexes(&self) -> RangeInclusive<u64> {
        self.first.0..=self.first.0 + u64::from(self.count) - 1
    }
}

/// A stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Its identity.
    pub id: StreamId,
    /// What it is.
    pub config: Arc<StreamConfig>,
    /// Where the next append begins.
    pub tail: Position,
    /// Set when nothing more comes.
    closed: Option<Closed>,
    pieces: Vector<Piece>,
    seq: Option<String>,
    producers: Producers,
    /// Counts what happened to it.
    changes: u64,
}

/// That a stream is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Closed {
    /// Whose request it was, if that was numbered: its repeat is no mistake.
    by: Option<Producer>,
}

impl Stream {
    /// Whether nothing more comes.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// The pieces from the one that holds this position on, until they have `bytes` or more.
    #[must_use]
    pub fn from(&self, from: Position, bytes: u64) -> Vec<Piece> {
        let mut found: Vec<Piece> = Vec::new();
        if self.tail.appends <= from.appends {
            return found;
        }
        // The last one that begins there or before.
        let mut at = match self.pieces.binary_search_by_key(&from.appends, |it| it.start.appends) {
            Ok(at) => at,
            Err(after) => after.saturating_sub(1),
        };
        while let Some(piece) = self.pieces.get(at)
            && (found.is_empty() || piece.start.bytes.saturating_sub(from.bytes) < bytes)
        {
            found.push(*piece);
            at += 1;
        }
        found
    }
}

/// The replicated state; what a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// The highest time seen.
    now: Millis,
    next_id: u64,
    streams: OrdMap<StreamPath, Arc<Stream>>,
    pieces: u64,
}

/// The streams of one group.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    state: State,
    /// Follows from the state: the entries that are still read.
    live: Ranges,
    /// When streams expire, as this node knows it.
    due: Due,
    /// What the last entry changed.
    touched: Vec<StreamPath>,
}

impl Streams {
    /// A stream, unless its time is over.
    #[must_use]
    pub fn get(&self, path: &StreamPath, now: Millis) -> Option<&Arc<Stream>> {
        self.state.streams.get(path).filter(|stream| !is_over(stream, now.max(self.state.now)))
    }

    /// Which streams the last entry changed.
    #[must_use]
    pub fn touched(&self) -> &[StreamPath] {
        &self.touched
    }

    /// How many there are, with those that have expired and are still to be removed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.streams.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state.streams.is_empty()
    }

    /// From now on this node decides what has expired. Nobody told it who read what, so every
    /// stream that expires when it is idle begins anew.
    pub fn lead(&mut self, _epoch: Epoch) {
        self.due.restart();
    }

    /// A stream is read. Only what the leader hears counts.
    pub fn touch(&mut self, path: &StreamPath, now: Millis) {
        if let Some(stream) = self.state.streams.get(path) {
            self.due.set(path, due::at(stream.config.lifetime, now));
        }
    }

    /// Up to `max` streams that have expired at this time, and when the next one does.
    pub fn overdue(&mut self, now: Millis, max: usize) -> (Vec<Overdue>, Option<Millis>) {
        if self.due.take_restart() {
            for (path, stream) in &self.state.streams {
                self.due.set(path, due::at(stream.config.lifetime, now));
            }
        }
        let (paths, next) = self.due.until(now, max);
        let overdue = paths.into_iter().filter_map(|path| {
            let stream = self.state.streams.get(&path)?;
            Some(Overdue { id: stream.id, changes: stream.changes, path })
        });
        (overdue.collect(), next)
    }

    /// The entries that are read from the log.
    #[must_use]
    pub fn retained(&self) -> Vec<RangeInclusive<Index>> {
        self.live.iter().map(|range| Index(*range.start())..=Index(*range.end())).collect()
    }

    /// A copy of the replicated state, to be encoded later and elsewhere.
    pub fn snapshot(&self) -> impl FnOnce() -> Vec<u8> + Send + 'static {
        let state = self.state.clone();
        move || crate::snapshot::encode(&state)
    }

    /// Takes the place of everything so far.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), crate::snapshot::SnapshotError> {
        self.state = crate::snapshot::decode(snapshot)?;
        self.live = Ranges::default();
        self.due = Due::default();
        for (path, stream) in &self.state.streams {
            for piece in &stream.pieces {
                self.live.insert(*piece.indexes().start(), *piece.indexes().end());
            }
            self.due.set(path, due::at(stream.config.lifetime, self.state.now));
        }
        self.due.restart();
        Ok(())
    }
}

/// Whether a fixed end has come. That of an idle stream is for its leader to say.
fn is_over(stream: &Stream, now: Millis) -> bool {
    matches!(stream.config.lifetime, Lifetime::Until(end) if end <= now)
}
