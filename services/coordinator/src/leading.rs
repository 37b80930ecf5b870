//! What a leader does first in its term.

use std::time::Duration;

use chassis::StartError;

use crate::coordinator::{Coordinator, Failure};
use crate::store::Command;

/// How often a start tries its first command while the log makes room.
const START_RETRY: Duration = Duration::from_millis(10);

pub(crate) struct Leading {
    coordinator: Coordinator,
    /// The term whose first duties are done.
    term: Option<u64>,
}

impl Leading {
    pub(crate) fn new(coordinator: Coordinator) -> Self {
        Self { coordinator, term: None }
    }

    /// Says whether this node leads, after it has done what a new leader has to: the cluster gets
    /// its id, and leases go on from the time that the log has seen.
    pub(crate) async fn lead(&mut self) -> Result<bool, Failure> {
        if !self.coordinator.leads() {
            return Ok(false);
        }
        let term = self.coordinator.term();
        if self.term != Some(term) {
            self.coordinator.begin_time();
            if self.coordinator.snapshot().await?.cluster_id() == 0 {
                let (cluster_id, _) = uuid::Uuid::new_v4().as_u64_pair();
                self.coordinator.command(Command::Found { cluster_id }).await?;
            }
            self.coordinator.command(Command::Resume).await?;
            self.term = Some(term);
        }
        Ok(true)
    }

    /// The same for a node that is alone, before it serves.
    pub(crate) async fn take_over_at_start(&mut self) -> Result<(), StartError> {
        loop {
            match self.lead().await {
                Ok(true) => return Ok(()),
                // On a full disk the log looks for room before it gives out its reserve.
                Ok(false) | Err(Failure::Overloaded) => tokio::time::sleep(START_RETRY).await,
                Err(failure) => {
                    return Err(StartError::with_source("the log takes no writes", failure));
                }
            }
        }
    }
}
