//! Creating, changing and deleting, and bringing what is served up to what the catalog says.
//!
//! Every change goes through the catalog's log first. Then, and after every start, the directory
//! is made from the catalog: groups are started, settings that a group does not have yet are
//! proposed to it, groups of deleted things are removed. A crash between two of these steps is
//! mended by the next start.

use std::collections::BTreeMap;
use std::sync::Arc;

use consensus::GroupId;
use futures_util::{StreamExt as _, stream};
use messaging::catalog::{Catalog, CatalogCommand, Changed, Copies};
use messaging::catalog::{QueueEntry, SubscriptionEntry, Topic};
use messaging::config::{QueueConfig, Retention, Start, SubscriptionConfig};
use messaging::ids::{Name, SubscriptionId};
use messaging::partition::PartitionCommand;
use messaging::queue::QueueCommand;
use messaging::subscription::Position;
use raft_node::{Group, StartError};

use crate::broker::Broker;
use crate::directory::{
    Directory, Line, PartitionHandle, QueueHandle, Served, SubscriptionHandle, TopicHandle,
    Unserved,
};
use crate::error::{AdminError, LogError};
use crate::state_machine::{self, Leads, PartitionMachine, QueueMachine};
use crate::{keeper, log};

/// Topics and queues started at the same time.
const STARTING: usize = 64;

impl Broker {
    /// Creates a topic or changes its settings.
    pub(crate) async fn put_topic(
        &self,
        name: Name,
        partitions: Option<u32>,
        retention: Retention,
        replicas: Option<u8>,
    ) -> Result<Changed, AdminError> {
        let copies = Copies { asked: replicas, ..Copies::default() };
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
        config: SubscriptionConfig,
        start: Start,
    ) -> Result<Changed, AdminError> {
        self.change(CatalogCommand::PutSubscription { topic, name, config, start }).await
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
        let copies = Copies { asked: replicas, ..Copies::default() };
        self.change(CatalogCommand::PutQueue { name, config, copies }).await
    }

    /// Deletes a queue with everything in it.
    pub(crate) async fn delete_queue(&self, name: Name) -> Result<Changed, AdminError> {
        self.change(CatalogCommand::DeleteQueue { name }).await
    }

    /// One change at a time, and on a task of its own: a caller that leaves in the middle must
    /// not leave a topic behind that exists and is not served.
    async fn change(&self, command: CatalogCommand) -> Result<Changed, AdminError> {
        let broker = self.clone();
        let change = async move {
            let Ok(_place) = broker.shared.admin_places.try_acquire() else {
                return Err(AdminError::Overloaded);
            };
            let _turn = broker.shared.admin.acquire().await.map_err(|_| LogError::Stopped)?;
            let catalog = &broker.shared.catalog;
            let proposed = match command {
                CatalogCommand::DeleteTopic { .. } | CatalogCommand::DeleteQueue { .. } => {
                    catalog.propose_freeing(broker.payload(&command)).await
                }
                _ => catalog.propose(broker.payload(&command)).await,
            };
            let changed = proposed?.reply?;
            if changed != Changed::Unchanged || broker.shared.behind.borrow().is_some() {
                broker.refresh().await?;
            }
            Ok(changed)
        };
        self.shared.tasks.spawn(change).await.unwrap_or(Err(LogError::Indeterminate.into()))
    }

    /// Serves what the catalog says, and nothing else. Whoever calls has the turn to change it.
    ///
    /// What cannot be brought up now keeps nothing else from it: it is the outcome, and is tried
    /// again.
    pub(crate) async fn refresh(&self) -> Result<(), AdminError> {
        let served = self.serve_catalog().await;
        let behind = match &served {
            Err(error) => Some(format!("the catalog is not served completely yet: {error}")),
            Ok(()) => self.directory().has_to_start().then(|| "some are still to start".to_owned()),
        };
        self.shared.behind.send_if_modified(|known| {
            let changed = *known != behind;
            *known = behind;
            changed
        });
        served
    }

    async fn serve_catalog(&self) -> Result<(), AdminError> {
        let catalog = self.shared.catalog.query(|machine| machine.0.clone()).await?;
        let before = self.directory();
        let topics = catalog.topics().iter().map(|(name, entry)| {
            self.clone().serve_topic(name.clone(), entry.clone(), before.topics.get(name).cloned())
        });
        let (topics, failed_topic) = at_once(topics.collect()).await;
        let queues = catalog.queues().iter().map(|(name, entry)| {
            self.clone().serve_queue(name.clone(), entry.clone(), before.queues.get(name).cloned())
        });
        let (queues, failed_queue) = at_once(queues.collect()).await;
        let topics = topics.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
        let queues = queues.into_iter().map(|queue| (queue.name.clone(), queue)).collect();
        self.shared.directory.send_replace(Arc::new(Directory { topics, queues }));
        self.announce(&catalog).await?;
        self.remove_leaving(&catalog, &before).await?;
        failed_topic.or(failed_queue).map_or(Ok(()), Err)
    }

    async fn serve_topic(
        self,
        name: Name,
        entry: Arc<Topic>,
        before: Option<Arc<TopicHandle>>,
    ) -> Brought<TopicHandle> {
        if let Some(topic) = &before
            && topic.entry == entry
            && topic.is_complete()
        {
            return (topic.clone(), None);
        }
        let mut failed = None;
        let known = before.as_ref().map_or(&[][..], |topic| &topic.partitions[..]);
        let mut partitions = Vec::with_capacity(entry.partitions.len());
        for (number, id) in (0..).zip(&entry.partitions) {
            let known = known.iter().find(|partition| partition.served.id == *id);
            let partition = match known.filter(|partition| !partition.served.is_to_start()) {
                Some(partition) => partition.clone(),
                None => self.start_partition(*id).await,
            };
            if let Ok(group) = partition.served.group() {
                let configured = configure_partition(&self, group, (number, &entry)).await;
                failed = configured.err().or(failed);
            }
            // Consumers that wait find a subscription gone, the keeper another retention.
            partition.served.changed.notify_one();
            partition.served.keeper.notify_one();
            partitions.push(partition);
        }
        let subscriptions = entry.subscriptions.iter().map(|(subscription, entry)| {
            let known = before.as_ref().and_then(|topic| topic.subscriptions.get(subscription));
            (subscription.clone(), self.serve_subscription((&name, subscription), entry, known))
        });
        let subscriptions: BTreeMap<_, _> = subscriptions.collect();
        let metrics = self.shared.metrics.destination(name.as_str(), "");
        let topic = TopicHandle::new(name, entry, partitions, subscriptions, metrics);
        (Arc::new(topic.configured(failed.is_none())), failed)
    }

    fn serve_subscription(
        &self,
        (topic, name): (&Name, &Name),
        entry: &SubscriptionEntry,
        known: Option<&Arc<SubscriptionHandle>>,
    ) -> Arc<SubscriptionHandle> {
        match known.filter(|known| known.entry == *entry) {
            Some(known) => known.clone(),
            None => {
                let metrics = self.shared.metrics.destination(topic.as_str(), name.as_str());
                let max = self.shared.limits.max_waiters;
                Arc::new(SubscriptionHandle::new(name.clone(), entry.clone(), max, metrics))
            }
        }
    }

    async fn serve_queue(
        self,
        name: Name,
        entry: Arc<QueueEntry>,
        before: Option<Arc<QueueHandle>>,
    ) -> Brought<QueueHandle> {
        let known = before.filter(|queue| queue.entry.group == entry.group);
        let known = known.filter(|queue| !queue.served.is_to_start());
        if let Some(queue) = &known
            && queue.entry == entry
            && queue.configured
        {
            return (queue.clone(), None);
        }
        let (served, line) = match &known {
            Some(queue) => (queue.served.clone(), queue.line.clone()),
            None => {
                let line = Arc::new(Line::new(self.shared.limits.max_waiters));
                (self.start_group(entry.group).await, line)
            }
        };
        let failed = match served.group() {
            Ok(group) => configure_queue(&self, group, &entry).await.err(),
            Err(_unserved) => None,
        };
        let metrics = self.shared.metrics.destination(name.as_str(), "");
        let returned = known.as_ref().map_or_else(Arc::default, |queue| queue.returned.clone());
        let configured = failed.is_none();
        let queue = QueueHandle { name, entry, served, returned, line, metrics, configured };
        let queue = Arc::new(queue);
        match known {
            Some(_) => queue.served.keeper.notify_one(),
            None if queue.served.group().is_ok() => keeper::spawn_queue(self.clone(), &queue),
            None => (),
        }
        (queue, failed)
    }

    async fn start_partition(&self, id: GroupId) -> Arc<PartitionHandle> {
        let served = self.start_group(id).await;
        let partition = Arc::new(PartitionHandle { served, returned: Arc::default() });
        if partition.served.group().is_ok() {
            keeper::spawn_partition(self.clone(), partition.clone());
        }
        partition
    }

    /// A group that does not start is kept as such: the others are served, and requests for this
    /// one are told what is wrong with it.
    async fn start_group<M: Leads>(&self, id: GroupId) -> Served<M> {
        let group = state_machine::start(&self.shared.groups, id).await;
        let group = group.map_err(|error| match error {
            // Also what a log with too much to do answers.
            StartError::DiskFull | StartError::Overloaded | StartError::Stopped => {
                tracing::warn!(group = id.0, %error, "a partition or queue is not served yet");
                Unserved::NotYet(error.to_string())
            }
            error => {
                tracing::error!(group = id.0, %error, "a partition or queue is not served");
                Unserved::Damaged(error.to_string())
            }
        });
        Served::new(id, group)
    }

    /// Tells the catalog of this broker, if it does not know it like this: nothing is placed on
    /// a broker before.
    async fn announce(&self, catalog: &Catalog) -> Result<(), AdminError> {
        let node = self.shared.groups.node();
        let known = catalog.brokers().get(&node);
        if known.is_none_or(|known| !known.up || known.announced != self.shared.announced) {
            let announced = self.shared.announced.clone();
            let command = CatalogCommand::Announce { node, announced };
            self.shared.catalog.propose(self.payload(&command)).await?.reply?;
        }
        Ok(())
    }

    /// Removes the copies that are to go, and says so: only the catalog knows that they are.
    async fn remove_leaving(
        &self,
        catalog: &Catalog,
        before: &Directory,
    ) -> Result<(), AdminError> {
        let node = self.shared.groups.node();
        let here = catalog.leaving().iter();
        let here = here.filter_map(|(group, nodes)| Some((*group, *nodes.get(&node)?)));
        for (group, generation) in here {
            match self.shared.groups.remove(group).await {
                Ok(()) => {
                    before.end(group);
                    let copies = vec![(group, generation)];
                    let command = CatalogCommand::Left { node, copies };
                    self.shared.catalog.propose_freeing(self.payload(&command)).await?.reply?;
                }
                // It stays in the catalog's list: the next change or start tries again.
                Err(error) => tracing::warn!(group = group.0, %error, "a log is not removed yet"),
            }
        }
        Ok(())
    }
}

/// What is served now, and why it has not all the settings it should have.
type Brought<T> = (Arc<T>, Option<AdminError>);

/// Serves several things at once. Also one of the failures.
async fn at_once<T>(
    serving: Vec<impl Future<Output = Brought<T>>>,
) -> (Vec<Arc<T>>, Option<AdminError>) {
    let brought = stream::iter(serving).buffer_unordered(STARTING);
    let (served, failed): (Vec<_>, Vec<_>) = brought.unzip().await;
    (served, failed.into_iter().flatten().next())
}

/// Gives a queue the settings it does not have yet.
async fn configure_queue(
    broker: &Broker,
    group: &Group<QueueMachine>,
    entry: &QueueEntry,
) -> Result<(), AdminError> {
    if group.query(|machine| machine.0.version()).await? != entry.version {
        let (version, config) = (entry.version, entry.config.clone());
        group.propose(broker.payload(&QueueCommand::Configure { version, config })).await?;
    }
    Ok(())
}

/// Gives a partition the settings and subscriptions it does not have yet.
async fn configure_partition(
    broker: &Broker,
    group: &Group<PartitionMachine>,
    (number, entry): (u32, &Topic),
) -> Result<(), AdminError> {
    let (version, has) = group
        .query(|machine| {
            let subscriptions = machine.0.subscriptions();
            let versions = subscriptions.map(|(id, subscription)| (id, subscription.version()));
            (machine.0.version(), versions.collect::<BTreeMap<SubscriptionId, u64>>())
        })
        .await?;
    if version != entry.version {
        let (version, retention) = (entry.version, entry.retention);
        group.propose(broker.payload(&PartitionCommand::Configure { version, retention })).await?;
    }
    for (name, subscription) in &entry.subscriptions {
        if has.get(&subscription.id) != Some(&subscription.version) {
            let start = position(group, subscription.start_in(number)).await?;
            let command = PartitionCommand::PutSubscription {
                id: subscription.id,
                name: name.clone(),
                version: subscription.version,
                config: subscription.config.clone(),
                start,
            };
            group.propose(broker.payload(&command)).await?;
        }
    }
    let wanted: Vec<_> = entry.subscriptions.values().map(|entry| entry.id).collect();
    for id in has.into_keys().filter(|id| !wanted.contains(id)) {
        group.propose_freeing(broker.payload(&PartitionCommand::DeleteSubscription { id })).await?;
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
