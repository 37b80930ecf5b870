//! Looking at a stream, and waiting until it is another.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consensus::Index;
use messaging::frame::{self, Decoded};
use messaging::stream::{
    Lifetime, Piece, Position, Stream, StreamCommand, StreamConfig, StreamId, StreamPath,
    StreamRefused,
};
use raft_node::Group;
use serde::{Deserialize, Serialize};

use super::keep::Used;
use crate::broker::Broker;
use crate::directory::StreamsHandle;
use crate::error::{LogError, MessageError};
use crate::route::{At, By, Kind, Op};
use crate::state_machine::StreamsMachine;

/// Bytes after which an answer takes no further append.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// Bytes asked of the log at once.
const READ_BYTES: usize = 1 << 20;

/// Looks at a stream that is deleted and made again meanwhile.
const LOOKS: usize = 3;

/// Where to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Start {
    /// Its beginning.
    Beginning,
    /// Its end: there is nothing to read.
    Tail,
    /// A position that was given.
    At(Position),
}

/// A stream, and a part of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct View {
    pub(crate) id: StreamId,
    pub(crate) config: Arc<StreamConfig>,
    /// Where the part begins.
    pub(crate) start: Position,
    /// Where it ends.
    pub(crate) next: Position,
    /// Where the stream ends, as yet.
    pub(crate) tail: Position,
    pub(crate) closed: bool,
    /// The part, append by append.
    pub(crate) appends: Vec<Bytes>,
}

impl View {
    /// There is no more, as yet.
    pub(crate) fn is_up_to_date(&self) -> bool {
        self.next == self.tail
    }

    /// There will be no more.
    pub(crate) fn is_end(&self) -> bool {
        self.is_up_to_date() && self.closed
    }
}

impl Broker {
    /// Looks at a stream without using it.
    pub(crate) async fn look_at_stream(
        &self,
        path: &StreamPath,
        start: Start,
    ) -> Result<(Arc<StreamsHandle>, View), MessageError> {
        let home = self.stream_home(path).await?.ok_or(StreamRefused::NoStream)?;
        let view = self.run(&home, Look { path: path.clone(), start }).await?;
        Ok((home, view))
    }

    /// Reads of a stream.
    pub(crate) async fn read_stream(
        &self,
        path: &StreamPath,
        start: Start,
    ) -> Result<(Arc<StreamsHandle>, View), MessageError> {
        let (home, view) = self.look_at_stream(path, start).await?;
        self.use_stream(&home, path, &view.config).await;
        Ok((home, view))
    }

    /// A stream that expires when it is idle is not.
    pub(super) async fn use_stream(
        &self,
        home: &Arc<StreamsHandle>,
        path: &StreamPath,
        config: &StreamConfig,
    ) {
        if matches!(config.lifetime, Lifetime::Idle(_)) {
            let used = Used { path: path.clone(), is_new: false };
            if let Err(error) = self.run(home, used).await {
                tracing::debug!(%error, "the leader of a stream does not know that it is read");
            }
        }
    }
}

/// Looks at a stream, at any member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Look {
    path: StreamPath,
    start: Start,
}

/// What of a stream is to be read from the log.
struct Plan {
    stream: Arc<Stream>,
    start: Position,
    pieces: Vec<Piece>,
}

impl Op for Look {
    const KIND: Kind = Kind::StreamLook;
    const BY: By = By::AnyMember;
    type On = StreamsHandle;
    type Answer = View;

    async fn run(self, at: At<StreamsHandle>) -> Result<View, MessageError> {
        for _ in 0..LOOKS {
            let plan = self.plan(&at).await?;
            let Some((appends, next)) = bodies(&at.group, &plan).await? else {
                // Deleted between the two, so the next look says so, or finds another stream.
                continue;
            };
            let Plan { stream, start, .. } = plan;
            return Ok(View {
                id: stream.id,
                config: stream.config.clone(),
                start,
                next,
                tail: stream.tail,
                closed: stream.is_closed(),
                appends,
            });
        }
        // A copy that is still being filled lacks what others have: that passes.
        let is_leader = at.handle.port.led().is_some();
        Err(if is_leader { LogError::Unreadable { source: None } } else { LogError::NotHere }
            .into())
    }
}

impl Look {
    async fn plan(&self, at: &At<StreamsHandle>) -> Result<Plan, MessageError> {
        let (path, start, now) = (self.path.clone(), self.start, at.broker.now_ms());
        let look = move |machine: &StreamsMachine| {
            let stream = machine.streams.get(&path, now).ok_or(StreamRefused::NoStream)?.clone();
            let start = match start {
                Start::Beginning => Position::default(),
                Start::Tail => stream.tail,
                Start::At(position) => position,
            };
            let is_within = start.appends < stream.tail.appends || start == stream.tail;
            let pieces = stream.from(start, MAX_ANSWER_BYTES);
            let plan = Plan { stream, start, pieces };
            if is_within { Ok(plan) } else { Err(MessageError::NoSuchPosition) }
        };
        at.group.query(look).await?
    }
}

/// The appends from the start on, and where they end. Nothing, if they are gone from the log.
async fn bodies(
    group: &Group<StreamsMachine>,
    plan: &Plan,
) -> Result<Option<(Vec<Bytes>, Position)>, MessageError> {
    let start = plan.start;
    let (mut appends, mut end) = (Vec::new(), start);
    for piece in &plan.pieces {
        let mut at = piece.start;
        let (mut index, last) = (piece.first.0, *piece.indexes().end());
        while index <= last {
            let (back, from) = (group.read(Index(index), READ_BYTES).await?, index);
            for entry in back.entries {
                if last < index || MAX_ANSWER_BYTES <= end.bytes - start.bytes {
                    break;
                }
                if entry.index.0 != index {
                    return Ok(None);
                }
                let decoded = frame::decode::<StreamCommand>(&entry.payload);
                let Decoded { records, .. } =
                    decoded.map_err(|_| LogError::Unreadable { source: None })?;
                let body = entry.payload.slice(records..);
                let after =
                    Position { appends: at.appends + 1, bytes: at.bytes + body.len() as u64 };
                if at.appends == start.appends && at.bytes != start.bytes {
                    return Err(MessageError::NoSuchPosition);
                }
                if start.appends <= at.appends {
                    appends.push(body);
                    end = after;
                }
                (at, index) = (after, index + 1);
            }
            if MAX_ANSWER_BYTES <= end.bytes - start.bytes {
                return Ok(Some((appends, end)));
            }
            if index == from {
                return Ok(None);
            }
        }
    }
    Ok(Some((appends, end)))
}

/// Waits until a stream is another than it was seen, at any member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Grown {
    pub(super) path: StreamPath,
    pub(super) id: StreamId,
    pub(super) tail: Position,
    pub(super) wait_ms: u64,
}

impl Op for Grown {
    const KIND: Kind = Kind::StreamGrown;
    const BY: By = By::AnyMember;
    type On = StreamsHandle;
    type Answer = ();

    async fn run(self, at: At<StreamsHandle>) -> Result<(), MessageError> {
        let Self { path, id, tail, wait_ms } = self;
        let listen = move |machine: &mut StreamsMachine| {
            let stream = machine.streams.get(&path, 0);
            // A copy that lags has less: then it is worth waiting.
            let is_same = stream.is_some_and(|stream| {
                stream.id == id && stream.tail <= tail && !stream.is_closed()
            });
            is_same.then(|| machine.bells.hear(&path))
        };
        let Some(mut bell) = at.group.local(listen).await? else { return Ok(()) };
        let (wait, draining) = (Duration::from_millis(wait_ms), at.broker.draining());
        // A bell that is gone says that this copy is: somebody else is asked then.
        chassis::long_poll::wait(bell.changed(), wait, None, draining).await;
        Ok(())
    }

    fn wait_ms(&self) -> u64 {
        self.wait_ms
    }
}
