//! Brings what this broker serves up to what the catalog says, one owner task.
//!
//! It follows the catalog as it is applied here and looks only at what was touched. What cannot be
//! brought up now keeps nothing else from it: it is tried again until it succeeds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use consensus::{GroupId, NodeId};
use futures_util::{StreamExt as _, stream};
use messaging::catalog::{Catalog, CatalogCommand, Duty, Placement, Topic, Touched};
use messaging::ids::Name;
use raft_node::{Beginning, Group, StartError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::directory::{
    Directory, Home, Line, PartitionHandle, QueueHandle, StreamsHandle, SubscriptionHandle,
    TopicHandle,
};
use crate::error::AdminError;
use crate::host::{self, Keep};
use crate::route::{Here, Port, Unserved};
use crate::state_machine::Hosted;

/// Between two attempts. Space comes back when somebody makes some, which nobody tells.
const RETRY: Duration = Duration::from_secs(1);
/// Groups started at the same time.
const STARTING: usize = 64;
/// What a group writes before it is of use, in bytes.
const START_BYTES: usize = 1024;

/// See the module.
pub(crate) struct Reconcile {
    broker: Broker,
    /// Groups whose copies could not be started or removed.
    again: BTreeSet<GroupId>,
    /// Of those, the ones that an old catalog had started here once more.
    stray: BTreeSet<GroupId>,
}

impl Reconcile {
    pub(crate) fn new(broker: &Broker) -> Self {
        Self { broker: broker.clone(), again: BTreeSet::new(), stray: BTreeSet::new() }
    }

    /// Follows the catalog for as long as the process lives.
    pub(crate) async fn run(mut self) {
        let shared = self.broker.shared.clone();
        let mut applied = shared.catalog.applied();
        loop {
            applied.borrow_and_update();
            let result = self.follow().await;
            if let Err(error) = &result {
                tracing::debug!(%error, "the catalog is not served completely");
            }
            let retry = tokio::time::sleep(RETRY);
            let is_behind = result.is_err() || !self.again.is_empty();
            tokio::select! {
                () = shared.stop.cancelled() => return,
                () = retry, if is_behind => (),
                changed = applied.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Serves the catalog as it is applied here now.
    pub(crate) async fn follow(&mut self) -> Result<(), AdminError> {
        let followed = self.serve().await;
        let behind = match &followed {
            Err(error) => Some(format!("the catalog is not served completely yet: {error}")),
            Ok(()) if self.again.is_empty() => None,
            Ok(()) => Some("some partitions or queues are still to start or to go".to_owned()),
        };
        self.broker.shared.behind.send_if_modified(|known| {
            let changed = *known != behind;
            *known = behind;
            changed
        });
        followed
    }

    async fn serve(&mut self) -> Result<(), AdminError> {
        let broker = self.broker.clone();
        let catalog = broker.shared.catalog.local(|machine| machine.0.clone()).await?;
        let before = broker.directory();
        let mut directory = Directory::clone(&before);
        let mut touched = touched(&catalog, &before);
        touched.extend(std::mem::take(&mut self.again).into_iter().map(Touched::Group));
        for touched in &touched {
            match touched {
                Touched::Broker(node) => self.broker(&catalog, *node),
                Touched::Topic(name) => self.topic(&catalog, &mut directory, name),
                Touched::Queue(name) => self.queue(&catalog, &mut directory, name),
                Touched::Streams => self.streams(&catalog, &mut directory),
                Touched::Group(_) => (),
            }
        }
        if touched.iter().any(|touched| matches!(touched, Touched::Broker(_))) {
            let brokers = catalog.brokers().iter();
            let urls = brokers.map(|(node, entry)| (*node, entry.announced.peer_url.clone()));
            broker.shared.groups.know(urls.collect()).await;
        }
        let groups = touched.iter().filter_map(|touched| match touched {
            Touched::Group(group) => Some(*group),
            _ => None,
        });
        self.groups(&catalog, &before, &directory, groups.collect()).await?;
        directory.revision = catalog.revision();
        directory.next_subscription = catalog.next_subscription();
        broker.shared.directory.send_replace(Arc::new(directory));
        self.end(&before, &touched);
        self.wake(&touched);
        self.announce(&catalog).await
    }

    /// What exists no more ends, now that nobody finds it any longer.
    fn end(&self, before: &Directory, touched: &[Touched]) {
        let directory = self.broker.directory();
        for touched in touched {
            let Touched::Group(group) = touched else { continue };
            if let Some(home) = before.groups.get(group)
                && !directory.groups.contains_key(group)
            {
                home.end();
            }
        }
    }

    /// Leaders look whether their groups have all their settings.
    fn wake(&self, touched: &[Touched]) {
        let directory = self.broker.directory();
        for touched in touched {
            match touched {
                Touched::Topic(name) => {
                    for partition in directory.topics.get(name).iter().flat_map(|t| &t.partitions) {
                        partition.port.keeper.notify_one();
                        partition.port.wake();
                    }
                }
                Touched::Queue(name) => {
                    if let Some(queue) = directory.queues.get(name) {
                        queue.port.keeper.notify_one();
                    }
                }
                Touched::Broker(_) | Touched::Streams | Touched::Group(_) => (),
            }
        }
    }

    fn broker(&self, catalog: &Catalog, node: NodeId) {
        let peers = &self.broker.shared.peers;
        match catalog.brokers().get(&node) {
            Some(broker) => peers.know(node, &broker.announced.name, &broker.announced.peer_url),
            None => peers.forget(node),
        }
    }

    fn topic(&self, catalog: &Catalog, directory: &mut Directory, name: &Name) {
        let before = directory.topics.get(name).cloned();
        let Some(entry) = catalog.topics().get(name) else {
            if let Some(before) = directory.topics.remove(name) {
                for partition in &before.partitions {
                    directory.groups.remove(&partition.port.id);
                }
            }
            return;
        };
        if before.as_ref().is_some_and(|before| before.entry == *entry) {
            return;
        }
        let mut partitions = Vec::with_capacity(entry.partitions.len());
        for (number, id) in (0..).zip(&entry.partitions) {
            let partition = directory.partition_in(*id).or_else(|| {
                let placement = catalog.groups().get(id)?.clone();
                let port = Arc::new(Port::new(*id, placement));
                let (topic, returned) = (name.clone(), Arc::default());
                Some(Arc::new(PartitionHandle { port, topic, number, returned }))
            });
            let partition = partition.expect("the catalog places every partition it names");
            directory.groups.insert(*id, Home::Partition(partition.clone()));
            partitions.push(partition);
        }
        if let Some(before) = &before {
            // The name was given to another topic meanwhile.
            let is_gone = |id: &GroupId| !entry.partitions.contains(id);
            for partition in before.partitions.iter().filter(|one| is_gone(&one.port.id)) {
                directory.groups.remove(&partition.port.id);
            }
        }
        let topic = self.topic_handle(name, entry, partitions, before.as_ref());
        directory.topics.insert(name.clone(), Arc::new(topic));
    }

    fn topic_handle(
        &self,
        name: &Name,
        entry: &Arc<Topic>,
        partitions: Vec<Arc<PartitionHandle>>,
        before: Option<&Arc<TopicHandle>>,
    ) -> TopicHandle {
        let shared = &self.broker.shared;
        let subscriptions = entry.subscriptions.iter().map(|(subscription, entry)| {
            let known = before.and_then(|topic| topic.subscriptions.get(subscription));
            let handle = match known.filter(|known| known.entry == *entry) {
                Some(known) => known.clone(),
                None => {
                    let metrics = shared.metrics.destination(name.as_str(), subscription.as_str());
                    let max = shared.limits.max_waiters;
                    let (name, entry) = (subscription.clone(), entry.clone());
                    Arc::new(SubscriptionHandle::new(name, entry, max, metrics))
                }
            };
            (subscription.clone(), handle)
        });
        let subscriptions: BTreeMap<_, _> = subscriptions.collect();
        let metrics = shared.metrics.destination(name.as_str(), "");
        let known = (subscriptions, self.broker.directory().whole.clone());
        TopicHandle::new(name.clone(), entry.clone(), partitions, known, metrics)
    }

    fn queue(&self, catalog: &Catalog, directory: &mut Directory, name: &Name) {
        let before = directory.queues.get(name).cloned();
        let entry = catalog.queues().get(name);
        if let Some(before) = &before
            && entry.is_none_or(|entry| entry.group != before.port.id)
        {
            directory.queues.remove(name);
            directory.groups.remove(&before.port.id);
        }
        let Some(entry) = entry.cloned() else { return };
        let before = before.filter(|before| before.port.id == entry.group);
        if before.as_ref().is_some_and(|before| before.entry == entry) {
            return;
        }
        let shared = &self.broker.shared;
        let (port, returned, line) = match before {
            Some(before) => (before.port.clone(), before.returned.clone(), before.line.clone()),
            None => {
                let placement = catalog.groups().get(&entry.group).cloned();
                let placement = placement.expect("the catalog places every queue it names");
                let port = Arc::new(Port::new(entry.group, placement));
                (port, Arc::default(), Arc::new(Line::new(shared.limits.max_waiters)))
            }
        };
        let metrics = shared.metrics.destination(name.as_str(), "");
        let (name, group) = (name.clone(), entry.group);
        let queue = Arc::new(QueueHandle { name, entry, port, returned, line, metrics });
        directory.groups.insert(group, Home::Queue(queue.clone()));
        directory.queues.insert(queue.name.clone(), queue);
    }

    /// They are founded once.
    fn streams(&self, catalog: &Catalog, directory: &mut Directory) {
        let Some(entry) = catalog.streams() else { return };
        if !directory.streams.is_empty() {
            return;
        }
        let max = self.broker.shared.limits.max_waiters;
        let handles = (0..).zip(&entry.groups).map(|(number, group)| {
            let placement = catalog.groups().get(group).cloned();
            let placement = placement.expect("the catalog places every group it names");
            let port = Arc::new(Port::new(*group, placement));
            let places = Arc::new(Semaphore::new(max));
            let handle = Arc::new(StreamsHandle { number, entry: entry.clone(), port, places });
            directory.groups.insert(*group, Home::Streams(handle.clone()));
            handle
        });
        directory.streams = handles.collect();
    }

    /// Starts and removes copies.
    async fn groups(
        &mut self,
        catalog: &Catalog,
        before: &Directory,
        directory: &Directory,
        groups: Vec<GroupId>,
    ) -> Result<(), AdminError> {
        let me = self.broker.node();
        let mut left = Vec::new();
        let mut starting = Vec::new();
        for id in groups {
            let home = directory.groups.get(&id);
            let placement = catalog.groups().get(&id);
            if let (Some(home), Some(placement)) = (home, placement) {
                home.place(placement.clone());
            }
            let leaving = catalog.leaving().get(&id).and_then(|nodes| nodes.get(&me));
            let known = home.or_else(|| before.groups.get(&id));
            let runs = known.is_some_and(Home::is_here) || self.stray.contains(&id);
            let is_stray = runs && catalog.has_no_copy(id, me);
            if leaving.is_some() || is_stray {
                if let Some(home) = known {
                    home.leave();
                }
                let groups = &self.broker.shared.groups;
                let removed = match placement {
                    // This node may get another copy later.
                    Some(_) => groups.leave(id).await,
                    None => groups.remove(id).await,
                };
                match removed {
                    Ok(()) => {
                        self.stray.remove(&id);
                        left.extend(leaving.map(|generation| (id, *generation)));
                    }
                    Err(error) => {
                        if is_stray {
                            self.stray.insert(id);
                        }
                        tracing::warn!(group = id.0, %error, "a log is not removed yet");
                        self.again.insert(id);
                    }
                }
            } else if let (Some(home), Some(placement)) = (home, placement)
                && let Some(duty) = placement.duty(me)
            {
                starting.push(self.start(home.clone(), placement.clone(), duty));
            }
        }
        let started = stream::iter(starting).buffer_unordered(STARTING);
        self.again.extend(started.filter_map(std::future::ready).collect::<Vec<_>>().await);
        self.say_left(left).await
    }

    /// Starts a copy, unless it runs. What it answers is to be tried again.
    fn start(
        &self,
        home: Home,
        placement: Arc<Placement>,
        duty: Duty,
    ) -> impl Future<Output = Option<GroupId>> + use<> {
        let broker = self.broker.clone();
        async move {
            match home {
                Home::Queue(queue) => start(&broker, queue, &placement, duty).await,
                Home::Partition(partition) => start(&broker, partition, &placement, duty).await,
                Home::Streams(streams) => start(&broker, streams, &placement, duty).await,
            }
        }
    }

    /// Only the catalog knows that copies are to go, and only from here that they are gone.
    async fn say_left(&mut self, copies: Vec<(GroupId, u64)>) -> Result<(), AdminError> {
        if copies.is_empty() {
            return Ok(());
        }
        let node = self.broker.node();
        let groups: Vec<_> = copies.iter().map(|(group, _)| *group).collect();
        let left = self.broker.payload(&CatalogCommand::Left { node, copies });
        let said = self.broker.shared.catalog.propose_freeing(left).await;
        match said.map_err(AdminError::from).and_then(|said| Ok(said.reply?)) {
            Ok(_) => Ok(()),
            Err(error) => {
                self.again.extend(groups);
                tracing::debug!(%error, "the catalog is not told yet what is gone here");
                Ok(())
            }
        }
    }

    /// Tells the catalog of this broker, if it does not know it like this: nothing is placed on
    /// a broker before.
    async fn announce(&self, catalog: &Catalog) -> Result<(), AdminError> {
        let node = self.broker.node();
        let announced = &self.broker.shared.announced;
        if catalog
            .brokers()
            .get(&node)
            .is_some_and(|known| known.up && known.announced == *announced)
        {
            return Ok(());
        }
        let announced = announced.clone();
        let command = self.broker.payload(&CatalogCommand::Announce { node, announced });
        self.broker.shared.catalog.propose(command).await?.reply?;
        Ok(())
    }
}

/// What has to be looked at: all, if what changed is not remembered.
fn touched(catalog: &Catalog, before: &Directory) -> Vec<Touched> {
    // At the beginning nothing is known, whatever the catalog remembers.
    let since = (before.revision != 0).then(|| catalog.since(before.revision)).flatten();
    since.unwrap_or_else(|| {
        let brokers = catalog.brokers().keys().copied().map(Touched::Broker);
        let names = |names: Vec<Name>, touch: fn(Name) -> Touched| names.into_iter().map(touch);
        let known = before.topics.keys().chain(catalog.topics().keys()).cloned().collect();
        let topics = names(known, Touched::Topic);
        let known = before.queues.keys().chain(catalog.queues().keys()).cloned().collect();
        let queues = names(known, Touched::Queue);
        let groups = catalog.groups().keys().chain(catalog.leaving().keys());
        let groups = groups.chain(before.groups.keys());
        let groups = groups.copied().map(Touched::Group);
        let streams = catalog.streams().map(|_| Touched::Streams);
        let named = topics.chain(queues).chain(streams);
        let all: BTreeSet<_> = brokers.chain(named).chain(groups).collect();
        all.into_iter().collect()
    })
}

async fn start<H: Keep>(
    broker: &Broker,
    handle: Arc<H>,
    placement: &Placement,
    duty: Duty,
) -> Option<GroupId> {
    let port = handle.port().clone();
    if port.is_here() && !port.is_to_start() {
        return None;
    }
    match begin(broker, port.id, placement, duty).await {
        Ok(group) => {
            let end = CancellationToken::new();
            port.be(Here::Member { group: group.clone(), end: end.clone() });
            host::spawn(broker, handle, group, end);
            None
        }
        Err(unserved) => {
            let again = matches!(unserved, Unserved::NotYet(_)).then_some(port.id);
            if again.is_none() {
                host::report_damaged(broker, port.id, &port.placement());
            }
            port.be(Here::Unserved(unserved));
            again
        }
    }
}

/// A group that does not start is kept as such: the others are served, and requests for this one
/// are told what is wrong with it.
async fn begin<M: Hosted>(
    broker: &Broker,
    id: GroupId,
    placement: &Placement,
    duty: Duty,
) -> Result<Group<M>, Unserved> {
    let groups = &broker.shared.groups;
    let beginning = match duty {
        Duty::Found => {
            let of = placement.founders.clone();
            let first = of.iter().find(|node| **node == placement.preferred).or(of.first());
            let first = *first.expect("a group has founders");
            Beginning::Founders { of, first }
        }
        Duty::Join => Beginning::Member,
    };
    let started = match groups.wal().room_for(START_BYTES, true) {
        Ok(()) => groups.start_with(id, M::default(), beginning).await,
        Err(_) => Err(StartError::DiskFull),
    };
    started.map_err(|error| match error {
        // Also what a log with too much to do answers.
        StartError::DiskFull | StartError::Overloaded | StartError::Stopped => {
            tracing::warn!(group = id.0, %error, "a partition or queue is not served yet");
            Unserved::NotYet(error.to_string())
        }
        error => {
            tracing::error!(group = id.0, %error, "a partition or queue is not served");
            Unserved::Damaged(error.to_string())
        }
    })
}

impl Home {
    fn place(&self, placement: Arc<Placement>) {
        match self {
            Self::Queue(queue) => queue.port.place(placement),
            Self::Streams(streams) => streams.port.place(placement),
            Self::Partition(partition) => partition.port.place(placement),
        }
    }

    fn end(&self) {
        match self {
            Self::Queue(queue) => queue.port.end(),
            Self::Streams(streams) => streams.port.end(),
            Self::Partition(partition) => partition.port.end(),
        }
    }

    /// Whether this node has a copy, served or not.
    fn is_here(&self) -> bool {
        match self {
            Self::Queue(queue) => queue.port.is_here(),
            Self::Streams(streams) => streams.port.is_here(),
            Self::Partition(partition) => partition.port.is_here(),
        }
    }

    /// This node's copy goes.
    fn leave(&self) {
        match self {
            Self::Queue(queue) => queue.port.be(Here::Elsewhere),
            Self::Streams(streams) => streams.port.be(Here::Elsewhere),
            Self::Partition(partition) => partition.port.be(Here::Elsewhere),
        }
    }
}
