//! The catalog's group on this broker.

use std::time::Duration;

use chassis::health::Check;
use chassis::{Context, StartError};
use consensus::Index;
use messaging::catalog::CATALOG;
use messaging::frame;
use raft_node::{Beginning, Group, Groups};

use crate::Config;
use crate::error::LogError;
use crate::state_machine::CatalogMachine;

/// Between two attempts. Space comes back when somebody makes some, which nobody tells.
const RETRY: Duration = Duration::from_secs(1);
/// What the group writes before it is of use, in bytes.
const START_BYTES: usize = 1024;

/// Starts the catalog's group, without which nothing can be served: waits while the disk is full.
pub(super) async fn start(
    groups: &Groups,
    founders: Beginning,
    (context, check): (&Context<Config>, &Check),
) -> Result<Group<CatalogMachine>, StartError> {
    check.fail("the catalog is being read");
    loop {
        wait_for_room(groups, (context, check)).await;
        match groups.start_with(CATALOG, CatalogMachine::default(), founders.clone()).await {
            Ok(group) => {
                // One that joins has nothing of it yet.
                if groups.has(CATALOG) {
                    check_version(&group).await.map_err(StartError::from_error)?;
                }
                return Ok(group);
            }
            // A log that looks for space answers as if it were busy.
            Err(raft_node::StartError::DiskFull | raft_node::StartError::Overloaded)
                if !context.stop.is_cancelled() =>
            {
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => return Err(StartError::from_error(error)),
        }
    }
}

/// Waits until the only broker leads the catalog.
pub(super) async fn lead_alone(
    groups: &Groups,
    group: &Group<CatalogMachine>,
    (context, check): (&Context<Config>, &Check),
) -> Result<(), StartError> {
    loop {
        match group.barrier().await {
            Ok(()) => {
                check.pass();
                return Ok(());
            }
            Err(raft_node::QueryError::Stopped) => {
                return Err(StartError::new("the catalog cannot be led: the log says why"));
            }
            Err(_) => wait_for_room(groups, (context, check)).await,
        }
    }
}

/// Without room nothing can be led.
async fn wait_for_room(groups: &Groups, (context, check): (&Context<Config>, &Check)) {
    while groups.wal().room_for(START_BYTES, true).is_err() && !context.stop.is_cancelled() {
        tracing::warn!("the disk is full: the catalog cannot be opened yet");
        check.fail("the disk is full; free space: it is tried again every second");
        tokio::time::sleep(RETRY).await;
    }
}

/// Machines pass over commands that they do not understand, so a log of another version would look
/// like an empty one. Its first command tells; where that is gone, the snapshot has told.
async fn check_version(group: &Group<CatalogMachine>) -> Result<(), WrongVersion> {
    let first = group.read(Index(1), 1).await.map_err(|error| WrongVersion::Read(error.into()))?;
    match first.entries.first().map(|entry| frame::stamp(&entry.payload)) {
        Some(Err(error)) => Err(WrongVersion::Foreign(error)),
        Some(Ok(_)) | None => Ok(()),
    }
}

#[derive(Debug, thiserror::Error)]
enum WrongVersion {
    #[error("the catalog cannot be read")]
    Read(#[source] LogError),
    #[error("the catalog's log is of another version")]
    Foreign(#[source] frame::DecodeError),
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raft_node::{Config, Host};
    use telemetry::metrics::Registry;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_log_of_an_earlier_version_is_not_taken_for_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let links = stop.clone();
        let metrics = Registry::default();
        let host = Host { tasks: tasks.clone(), stop: stop.clone(), links, metrics };
        let groups = Groups::open(Config::new(dir.path().to_owned()), host).unwrap();
        let group = groups.start(CATALOG, CatalogMachine::default()).await.unwrap();
        check_version(&group).await.unwrap();
        group.propose(Bytes::from_static(&[1, 0])).await.unwrap().reply.unwrap_err();
        let refused = check_version(&group).await.unwrap_err();
        assert!(matches!(
            refused,
            WrongVersion::Foreign(frame::DecodeError::Version { version: 1 })
        ));
        stop.cancel();
        drop((groups, group));
        tasks.close();
        tasks.wait().await;
    }
}
