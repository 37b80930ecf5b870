//! Service instances: a key, and the lease that its heartbeats renew, changed together.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Store;
use super::ids::{KeyRange, LeaseId, Revision};
use super::lease::GrantError;
use super::mvcc::record_cost;

/// Writes an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub key: Bytes,
    pub value: Bytes,
    /// With one, the key gets a lease of this length.
    pub ttl_seconds: Option<u64>,
    /// The lease that an earlier registration made for this key, as the proposer saw it. It is
    /// renewed or ended if nothing else has come to hang on it.
    pub own: LeaseId,
}

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    pub revision: Revision,
    pub lease: LeaseId,
}

/// What became of the end of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deregistered {
    pub revision: Revision,
    pub existed: bool,
}

impl Store {
    pub(super) fn register(
        &mut self,
        registration: Registration,
        quota: u64,
    ) -> Result<Registered, GrantError> {
        let Registration { key, value, ttl_seconds, own } = registration;
        self.check_space(record_cost(key.len(), value.len()), quota)?;
        let own = self.own_lease(&key, own);
        let lease = match ttl_seconds {
            None => LeaseId::NONE,
            Some(ttl_seconds) => match self.renewed(own, ttl_seconds) {
                Some(lease) => lease,
                None => self.leases.grant(LeaseId::NONE, ttl_seconds, self.now_ms)?.id,
            },
        };
        let revision = self.put_leased(&key, value, lease);
        if own != lease {
            self.leases.remove(own);
        }
        Ok(Registered { revision, lease })
    }

    pub(super) fn deregister(&mut self, key: Bytes, own: LeaseId) -> Deregistered {
        let own = self.own_lease(&key, own);
        let mut writer = self.mvcc.write();
        let previous = writer.delete(&KeyRange::One(key));
        let revision = writer.finish();
        for record in &previous {
            self.leases.detach(record.lease, &record.key);
        }
        self.leases.remove(own);
        Deregistered { revision, existed: !previous.is_empty() }
    }

    /// `seen`, if this key and nothing else hangs on it.
    fn own_lease(&self, key: &Bytes, seen: LeaseId) -> LeaseId {
        let own = |keys: &imbl::OrdSet<Bytes>| keys.len() == 1 && keys.contains(key);
        let lease = self.leases.get(seen).filter(|lease| own(&lease.keys));
        lease.map_or(LeaseId::NONE, |lease| lease.id)
    }

    /// A repeated registration goes on with its lease, so that repeating costs no new ones.
    fn renewed(&mut self, own: LeaseId, ttl_seconds: u64) -> Option<LeaseId> {
        let lease = self.leases.get(own)?;
        if lease.ttl_seconds != ttl_seconds || lease.deadline_ms <= self.now_ms {
            return None;
        }
        self.leases.keep_alive(own, self.now_ms).map(|lease| lease.id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Reply, Stamp};
    use super::*;

    fn register(store: &mut Store, ttl_seconds: Option<u64>, own: LeaseId) -> Registered {
        let stamp = Stamp { now_ms: store.now_ms() + 1000, quota_bytes: u64::MAX };
        let (key, value) = ("k".into(), "v".into());
        let registration = Registration { key, value, ttl_seconds, own };
        match store.apply(stamp, Command::Register(registration)) {
            Reply::Register(Ok(registered)) => registered,
            reply => panic!("{reply:?}"),
        }
    }

    #[test]
    fn a_repeated_registration_keeps_its_lease_and_another_ttl_gets_a_new_one() {
        let mut store = Store::default();
        let first = register(&mut store, Some(10), LeaseId::NONE);
        let again = register(&mut store, Some(10), first.lease);
        assert_eq!(first.lease, again.lease);
        assert_eq!(store.leases.get(again.lease).unwrap().deadline_ms, 12_000);
        let longer = register(&mut store, Some(20), again.lease);
        assert!(store.leases.get(again.lease).is_none() && longer.lease != again.lease);
        let endless = register(&mut store, None, longer.lease);
        assert_eq!((endless.lease, store.leases.len()), (LeaseId::NONE, 0));
        assert_eq!(store.mvcc.get(b"k").unwrap().version, 4);
    }

    #[test]
    fn a_lease_with_other_keys_is_left_alone() {
        let mut store = Store::default();
        let first = register(&mut store, Some(10), LeaseId::NONE);
        store.leases.attach(first.lease, b"other");
        let second = register(&mut store, Some(10), first.lease);
        assert_ne!(first.lease, second.lease);
        assert!(store.leases.get(first.lease).is_some());
    }

    #[test]
    fn the_lease_goes_with_the_registration() {
        let mut store = Store::default();
        let registered = register(&mut store, Some(10), LeaseId::NONE);
        assert!(store.deregister("k".into(), registered.lease).existed);
        assert!(store.leases.is_empty() && store.mvcc.get(b"k").is_none());
        assert!(!store.deregister("k".into(), registered.lease).existed);
    }
}
