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
