//! Leases: keys that go when their owner stops renewing.
//!
//! Time is what commands say it is. Every grant and keepalive is a command, so that the remaining
//! time survives a crash; time in which no process ran is not counted (see
//! [`Leases::shift`]).
//!
//! **Invariant:** a lease never ends before its TTL has passed since the last acknowledged grant
//! or keepalive.

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use super::ids::LeaseId;

/// Longest TTL, in seconds.
pub const MAX_TTL_SECONDS: u64 = 9_000_000_000;

/// What a lease and each of its keys cost, as the quota counts it.
const LEASE_COST_BYTES: u64 = 256;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub id: LeaseId,
    pub ttl_seconds: u64,
    /// When it ends, on the store's clock.
    pub deadline_ms: u64,
    /// Counts the keepalives, so that whoever wants it expired can say which state it saw.
    pub renewals: u64,
    /// Filled from the records of a snapshot.
    #[serde(skip)]
    pub keys: OrdSet<Bytes>,
}

impl Lease {
    /// What is left at `now_ms`, in whole seconds.
    #[must_use]
    pub const fn remaining_seconds(&self, now_ms: u64) -> u64 {
        self.deadline_ms.saturating_sub(now_ms) / 1000
    }

    fn renew(&mut self, now_ms: u64) {
        self.deadline_ms = now_ms.saturating_add(self.ttl_seconds.saturating_mul(1000));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    #[error("lease {0} exists already; choose another id or let the server choose")]
    Exists(LeaseId),
    #[error("a lease lasts at most {MAX_TTL_SECONDS} seconds")]
    TtlTooLarge,
    #[error(transparent)]
    NoSpace(#[from] super::quota::NoSpace),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lease {0} does not exist or has expired; grant a new one")]
pub struct LeaseNotFound(pub LeaseId);

/// A lease in the state somebody saw it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSeen {
    pub id: LeaseId,
    pub renewals: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Leases {
    by_id: OrdMap<LeaseId, Lease>,
    by_deadline: OrdSet<(u64, LeaseId)>,
    /// How many ids the server has chosen; the next one follows from it.
    chosen: u64,
    /// Those that end with their last key: each was made for one.
    scoped: OrdSet<LeaseId>,
}

impl Leases {
    #[must_use]
    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All leases, the one that ends first first.
    pub fn by_deadline(&self) -> impl Iterator<Item = &Lease> {
        self.by_deadline.iter().filter_map(|(_, id)| self.by_id.get(id))
    }

    /// The moment the first lease ends, on the store's clock.
    #[must_use]
    pub fn first_deadline_ms(&self) -> Option<u64> {
        self.by_deadline.get_min().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Up to `max` leases whose time is over at `now_ms`.
    #[must_use]
    pub fn expired(&self, now_ms: u64, max: usize) -> Vec<LeaseSeen> {
        self.by_deadline()
            .take_while(|lease| lease.deadline_ms <= now_ms)
            .take(max)
            .map(|lease| LeaseSeen { id: lease.id, renewals: lease.renewals })
            .collect()
    }

    #[must_use]
    pub(super) fn cost(&self) -> u64 {
        self.by_id.len() as u64 * LEASE_COST_BYTES
    }

    /// Adds a lease; [`LeaseId::NONE`] lets the store choose the id.
    pub(super) fn grant(
        &mut self,
        id: LeaseId,
        ttl_seconds: u64,
        now_ms: u64,
    ) -> Result<Lease, GrantError> {
        if MAX_TTL_SECONDS < ttl_seconds {
            return Err(GrantError::TtlTooLarge);
        }
        if self.by_id.contains_key(&id) {
            return Err(GrantError::Exists(id));
        }
        let id = if id == LeaseId::NONE { self.choose() } else { id };
        let mut lease = Lease { id, ttl_seconds, deadline_ms: 0, renewals: 0, keys: OrdSet::new() };
        lease.renew(now_ms);
        self.insert(lease.clone());
        Ok(lease)
    }

    /// Adds a lease for one key, with which it ends.
    pub(super) fn grant_scoped(
        &mut self,
        ttl_seconds: u64,
        now_ms: u64,
    ) -> Result<Lease, GrantError> {
        let lease = self.grant(LeaseId::NONE, ttl_seconds, now_ms)?;
        self.scoped.insert(lease.id);
        Ok(lease)
    }

    pub(super) fn keep_alive(&mut self, id: LeaseId, now_ms: u64) -> Option<Lease> {
        let lease = self.by_id.get_mut(&id)?;
        let before = lease.deadline_ms;
        lease.renew(now_ms);
        lease.renewals += 1;
        let lease = lease.clone();
        self.by_deadline.remove(&(before, id));
        self.by_deadline.insert((lease.deadline_ms, id));
        Some(lease)
    }

    pub(super) fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.by_id.remove(&id)?;
        self.by_deadline.remove(&(lease.deadline_ms, id));
        self.scoped.remove(&id);
        Some(lease)
    }

    pub(super) fn attach(&mut self, id: LeaseId, key: &[u8]) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.insert(Bytes::copy_from_slice(key));
        }
    }

    pub(super) fn detach(&mut self, id: LeaseId, key: &[u8]) {
        if id != LeaseId::NONE
            && let Some(lease) = self.by_id.get_mut(&id)
        {
            lease.keys.remove(key);
            if lease.keys.is_empty() && self.scoped.contains(&id) {
                self.remove(id);
            }
        }
    }

    /// Moves every deadline into the future: nobody could renew while nobody ran.
    pub(super) fn shift(&mut self, pause_ms: u64) {
        let leases: Vec<Lease> = self.by_id.values().cloned().collect();
        self.by_deadline = OrdSet::new();
        for mut lease in leases {
            lease.deadline_ms = lease.deadline_ms.saturating_add(pause_ms);
            self.insert(lease);
        }
    }

    pub(super) fn image(&self) -> (u64, Vec<Lease>) {
        (self.chosen, self.by_id.values().cloned().collect())
    }

    pub(super) fn from_image(chosen: u64, leases: Vec<Lease>) -> Self {
        let mut this = Self { chosen, ..Self::default() };
        leases.into_iter().for_each(|lease| this.insert(lease));
        this
    }

    pub(super) fn scoped(&self) -> Vec<LeaseId> {
        self.scoped.iter().copied().collect()
    }

    pub(super) fn set_scoped(&mut self, scoped: Vec<LeaseId>) {
        self.scoped = scoped.into_iter().collect();
    }

    fn insert(&mut self, lease: Lease) {
        self.by_deadline.insert((lease.deadline_ms, lease.id));
        self.by_id.insert(lease.id, lease);
    }

    /// Spread over 52 bits, so that a chosen id is exact as a JSON number anywhere and unlikely
    /// to meet one that a user made up; the same on every member.
    fn choose(&mut self) -> LeaseId {
        loop {
            self.chosen += 1;
            let id = LeaseId((mix(self.chosen) >> 12).cast_signed());
            if id != LeaseId::NONE && !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }
}

/// The finalizer of splitmix64: a bijection that scatters neighbours.
const fn mix(counter: u64) -> u64 {
    let mut x = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_ends_first_comes_first() {
        let mut leases = Leases::default();
        for (id, ttl) in [(1, 30), (2, 10), (3, 20)] {
            leases.grant(LeaseId(id), ttl, 0).unwrap();
        }
        let order = |leases: &Leases| leases.by_deadline().map(|l| l.id.0).collect::<Vec<_>>();
        assert_eq!(order(&leases), [2, 3, 1]);
        leases.keep_alive(LeaseId(2), 25_000).unwrap();
        assert_eq!(order(&leases), [3, 1, 2]);
    }

    #[test]
    fn a_used_id_and_an_endless_ttl_are_refused() {
        let mut leases = Leases::default();
        leases.grant(LeaseId(7), 10, 0).unwrap();
        assert_eq!(leases.grant(LeaseId(7), 10, 0), Err(GrantError::Exists(LeaseId(7))));
        let too_long = MAX_TTL_SECONDS + 1;
        assert_eq!(leases.grant(LeaseId(8), too_long, 0), Err(GrantError::TtlTooLarge));
    }

    #[test]
    fn chosen_ids_are_new_positive_and_exact_in_json() {
        let mut leases = Leases::default();
        for _ in 0..1000 {
            let lease = leases.grant(LeaseId::NONE, 10, 0).unwrap();
            assert!(0 < lease.id.0 && lease.id.0 < 1 << 53);
        }
        assert_eq!(leases.len(), 1000);
    }

    #[test]
    fn a_pause_does_not_count() {
        let mut leases = Leases::default();
        leases.grant(LeaseId(1), 10, 0).unwrap();
        leases.shift(60_000);
        assert_eq!(leases.expired(69_999, 10), []);
        assert_eq!(leases.expired(70_000, 10).len(), 1);
    }
}
