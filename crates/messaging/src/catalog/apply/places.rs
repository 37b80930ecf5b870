//! Where new groups are put, and keeping count of who carries what.

use std::sync::Arc;

use consensus::GroupId;

use super::CatalogRefused;
use crate::catalog::{COMEBACK_MS, MAX_GROUPS, MAX_REPLICAS};
use crate::catalog::{Catalog, Copies, Kind, Placement, Touched};
use crate::placement::place;

impl Catalog {
    /// How many copies there should be, given how many there were to be so far.
    pub(super) fn wanted(&self, copies: Copies, known: Option<u8>) -> Result<u8, CatalogRefused> {
        let Some(asked) = copies.asked else {
            return Ok(known.unwrap_or(copies.default.clamp(1, MAX_REPLICAS)));
        };
        if !(1..=MAX_REPLICAS).contains(&asked) {
            return Err(CatalogRefused::Replicas);
        }
        let has = self.state.brokers.values().filter(|broker| !broker.draining).count();
        // What was granted once may be repeated, also when there are fewer brokers now.
        if known != Some(asked) && has < usize::from(asked) {
            return Err(CatalogRefused::TooFewBrokers { asked, has });
        }
        Ok(asked)
    }

    /// Whether there is room for more groups, and a broker to put them on.
    pub(super) fn check_groups(&self, more: usize) -> Result<(), CatalogRefused> {
        if MAX_GROUPS < self.state.groups.len() + more {
            let what = "partitions and queues together";
            return Err(CatalogRefused::Limit { what, max: MAX_GROUPS });
        }
        if 0 < more && self.state.brokers.values().all(|broker| !broker.up || broker.draining) {
            return Err(CatalogRefused::NoBrokers);
        }
        Ok(())
    }

    /// Founds a group. Only after [`check_groups`](Self::check_groups).
    pub(super) fn found(&mut self, kind: Kind, wanted: u8) -> GroupId {
        let group = self.new_group();
        let placement = place(&self.state.brokers, &self.load, wanted, kind);
        let placement = placement.expect("some broker takes new groups, as was checked");
        self.load.add(&placement);
        self.state.groups.insert(group, Arc::new(placement));
        self.touch(Touched::Group(group));
        group
    }

    /// Another number of copies of a group that exists. The plan does the rest.
    pub(super) fn want(&mut self, group: GroupId, wanted: u8) {
        self.change_group(group, |placement| placement.wanted = wanted);
    }

    /// Changes a placement, if there is one, and counts anew what it costs whom.
    pub(super) fn change_group(&mut self, group: GroupId, change: impl FnOnce(&mut Placement)) {
        let Some(placement) = self.state.groups.get_mut(&group) else { return };
        let now = self.state.now;
        self.load.remove(placement);
        let placement = Arc::make_mut(placement);
        change(placement);
        placement.left.retain(|(_, at)| now < at.saturating_add(COMEBACK_MS));
        self.load.add(placement);
        match placement.move_ {
            Some(_) => self.moving.insert(group),
            None => self.moving.remove(&group),
        };
        self.touch(Touched::Group(group));
    }
}
