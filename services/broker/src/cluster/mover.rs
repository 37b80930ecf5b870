//! Carries out what the catalog says about the members of the groups that are led here.
//!
//! The order is that of [`placement::step`](messaging::placement::step): the group is looked at
//! first, then the catalog behind a barrier; a change is made in the term that was looked at; and
//! before the catalog is told that a move is over, the group confirms that it is still led here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consensus::{Change, GroupId, Index, NodeId, RoleName, Status, Term};
use messaging::catalog::{Catalog, CatalogCommand, Placement};
use messaging::placement::{GroupView, Step, step};
use tokio::time::Instant;

use crate::broker::Broker;
use crate::directory::Home;
use crate::error::{AdminError, LogError};
use crate::host::{Keep, Whole};
use crate::route::Led;

/// Between two looks while something moves.
const TICK: Duration = Duration::from_millis(100);
/// Between two looks at groups that rest.
const REST: Duration = Duration::from_secs(1);
/// Groups at rest that are looked at at a time: one leader may go each time.
const LOOKS: usize = 20;

/// See the module.
pub(crate) struct Mover {
    broker: Broker,
    /// What was committed when a learner was first seen.
    asked: BTreeMap<GroupId, (NodeId, Term, Index)>,
    rested: Instant,
    /// The group at rest that was looked at last.
    last: GroupId,
}

impl Mover {
    pub(crate) fn new(broker: &Broker) -> Self {
        let (broker, rested) = (broker.clone(), Instant::now());
        Self { broker, asked: BTreeMap::new(), rested, last: GroupId(0) }
    }

    /// Looks for as long as the process lives.
    pub(crate) async fn run(mut self) {
        let shared = self.broker.shared.clone();
        let mut applied = shared.catalog.applied();
        loop {
            applied.borrow_and_update();
            let Ok(catalog) = shared.catalog.local(|machine| machine.0.clone()).await else {
                return;
            };
            self.look(&catalog).await;
            let pause = if catalog.moving().is_empty() { REST } else { TICK };
            tokio::select! {
                () = shared.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => (),
                changed = applied.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn look(&mut self, catalog: &Catalog) {
        if catalog.brokers().len() < 2 {
            return;
        }
        self.asked.retain(|group, _| catalog.moving().contains(group));
        for group in catalog.moving() {
            self.advance(*group, catalog).await;
        }
        if REST <= self.rested.elapsed() {
            self.rested = Instant::now();
            for group in self.resting(catalog) {
                self.advance(group, catalog).await;
            }
        }
    }

    /// Groups led here that another should lead, and some others: a learner may have been left
    /// behind by a leader that is no more.
    fn resting(&mut self, catalog: &Catalog) -> Vec<GroupId> {
        let (me, directory) = (self.broker.node(), self.broker.directory());
        let is_led = |group: &GroupId| directory.groups.get(group).is_some_and(Home::is_led);
        let is_others = |group: &GroupId| {
            catalog.groups().get(group).is_some_and(|placement| placement.preferred != me)
        };
        let groups = || directory.groups.keys().copied().filter(is_led);
        let strangers = groups().filter(is_others).take(LOOKS);
        let next: Vec<_> = groups().filter(|group| self.last < *group).take(LOOKS).collect();
        self.last = next.last().copied().unwrap_or(GroupId(0));
        strangers.chain(next).collect()
    }

    async fn advance(&mut self, group: GroupId, catalog: &Catalog) {
        let home = self.broker.directory().groups.get(&group).cloned();
        let advanced = match home {
            Some(Home::Queue(queue)) => self.step(&queue, catalog).await,
            Some(Home::Partition(partition)) => self.step(&partition, catalog).await,
            Some(Home::Streams(streams)) => self.step(&streams, catalog).await,
            None => Ok(()),
        };
        if let Err(error) = advanced {
            tracing::debug!(group = group.0, %error, "a group's members change later");
        }
    }

    async fn step<H: Keep>(&mut self, handle: &Arc<H>, known: &Catalog) -> Result<(), AdminError> {
        let (port, me) = (handle.port(), self.broker.node());
        let (Some(group), Some(led)) = (port.group(), port.led()) else { return Ok(()) };
        let status = group.status().await.map_err(|_| LogError::Stopped)?;
        if status.role != RoleName::Leader || status.term != led.term {
            return Ok(());
        }
        let id = port.id;
        let look = move |catalog: &Catalog| {
            let is_draining = catalog.brokers().get(&me).is_some_and(|broker| broker.draining);
            Some((catalog.groups().get(&id)?.clone(), is_draining))
        };
        // What is known here tells whether it is worth asking.
        let Some((placement, is_draining)) = look(known) else { return Ok(()) };
        let view = self.view(id, &placement, (&status, led, is_draining));
        if step(&placement, me, &view) == Step::Wait {
            return Ok(());
        }
        let looked = self.broker.shared.catalog.query(move |machine| look(&machine.0)).await?;
        let Some((placement, is_draining)) = looked else { return Ok(()) };
        let view = self.view(id, &placement, (&status, led, is_draining));
        let changes = match step(&placement, me, &view) {
            Step::Wait => return Ok(()),
            Step::AddLearner(node) => vec![Change::AddLearner { node, info: Bytes::new() }],
            Step::Finish { promote, remove } => {
                if let Some(node) = promote
                    && !self.is_whole(handle, node).await
                {
                    tracing::debug!(group = id.0, "the new copy does not have all messages yet");
                    return Ok(());
                }
                let promote = promote.map(|node| Change::Promote { node });
                promote.into_iter().chain(remove.map(|node| Change::Remove { node })).collect()
            }
            Step::Transfer(to) => {
                if let Ok(Err(refused)) = group.transfer(to).await {
                    tracing::debug!(group = id.0, ?refused, "another does not lead yet");
                }
                return Ok(());
            }
            Step::End { done } => {
                if group.leading().await != Some(led.term) {
                    return Ok(());
                }
                let generation = placement.generation;
                let end = CatalogCommand::EndMove { group: id, generation, done };
                self.broker
                    .shared
                    .catalog
                    .propose_freeing(self.broker.payload(&end))
                    .await?
                    .reply?;
                return Ok(());
            }
        };
        // From here on others belong to it.
        port.is_joined();
        match group.change(led.term, changes).await.map_err(|_| LogError::Stopped)? {
            Ok(_) => tracing::info!(group = id.0, title = handle.title(), "its members change"),
            Err(refused) => tracing::debug!(group = id.0, ?refused, "its members stay"),
        }
        Ok(())
    }

    /// Whether the copy over there has all messages.
    async fn is_whole<H: Keep>(&self, handle: &Arc<H>, node: NodeId) -> bool {
        let (broker, whole) = (&self.broker, Whole::<H>::default());
        let asked = broker.shared.peers.call(broker, node, (handle.port().id, &whole)).await;
        asked.unwrap_or(false)
    }

    fn view(
        &mut self,
        group: GroupId,
        placement: &Placement,
        (status, led, is_draining): (&Status, Led, bool),
    ) -> GroupView {
        let membership = &status.membership;
        let add = placement.move_.and_then(|moving| moving.add);
        let asked = match add.filter(|node| membership.learners.contains(node)) {
            None => status.commit,
            Some(node) => {
                let asked = self.asked.entry(group).or_insert((node, led.term, status.commit));
                if (asked.0, asked.1) != (node, led.term) {
                    *asked = (node, led.term, status.commit);
                }
                asked.2
            }
        };
        let age = u64::try_from(led.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        GroupView {
            voters: membership.voters.iter().copied().collect(),
            learners: membership.learners.iter().copied().collect(),
            settled: !membership.is_joint() && status.membership_index <= status.commit,
            commit: status.commit,
            asked,
            matched: status
                .peers
                .iter()
                .map(|peer| (peer.node, (peer.matched, peer.reachable)))
                .collect(),
            term_age_ms: if is_draining { u64::MAX } else { age },
        }
    }
}
