//! What the leader of a group of streams does: it lets them expire.

use std::sync::Arc;

use messaging::catalog::StreamsEntry;
use messaging::stream::{StreamCommand, StreamPath};
use serde::{Deserialize, Serialize};

use crate::directory::{Directory, StreamsHandle};
use crate::error::MessageError;
use crate::host::{Keep, Next};
use crate::route::{At, By, Kind, Op, propose_leading};

/// Most streams that expire with one log entry.
const MAX_OVERDUE: usize = 256;

impl Keep for StreamsHandle {
    type Entry = StreamsEntry;
    type Attended = ();

    fn title(&self) -> String {
        format!("streams, group {}", self.number)
    }

    fn entry(&self, _: &Directory) -> Option<Arc<StreamsEntry>> {
        Some(self.entry.clone())
    }

    /// Streams bring their settings with them.
    async fn configure(_: &At<Self>) -> Result<(), MessageError> {
        Ok(())
    }

    fn attend(_: &At<Self>, (): &mut ()) {}

    async fn tend(at: &At<Self>) -> Result<Next, MessageError> {
        let now = at.broker.now_ms();
        let look = at.group.local(move |machine| machine.streams.overdue(now, MAX_OVERDUE));
        let (streams, next) = look.await?;
        if streams.is_empty() {
            return Ok(Next::Due(next));
        }
        let expire = at.broker.payload(&StreamCommand::Expire { streams });
        propose_leading(&at.group, at.term()?, (expire, true)).await??;
        Ok(Next::Now)
    }
}

/// Tells the leader that a stream is used: if it expires when it is idle, that begins anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Used {
    pub(super) path: StreamPath,
    /// It may be due earlier than anything the leader waits for.
    pub(super) is_new: bool,
}

impl Op for Used {
    const KIND: Kind = Kind::StreamUsed;
    const BY: By = By::Leader;
    type On = StreamsHandle;
    type Answer = ();

    async fn run(self, at: At<StreamsHandle>) -> Result<(), MessageError> {
        let Self { path, is_new } = self;
        let now = at.broker.now_ms();
        at.group.local(move |machine| machine.streams.touch(&path, now)).await?;
        if is_new {
            at.handle.port.keeper.notify_one();
        }
        Ok(())
    }
}
