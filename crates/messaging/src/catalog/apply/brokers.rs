//! Brokers come, fall silent, are emptied and are forgotten.

use consensus::NodeId;

use super::{CatalogRefused, CatalogReply, Changed};
use crate::catalog::{Announced, BrokerEntry, Catalog, Touched};
use crate::catalog::{MAX_BROKER_TEXT, MAX_BROKERS, MAX_FORGOTTEN};

impl Catalog {
    /// A broker that speaks is there, whatever was thought of it.
    pub(super) fn announce(&mut self, node: NodeId, announced: Announced) -> CatalogReply {
        let known = self.state.brokers.get(&node);
        self.check_announced(node, &announced)?;
        let changed = match known {
            None if MAX_BROKERS <= self.state.brokers.len() => {
                return Err(CatalogRefused::Limit { what: "brokers", max: MAX_BROKERS });
            }
            None => Changed::Created,
            Some(known) if known.up && known.announced == announced => Changed::Unchanged,
            Some(_) => Changed::Updated,
        };
        if changed != Changed::Unchanged {
            let since_ms = match known.filter(|known| known.up) {
                Some(known) => known.since_ms,
                None => self.state.now,
            };
            let draining = known.is_some_and(|known| known.draining);
            let entry = BrokerEntry { announced, up: true, since_ms, draining };
            self.state.brokers.insert(node, entry);
            self.raise_version();
            self.touch(Touched::Broker(node));
        }
        Ok(changed)
    }

    fn check_announced(&self, node: NodeId, announced: &Announced) -> Result<(), CatalogRefused> {
        let Announced { name, client_url, peer_url, zone, version } = announced;
        let fits = |text: &String| (1..=MAX_BROKER_TEXT).contains(&text.len());
        if ![name, client_url, peer_url].into_iter().all(fits) || MAX_BROKER_TEXT < zone.len() {
            return Err(CatalogRefused::BrokerText);
        }
        if self.state.forgotten.contains(&node) {
            return Err(CatalogRefused::Forgotten(node));
        }
        let (version, min) = (*version, self.state.min_version);
        if version < min {
            return Err(CatalogRefused::TooOld { version, min });
        }
        let mut others = self.state.brokers.iter().filter(|(other, _)| **other != node);
        match others.find(|(_, other)| other.announced.name == *name) {
            Some((other, _)) => Err(CatalogRefused::NameTaken { name: name.clone(), node: *other }),
            None => Ok(()),
        }
    }

    /// What all understand may be used from now on, so nobody may understand less any more.
    fn raise_version(&mut self) {
        let all = self.state.brokers.values().map(|broker| broker.announced.version).min();
        self.state.min_version = self.state.min_version.max(all.unwrap_or(0));
    }

    pub(super) fn set_up(&mut self, node: NodeId, up: bool) -> CatalogReply {
        let now = self.state.now;
        self.change_broker(node, |broker| {
            let differs = broker.up != up;
            if differs {
                (broker.up, broker.since_ms) = (up, now);
            }
            differs
        })
    }

    pub(super) fn set_draining(&mut self, node: NodeId, on: bool) -> CatalogReply {
        self.change_broker(node, |broker| std::mem::replace(&mut broker.draining, on) != on)
    }

    fn change_broker(
        &mut self,
        node: NodeId,
        change: impl FnOnce(&mut BrokerEntry) -> bool,
    ) -> CatalogReply {
        let broker = self.state.brokers.get_mut(&node).ok_or(CatalogRefused::NoBroker(node))?;
        if !change(broker) {
            return Ok(Changed::Unchanged);
        }
        self.touch(Touched::Broker(node));
        Ok(Changed::Updated)
    }

    pub(super) fn forget(&mut self, node: NodeId) -> CatalogReply {
        if self.state.forgotten.contains(&node) {
            return Ok(Changed::Unchanged);
        }
        if !self.state.brokers.contains_key(&node) {
            return Err(CatalogRefused::NoBroker(node));
        }
        let moving = self.moving.iter().filter_map(|group| self.state.groups.get(group)?.move_);
        let moving = moving.filter(|moving| [moving.add, moving.remove].contains(&Some(node)));
        // A cancelled arrival is in no count, a departure in none any more.
        let moving = u32::try_from(moving.count()).unwrap_or(u32::MAX);
        let copies = self.load.of(node).replicas.max(moving);
        if 0 < copies {
            return Err(CatalogRefused::StillNeeded { node, copies });
        }
        self.leave_behind(node);
        self.state.brokers.remove(&node);
        self.state.forgotten.push_back(node);
        if MAX_FORGOTTEN < self.state.forgotten.len() {
            self.state.forgotten.pop_front();
        }
        self.raise_version();
        self.touch(Touched::Broker(node));
        Ok(Changed::Deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{announce, apply, apply_at, founded, name, put_queue};
    use super::*;
    use crate::catalog::{CatalogCommand, Copies};
    use crate::config::QueueConfig;

    fn with_version(node: u64, version: u32) -> CatalogCommand {
        match announce(node) {
            CatalogCommand::Announce { node, announced } => {
                CatalogCommand::Announce { node, announced: Announced { version, ..announced } }
            }
            other => other,
        }
    }

    #[test]
    fn whoever_understands_less_than_is_in_use_does_not_join() {
        let mut catalog = Catalog::default();
        apply(&mut catalog, &with_version(1, 2)).unwrap();
        assert_eq!(catalog.min_version(), 2);
        let refused = apply(&mut catalog, &with_version(2, 1));
        assert_eq!(refused, Err(CatalogRefused::TooOld { version: 1, min: 2 }));
        apply(&mut catalog, &with_version(2, 3)).unwrap();
        assert_eq!(catalog.min_version(), 2);
        apply(&mut catalog, &with_version(1, 3)).unwrap();
        assert_eq!(catalog.min_version(), 3);
    }

    #[test]
    fn a_broker_that_speaks_is_up_since_then() {
        let mut catalog = founded(1);
        let node = NodeId(1);
        assert_eq!(apply(&mut catalog, &announce(1)), Ok(Changed::Unchanged));
        apply_at(&mut catalog, 7, &CatalogCommand::SetUp { node, up: false }).unwrap();
        assert_eq!(catalog.brokers()[&node].down_for(10), Some(3));
        assert_eq!(apply_at(&mut catalog, 9, &announce(1)), Ok(Changed::Updated));
        assert_eq!((catalog.brokers()[&node].up, catalog.brokers()[&node].since_ms), (true, 9));
    }

    #[test]
    fn two_brokers_have_different_names() {
        let mut catalog = founded(1);
        let CatalogCommand::Announce { announced, .. } = announce(1) else { unreachable!() };
        let refused = apply(&mut catalog, &CatalogCommand::Announce { node: NodeId(2), announced });
        assert!(matches!(refused, Err(CatalogRefused::NameTaken { node: NodeId(1), .. })));
    }

    #[test]
    fn a_broker_is_forgotten_when_nothing_needs_it_and_never_comes_back() {
        let mut catalog = founded(1);
        let (node, forget) = (NodeId(1), CatalogCommand::Forget { node: NodeId(1) });
        apply(&mut catalog, &put_queue("q", None)).unwrap();
        let refused = apply(&mut catalog, &forget);
        assert_eq!(refused, Err(CatalogRefused::StillNeeded { node, copies: 1 }));
        apply(&mut catalog, &CatalogCommand::DeleteQueue { name: name("q") }).unwrap();
        assert!(!catalog.leaving().is_empty());
        assert_eq!(apply(&mut catalog, &forget), Ok(Changed::Deleted));
        assert!(catalog.leaving().is_empty(), "nobody is there to remove it");
        assert_eq!(apply(&mut catalog, &forget), Ok(Changed::Unchanged));
        let refused = apply(&mut catalog, &announce(1));
        assert_eq!(refused, Err(CatalogRefused::Forgotten(node)));
    }

    #[test]
    fn more_copies_than_brokers_are_refused_and_fewer_than_usual_are_not() {
        let mut catalog = Catalog::default();
        assert_eq!(apply(&mut catalog, &put_queue("q", None)), Err(CatalogRefused::NoBrokers));
        apply(&mut catalog, &announce(1)).unwrap();
        let put = |asked| CatalogCommand::PutQueue {
            name: name("q"),
            config: QueueConfig::default(),
            copies: Copies { asked, default: 3 },
        };
        let refused = apply(&mut catalog, &put(Some(2)));
        assert_eq!(refused, Err(CatalogRefused::TooFewBrokers { asked: 2, has: 1 }));
        assert_eq!(apply(&mut catalog, &put(Some(8))), Err(CatalogRefused::Replicas));
        assert_eq!(apply(&mut catalog, &put(None)), Ok(Changed::Created));
        let placement = catalog.groups().values().next().unwrap();
        assert_eq!((placement.replicas.len(), placement.wanted), (1, 3));
        assert_eq!(apply(&mut catalog, &put(Some(1))), Ok(Changed::Updated));
        assert_eq!(apply(&mut catalog, &put(Some(1))), Ok(Changed::Unchanged));
    }
}
