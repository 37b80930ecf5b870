//! The next messages of a partition as soon as they are there, each read once.

use std::time::Duration;

use consensus::Index;
use messaging::ids::{Millis, Offset};
use serde::{Deserialize, Serialize};

use crate::directory::PartitionHandle;
use crate::error::MessageError;
use crate::log::{self, Published};
use crate::route::{At, By, Kind, Op};

/// Bytes that are read at a time, about.
const READ_BYTES: usize = 1 << 20;
/// Before a look at what should be there but cannot be read.
const PAUSE: Duration = Duration::from_millis(50);

/// Where a reader is in the log, for it to go on there and count on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The next message.
    pub(crate) offset: u64,
    /// What comes at or after this index.
    pub(crate) index: Index,
    /// When the message before it was published.
    pub(crate) at_ms: Millis,
}

/// Waits for the messages from a place on, at any member and as far as it has applied.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Feed {
    pub(crate) from: Place,
    pub(crate) wait_ms: u64,
}

/// See [`Feed`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fed {
    pub(crate) messages: Vec<Published>,
    pub(crate) next: Place,
}

impl Op for Feed {
    const KIND: Kind = Kind::Feed;
    const BY: By = By::AnyMember;
    type On = PartitionHandle;
    type Answer = Fed;

    async fn run(self, at: At<PartitionHandle>) -> Result<Fed, MessageError> {
        let Self { from, wait_ms } = self;
        let (wait, draining) = (Duration::from_millis(wait_ms), at.broker.draining());
        let fed = chassis::long_poll::wait(next(&at, from), wait, None, draining).await;
        if fed.is_none() && draining.is_cancelled() {
            // Nobody has to ask without a pause.
            tokio::time::sleep(PAUSE).await;
        }
        fed.unwrap_or(Ok(Fed { messages: Vec::new(), next: from }))
    }

    fn wait_ms(&self) -> u64 {
        self.wait_ms
    }
}

async fn next(at: &At<PartitionHandle>, from: Place) -> Result<Fed, MessageError> {
    let (group, port) = (&at.group, &at.handle.port);
    loop {
        let seen = port.moment(group);
        let span = group.local(move |machine| machine.0.spans().at(Offset(from.offset))).await?;
        if let Some(span) = span {
            let (messages, next) = log::read_on(group, &span, from, READ_BYTES).await?;
            if from.offset < next.offset {
                return Ok(Fed { messages, next });
            }
            tokio::time::sleep(PAUSE).await;
        } else {
            port.after(group, seen).await;
        }
    }
}
