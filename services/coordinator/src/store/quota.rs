//! How much the store may hold.
//!
//! The limit travels in every command, so all members refuse the same ones. Deletes, compaction
//! and leases that end are never refused: they are the way out.

use super::Store;
use super::mvcc::record_cost;
use super::txn::{Op, Put};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store is full: {used} of {quota} bytes; delete keys and drop history with \
     POST /v1/compact, or raise `quota_bytes`"
)]
pub struct NoSpace {
    pub used: u64,
    pub quota: u64,
}

impl Store {
    /// What counts towards the quota, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.mvcc.bytes + self.leases.cost()
    }

    pub(super) fn check_space(&self, more: u64, quota: u64) -> Result<(), NoSpace> {
        let used = self.used_bytes();
        if self.no_space_alarm() || quota < used.saturating_add(more) {
            return Err(NoSpace { used, quota });
        }
        Ok(())
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
