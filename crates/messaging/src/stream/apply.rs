//! What each command does.

use std::sync::Arc;

use bytes::Bytes;
use consensus::Index;
use imbl::Vector;
use serde::{Deserialize, Serialize};

use super::producers::{Judgement, Producers};
use super::{
    Closed, MAX_PIECE_APPENDS, MAX_PIECE_BYTES, MAX_PIECES, MAX_PRODUCERS, MAX_STREAMS, Overdue,
    Piece, Position, Stream, StreamCommand, StreamConfig, StreamId, StreamPath, Streams, due,
    is_over, media_type,
};
use crate::frame::{self, Decoded};
use crate::partition::Producer;

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamDone {
    /// It is new.
    Created {
        /// Where the next append begins.
        tail: Position,
    },
    /// It was there, and is what was asked for.
    Exists {
        /// As its creator wrote it.
        content_type: String,
        /// Where the next append begins.
        tail: Position,
    },
    /// Appended, closed, or both.
    Appended {
        /// Where the next append begins.
        tail: Position,
        /// Whether it is closed now.
        closed: bool,
    },
    /// It was done before; nothing was done now.
    Repeated {
        /// Where the next append begins.
        tail: Position,
        /// Whether it is closed now.
        closed: bool,
        /// The producer's newest request.
        seq: u64,
    },
    /// Gone.
    Deleted,
    /// So many are gone.
    Expired(u64),
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StreamRefused {
    /// There is none, or not any more.
    #[error("there is no stream here; create it with PUT")]
    NoStream,
    /// Something else is there.
    #[error("a stream is here whose {what} is another; delete it first, or choose another path")]
    Differs {
        /// What of it.
        what: String,
    },
    /// Nothing more comes.
    #[error("the stream is closed")]
    Closed {
        /// Its end.
        tail: Position,
    },
    /// What is appended is of the stream's type.
    #[error("the stream's content type is {stream}; append in that")]
    ContentType {
        /// As it was created.
        stream: String,
    },
    /// `Stream-Seq` did not grow.
    #[error("Stream-Seq must be greater, byte by byte, than the last one, {last}")]
    Seq {
        /// The last one.
        last: String,
    },
    /// A newer instance of the producer has appended.
    #[error(
        "a newer instance of this producer appends under epoch {known}; if this is the newest, go on with the next epoch and sequence 0"
    )]
    Stale {
        /// Its epoch.
        known: u64,
    },
    /// A new epoch that does not begin at 0.
    #[error("a new epoch begins with Producer-Seq 0")]
    Epoch,
    /// Something is missing in between.
    #[error("Producer-Seq {expected} is expected, not {received}; send what is missing first")]
    Gap {
        /// The next one that is taken.
        expected: u64,
        /// As sent.
        received: u64,
    },
    /// Too many of them.
    #[error("at most {MAX_PRODUCERS} producers append to one stream; use fewer producer ids")]
    Producers,
    /// Too many of them.
    #[error("there is no room for another stream; delete some first")]
    Streams,
    /// Too much to keep in memory.
    #[error("the streams have too many appends; append more at a time, or delete some")]
    Pieces,
    /// The entry is not a command of this version.
    #[error("the command was not understood")]
    NotUnderstood,
}

/// What a command answers.
pub type StreamReply = Result<StreamDone, StreamRefused>;

/// An append as it was asked for.
struct Append {
    content_type: Option<String>,
    seq: Option<String>,
    producer: Option<Producer>,
    close: bool,
    /// Bytes of the entry.
    bytes: u64,
}

impl Streams {
    /// Applies one log entry. The same entries in the same order always make the same state.
    pub fn apply(&mut self, index: Index, payload: &Bytes) -> StreamReply {
        self.touched.clear();
        let Ok(Decoded { stamp, command, records }) = frame::decode(payload) else {
            return Err(StreamRefused::NotUnderstood);
        };
        let bytes = (payload.len() - records) as u64;
        self.state.now = self.state.now.max(stamp);
        match command {
            StreamCommand::Create { path, config, closed } => {
                self.create((index, bytes), path, config, closed)
            }
            StreamCommand::Append { path, content_type, seq, producer, close } => {
                self.append(index, &path, Append { content_type, seq, producer, close, bytes })
            }
            StreamCommand::Delete { path } => {
                self.end_if_over(&path);
                if self.remove(&path) {
                    Ok(StreamDone::Deleted)
                } else {
                    Err(StreamRefused::NoStream)
                }
            }
            StreamCommand::Expire { streams } => Ok(self.expire(&streams)),
        }
    }

    fn create(
        &mut self,
        (index, bytes): (Index, u64),
        path: StreamPath,
        config: StreamConfig,
        closed: bool,
    ) -> StreamReply {
        self.end_if_over(&path);
        if let Some(stream) = self.state.streams.get(&path) {
            return exists(stream, &config, closed);
        }
        if MAX_STREAMS <= self.state.streams.len() {
            return Err(StreamRefused::Streams);
        }
        if MAX_PIECES <= self.state.pieces {
            return Err(StreamRefused::Pieces);
        }
        let lifetime = config.lifetime;
        let mut stream = Stream {
            id: StreamId(self.state.next_id),
            config: Arc::new(config),
            tail: Position::default(),
            closed: closed.then_some(Closed { by: None }),
            pieces: Vector::new(),
            seq: None,
            producers: Producers::default(),
            changes: 0,
        };
        self.state.next_id += 1;
        if bytes != 0 {
            self.state.pieces += u64::from(extend(&mut stream, index, bytes));
            self.live.insert(index.0, index.0);
        }
        let tail = stream.tail;
        self.due.set(&path, due::at(lifetime, self.state.now));
        self.touched.push(path.clone());
        self.state.streams.insert(path, Arc::new(stream));
        Ok(StreamDone::Created { tail })
    }

    fn append(&mut self, index: Index, path: &StreamPath, append: Append) -> StreamReply {
        self.end_if_over(path);
        let now = self.state.now;
        let Some(stream) = self.state.streams.get_mut(path) else {
            return Err(StreamRefused::NoStream);
        };
        let lifetime = stream.config.lifetime;
        if let Some(done) = judge(stream, &append)? {
            self.due.set(path, due::at(lifetime, now));
            return Ok(done);
        }
        if MAX_PIECES <= self.state.pieces && append.bytes != 0 {
            return Err(StreamRefused::Pieces);
        }
        let stream = Arc::make_mut(stream);
        stream.changes += 1;
        if append.bytes != 0 {
            self.state.pieces += u64::from(extend(stream, index, append.bytes));
            self.live.insert(index.0, index.0);
        }
        if let Some(producer) = &append.producer {
            stream.producers.note(producer);
        }
        if append.seq.is_some() {
            stream.seq = append.seq;
        }
        if append.close {
            stream.closed = Some(Closed { by: append.producer });
        }
        let (tail, closed) = (stream.tail, stream.is_closed());
        self.touched.push(path.clone());
        self.due.set(path, due::at(lifetime, now));
        Ok(StreamDone::Appended { tail, closed })
    }

    fn expire(&mut self, overdue: &[Overdue]) -> StreamDone {
        let mut gone = 0;
        for Overdue { path, id, changes } in overdue {
            let stream = self.state.streams.get(path);
            if stream.is_some_and(|stream| (stream.id, stream.changes) == (*id, *changes)) {
                gone += u64::from(self.remove(path));
            }
        }
        StreamDone::Expired(gone)
    }

    /// Whose time is over is not there, whether its leader has said so or not.
    fn end_if_over(&mut self, path: &StreamPath) {
        if self.state.streams.get(path).is_some_and(|stream| is_over(stream, self.state.now)) {
            self.remove(path);
        }
    }

    fn remove(&mut self, path: &StreamPath) -> bool {
        self.due.set(path, None);
        let Some(stream) = self.state.streams.remove(path) else { return false };
        self.touched.push(path.clone());
        self.state.pieces -= stream.pieces.len() as u64;
        for piece in &stream.pieces {
            self.live.remove(*piece.indexes().start(), *piece.indexes().end());
        }
        true
    }
}

/// Whether a stream that is there is what its creator asks for.
fn exists(stream: &Stream, config: &StreamConfig, closed: bool) -> StreamReply {
    let of = |content_type| media_type(content_type);
    let is_same_type =
        of(&stream.config.content_type).eq_ignore_ascii_case(of(&config.content_type));
    let what = if !is_same_type {
        "content type"
    } else if stream.config.lifetime != config.lifetime {
        "lifetime"
    } else if stream.is_closed() != closed {
        "end (it is closed, or is not)"
    } else {
        let content_type = stream.config.content_type.clone();
        return Ok(StreamDone::Exists { content_type, tail: stream.tail });
    };
    Err(StreamRefused::Differs { what: what.to_owned() })
}

/// What an append is answered without being done; nothing, if it is to be done.
fn judge(stream: &Stream, append: &Append) -> Result<Option<StreamDone>, StreamRefused> {
    let tail = stream.tail;
    if let Some(closed) = &stream.closed {
        return on_closed(stream, closed, append).map(Some);
    }
    let is_same_type = append.content_type.as_deref().is_none_or(|content_type| {
        media_type(content_type).eq_ignore_ascii_case(media_type(&stream.config.content_type))
    });
    if append.bytes != 0 && !is_same_type {
        return Err(StreamRefused::ContentType { stream: stream.config.content_type.clone() });
    }
    if let Some(producer) = &append.producer
        && let Judgement::Repeat { seq } = stream.producers.judge(producer)?
    {
        return Ok(Some(StreamDone::Repeated { tail, closed: false, seq }));
    }
    match (&stream.seq, &append.seq) {
        (Some(last), Some(seq)) if seq.as_bytes() <= last.as_bytes() => {
            Err(StreamRefused::Seq { last: last.clone() })
        }
        _ => Ok(None),
    }
}

/// Nothing more comes, but what was done may be asked for again.
fn on_closed(stream: &Stream, closed: &Closed, append: &Append) -> StreamReply {
    let tail = stream.tail;
    match &append.producer {
        Some(producer) if append.close && closed.by.as_ref() == Some(producer) => {
            Ok(StreamDone::Repeated { tail, closed: true, seq: producer.seq })
        }
        Some(producer) => match stream.producers.newer_than(producer) {
            Some(known) => Err(StreamRefused::Stale { known }),
            None => Err(StreamRefused::Closed { tail }),
        },
        None if append.close && append.bytes == 0 => {
            Ok(StreamDone::Appended { tail, closed: true })
        }
        None => Err(StreamRefused::Closed { tail }),
    }
}

/// Notes an append. Says whether it made a piece of its own.
fn extend(stream: &mut Stream, index: Index, bytes: u64) -> bool {
    let start = stream.tail;
    stream.tail = Position { appends: start.appends + 1, bytes: start.bytes + bytes };
    if let Some(last) = stream.pieces.back_mut()
        && last.indexes().end() + 1 == index.0
        && last.count < MAX_PIECE_APPENDS
        && start.bytes - last.start.bytes < MAX_PIECE_BYTES
    {
        last.count += 1;
        return false;
    }
    stream.pieces.push_back(Piece { start, first: index, count: 1 });
    true
}
