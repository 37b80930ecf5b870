//! Whether a copy has everything that its machine reads from the log.
//!
//! A copy without it may vote and hold what comes, but it must not lead, and no other copy may go
//! because this one is there.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use messaging::catalog::{CatalogCommand, Placement};
use raft_node::{Group, QueryError};
use serde::{Deserialize, Serialize};

use crate::broker::Broker;
use crate::directory::{PartitionHandle, QueueHandle, StreamsHandle};
use crate::error::MessageError;
use crate::route::{At, By, Handle, Kind, Op};
use crate::state_machine::Hosted;

/// Between two looks: what was let go between asking the machine and asking the log is not missing.
const PAUSE: Duration = Duration::from_millis(20);
const LOOKS: usize = 3;

/// Whether nothing is missing.
pub(crate) async fn is_whole<M: Hosted>(group: &Group<M>) -> Result<bool, QueryError> {
    for _ in 0..LOOKS {
        if group.missing().await?.is_empty() {
            return Ok(true);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(false)
}

/// Tells the catalog that this node cannot use its copy: another broker is to have one.
pub(crate) fn report_damaged(
    broker: &Broker,
    group: consensus::GroupId,
    placement: &Arc<Placement>,
) {
    let node = broker.node();
    let Some(replica) = placement.replica(node).filter(|replica| !replica.damaged) else { return };
    let command = CatalogCommand::ReportDamaged { node, group, since: replica.since };
    let payload = broker.payload(&command);
    let catalog = broker.shared.catalog.clone();
    broker.shared.tasks.spawn(async move {
        if let Err(error) = catalog.propose_freeing(payload).await {
            tracing::debug!(group = group.0, %error, "a damaged copy is not reported yet");
        }
    });
}

/// Asks a member whether its copy is whole.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Whole<H> {
    #[serde(skip)]
    on: PhantomData<fn() -> H>,
}

impl<H> Default for Whole<H> {
    fn default() -> Self {
        Self { on: PhantomData }
    }
}

impl<H> Clone for Whole<H> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// What can be asked so.
pub(crate) trait HasWhole: Handle<Machine: Hosted> {
    const KIND: Kind;
}

impl HasWhole for QueueHandle {
    const KIND: Kind = Kind::WholeQueue;
}

impl HasWhole for PartitionHandle {
    const KIND: Kind = Kind::WholePartition;
}

impl HasWhole for StreamsHandle {
    const KIND: Kind = Kind::WholeStreams;
}

impl<H: HasWhole> Op for Whole<H> {
    const KIND: Kind = H::KIND;
    const BY: By = By::AnyMember;
    type On = H;
    type Answer = bool;

    async fn run(self, at: At<H>) -> Result<bool, MessageError> {
        Ok(is_whole(&at.group).await?)
    }
}
