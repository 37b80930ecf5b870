//! Places in line: what locks and elections are made of.
//!
//! A place for a name is the key `name/<lease in hex>`. Whoever has the oldest one has its turn:
//! it holds the lock, or leads. The revision at which its key was created is the fencing token,
//! because a later turn always has a higher one. A place ends with its key: given up, or with its
//! lease.
//!
//! **Invariant:** every turn of a name has a higher token than the turns before it.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Store;
use super::ids::{KeyRange, LeaseId, Revision};
use super::lease::{GrantError, LeaseNotFound};
use super::mvcc::{Mvcc, Record, record_cost};
use super::quota::NoSpace;

/// Asks for a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enqueue {
    pub name: Bytes,
    /// What the place says about its owner.
    pub value: Bytes,
    /// Whose place it is. With [`LeaseId::NONE`] a lease is made that ends with the place.
    pub lease: LeaseId,
    /// How long a lease that is made lasts.
    pub ttl_seconds: u64,
    /// Whether a place that this lease has already gets the value.
    pub replace: bool,
}

/// A place in line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub key: Bytes,
    pub lease: LeaseId,
    /// The fencing token.
    pub token: Revision,
    /// Where the store was: at the token, or when an existing place was found.
    pub revision: Revision,
    /// Nobody was ahead.
    pub first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnqueueError {
    #[error(transparent)]
    LeaseNotFound(#[from] LeaseNotFound),
    #[error(transparent)]
    Grant(#[from] GrantError),
}

impl From<NoSpace> for EnqueueError {
    fn from(error: NoSpace) -> Self {
        Self::Grant(error.into())
    }
}

/// The keys of all places for a name.
#[must_use]
pub fn places(name: &[u8]) -> KeyRange {
    KeyRange::prefix([name, b"/"].concat().into())
}

/// The key of the place that a lease has for a name.
#[must_use]
pub fn place_key(name: &[u8], lease: LeaseId) -> Bytes {
    let sign = if lease.0 < 0 { "-" } else { "" };
    let id = format!("/{sign}{:x}", lease.0.unsigned_abs());
    [name, id.as_bytes()].concat().into()
}

impl Mvcc {
    /// Everybody in line, the first one first.
    #[must_use]
    pub fn line(&self, name: &[u8]) -> Vec<Arc<Record>> {
        let mut line: Vec<_> = self.scan(&places(name), None).cloned().collect();
        // Two keys of one transaction share a revision; the sort leaves them in key order.
        line.sort_by_key(|record| record.create_revision);
        line
    }

    /// Whoever stands right before the place with this token.
    #[must_use]
    pub fn ahead(&self, name: &[u8], token: Revision) -> Option<Arc<Record>> {
        let range = places(name);
        let ahead = self.scan(&range, None).filter(|record| record.create_revision < token);
        ahead.max_by_key(|record| record.create_revision).cloned()
    }

    /// Whether the place with this token is still there.
    #[must_use]
    pub fn holds(&self, key: &[u8], token: Revision) -> bool {
        self.get(key).is_some_and(|record| record.create_revision == token)
    }
}

impl Store {
    pub(super) fn enqueue(&mut self, ask: Enqueue, quota: u64) -> Result<Place, EnqueueError> {
        if ask.lease != LeaseId::NONE && self.leases.get(ask.lease).is_none() {
            return Err(LeaseNotFound(ask.lease).into());
        }
        let before = self.revision();
        let found = (ask.lease != LeaseId::NONE)
            .then(|| place_key(&ask.name, ask.lease))
            .and_then(|key| self.mvcc.get(&key).cloned());
        let (key, lease, token) = match found {
            Some(record) => {
                if ask.replace && record.value != ask.value {
                    self.check_space(record_cost(record.key.len(), ask.value.len()), quota)?;
                    self.put_leased(&record.key, ask.value, ask.lease);
                }
                (place_key(&ask.name, ask.lease), ask.lease, record.create_revision)
            }
            None => self.new_place(&ask, quota)?,
        };
        let revision = before.max(token);
        let first = self.mvcc.ahead(&ask.name, token).is_none();
        Ok(Place { key, lease, token, revision, first })
    }

    fn new_place(
        &mut self,
        ask: &Enqueue,
        quota: u64,
    ) -> Result<(Bytes, LeaseId, Revision), EnqueueError> {
        // The longest key it can have.
        let key_len = ask.name.len() + "/-".len() + 16;
        self.check_space(record_cost(key_len, ask.value.len()), quota)?;
        let lease = match ask.lease {
            LeaseId::NONE => self.leases.grant_scoped(ask.ttl_seconds, self.now_ms)?.id,
            lease => lease,
        };
        let key = place_key(&ask.name, lease);
        let token = self.put_leased(&key, ask.value.clone(), lease);
        Ok((key, lease, token))
    }

    /// Gives up a place that `request` asked for. Another call for the same request may have been
    /// told that its turn has come: a place that nobody is ahead of stays.
    pub(super) fn leave_for(&mut self, key: Bytes, token: Revision, request: Option<&Bytes>) {
        let Some(request) = request else { return self.leave(key, token) };
        let slash = key.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
        if self.mvcc.holds(&key, token) && self.mvcc.ahead(&key[..slash], token).is_none() {
            return;
        }
        self.leave(key, token);
        self.requests.forget_place(request, token);
    }

    /// Gives up a place, unless it has ended already.
    pub(super) fn leave(&mut self, key: Bytes, token: Revision) {
        if !self.mvcc.holds(&key, token) {
            return;
        }
        let mut writer = self.mvcc.write();
        let left = writer.delete(&KeyRange::One(key));
        writer.finish();
        for record in &left {
            self.leases.detach(record.lease, &record.key);
        }
    }

    /// Puts a key and hangs it on a lease that exists.
    pub(super) fn put_leased(&mut self, key: &[u8], value: Bytes, lease: LeaseId) -> Revision {
        let mut writer = self.mvcc.write();
        let (previous, _) = writer.put(key, value, lease);
        let revision = writer.finish();
        self.leases.attach(lease, key);
        if let Some(previous) = previous.filter(|previous| previous.lease != lease) {
            self.leases.detach(previous.lease, key);
        }
        revision
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Delete, Op, Reply, Request, Stamp, Txn};
    use super::*;

    fn apply(store: &mut Store, command: Command) -> Reply {
        store.apply(Stamp { now_ms: store.now_ms(), quota_bytes: u64::MAX }, command)
    }

    fn enqueue(store: &mut Store, lease: i64, value: &'static str, replace: bool) -> Place {
        let ask = Enqueue {
            name: "l".into(),
            value: value.into(),
            lease: LeaseId(lease),
            ttl_seconds: 60,
            replace,
        };
        match apply(store, Command::Enqueue(ask)) {
            Reply::Enqueue(Ok(place)) => place,
            reply => panic!("{reply:?}"),
        }
    }

    fn grant(store: &mut Store, lease: i64) {
        let id = LeaseId(lease);
        assert!(matches!(
            apply(store, Command::Grant { id, ttl_seconds: 60 }),
            Reply::Grant(Ok(_))
        ));
    }

    #[test]
    fn a_key_is_named_as_etcd_names_it() {
        assert_eq!(place_key(b"l1", LeaseId(0x7d7b_a206_09a5_7638)), "l1/7d7ba20609a57638");
        assert_eq!(place_key(b"", LeaseId(100)), "/64");
        assert_eq!(place_key(b"l", LeaseId(-1)), "l/-1");
        assert_eq!(place_key(b"l", LeaseId(i64::MIN)), "l/-8000000000000000");
    }

    #[test]
    fn first_come_first_served_and_tokens_rise() {
        let mut store = Store::default();
        let places: Vec<_> = (0..3).map(|_| enqueue(&mut store, 0, "", false)).collect();
        assert_eq!(
            places.iter().map(|place| place.first).collect::<Vec<_>>(),
            [true, false, false]
        );
        assert!(places.is_sorted_by(|a, b| a.token < b.token));
        let ahead = |store: &Store, at: usize| {
            store.mvcc.ahead(b"l", places[at].token).map(|record| record.key.to_bytes())
        };
        assert_eq!(ahead(&store, 2), Some(places[1].key.clone()));
        // Somebody in the middle gives up: that is nobody's turn.
        store.leave(places[1].key.clone(), places[1].token);
        assert_eq!(ahead(&store, 2), Some(places[0].key.clone()));
        apply(&mut store, Command::Revoke { id: places[0].lease });
        assert_eq!(ahead(&store, 2), None);
        assert_eq!(store.mvcc.line(b"l")[0].key, places[2].key);
    }

    #[test]
    fn a_lease_that_was_made_for_a_place_ends_with_it() {
        let mut store = Store::default();
        let place = enqueue(&mut store, 0, "", false);
        let delete = Delete { range: KeyRange::One(place.key), previous: false };
        apply(&mut store, Command::Txn(Txn::always(Op::Delete(delete))));
        assert!(store.leases.is_empty());
        grant(&mut store, 7);
        let place = enqueue(&mut store, 7, "", false);
        store.leave(place.key, place.token);
        assert!(store.leases.get(LeaseId(7)).is_some(), "this one is the caller's");
    }

    #[test]
    fn a_lease_has_one_place_which_may_get_another_value() {
        let mut store = Store::default();
        grant(&mut store, 7);
        let place = enqueue(&mut store, 7, "a", false);
        assert_eq!(enqueue(&mut store, 7, "b", false), place);
        assert_eq!(store.mvcc.get(&place.key).unwrap().value, "a");
        let again = enqueue(&mut store, 7, "b", true);
        assert_eq!((again.token, again.first), (place.token, true));
        let record = store.mvcc.get(&place.key).unwrap();
        assert_eq!((&record.value[..], record.version), (&b"b"[..], 2));
        assert_eq!(store.leases.get(LeaseId(7)).unwrap().keys.len(), 1);
    }

    #[test]
    fn whoever_left_does_not_take_the_next_place_away() {
        let mut store = Store::default();
        grant(&mut store, 7);
        let old = enqueue(&mut store, 7, "", false);
        store.leave(old.key.clone(), old.token);
        let new = enqueue(&mut store, 7, "", false);
        store.leave(old.key, old.token);
        assert!(store.mvcc.holds(&new.key, new.token));
    }

    #[test]
    fn one_of_two_calls_for_a_request_that_leaves_takes_no_turn_from_the_other() {
        let mut store = Store::default();
        let holder = enqueue(&mut store, 0, "", false);
        let ask = Enqueue {
            name: "l".into(),
            value: Bytes::new(),
            lease: LeaseId::NONE,
            ttl_seconds: 60,
            replace: false,
        };
        let request = || Request { key: "r".into(), fingerprint: 1 };
        let once = |store: &mut Store| {
            let command = Box::new(Command::Enqueue(ask.clone()));
            match apply(store, Command::Once { request: request(), command }) {
                Reply::Enqueue(Ok(place)) => place,
                reply => panic!("{reply:?}"),
            }
        };
        let place = once(&mut store);
        assert_eq!(once(&mut store), place);
        let leave = |place: &Place| {
            let (key, token, request) = (place.key.clone(), place.token, Some("r".into()));
            Command::Leave { key, token, request }
        };
        // While somebody is ahead, nobody can have been told anything.
        apply(&mut store, leave(&place));
        assert!(!store.mvcc.holds(&place.key, place.token));
        let again = once(&mut store);
        assert!(place.token < again.token);
        apply(&mut store, Command::Revoke { id: holder.lease });
        apply(&mut store, leave(&again));
        assert!(store.mvcc.holds(&again.key, again.token));
        assert_eq!(once(&mut store), again, "and a repeat finds it");
    }

    #[test]
    fn without_the_lease_or_without_space_there_is_no_place() {
        let mut store = Store::default();
        let ask = |lease| Enqueue {
            name: "l".into(),
            value: Bytes::new(),
            lease: LeaseId(lease),
            ttl_seconds: 60,
            replace: false,
        };
        let gone = Reply::Enqueue(Err(LeaseNotFound(LeaseId(9)).into()));
        assert_eq!(apply(&mut store, Command::Enqueue(ask(9))), gone);
        let full = store.apply(Stamp { now_ms: 0, quota_bytes: 100 }, Command::Enqueue(ask(0)));
        assert!(matches!(full, Reply::Enqueue(Err(EnqueueError::Grant(GrantError::NoSpace(_))))));
        assert_eq!((store.leases.len(), store.revision()), (0, Revision::FIRST));
    }
}
