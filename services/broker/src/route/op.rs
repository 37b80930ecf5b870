//! What one broker asks of another: the same code where it runs here.

use std::sync::Arc;

use consensus::{GroupId, Term};
use raft_node::{Group, StateMachine};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::port::{Led, Port};
use crate::broker::Broker;
use crate::directory::{Directory, PartitionHandle, QueueHandle, StreamsHandle};
use crate::error::{LogError, MessageError};
use crate::state_machine::{PartitionMachine, QueueMachine, StreamsMachine};

/// Something that lives in a group.
pub(crate) trait Handle: Send + Sync + Sized + 'static {
    type Machine: StateMachine;

    fn port(&self) -> &Arc<Port<Self::Machine>>;
    fn find(directory: &Directory, group: GroupId) -> Option<Arc<Self>>;
}

impl Handle for QueueHandle {
    type Machine = QueueMachine;

    fn port(&self) -> &Arc<Port<QueueMachine>> {
        &self.port
    }

    fn find(directory: &Directory, group: GroupId) -> Option<Arc<Self>> {
        directory.queue_in(group)
    }
}

impl Handle for PartitionHandle {
    type Machine = PartitionMachine;

    fn port(&self) -> &Arc<Port<PartitionMachine>> {
        &self.port
    }

    fn find(directory: &Directory, group: GroupId) -> Option<Arc<Self>> {
        directory.partition_in(group)
    }
}

impl Handle for StreamsHandle {
    type Machine = StreamsMachine;

    fn port(&self) -> &Arc<Port<StreamsMachine>> {
        &self.port
    }

    fn find(directory: &Directory, group: GroupId) -> Option<Arc<Self>> {
        directory.streams_in(group)
    }
}

/// Which operation: as it travels. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Kind {
    ProposeToQueue,
    ProposeToPartition,
    ConfigureQueue,
    ConfigurePartition,
    Receive,
    SettleJobs,
    Peek,
    Redrive,
    QueueLook,
    Take,
    Ready,
    SettleMessages,
    Seek,
    SubscriptionLook,
    PartitionLook,
    Page,
    Grown,
    Locate,
    WholeQueue,
    WholePartition,
    Moves,
    Feed,
    Answer,
    Question,
    ProposeToStreams,
    StreamLook,
    StreamGrown,
    StreamUsed,
    WholeStreams,
    HandOverQueue,
    HandOverPartition,
    HandOverStreams,
}

/// Who can carry out an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Leader,
    AnyMember,
}

/// An operation on a group, carried out where the group is.
pub(crate) trait Op: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    const KIND: Kind;
    const BY: By;
    type On: Handle;
    type Answer: Serialize + DeserializeOwned + Send;

    fn run(
        self,
        at: At<Self::On>,
    ) -> impl Future<Output = Result<Self::Answer, MessageError>> + Send;

    /// How long it may wait on purpose, in milliseconds.
    fn wait_ms(&self) -> u64 {
        0
    }
}

/// Where an operation runs.
pub(crate) struct At<H: Handle> {
    pub(crate) broker: Broker,
    pub(crate) handle: Arc<H>,
    pub(crate) group: Group<H::Machine>,
    /// Set where [`Op::BY`] is the leader.
    pub(crate) led: Option<Led>,
}

impl<H: Handle> Clone for At<H> {
    fn clone(&self) -> Self {
        let Self { broker, handle, group, led } = self;
        Self { broker: broker.clone(), handle: handle.clone(), group: group.clone(), led: *led }
    }
}

impl<H: Handle> At<H> {
    /// The term in which this node leads.
    pub(crate) fn term(&self) -> Result<Term, LogError> {
        self.led.map(|led| led.term).ok_or(LogError::NoLeader { hint: None })
    }

    /// This node still leads in the term in which it began: what was handed out was its to hand
    /// out, and whatever another leader had acknowledged before is applied here.
    pub(crate) async fn confirm(&self) -> Result<(), LogError> {
        let Some(led) = self.led else { return Err(LogError::NoLeader { hint: None }) };
        if led.is_alone && self.handle.port().led().is_some_and(|now| now.is_alone) {
            return Ok(());
        }
        if self.group.leading().await == Some(led.term) {
            return Ok(());
        }
        let hint = self.group.leadership().borrow().leader;
        Err(LogError::NoLeader { hint })
    }
}
