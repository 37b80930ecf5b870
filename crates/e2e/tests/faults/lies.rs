//! The judge itself: a run that is true in all but one thing must not pass.

use sim::history::{History, Operation, Outcome};
use sim::linearizability::kv::{Op, Ret};
use sim::linearizability::lock;
use sim::seeds;

use crate::record::Record;
use crate::run::Run;
use crate::verdict::judge;

#[tokio::test(flavor = "multi_thread")]
async fn every_planted_lie_is_found() {
    for seed in seeds(1) {
        let run = Run::start("lies", seed).await;
        run.progress(200).await;
        let record = run.finish().await.record;
        for (lie, plant, words) in LIES {
            let mut record = record.clone();
            assert!(plant(&mut record), "there is no place for: {lie}");
            let found = judge(&record).err().unwrap_or_else(|| panic!("not found: {lie}"));
            assert!(found.contains(words), "{lie}: {found}");
        }
    }
}

type Lie = fn(&mut Record) -> bool;

/// What it is, how it is planted, and what the judge has to say.
const LIES: [(&str, Lie, &str); 18] = [
    ("a read that names a state older than one that was told of before", old_revision, "went back"),
    ("a read that finds what was overwritten before it began", stale_read, "not linearizable"),
    ("a write that was acknowledged and is gone", lost_write, "acknowledged and lost"),
    ("a write that was refused and is there", refused_write, "refused and carried out"),
    (
        "a swap that wrote although it did not find what it expected",
        swap_that_failed,
        "not linearizable",
    ),
    ("a transaction of which half is there", half_a_transaction, "not linearizable"),
    ("a watch that missed a change", missed_change, "never came"),
    ("a watch that got changes in the wrong order", wrong_order, "came after a later one"),
    ("a lock that two had", lock_of_two, "not linearizable"),
    (
        "a member that knew of a write before it was asked for",
        read_of_the_future,
        "from the future",
    ),
    ("a member that made a state up", read_of_nothing, "never happened"),
    ("a member that forgot what it had known", forgotten_read, "went back"),
    ("a leader whose fall nobody told of", missed_reign, "but next was"),
    ("a leader that never was", false_leader, "but it was"),
    ("a winner that never won", false_winner, "and never did"),
    ("a key that did not live as long as its lease", short_lease, "its lease lived until"),
    ("a key that outlived its lease", long_lease, "its lease was revoked"),
    ("members that do not agree about what happened", other_history, "members 1 and 3"),
];

/// Moves a read of an old value behind the read of a newer one.
fn stale_read(record: &mut Record) -> bool {
    let mut operations = record.kv.operations().to_vec();
    let reads: Vec<usize> = (0..operations.len())
        .filter(|id| matches!(&operations[*id].outcome, Outcome::Done(Ret::Value(Some(_)))))
        .collect();
    for (at, first) in reads.iter().enumerate() {
        for second in &reads[at + 1..] {
            let (old, new) = (&operations[*first], &operations[*second]);
            let is_later = old.returned.is_some_and(|returned| returned < new.call);
            if is_later && old.op == new.op && old.outcome != new.outcome {
                let late = new.returned.expect("it is done") + 1;
                // It says nothing of the state that it saw.
                let at = None;
                let moved = Operation { call: late, returned: Some(late), at, ..old.clone() };
                operations.push(Operation { process: 1000, ..moved });
                record.kv = operations.into_iter().collect();
                return true;
            }
        }
    }
    false
}

fn old_revision(record: &mut Record) -> bool {
    change(&mut record.kv, |operation| {
        let is_late = operation.at.is_some_and(|at| 100 < at);
        is_late.then(|| Operation { at: Some(1), ..operation.clone() })
    })
}

fn lost_write(record: &mut Record) -> bool {
    let Some(lost) = record.acknowledged.first().cloned() else { return false };
    for told in &mut record.told {
        told.retain(|event| *event != lost);
    }
    true
}

fn refused_write(record: &mut Record) -> bool {
    change(&mut record.kv, |operation| {
        let is_put = matches!(operation.op, Op::Put { .. });
        let is_done = matches!(operation.outcome, Outcome::Done(_));
        (is_put && is_done).then(|| Operation { outcome: Outcome::Failed, ..operation.clone() })
    })
}

fn swap_that_failed(record: &mut Record) -> bool {
    change(&mut record.kv, |operation| {
        let Op::Cas { key, value, .. } = &operation.op else { return None };
        if operation.outcome != Outcome::Done(Ret::Swapped(true)) {
            return None;
        }
        let (key, value) = (key.clone(), value.clone());
        let op = Op::Cas { key, expected: Some("never written".into()), value };
        Some(Operation { op, ..operation.clone() })
    })
}

fn half_a_transaction(record: &mut Record) -> bool {
    change(&mut record.kv, |operation| {
        let Outcome::Done(Ret::Txn { succeeded: true, results }) = &operation.outcome else {
            return None;
        };
        let [Ret::Value(Some(_)), Ret::Value(Some(_))] = results.as_slice() else { return None };
        let results = vec![results[0].clone(), Ret::Value(None)];
        let outcome = Outcome::Done(Ret::Txn { succeeded: true, results });
        Some(Operation { outcome, ..operation.clone() })
    })
}

fn missed_change(record: &mut Record) -> bool {
    let Some(watched) = record.watched.first_mut() else { return false };
    let middle = watched.events.len() / 2;
    0 < middle && !watched.events.remove(middle).key.is_empty()
}

fn wrong_order(record: &mut Record) -> bool {
    let Some(watched) = record.watched.last_mut() else { return false };
    let is_pair = |two: &[sim::watch::Event]| two[0].revision < two[1].revision;
    let found = watched.events.windows(2).position(is_pair);
    found.is_some_and(|at| {
        watched.events.swap(at, at + 1);
        true
    })
}

/// Somebody else is granted the lock in the middle of a grant that was given back properly.
fn lock_of_two(record: &mut Record) -> bool {
    use lock::{Op, Ret};
    let operations = record.locks.operations();
    let released =
        operations.iter().find_map(|operation| match (&operation.op, &operation.outcome) {
            (Op::Release { lock, token }, Outcome::Done(Ret::Released)) => {
                Some((lock.clone(), *token, operation.call))
            }
            _ => None,
        });
    let Some((lock, token, end)) = released else { return false };
    let op = Op::Acquire { lock, owner: "owner-thief".into() };
    let outcome = Outcome::Done(Ret::Granted(token + 1));
    let (call, returned) = (end.saturating_sub(2), Some(end.saturating_sub(1)));
    let theft = Operation { process: 1000, call, returned, op, outcome, at: None };
    record.locks = operations.iter().cloned().chain([theft]).collect();
    true
}

/// The last state, before anything had happened.
fn read_of_the_future(record: &mut Record) -> bool {
    let first = record.kv.operations().first().map_or(0, |operation| operation.call);
    record.serializable.last_mut().is_some_and(|read| {
        (read.call, read.returned, read.life) = (0, first, None);
        true
    })
}

fn read_of_nothing(record: &mut Record) -> bool {
    let mut found = record.serializable.iter_mut().filter_map(|read| read.found.pop_first());
    found.next().is_some()
}

/// The first state that a process told of, once more after its last one.
fn forgotten_read(record: &mut Record) -> bool {
    let Some(last) = record.serializable.last().cloned() else { return false };
    let same = |read: &&sim::serializable::Read| {
        (read.node, read.life) == (last.node, last.life) && read.revision < last.revision
    };
    let Some(first) = record.serializable.iter().find(same).cloned() else { return false };
    let (call, returned) = (last.returned + 1, last.returned + 2);
    record.serializable.push(sim::serializable::Read { call, returned, ..first });
    last.life.is_some()
}

fn missed_reign(record: &mut Record) -> bool {
    let mut streams = record.observed.iter_mut().flat_map(|observed| &mut observed.streams);
    streams.find(|stream| 2 < stream.len()).is_some_and(|stream| {
        stream.remove(1);
        true
    })
}

fn false_leader(record: &mut Record) -> bool {
    let streams = record.observed.iter_mut().flat_map(|observed| &mut observed.streams);
    let mut firsts = streams.filter_map(|stream| stream.first_mut());
    firsts.next().is_some_and(|sight| {
        sight.leader = Some((1, "owner-nobody".into()));
        true
    })
}

fn false_winner(record: &mut Record) -> bool {
    let mut grants = record.grants.values_mut().flatten();
    grants.next().is_some_and(|grant| {
        grant.owner.push_str("-other");
        true
    })
}

fn short_lease(record: &mut Record) -> bool {
    let mut looks = record.tenancies.iter_mut().filter_map(|tenancy| tenancy.looks.first_mut());
    looks.next().is_some_and(|look| std::mem::replace(&mut look.is_there, false))
}

fn long_lease(record: &mut Record) -> bool {
    let revoked = record.tenancies.iter_mut().find(|tenancy| tenancy.revoked.is_some());
    revoked.and_then(|tenancy| tenancy.looks.last_mut()).is_some_and(|look| {
        look.is_there = true;
        true
    })
}

fn other_history(record: &mut Record) -> bool {
    record.told.last_mut().is_some_and(|told| told.pop().is_some())
}

/// Replaces the first operation that `other` has something else for.
fn change<O: Clone, R: Clone>(
    history: &mut History<O, R>,
    other: impl Fn(&Operation<O, R>) -> Option<Operation<O, R>>,
) -> bool {
    let mut operations = history.operations().to_vec();
    let found = operations.iter_mut().find_map(|operation| {
        let changed = other(operation)?;
        *operation = changed;
        Some(())
    });
    *history = operations.into_iter().collect();
    found.is_some()
}
