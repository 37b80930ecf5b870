//! Creating, changing and deleting.
//!
//! Every change goes through the catalog's log first. Every broker follows the catalog
//! ([`crate::cluster`]); the leader of a group gives it the settings that it does not have yet, by
//! version. A crash between two of these steps is mended by whoever leads then.

use std::collections::BTreeMap;
use std::time::Duration;

use consensus::GroupId;
use futures_util::future::try_join_all;
use messaging::catalog::{CatalogCommand, Changed, Copies, NewPush, Secret};
use messaging::config::{QueueConfig, Retention, Start, SubscriptionConfig};
use messaging::ids::{Name, SubscriptionId};
use messaging::partition::PartitionCommand;
use messaging::queue::QueueCommand;
use messaging::subscription::Position;
use raft_node::Group;
use serde::{Deserialize, Serialize};

use crate::broker::Broker;
use crate::directory::{PartitionHandle, QueueHandle};
use crate::error::{AdminError, LogError, MessageError};
use crate::log;
use crate::route::{At, By, Kind, Op, propose_leading};
use crate::state_machine::PartitionMachine;

/// How long this broker may take to see what the catalog holds.
const PATIENCE: Duration = Duration::from_secs(5);

impl Broker {
    /// Creates a topic or changes its settings.
    pub(crate) async fn put_topic(
        &self,
        name: Name,
        partitions: Option<u32>,
        retention: Retention,
        replicas: Option<u8>,
    ) -> Result<Changed, AdminError> {
        let copies = Copies { asked: replicas, default: self.limits().default_replicas };
        self.change(CatalogCommand::PutTopic { name, partitions, retention, copies }).await
    }

    /// Deletes a topic with everything in it.
    pub(crate) async fn delete_topic(&self, name: Name) -> Result<Changed, AdminError> {
        self.change(CatalogCommand::DeleteTopic { name }).await
    }

    /// Creates a subscription or changes its settings.
    pub(crate) async fn put_subscription(
        &self,
        (topic, name): (Name, Name),
        (config, push): (SubscriptionConfig, Option<NewPush>),
        start: Start,
    ) -> Result<Changed, AdminError> {
        let command = CatalogCommand::PutSubscription { topic, name, config, start, push };
        self.change(command).await
    }

    /// Stops pushing, with a reason, or goes on: if it still pushes there.
    pub(crate) async fn pause_push(
        &self,
        (topic, name): (Name, Name),
        url: String,
        reason: Option<String>,
    ) -> Result<Changed, AdminError> {
        self.change(CatalogCommand::SetPaused { topic, name, url, reason }).await
    }

    /// Signs with another secret, and for a while with the former too.
    pub(crate) async fn rotate_secret(
        &self,
        (topic, name): (Name, Name),
        secret: Secret,
        keep_ms: u64,
    ) -> Result<Changed, AdminError> {
        self.change(CatalogCommand::RotateSecret { topic, name, secret, keep_ms }).await
    }

    /// Deletes a subscription.
    pub(crate) async fn delete_subscription(
        &self,
        (topic, name): (Name, Name),
    ) -> Result<Changed, AdminError> {
        self.change(CatalogCommand::DeleteSubscription { topic, name }).await
    }

    /// Creates a queue or changes its settings.
    pub(crate) async fn put_queue(
        &self,
        name: Name,
        config: QueueConfig,
        replicas: Option<u8>,
    ) -> Result<Changed, AdminError> {
        let copies = Copies { asked: replicas, default: self.limits().default_replicas };
        self.change(CatalogCommand::PutQueue { name, config, copies }).await
    }

    /// Creates a queue with its notes, or changes the one that was seen.
    pub(crate) async fn put_queue_as(
        &self,
        name: Name,
        seen: Option<(GroupId, u64)>,
        config: QueueConfig,
        notes: String,
    ) -> Result<Changed, AdminError> {
        let copies = Copies { asked: None, default: self.limits().default_replicas };
        self.change(CatalogCommand::PutQueueAs { name, seen, config, notes, copies }).await
    }

    /// Deletes a queue with everything in it.
    pub(crate) async fn delete_queue(&self, name: Name) -> Result<Changed, AdminError> {
        self.change(CatalogCommand::DeleteQueue { name }).await
    }

    pub(crate) async fn change(&self, command: CatalogCommand) -> Result<Changed, AdminError> {
        let Ok(_place) = self.shared.admin_places.try_acquire() else {
            return Err(AdminError::Overloaded);
        };
        let catalog = &self.shared.catalog;
        let payload = self.payload(&command);
        let proposed = match command {
            CatalogCommand::DeleteTopic { .. } | CatalogCommand::DeleteQueue { .. } => {
                catalog.propose_freeing(payload).await
            }
            _ => catalog.propose(payload).await,
        };
        let changed = proposed?.reply?;
        let revision = catalog.local(|machine| machine.0.revision()).await?;
        self.reach(revision).await?;
        self.ready(&command, revision).await?;
        Ok(changed)
    }

    /// Waits until this broker serves what the catalog held at this revision.
    pub(crate) async fn reach(&self, revision: u64) -> Result<(), LogError> {
        let mut directory = self.shared.directory.subscribe();
        let reached = directory.wait_for(|directory| revision <= directory.revision);
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(LogError::Stopped),
            Err(_) => {
                let reason = self.shared.behind.borrow().clone();
                let reason = reason.unwrap_or_else(|| "this broker lags behind".to_owned());
                Err(LogError::NotYet { reason })
            }
        }
    }

    /// Waits until the groups that a change is about have what it says.
    async fn ready(&self, command: &CatalogCommand, revision: u64) -> Result<(), MessageError> {
        let directory = self.directory();
        match command {
            CatalogCommand::PutQueue { name, .. } | CatalogCommand::PutQueueAs { name, .. } => {
                let Ok(queue) = directory.queue(name) else { return Ok(()) };
                self.run(&queue, ConfigureQueue { revision }).await
            }
            CatalogCommand::PutTopic { name: topic, .. }
            | CatalogCommand::PutSubscription { topic, .. }
            | CatalogCommand::DeleteSubscription { topic, .. } => {
                let Ok(topic) = directory.topic(topic) else { return Ok(()) };
                let ready = ConfigurePartition { revision };
                let partitions = topic.partitions.iter();
                try_join_all(partitions.map(|partition| self.run(partition, ready))).await?;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The leader gives a queue the settings it has at this revision of the catalog.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ConfigureQueue {
    revision: u64,
}

impl Op for ConfigureQueue {
    const KIND: Kind = Kind::ConfigureQueue;
    const BY: By = By::Leader;
    type On = QueueHandle;
    type Answer = ();

    async fn run(self, at: At<QueueHandle>) -> Result<(), MessageError> {
        at.broker.reach(self.revision).await?;
        configure_queue(&at).await
    }
}

/// The same for a partition.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ConfigurePartition {
    revision: u64,
}

impl Op for ConfigurePartition {
    const KIND: Kind = Kind::ConfigurePartition;
    const BY: By = By::Leader;
    type On = PartitionHandle;
    type Answer = ();

    async fn run(self, at: At<PartitionHandle>) -> Result<(), MessageError> {
        at.broker.reach(self.revision).await?;
        configure_partition(&at).await
    }
}

/// Gives a queue the settings it does not have yet.
pub(crate) async fn configure_queue(at: &At<QueueHandle>) -> Result<(), MessageError> {
    let At { broker, group, .. } = at;
    let Some(queue) = broker.directory().queue_in(group.id()) else { return Ok(()) };
    let entry = &queue.entry;
    if group.local(|machine| machine.0.version()).await? < entry.version {
        let (version, config) = (entry.version, entry.config.clone());
        let configure = broker.payload(&QueueCommand::Configure { version, config });
        propose_leading(group, at.term()?, (configure, false)).await?;
    }
    Ok(())
}

/// Gives a partition the settings and subscriptions it does not have yet.
pub(crate) async fn configure_partition(at: &At<PartitionHandle>) -> Result<(), MessageError> {
    let At { broker, handle: partition, group, .. } = at;
    let term = at.term()?;
    let directory = broker.directory();
    let Some(topic) = partition.topic_in(&directory) else { return Ok(()) };
    let entry = &topic.entry;
    let look = |machine: &mut PartitionMachine| {
        let subscriptions = machine.0.subscriptions();
        let versions = subscriptions.map(|(id, subscription)| (id, subscription.version()));
        (machine.0.version(), versions.collect::<BTreeMap<SubscriptionId, u64>>())
    };
    let (version, has) = group.local(look).await?;
    if version < entry.version {
        let (version, retention) = (entry.version, entry.retention);
        let configure = broker.payload(&PartitionCommand::Configure { version, retention });
        propose_leading(group, term, (configure, false)).await?;
    }
    for (name, subscription) in &entry.subscriptions {
        if has.get(&subscription.id).is_none_or(|has| *has < subscription.version) {
            let start = position(group, subscription.start_in(partition.number)).await?;
            let command = PartitionCommand::PutSubscription {
                id: subscription.id,
                name: name.clone(),
                version: subscription.version,
                config: subscription.config.clone(),
                start,
            };
            propose_leading(group, term, (broker.payload(&command), false)).await?;
        }
    }
    let wanted: Vec<_> = entry.subscriptions.values().map(|entry| entry.id).collect();
    // One that is newer than the catalog as it is known here is not gone, but about to be known.
    let is_gone = |id: &SubscriptionId| *id < directory.next_subscription && !wanted.contains(id);
    for id in has.into_keys().filter(is_gone) {
        let delete = broker.payload(&PartitionCommand::DeleteSubscription { id });
        propose_leading(group, term, (delete, true)).await?;
    }
    Ok(())
}

/// A start as it is logged: times are looked up here, as only the log knows them.
pub(crate) async fn position(
    group: &Group<PartitionMachine>,
    start: Start,
) -> Result<Position, LogError> {
    Ok(match start {
        Start::Earliest => Position::Earliest,
        Start::Latest => Position::Latest,
        Start::Offset(offset) => Position::Offset(offset),
        Start::Time(time) => Position::Offset(log::offset_at(group, time).await?.0),
    })
}
