//! What exists: brokers, topics with their partitions and subscriptions, queues, and where the
//! groups live in which their messages are.
//!
//! The catalog is a group of its own, [`CATALOG`], of which every broker is a member. It decides
//! names, identities and places; a partition or queue then takes its settings into its own log,
//! and the members of its group follow its [`Placement`]. Every setting has a version, so that
//! after a crash between the two the one can be brought up to the other.
//!
//! **Invariant:** a group id is given out once, also when what it stood for is deleted.
//! **Invariant:** nothing but a broker's own word ([`CatalogCommand::Left`]) or its end
//! ([`CatalogCommand::Forget`]) takes a copy off the list of those that are to go.
//! **Invariant:** a change costs O(log n) and O(brokers), never O(groups), except a deletion of
//! what others may need: of a queue, or of a broker.

mod apply;
mod brokers;
mod changes;
mod command;
mod groups;
mod push;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

use consensus::{GroupId, NodeId};
use imbl::{OrdMap, OrdSet, Vector};
use serde::{Deserialize, Serialize};

use crate::ids::{Millis, Name, SubscriptionId};
use changes::Changes;

pub use apply::{CatalogRefused, CatalogReply, Changed};
pub use brokers::{Announced, BrokerEntry, Brokers};
pub use brokers::{MAX_BROKER_TEXT, MAX_BROKERS, MAX_FORGOTTEN, VERSION};
pub use changes::{MAX_CHANGES, Touched};
pub use command::{CatalogCommand, Copies};
pub use groups::{COMEBACK_MS, MAX_REPLICAS};
pub use groups::{Duty, Kind, Load, Move, Placement, Replica, Share};
pub use push::{MAX_PUSH_URL, NewPush, Push, PushFormat, Secret};
pub use settings::{QueueEntry, StreamsEntry, SubscriptionEntry, Topic};

/// The catalog's own group.
pub const CATALOG: GroupId = GroupId(1);
/// Most topics.
pub const MAX_TOPICS: usize = 10_000;
/// Most queues.
pub const MAX_QUEUES: usize = 10_000;
/// Most subscriptions of one topic.
pub const MAX_SUBSCRIPTIONS: usize = 64;
/// Most partitions of one topic.
pub const MAX_PARTITIONS: u32 = 64;
/// Most partitions and queues together: each is a group with a log of its own.
pub const MAX_GROUPS: usize = 20_000;
/// Most groups in which streams live.
pub const MAX_STREAM_GROUPS: u32 = 256;
/// Most bytes of notes on one queue.
pub const MAX_NOTES: usize = 64 * 1024;
/// Most groups in one command that says who should lead.
pub const MAX_PREFERRED: usize = 1_024;

/// What every replica of the catalog has alike; what a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    next_group: u64,
    next_subscription: u64,
    /// The latest stamp of a command.
    now: Millis,
    min_version: u32,
    /// Counts everything that was touched.
    revision: u64,
    brokers: Brokers,
    /// Brokers that must not come back.
    forgotten: Vector<NodeId>,
    topics: OrdMap<Name, Arc<Topic>>,
    queues: OrdMap<Name, Arc<QueueEntry>>,
    streams: Option<Arc<StreamsEntry>>,
    groups: OrdMap<GroupId, Arc<Placement>>,
    /// Copies that are to go, each with the generation under which it was told to.
    leaving: OrdMap<GroupId, BTreeMap<NodeId, u64>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            next_group: CATALOG.0 + 1,
            next_subscription: 1,
            now: 0,
            min_version: 0,
            revision: 0,
            brokers: OrdMap::new(),
            forgotten: Vector::new(),
            topics: OrdMap::new(),
            queues: OrdMap::new(),
            streams: None,
            groups: OrdMap::new(),
            leaving: OrdMap::new(),
        }
    }
}

/// Everything that exists. A clone shares what it can, and costs next to nothing.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    state: State,
    /// Follows from the state, as do the groups that move.
    load: Load,
    moving: OrdSet<GroupId>,
    changes: Changes,
}

/// What changed lately is this node's own, and what follows from the state is no difference.
impl PartialEq for Catalog {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

impl Catalog {
    /// The brokers.
    #[must_use]
    pub fn brokers(&self) -> &Brokers {
        &self.state.brokers
    }

    /// The topics, by name.
    #[must_use]
    pub fn topics(&self) -> &OrdMap<Name, Arc<Topic>> {
        &self.state.topics
    }

    /// The queues, by name.
    #[must_use]
    pub fn queues(&self) -> &OrdMap<Name, Arc<QueueEntry>> {
        &self.state.queues
    }

    /// The groups in which streams live; none before there is a stream.
    #[must_use]
    pub fn streams(&self) -> Option<&Arc<StreamsEntry>> {
        self.state.streams.as_ref()
    }

    /// Where the groups live.
    #[must_use]
    pub fn groups(&self) -> &OrdMap<GroupId, Arc<Placement>> {
        &self.state.groups
    }

    /// The groups whose members are changing.
    #[must_use]
    pub fn moving(&self) -> &OrdSet<GroupId> {
        &self.moving
    }

    /// Copies that are to be removed, also of groups that exist: by group and node, each with the
    /// generation that [`CatalogCommand::Left`] has to name.
    #[must_use]
    pub fn leaving(&self) -> &OrdMap<GroupId, BTreeMap<NodeId, u64>> {
        &self.state.leaving
    }

    /// Whether this node neither has to have a copy of the group nor to remove one.
    ///
    /// One that runs there nevertheless was started after a restart, by a catalog older than the
    /// removal of the copy before it: nobody is told to leave without being `leaving` in between.
    /// It belongs to nobody's group, and has to go as well.
    #[must_use]
    pub fn has_no_copy(&self, group: GroupId, node: NodeId) -> bool {
        let is_leaving = self.state.leaving.get(&group).is_some_and(|all| all.contains_key(&node));
        let placement = self.state.groups.get(&group);
        !is_leaving && placement.is_none_or(|placement| placement.duty(node).is_none())
    }

    /// What each broker carries.
    #[must_use]
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// The newest version of commands that every broker understands. Nobody proposes newer ones.
    #[must_use]
    pub fn min_version(&self) -> u32 {
        self.state.min_version
    }

    /// The latest stamp of a command.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.state.now
    }

    /// Subscriptions that were ever created have smaller identities.
    #[must_use]
    pub fn next_subscription(&self) -> SubscriptionId {
        SubscriptionId(self.state.next_subscription)
    }

    /// Grows with every change. [`since`](Self::since) tells what is newer than a revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.state.revision
    }

    /// What was touched after this revision, each thing once. `None`: look at everything.
    #[must_use]
    pub fn since(&self, revision: u64) -> Option<Vec<Touched>> {
        self.changes.last(self.state.revision.checked_sub(revision)?)
    }

    /// A copy of everything, to be encoded later and elsewhere.
    pub fn snapshot(&self) -> impl FnOnce() -> Vec<u8> + Send + 'static {
        let state = self.state.clone();
        move || crate::snapshot::encode(&state)
    }

    /// Takes the place of everything so far.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), crate::snapshot::SnapshotError> {
        let state: State = crate::snapshot::decode(snapshot)?;
        let mut load = Load::default();
        state.groups.values().for_each(|placement| load.add(placement));
        let moving = state.groups.iter().filter(|(_, placement)| placement.move_.is_some());
        let moving = moving.map(|(group, _)| *group).collect();
        *self = Self { state, load, moving, changes: Changes::default() };
        Ok(())
    }

    fn touch(&mut self, touched: Touched) {
        self.state.revision += 1;
        self.changes.push(touched);
    }
}

#[cfg(test)]
mod tests {
    use super::apply::testing::{announce, apply, founded, put_queue, put_topic};
    use super::*;

    #[test]
    fn a_snapshot_holds_everything_but_what_changed_lately() {
        let mut catalog = founded(3);
        apply(&mut catalog, &put_topic("t", Some(2))).unwrap();
        let revision = catalog.revision();
        apply(&mut catalog, &put_queue("q", None)).unwrap();
        let mut restored = Catalog::default();
        restored.restore(&catalog.snapshot()()).unwrap();
        assert_eq!(restored, catalog);
        assert_eq!(restored.load(), catalog.load());
        assert_eq!(restored.since(revision), None);
        assert_eq!(restored.since(restored.revision()), Some(Vec::new()));
    }

    #[test]
    fn a_copy_is_stray_only_after_its_node_has_said_that_it_left() {
        let mut catalog = founded(4);
        apply(&mut catalog, &put_queue("q", None)).unwrap();
        let group = catalog.queues()["q"].group;
        let all: Vec<NodeId> = catalog.brokers().keys().copied().collect();
        let has_no_copy = |catalog: &Catalog| -> Vec<NodeId> {
            all.iter().copied().filter(|node| catalog.has_no_copy(group, *node)).collect()
        };
        let placement = catalog.groups()[&group].clone();
        let none = has_no_copy(&catalog);
        let (added, gone) = (none[0], placement.replicas[0].node);
        let (expect, add, remove) = (placement.generation, Some(added), Some(gone));
        apply(&mut catalog, &CatalogCommand::BeginMove { group, expect, add, remove }).unwrap();
        assert_eq!(has_no_copy(&catalog), none[1..], "one joins, the other is still a member");
        let generation = catalog.groups()[&group].generation;
        let end = CatalogCommand::EndMove { group, generation, done: true };
        apply(&mut catalog, &end).unwrap();
        assert_eq!(has_no_copy(&catalog), none[1..], "it is leaving");
        let copies = vec![(group, catalog.leaving()[&group][&gone])];
        apply(&mut catalog, &CatalogCommand::Left { node: gone, copies }).unwrap();
        assert!(catalog.has_no_copy(group, gone));
        assert!(!catalog.has_no_copy(group, added));
    }

    #[test]
    fn what_changed_is_told_by_revision() {
        let mut catalog = founded(3);
        let revision = catalog.revision();
        apply(&mut catalog, &put_queue("q", None)).unwrap();
        let queue = Touched::Queue("q".parse().unwrap());
        let group = Touched::Group(catalog.queues()["q"].group);
        assert_eq!(catalog.since(revision), Some(vec![queue, group]));
        let revision = catalog.revision();
        apply(&mut catalog, &put_queue("q", None)).unwrap();
        assert_eq!(catalog.revision(), revision, "nothing changed");
        apply(&mut catalog, &announce(4)).unwrap();
        assert_eq!(catalog.since(revision), Some(vec![Touched::Broker(NodeId(4))]));
        assert_eq!(catalog.since(revision + 100), None, "that was never");
    }
}
