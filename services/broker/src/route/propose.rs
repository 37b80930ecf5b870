//! Commands on their way into the log of a group.

use bytes::Bytes;
use consensus::Term;
use messaging::frame;
use raft_node::{Group, ProposeError, StateMachine};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{At, By, Handle, Kind, Op, Route};
use crate::broker::Broker;
use crate::directory::{PartitionHandle, QueueHandle, StreamsHandle};
use crate::error::MessageError;
use crate::state_machine::{PartitionMachine, QueueMachine, StreamsMachine};

/// Proposes what follows from a leader's own knowledge: only while it leads in this term.
pub(crate) async fn propose_leading<M: StateMachine>(
    group: &Group<M>,
    term: Term,
    (payload, freeing): (Bytes, bool),
) -> Result<M::Reply, ProposeError> {
    Ok(group.propose_leading(term, payload, freeing).await?.reply)
}

/// A command with the time of this broker.
fn restamped(broker: &Broker, payload: Bytes) -> Bytes {
    frame::restamp(payload, broker.now_ms())
}

/// A command from a broker that has no copy of the group.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub(super) struct Propose<H> {
    payload: Bytes,
    freeing: bool,
    #[serde(skip)]
    on: std::marker::PhantomData<fn() -> H>,
}

impl<H> Clone for Propose<H> {
    fn clone(&self) -> Self {
        let on = std::marker::PhantomData;
        Self { payload: self.payload.clone(), freeing: self.freeing, on }
    }
}

/// What takes commands from elsewhere.
pub(crate) trait TakesCommands: Handle<Machine: StateMachine<Reply = Self::Reply>> {
    const KIND: Kind;
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}

impl TakesCommands for QueueHandle {
    const KIND: Kind = Kind::ProposeToQueue;
    type Reply = <QueueMachine as StateMachine>::Reply;
}

impl TakesCommands for PartitionHandle {
    const KIND: Kind = Kind::ProposeToPartition;
    type Reply = <PartitionMachine as StateMachine>::Reply;
}

impl TakesCommands for StreamsHandle {
    const KIND: Kind = Kind::ProposeToStreams;
    type Reply = <StreamsMachine as StateMachine>::Reply;
}

impl<H: TakesCommands> Op for Propose<H> {
    const KIND: Kind = H::KIND;
    const BY: By = By::AnyMember;
    type On = H;
    type Answer = H::Reply;

    async fn run(self, at: At<H>) -> Result<H::Reply, MessageError> {
        let payload = restamped(&at.broker, self.payload);
        take(&at.group, payload, self.freeing).await
    }
}

async fn take<M: StateMachine>(
    group: &Group<M>,
    payload: Bytes,
    freeing: bool,
) -> Result<M::Reply, MessageError> {
    let applied = match freeing {
        true => group.propose_freeing(payload).await?,
        false => group.propose(payload).await?,
    };
    Ok(applied.reply)
}

impl Broker {
    /// Puts a command into the log of a group, wherever that is.
    pub(crate) async fn propose<H: TakesCommands>(
        &self,
        on: &std::sync::Arc<H>,
        payload: Bytes,
        freeing: bool,
    ) -> Result<H::Reply, MessageError> {
        match on.port().route()? {
            Route::Leading { group, .. } | Route::Member { group, .. } => {
                super::answered::note(&self.shared.name);
                take(&group, payload, freeing).await
            }
            Route::Elsewhere => {
                let op = Propose { payload, freeing, on: std::marker::PhantomData };
                self.run(on, op).await
            }
        }
    }
}
