//! How much the store may hold.
//!
//! The limit travels in every command, so all members refuse the same ones. Deletes, compaction
//! and leases that end are never refused: they are the way out.

use super::command::AlarmKind;
use super::lease::GrantError;
use super::line::EnqueueError;
use super::mvcc::record_cost;
use super::txn::{Op, Put, TxnError};
use super::{Reply, Store};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store is full: {used} of {quota} bytes; delete keys and drop history with \
     POST /v1/compact, or raise `quota_bytes`"
)]
pub struct NoSpace {
    pub used: u64,
    pub quota: u64,
    /// What did not fit.
    pub wanted: u64,
}

impl Store {
    /// What counts towards the quota, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.mvcc.bytes + self.leases.cost()
    }

    pub(super) fn check_space(&self, more: u64, quota: u64) -> Result<(), NoSpace> {
        let used = self.used_bytes();
        if self.has_alarm(AlarmKind::NoSpace) || quota < used.saturating_add(more) {
            return Err(NoSpace { used, quota, wanted: more });
        }
        Ok(())
    }

    /// Whether writes find no space: because somebody said so, or because the last one that did
    /// not fit still would not. The latter ends by itself once enough was given back.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        self.space_wanted.is_some() || self.has_alarm(AlarmKind::NoSpace)
    }

    /// Takes down what a command met, whether it was refused for space or made some.
    pub(super) fn note_space(&mut self, reply: &Reply, quota: u64) {
        let refused = match reply {
            Reply::Txn(Err(TxnError::NoSpace(refused)))
            | Reply::Grant(Err(GrantError::NoSpace(refused)))
            | Reply::Register(Err(GrantError::NoSpace(refused)))
            | Reply::Enqueue(Err(EnqueueError::Grant(GrantError::NoSpace(refused)))) => {
                Some(refused)
            }
            _ => None,
        };
        let fits = |wanted: &u64| self.used_bytes().saturating_add(*wanted) <= quota;
        let wanted = refused.map(|refused| refused.wanted).or(self.space_wanted);
        self.space_wanted = wanted.filter(|wanted| !fits(wanted));
    }
}

/// What the puts among these operations add; `None` if there are none.
pub(super) fn put_cost<'a>(ops: impl Iterator<Item = &'a Op>) -> Option<u64> {
    ops.filter_map(|op| match op {
        Op::Put(Put { key, value, .. }) => {
            Some(record_cost(key.len(), value.as_ref().map_or(0, bytes::Bytes::len)))
        }
        Op::Range(_) | Op::Delete(_) | Op::Txn(_) => None,
    })
    .fold(None, |sum, cost| Some(sum.unwrap_or(0) + cost))
}

#[cfg(test)]
mod tests {
    use super::super::ids::{KeyRange, LeaseId, Revision};
    use super::super::txn::{Delete, Txn};
    use super::super::{Command, Stamp};
    use super::*;

    const STAMP: Stamp = Stamp { now_ms: 0, quota_bytes: 2000 };

    fn put(store: &mut Store, key: &'static str, len: usize) -> Reply {
        let value = Some(vec![0; len].into());
        let put = Put { key: key.into(), value, lease: Some(LeaseId::NONE), previous: false };
        store.apply(STAMP, Command::Txn(Txn::always(Op::Put(put))))
    }

    #[test]
    fn the_alarm_stands_until_what_was_refused_would_fit() {
        let mut store = Store::default();
        put(&mut store, "a", 1000);
        assert!(!store.is_out_of_space());
        let refused = put(&mut store, "b", 1000);
        assert!(matches!(refused, Reply::Txn(Err(TxnError::NoSpace(_)))));
        assert!(store.is_out_of_space());
        // Small writes go on meanwhile: nobody is read-only because somebody else was greedy.
        assert!(matches!(put(&mut store, "c", 1), Reply::Txn(Ok(_))));
        assert!(store.is_out_of_space());
        let delete = Delete { range: KeyRange::One("a".into()), previous: false };
        store.apply(STAMP, Command::Txn(Txn::always(Op::Delete(delete))));
        assert!(store.is_out_of_space(), "history still holds it");
        store.apply(STAMP, Command::Compact { revision: Revision(4) });
        assert!(!store.is_out_of_space());
        assert!(matches!(put(&mut store, "b", 1000), Reply::Txn(Ok(_))));
    }
}
