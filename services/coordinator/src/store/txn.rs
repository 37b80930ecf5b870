//! Transactions: if all comparisons hold then these operations, else those.
//!
//! A single put or delete is a transaction without comparisons, so there is one way to change the
//! store. Running one takes three steps: choose the branches (all comparisons, nested ones too,
//! see the state before), check that nothing in them can fail, then execute.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Store;
use super::command::AlarmKind;
use super::ids::{KeyRange, LeaseId, Revision};
use super::lease::LeaseNotFound;
use super::mvcc::{Record, RevisionError, Writer};
use super::quota::{NoSpace, put_cost};
use super::range::{RangeQuery, RangeResult};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    pub compares: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

impl Txn {
    /// Does this, whatever the state.
    #[must_use]
    pub fn always(op: Op) -> Self {
        Self { compares: Vec::new(), success: vec![op], failure: Vec::new() }
    }

    /// True if both branches only delete, or look: a full disk takes that.
    #[must_use]
    pub fn is_freeing(&self) -> bool {
        let freeing = |op: &Op| match op {
            Op::Range(_) | Op::Delete(_) => true,
            Op::Put(_) => false,
            Op::Txn(txn) => txn.is_freeing(),
        };
        self.success.iter().chain(&self.failure).all(freeing)
    }

    /// True if no branch changes anything, so that it can be answered from any snapshot.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| match op {
            Op::Range(_) => true,
            Op::Put(_) | Op::Delete(_) => false,
            Op::Txn(txn) => txn.is_read_only(),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// Every key in it must satisfy; if there is none, a missing key must.
    pub range: KeyRange,
    pub relation: Relation,
    pub operand: Operand,
}

/// Stored value, relation, operand: `stored > operand`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    #[default]
    Equal,
    Greater,
    Less,
    NotEqual,
}

/// Signed, because clients may compare with a negative number; nothing stored is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operand {
    Version(i64),
    Create(i64),
    Mod(i64),
    Value(Bytes),
    Lease(LeaseId),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    Range(RangeQuery),
    Put(Put),
    Delete(Delete),
    Txn(Txn),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    pub key: Bytes,
    /// `None` keeps the value; the key must exist.
    pub value: Option<Bytes>,
    /// `None` keeps the lease; the key must exist.
    pub lease: Option<LeaseId>,
    /// Answer with what it replaced.
    pub previous: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    pub range: KeyRange,
    /// Answer with what was deleted.
    pub previous: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnResult {
    pub succeeded: bool,
    /// The store's revision afterwards.
    pub revision: Revision,
    pub results: Vec<OpResult>,
}

/// `revision` is the store's as this operation left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpResult {
    Range(RangeResult),
    Put { revision: Revision, record: Arc<Record>, previous: Option<Arc<Record>> },
    Delete { revision: Revision, deleted: u64, previous: Vec<Arc<Record>> },
    Txn(TxnResult),
}

/// Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxnError {
    #[error(transparent)]
    LeaseNotFound(#[from] LeaseNotFound),
    #[error("the key does not exist, so neither its value nor its lease can be kept")]
    NothingToKeep,
    #[error(transparent)]
    Revision(#[from] RevisionError),
    #[error(transparent)]
    NoSpace(#[from] NoSpace),
}

/// A transaction with its branches chosen.
struct Plan<'a> {
    succeeded: bool,
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    Op(&'a Op),
    Txn(Plan<'a>),
}

impl<'a> Plan<'a> {
    fn ops(&self) -> Box<dyn Iterator<Item = &'a Op> + '_> {
        Box::new(self.steps.iter().flat_map(|step| match step {
            Step::Op(op) => Box::new(std::iter::once(*op)) as Box<dyn Iterator<Item = &'a Op>>,
            Step::Txn(plan) => plan.ops(),
        }))
    }
}

impl Store {
    /// Runs a transaction that only reads.
    pub fn read(&self, txn: &Txn) -> Result<TxnResult, TxnError> {
        debug_assert!(txn.is_read_only(), "a write needs a command");
        // O(1): the clone shares everything, and nothing in it is changed.
        self.clone().run(txn, u64::MAX)
    }

    pub(super) fn run(&mut self, txn: &Txn, quota: u64) -> Result<TxnResult, TxnError> {
        // Who says that there is no space means every put, also one that would not be reached.
        if !txn.is_freeing() && self.has_alarm(AlarmKind::NoSpace) {
            self.check_space(0, quota)?;
        }
        let plan = self.plan(txn);
        self.check(&plan, quota)?;
        let Self { mvcc, leases, .. } = self;
        let mut run = Run { writer: mvcc.write(), leases, left: Vec::new() };
        let mut result = run.plan(plan);
        result.revision = run.finish();
        Ok(result)
    }

    fn plan<'a>(&self, txn: &'a Txn) -> Plan<'a> {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let steps = branch
            .iter()
            .map(|op| match op {
                Op::Txn(txn) => Step::Txn(self.plan(txn)),
                _ => Step::Op(op),
            })
            .collect();
        Plan { succeeded, steps }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let mut records = self.mvcc.scan(&compare.range, None).peekable();
        if records.peek().is_some() {
            return records.all(|record| compare.holds_for(Some(record)));
        }
        compare.holds_for(None)
    }

    fn check(&self, plan: &Plan<'_>, quota: u64) -> Result<(), TxnError> {
        if let Some(cost) = put_cost(plan.ops()) {
            self.check_space(cost, quota)?;
        }
        plan.ops().try_for_each(|op| self.check_op(op))
    }

    fn check_op(&self, op: &Op) -> Result<(), TxnError> {
        match op {
            Op::Range(query) => self.mvcc.check_revision(query.revision)?,
            Op::Put(put) => {
                if (put.value.is_none() || put.lease.is_none()) && self.mvcc.get(&put.key).is_none()
                {
                    return Err(TxnError::NothingToKeep);
                }
                if let Some(lease) = put.lease
                    && lease != LeaseId::NONE
                    && self.leases.get(lease).is_none()
                {
                    return Err(LeaseNotFound(lease).into());
                }
            }
            Op::Delete(_) | Op::Txn(_) => {}
        }
        Ok(())
    }
}

impl Compare {
    fn holds_for(&self, record: Option<&Arc<Record>>) -> bool {
        let number = |of: fn(&Record) -> u64| record.map_or(0, |r| of(r).cast_signed());
        let ordering = match &self.operand {
            Operand::Version(operand) => number(|r| r.version).cmp(operand),
            Operand::Create(operand) => number(|r| r.create_revision.0).cmp(operand),
            Operand::Mod(operand) => number(|r| r.mod_revision.0).cmp(operand),
            Operand::Lease(operand) => record.map_or(LeaseId::NONE, |r| r.lease).cmp(operand),
            Operand::Value(operand) => match record {
                Some(record) => record.value.cmp(operand),
                // No value: not even different from another.
                None => return false,
            },
        };
        match self.relation {
            Relation::Equal => ordering.is_eq(),
            Relation::Greater => ordering.is_gt(),
            Relation::Less => ordering.is_lt(),
            Relation::NotEqual => ordering.is_ne(),
        }
    }
}

/// The third step. Everything has been checked.
struct Run<'a> {
    writer: Writer<'a>,
    leases: &'a mut super::lease::Leases,
    /// Keys as they were when they left their leases.
    left: Vec<Arc<Record>>,
}

impl Run<'_> {
    /// A lease that ends with its last key ends here: until now it could get another one.
    fn finish(self) -> Revision {
        for record in &self.left {
            self.leases.detach(record.lease, &record.key);
        }
        self.writer.finish()
    }

    fn plan(&mut self, plan: Plan<'_>) -> TxnResult {
        let results = plan
            .steps
            .into_iter()
            .map(|step| match step {
                Step::Op(op) => self.op(op),
                Step::Txn(plan) => OpResult::Txn(self.plan(plan)),
            })
            .collect();
        TxnResult { succeeded: plan.succeeded, revision: self.writer.revision(), results }
    }

    fn op(&mut self, op: &Op) -> OpResult {
        match op {
            Op::Range(query) => {
                let mut result = self.writer.mvcc.range(query).expect("the revision was checked");
                result.revision = self.writer.revision();
                OpResult::Range(result)
            }
            Op::Put(put) => self.put(put),
            Op::Delete(delete) => {
                let previous = self.delete(&delete.range);
                OpResult::Delete {
                    revision: self.writer.revision(),
                    deleted: previous.len() as u64,
                    previous: if delete.previous { previous } else { Vec::new() },
                }
            }
            Op::Txn(_) => unreachable!("a plan holds nested transactions as plans"),
        }
    }

    fn put(&mut self, put: &Put) -> OpResult {
        // Each key changes once, so what is kept is what the check saw.
        let (previous, record) = self.writer.put(&put.key, put.value.clone(), put.lease);
        let lease = record.lease;
        self.leases.attach(lease, &put.key);
        if let Some(previous) = previous.as_ref().filter(|previous| previous.lease != lease) {
            self.left.push(Arc::clone(previous));
        }
        OpResult::Put {
            revision: self.writer.revision(),
            record,
            previous: previous.filter(|_| put.previous),
        }
    }

    fn delete(&mut self, range: &KeyRange) -> Vec<Arc<Record>> {
        let previous = self.writer.delete(range);
        let leased = previous.iter().filter(|record| record.lease != LeaseId::NONE);
        self.left.extend(leased.cloned());
        previous
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Enqueue, Place, Reply, Stamp};
    use super::*;

    fn apply(store: &mut Store, command: Command) -> Reply {
        store.apply(Stamp { now_ms: 0, quota_bytes: u64::MAX }, command)
    }

    fn enqueue(store: &mut Store) -> Place {
        let ask = Enqueue {
            name: "l".into(),
            value: Bytes::new(),
            lease: LeaseId::NONE,
            ttl_seconds: 60,
            replace: false,
        };
        match apply(store, Command::Enqueue(ask)) {
            Reply::Enqueue(Ok(place)) => place,
            reply => panic!("{reply:?}"),
        }
    }

    /// Every lease that a key names exists and knows the key.
    fn assert_leases_fit(store: &Store) {
        for record in store.mvcc.scan(&KeyRange::all(), None) {
            let lease = (record.lease != LeaseId::NONE).then(|| store.leases.get(record.lease));
            let fits =
                lease.is_none_or(|lease| lease.is_some_and(|l| l.keys.contains(&*record.key)));
            assert!(fits, "{record:?}");
        }
    }

    #[test]
    fn a_lease_made_for_a_place_goes_on_with_a_key_that_takes_it_over() {
        let mut store = Store::default();
        let place = enqueue(&mut store);
        let delete =
            Op::Delete(Delete { range: KeyRange::One(place.key.clone()), previous: false });
        let put = |lease| {
            Op::Put(Put {
                key: "other".into(),
                value: Some(Bytes::new()),
                lease: Some(lease),
                previous: false,
            })
        };
        let success = vec![delete, put(place.lease)];
        let txn = Txn { compares: vec![], success, failure: vec![] };
        assert!(matches!(apply(&mut store, Command::Txn(txn)), Reply::Txn(Ok(_))));
        assert_leases_fit(&store);
        assert_eq!(store.leases.len(), 1);
        apply(&mut store, Command::Txn(Txn::always(put(LeaseId::NONE))));
        assert!(store.leases.is_empty(), "with its last key it ends");
    }
}
