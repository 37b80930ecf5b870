//! What is wrong with a transaction whatever the state: checked before it becomes a command.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::ids::KeyRange;
use super::txn::{Op, Operand, Txn};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxnInvalid {
    #[error("a key is empty; name one")]
    EmptyKey,
    #[error(
        "a transaction may hold {max} comparisons and {max} operations per branch, nested ones included; split it"
    )]
    TooManyOps { max: usize },
    #[error("the same key is changed twice; each key may change once per transaction")]
    DuplicateKey,
}

impl Txn {
    /// Checks keys, sizes and duplicates, nested transactions included. Each of the three lists may
    /// have `max_ops` entries.
    pub fn check(&self, max_ops: usize) -> Result<(), TxnInvalid> {
        check_shape(self, max_ops).map_err(|error| match error {
            // A nested one does not know what the whole may have.
            TxnInvalid::TooManyOps { .. } => TxnInvalid::TooManyOps { max: max_ops },
            error => error,
        })?;
        Changes::of(&self.success)?;
        Changes::of(&self.failure)?;
        Ok(())
    }
}

impl Txn {
    /// Bytes of all keys and values in it: what a caller can make as long as it likes.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        let compares = self.compares.iter().map(|compare| {
            let operand = match &compare.operand {
                Operand::Value(value) => value.len(),
                _ => 0,
            };
            range_bytes(&compare.range) + operand
        });
        let ops = self.success.iter().chain(&self.failure).map(|op| match op {
            Op::Range(query) => range_bytes(&query.range),
            Op::Put(put) => put.key.len() + put.value.as_ref().map_or(0, Bytes::len),
            Op::Delete(delete) => range_bytes(&delete.range),
            Op::Txn(txn) => txn.payload_bytes(),
        });
        compares.chain(ops).sum()
    }
}

fn range_bytes(range: &KeyRange) -> usize {
    match range {
        KeyRange::One(key) | KeyRange::From(key) => key.len(),
        KeyRange::Between { start, end } => start.len() + end.len(),
    }
}

/// `room` is what the enclosing levels have left over.
fn check_shape(txn: &Txn, room: usize) -> Result<(), TxnInvalid> {
    let largest = txn.compares.len().max(txn.success.len()).max(txn.failure.len());
    let Some(room) = room.checked_sub(largest) else {
        return Err(TxnInvalid::TooManyOps { max: room });
    };
    if txn.compares.iter().any(|compare| is_unnamed(&compare.range)) {
        return Err(TxnInvalid::EmptyKey);
    }
    txn.success.iter().chain(&txn.failure).try_for_each(|op| match op {
        Op::Range(query) if is_unnamed(&query.range) => Err(TxnInvalid::EmptyKey),
        Op::Delete(delete) if is_unnamed(&delete.range) => Err(TxnInvalid::EmptyKey),
        Op::Put(put) if put.key.is_empty() => Err(TxnInvalid::EmptyKey),
        Op::Range(_) | Op::Put(_) | Op::Delete(_) => Ok(()),
        Op::Txn(txn) => check_shape(txn, room),
    })
}

fn is_unnamed(range: &KeyRange) -> bool {
    matches!(range, KeyRange::One(key) if key.is_empty())
}

/// What a list of operations may change.
#[derive(Default)]
struct Changes {
    puts: BTreeSet<Bytes>,
    deletes: Vec<KeyRange>,
}

impl Changes {
    fn of(ops: &[Op]) -> Result<Self, TxnInvalid> {
        let mut all = Self::default();
        all.deletes.extend(ops.iter().filter_map(|op| match op {
            Op::Delete(delete) => Some(delete.range.clone()),
            _ => None,
        }));
        for op in ops {
            if let Op::Txn(txn) = op {
                all.add_nested(txn)?;
            }
        }
        for op in ops {
            if let Op::Put(put) = op {
                all.add_put(put.key.clone())?;
            }
        }
        Ok(all)
    }

    /// Only one branch runs, so the two may repeat each other's keys. Stricter than etcd, which
    /// takes a put in one nested transaction and a deletion of its key in a later one, and then has
    /// two changes of one key at one revision.
    fn add_nested(&mut self, txn: &Txn) -> Result<(), TxnInvalid> {
        let then = Self::of(&txn.success)?;
        let otherwise = Self::of(&txn.failure)?;
        let deletes: Vec<KeyRange> = then.deletes.into_iter().chain(otherwise.deletes).collect();
        // What an earlier nested transaction puts, a later one may not delete.
        if self.puts.iter().any(|key| deletes.iter().any(|range| range.contains(key))) {
            return Err(TxnInvalid::DuplicateKey);
        }
        let puts: BTreeSet<Bytes> = then.puts.into_iter().chain(otherwise.puts).collect();
        puts.into_iter().try_for_each(|key| self.add_put(key))?;
        self.deletes.extend(deletes);
        Ok(())
    }

    fn add_put(&mut self, key: Bytes) -> Result<(), TxnInvalid> {
        if self.deletes.iter().any(|range| range.contains(&key)) || !self.puts.insert(key) {
            return Err(TxnInvalid::DuplicateKey);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::LeaseId;
    use super::super::txn::{Delete, Put};
    use super::*;

    fn put(key: &'static str) -> Op {
        let value = Some(Bytes::new());
        Op::Put(Put { key: key.into(), value, lease: Some(LeaseId::NONE), previous: false })
    }

    fn delete(prefix: &'static str) -> Op {
        Op::Delete(Delete { range: KeyRange::prefix(prefix.into()), previous: false })
    }

    fn then(success: Vec<Op>) -> Txn {
        Txn { success, ..Txn::default() }
    }

    fn either(success: Vec<Op>, failure: Vec<Op>) -> Op {
        Op::Txn(Txn { success, failure, compares: vec![] })
    }

    #[test]
    fn a_key_changes_once() {
        for (ops, expected) in [
            (vec![put("a"), put("b")], Ok(())),
            (vec![put("a"), put("a")], Err(TxnInvalid::DuplicateKey)),
            (vec![put("ab"), delete("a")], Err(TxnInvalid::DuplicateKey)),
            (vec![delete("a"), delete("a")], Ok(())),
            (vec![put("a"), either(vec![put("a")], vec![])], Err(TxnInvalid::DuplicateKey)),
            (vec![delete("a"), either(vec![], vec![put("a")])], Err(TxnInvalid::DuplicateKey)),
            (vec![put("ab"), either(vec![delete("a")], vec![])], Err(TxnInvalid::DuplicateKey)),
            (vec![either(vec![put("a")], vec![put("a")])], Ok(())),
            (vec![either(vec![put("a")], vec![delete("a")])], Ok(())),
            (
                vec![either(vec![put("a")], vec![]), either(vec![put("a")], vec![])],
                Err(TxnInvalid::DuplicateKey),
            ),
            (
                vec![either(vec![put("ab")], vec![]), either(vec![], vec![delete("a")])],
                Err(TxnInvalid::DuplicateKey),
            ),
            (
                vec![either(vec![delete("a")], vec![]), either(vec![], vec![put("ab")])],
                Err(TxnInvalid::DuplicateKey),
            ),
        ] {
            assert_eq!(then(ops.clone()).check(128), expected, "{ops:?}");
        }
    }

    #[test]
    fn nested_transactions_share_the_limit() {
        let full: Vec<Op> = (0..3).map(|_| delete("x")).collect();
        let too_many = Err(TxnInvalid::TooManyOps { max: 3 });
        assert_eq!(then(full.clone()).check(3), Ok(()));
        assert_eq!(then([full.clone(), vec![put("a")]].concat()).check(3), too_many);
        assert_eq!(then(vec![either(full.clone(), vec![])]).check(3), too_many);
        assert_eq!(then(vec![either(full, vec![])]).check(4), Ok(()));
    }

    #[test]
    fn an_empty_key_is_refused_at_any_depth() {
        assert_eq!(then(vec![either(vec![], vec![put("")])]).check(128), Err(TxnInvalid::EmptyKey));
        assert_eq!(then(vec![delete("")]).check(128), Ok(()), "everything is a range, not a key");
    }
}
