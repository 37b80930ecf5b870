//! Whether what the clients were told can be true.

use std::collections::{BTreeMap, BTreeSet};

use sim::elections;
use sim::fencing;
use sim::history::{History, Operation, Outcome};
use sim::leases;
use sim::linearizability::kv::{Kv, Op, Ret};
use sim::linearizability::lock::{self, Locks};
use sim::linearizability::{self, Model, Verdict, check};
use sim::serializable;
use sim::watch::{self, Event};

use crate::load::locks::{FENCE, owner_of};
use crate::record::Record;

/// Steps of the search, over all keys of a run. Runs are built so that it concludes.
const BUDGET: u64 = 20_000_000;

/// What a run that passed has checked.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "printed")]
pub(crate) struct Checked {
    pub(crate) operations: usize,
    pub(crate) unknown: usize,
    pub(crate) revisions: usize,
    /// Serializable reads.
    pub(crate) local_reads: usize,
    pub(crate) events: usize,
    pub(crate) grants: usize,
    /// Leaders that observers were told of.
    pub(crate) observed: usize,
    /// Keys with a lease of their own.
    pub(crate) leased: usize,
    pub(crate) steps: u64,
}

/// The first thing that is wrong, in words.
pub(crate) fn judge(record: &Record) -> Result<Checked, String> {
    if let Some(contradiction) = record.contradictions.first() {
        return Err(contradiction.clone());
    }
    let Some(truth) = record.told.first() else { return Err("no member told its history".into()) };
    for (member, told) in record.told.iter().enumerate() {
        same(truth, told).map_err(|what| format!("members 1 and {}: {what}", member + 1))?;
    }
    writes(record, truth)?;
    let (kv, kv_steps) = registers(record, truth)?;
    let (locks, lock_steps) = locks(record, truth)?;
    serializable::check(
        &serializable::Truth::new(truth, &asked(record, truth)),
        &record.serializable,
    )
    .map_err(|fault| fault.to_string())?;
    for watched in &record.watched {
        watch::check(truth, watched).map_err(|fault| format!("{}: {fault}", watched.name))?;
    }
    for tenancy in &record.tenancies {
        leases::check(tenancy).map_err(|fault| fault.to_string())?;
    }
    for observed in &record.observed {
        elections::check_observed(&elections::reigns(truth, &observed.election), observed)
            .map_err(|fault| format!("{}: {fault}", observed.name))?;
    }
    for (name, grants) in &record.grants {
        elections::check_winners(&elections::reigns(truth, name), grants)
            .map_err(|fault| format!("line {name}: {fault}"))?;
        fencing::check_grants(grants).map_err(|fault| format!("lock {name}: {fault}"))?;
        fencing::check_accepted(&accepted(truth, name)?)
            .map_err(|fault| format!("behind lock {name}: {fault}"))?;
    }
    Ok(Checked {
        operations: kv.0 + locks.0,
        unknown: kv.1 + locks.1,
        revisions: truth.len(),
        local_reads: record.serializable.len(),
        events: record.watched.iter().map(|watched| watched.events.len()).sum(),
        grants: record.grants.values().map(Vec::len).sum(),
        observed: record.observed.iter().flat_map(|observed| &observed.streams).map(Vec::len).sum(),
        leased: record.tenancies.len(),
        steps: kv_steps + lock_steps,
    })
}

fn same(truth: &[Event], told: &[Event]) -> Result<(), String> {
    let differs = truth.iter().zip(told).find(|(one, other)| one != other);
    match differs {
        Some((one, other)) => Err(format!("one history has {one:?}, the other {other:?}")),
        None if truth.len() == told.len() => Ok(()),
        None => Err(format!("one history has {} changes, the other {}", truth.len(), told.len())),
    }
}

/// Every acknowledged write is there, where it was said to be; every refused one is not; and none
/// was carried out twice.
fn writes(record: &Record, truth: &[Event]) -> Result<(), String> {
    let there: BTreeSet<&Event> = truth.iter().collect();
    if let Some(lost) = record.acknowledged.iter().find(|write| !there.contains(write)) {
        return Err(format!("acknowledged and lost: {lost:?}"));
    }
    let mut written: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for Event { revision, key, value } in truth {
        let Some(value) = value else { continue };
        if let Some(first) = written.insert((key, value), *revision) {
            return Err(format!("{key} = {value} was written twice, in {first} and {revision}"));
        }
    }
    for operation in record.kv.operations() {
        let is_refused = operation.outcome == Outcome::Failed;
        if is_refused && has_effect(&operation.op, &written) {
            return Err(format!("refused and carried out all the same: {operation:?}"));
        }
    }
    Ok(())
}

/// Whether one of the values that it would write was written. Each value is written by one
/// operation only.
fn has_effect(op: &Op, written: &BTreeMap<(&str, &str), u64>) -> bool {
    puts(op).iter().any(|put| written.contains_key(put))
}

/// By revision: when the write that made it was asked for.
fn asked(record: &Record, truth: &[Event]) -> BTreeMap<u64, u64> {
    let mut calls: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for operation in record.kv.operations() {
        for (key, value) in puts(&operation.op) {
            calls.insert((key, value), operation.call);
        }
    }
    let of = |event: &Event| calls.get(&(event.key.as_str(), event.value.as_deref()?)).copied();
    truth.iter().filter_map(|event| Some((event.revision, of(event)?))).collect()
}

/// What an operation may write, and where.
fn puts(op: &Op) -> Vec<(&str, &str)> {
    match op {
        Op::Get { .. } | Op::Delete { .. } => Vec::new(),
        Op::Put { key, value } | Op::Cas { key, value, .. } => vec![(key, value)],
        Op::Txn { then, otherwise, .. } => then.iter().chain(otherwise).flat_map(puts).collect(),
    }
}

/// Operations that may have taken effect, and those among them of which nobody knows.
type Counts = (usize, usize);

/// An unknown write of which the store's history, read after everything else, has no trace did not
/// take effect before any read: it is left out of the search. If somebody saw it all the same, the
/// search finds no reason for that. One of which there is a trace was carried out there.
fn registers(record: &Record, truth: &[Event]) -> Result<(Counts, u64), String> {
    linearizability::check_numbers(&record.kv)
        .map_err(|(earlier, later)| format!("{later:?} went back behind {earlier:?}"))?;
    let written: BTreeMap<(&str, &str), u64> = truth
        .iter()
        .filter_map(|event| Some(((event.key.as_str(), event.value.as_deref()?), event.revision)))
        .collect();
    let may_have_effect = |op: &Op| match op {
        Op::Delete { .. } => true,
        op => has_effect(op, &written),
    };
    let place = |operation: Operation<Op, Ret>| {
        let found = || puts(&operation.op).iter().find_map(|put| written.get(put)).copied();
        match operation.outcome {
            Outcome::Unknown => Operation { at: found(), ..operation },
            _ => operation,
        }
    };
    let history = settled(&record.kv, may_have_effect);
    let history = history.operations().iter().cloned().map(place).collect();
    Ok((counts(&record.kv), search(&Kv, &history)?))
}

fn locks(record: &Record, truth: &[Event]) -> Result<(Counts, u64), String> {
    let owners: BTreeSet<&str> = truth.iter().filter_map(|event| owner_of(event)).collect();
    let may_have_effect = |op: &lock::Op| match op {
        lock::Op::Acquire { owner, .. } => owners.contains(owner.as_str()),
        lock::Op::Release { .. } | lock::Op::Expire { .. } => true,
    };
    let history = settled(&record.locks, may_have_effect);
    Ok((counts(&record.locks), search(&Locks, &history)?))
}

fn counts<O, R>(history: &History<O, R>) -> Counts {
    let all = || history.operations().iter().map(|operation| &operation.outcome);
    let asked = all().filter(|outcome| !matches!(outcome, Outcome::Failed)).count();
    (asked, all().filter(|outcome| matches!(outcome, Outcome::Unknown)).count())
}

fn settled<O: Clone, R: Clone>(
    history: &History<O, R>,
    may_have_effect: impl Fn(&O) -> bool,
) -> History<O, R> {
    let has_none = |operation: &Operation<O, R>| {
        matches!(operation.outcome, Outcome::Unknown) && !may_have_effect(&operation.op)
    };
    let settle = |operation: &Operation<O, R>| match has_none(operation) {
        true => Operation { outcome: Outcome::Failed, ..operation.clone() },
        false => operation.clone(),
    };
    history.operations().iter().map(settle).collect()
}

fn search<M: Model>(model: &M, history: &History<M::Op, M::Ret>) -> Result<u64, String> {
    match check(model, history, BUDGET) {
        Verdict::Linearizable { steps } => Ok(steps),
        Verdict::Violation(counterexample) => Err(counterexample.to_string()),
        // Where everything takes long, more overlaps than can be searched: no violation was found,
        // and the other checks go on.
        Verdict::GaveUp { steps } => {
            println!("undecided: the search gave up after {steps} steps: fewer operations per key");
            Ok(steps)
        }
    }
}

/// The tokens that the resource behind a lock took, in order.
fn accepted(truth: &[Event], lock: &str) -> Result<Vec<u64>, String> {
    let key = format!("{FENCE}{lock}");
    let values =
        truth.iter().filter(|event| event.key == key).filter_map(|event| event.value.as_ref());
    values.map(|value| fence_token(value)).collect()
}

/// The value is the token and what makes it unique.
fn fence_token(value: &str) -> Result<u64, String> {
    let token = value.split('-').next().and_then(|token| token.parse().ok());
    token.ok_or_else(|| format!("{value:?} begins with no token"))
}
