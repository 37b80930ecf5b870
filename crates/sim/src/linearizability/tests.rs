//! The checker against all permutations, and against systems with planted mistakes.

use super::kv::{Kv, Op, Ret, apply};
use super::{Model as _, Verdict, check, check_numbers};
use crate::history::{History, Operation, Outcome};
use crate::{Rng, seeds};

type Recorded = Operation<Op, Ret>;
type Kvs = History<Op, Ret>;

const BUDGET: u64 = 1_000_000;

fn get(key: &str) -> Op {
    Op::Get { key: key.into() }
}

fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.into(), value: value.into() }
}

fn value(value: &str) -> Ret {
    Ret::Value(Some(value.into()))
}

fn random_op(rng: &mut Rng, keys: u64) -> Op {
    let key = format!("k{}", rng.range(0..keys));
    let text = |rng: &mut Rng| rng.range(0..3).to_string();
    match rng.index(8) {
        0..3 => Op::Get { key },
        3 | 4 => Op::Put { key, value: text(rng) },
        5 => Op::Delete { key },
        6 => {
            let expected = rng.chance(2, 3).then(|| text(rng));
            Op::Cas { key, expected, value: text(rng) }
        }
        _ => Op::Txn {
            when: vec![(key.clone(), rng.chance(2, 3).then(|| text(rng)))],
            then: vec![put(&key, "t"), get(&key)],
            otherwise: vec![Op::Delete { key: format!("k{}", rng.range(0..keys)) }],
        },
    }
}

fn random_ret(rng: &mut Rng, op: &Op) -> Ret {
    match op {
        Op::Get { .. } => Ret::Value(rng.chance(2, 3).then(|| rng.range(0..3).to_string())),
        Op::Put { .. } => Ret::Written,
        Op::Delete { .. } => Ret::Deleted(rng.chance(1, 2)),
        Op::Cas { .. } => Ret::Swapped(rng.chance(1, 2)),
        Op::Txn { .. } => match rng.chance(1, 2) {
            true => Ret::Txn { succeeded: true, results: vec![Ret::Written, value("t")] },
            false => Ret::Txn { succeeded: false, results: vec![Ret::Deleted(rng.chance(1, 2))] },
        },
    }
}

/// Anything at all: mostly wrong.
fn arbitrary(rng: &mut Rng, count: usize) -> Kvs {
    let operation = |rng: &mut Rng, process| {
        let op = random_op(rng, 2);
        let call = rng.range(0..12);
        let returned = call + rng.range(0..8);
        let outcome = match rng.index(8) {
            0 => Outcome::Unknown,
            1 => Outcome::Failed,
            _ => Outcome::Done(random_ret(rng, &op)),
        };
        let at = rng.chance(1, 4).then(|| rng.range(0..4));
        Operation { process, call, returned: Some(returned), op, outcome, at }
    };
    (0..count).map(|process| operation(rng, process as u64)).collect()
}

/// What a correct map answers: every operation takes effect at one moment between call and return.
/// Unknown ones do so at some time, or never. Some of those that took effect say which state they
/// made or saw, all of them together, or some here and there.
fn correct(rng: &mut Rng, count: usize, keys: u64, processes: u64) -> Kvs {
    let mut moments = Vec::new();
    let mut free = vec![0; processes as usize];
    for id in 0..count {
        let process = rng.index(free.len());
        let call = free[process] + rng.range(1..10);
        let returned = call + rng.range(0..20);
        free[process] = returned;
        let moment = call + rng.range(0..returned - call + 1);
        moments.push((moment, id, process as u64, call, returned));
    }
    moments.sort_unstable();
    let mut map = Kv.initial();
    let (mut revision, numbered) = (1, rng.range(0..4) as u32);
    let mut operations = Vec::new();
    for (_, _, process, call, returned) in moments {
        let op = random_op(rng, keys);
        let mut answer = || {
            let before = map.clone();
            let answer = apply(&mut map, &op);
            revision += u64::from(map != before);
            answer
        };
        let (outcome, took_effect) = match rng.index(20) {
            0 => (Outcome::Failed, false),
            1 => (Outcome::Unknown, false),
            2 => {
                answer();
                (Outcome::Unknown, true)
            }
            _ => (Outcome::Done(answer()), true),
        };
        let at = (took_effect && rng.chance(numbered, 3)).then_some(revision);
        operations.push(Operation { process, call, returned: Some(returned), op, outcome, at });
    }
    operations.into_iter().collect()
}

/// The definition: some permutation of what returned, with any of the unknown, in which nothing
/// comes before what had returned when it was called, and numbered states are in their order. The
/// numbers of keys that have nothing to do with each other are not compared.
fn by_definition(operations: &[Recorded]) -> bool {
    let parts = super::partition::split(&Kv, operations);
    parts.iter().all(|part| permute(part, &mut Vec::new()))
}

fn permute(operations: &[&Recorded], order: &mut Vec<usize>) -> bool {
    let done = |id: &usize| operations[*id].answer().is_some() || operations[*id].at.is_some();
    let everything = (0..operations.len()).filter(done).all(|id| order.contains(&id));
    if everything && is_an_order(operations, order) {
        return true;
    }
    (0..operations.len()).any(|id| {
        if order.contains(&id) {
            return false;
        }
        order.push(id);
        let found = permute(operations, order);
        order.pop();
        found
    })
}

fn is_an_order(operations: &[&Recorded], order: &[usize]) -> bool {
    for (at, later) in order.iter().enumerate() {
        for earlier in &order[..at] {
            let (earlier, later) = (operations[*earlier], operations[*later]);
            let over = later.answer().and(later.returned);
            if later.at.is_some_and(|later| earlier.at.is_some_and(|earlier| later < earlier)) {
                return false;
            }
            if over.is_some_and(|over| over < earlier.call) {
                return false;
            }
        }
    }
    let step = |state, id: &usize| Kv.step(&state, &operations[*id].op, operations[*id].answer());
    order.iter().try_fold(Kv.initial(), step).is_some()
}

#[test]
fn it_agrees_with_the_definition_on_small_histories() {
    let (mut legal, mut illegal) = (0, 0);
    for seed in seeds(4_000) {
        let mut rng = Rng::new(seed);
        let count = 1 + rng.index(5);
        let history = match rng.index(3) {
            0 => correct(&mut rng, count, 2, 4),
            1 => mutated(&mut rng, count),
            _ => arbitrary(&mut rng, count),
        };
        let expected = by_definition(history.operations());
        let verdict = check(&Kv, &history, BUDGET);
        assert_eq!(verdict.is_linearizable(), expected, "seed {seed}: {history:#?}");
        assert_eq!(verdict.is_violation(), !expected, "seed {seed}");
        if expected { legal += 1 } else { illegal += 1 }
    }
    let both = legal > 500 && illegal > 500;
    assert!(both || legal + illegal < 4_000, "{legal} legal, {illegal} illegal");
}

/// A correct history in which one answer is another one.
fn mutated(rng: &mut Rng, count: usize) -> Kvs {
    let history = correct(rng, count, 2, 3);
    let mut operations = history.operations().to_vec();
    let id = rng.index(count);
    let operation = &mut operations[id];
    operation.outcome = Outcome::Done(random_ret(rng, &operation.op));
    operation.at = None;
    operations.into_iter().collect()
}

#[test]
fn a_correct_system_is_never_accused() {
    for seed in seeds(200) {
        let mut rng = Rng::new(seed);
        let history = correct(&mut rng, 200, 6, 4);
        check(&Kv, &history, BUDGET).demand();
    }
}

/// The counterexample's prefix has no order, whichever of the operations that are still open at
/// its end took effect; without its last return it has one.
#[test]
fn the_counterexample_is_the_shortest_prefix() {
    let (mut seen, mut runs) = (0, 0);
    for seed in seeds(1_000) {
        runs += 1;
        let mut rng = Rng::new(seed);
        // A numbered operation can contradict one that comes after the prefix.
        let unnumbered = |operation: &Recorded| Operation { at: None, ..operation.clone() };
        let history: Kvs = mutated(&mut rng, 5).operations().iter().map(unnumbered).collect();
        let Verdict::Violation(counterexample) = check(&Kv, &history, BUDGET) else { continue };
        let culprit = counterexample.culprit().clone();
        let end = culprit.returned.unwrap();
        // Several may return at the same time as the culprit: only the first of them counts.
        if history.operations().iter().filter(|other| other.returned == Some(end)).count() > 1 {
            continue;
        }
        seen += 1;
        let (over, open): (Vec<_>, Vec<_>) = counterexample
            .prefix()
            .filter(|operation| **operation != culprit)
            .cloned()
            .partition(|operation| operation.returned.is_some_and(|at| at < end));
        let has_order = |fixed: &[Recorded]| {
            (0..1 << open.len()).any(|subset| {
                let taken = (0..open.len()).filter(|at| subset >> at & 1 == 1);
                let mut operations = fixed.to_vec();
                operations.extend(taken.map(|at| open[at].clone()));
                by_definition(&operations)
            })
        };
        let mut with_culprit = over.clone();
        with_culprit.push(culprit);
        assert!(!has_order(&with_culprit), "seed {seed}: {counterexample}");
        assert!(has_order(&over), "seed {seed}: {counterexample}");
    }
    assert!(seen > 100 || runs < 1_000, "{seen} violations");
}

/// A client's run against one register that makes one mistake.
fn sequence(answers: &[(Op, Ret)]) -> Kvs {
    let mut history = Kvs::default();
    for (time, (op, ret)) in (0..).step_by(10).zip(answers) {
        let call = history.call(time % 3, time, op.clone());
        history.end(call, time + 5, Outcome::Done(ret.clone()));
    }
    history
}

#[test]
fn a_stale_read_is_found() {
    let history = sequence(&[
        (put("x", "1"), Ret::Written),
        (put("x", "2"), Ret::Written),
        (get("x"), value("2")),
        (get("x"), value("1")),
        (get("x"), value("2")),
    ]);
    let Verdict::Violation(counterexample) = check(&Kv, &history, BUDGET) else { panic!() };
    assert_eq!(counterexample.culprit().call, 30);
    let text = counterexample.to_string();
    assert!(text.contains(r#"#3  process 0  [30, 35]  Get { key: "x" }"#), "{text}");
    assert!(text.contains(r#"{"x": "2"}"#), "{text}");
}

#[test]
fn a_lost_write_is_found() {
    let history = sequence(&[(put("x", "1"), Ret::Written), (get("x"), Ret::Value(None))]);
    assert!(check(&Kv, &history, BUDGET).is_violation());
}

#[test]
fn a_write_applied_twice_is_found() {
    // The put of 1 comes back after the put of 2.
    let history = sequence(&[
        (put("x", "1"), Ret::Written),
        (put("x", "2"), Ret::Written),
        (get("x"), value("1")),
    ]);
    assert!(check(&Kv, &history, BUDGET).is_violation());
    // A compare-and-swap that succeeds twice although its value came once.
    let cas = Op::Cas { key: "x".into(), expected: None, value: "1".into() };
    let history = sequence(&[(cas.clone(), Ret::Swapped(true)), (cas, Ret::Swapped(true))]);
    assert!(check(&Kv, &history, BUDGET).is_violation());
}

#[test]
fn half_a_transaction_is_found() {
    let both =
        Op::Txn { when: vec![], then: vec![put("x", "1"), put("y", "1")], otherwise: vec![] };
    let results = vec![Ret::Written, Ret::Written];
    let done = Ret::Txn { succeeded: true, results };
    let whole = [(both, done), (get("x"), value("1")), (get("y"), value("1"))];
    check(&Kv, &sequence(&whole), BUDGET).demand();
    let mut half = whole;
    half[2].1 = Ret::Value(None);
    assert!(check(&Kv, &sequence(&half), BUDGET).is_violation());
}

#[test]
fn an_unknown_write_may_come_late_or_never_but_once() {
    let mut history = Kvs::default();
    history.call(9, 0, put("x", "1"));
    let add = |history: &mut Kvs, now, ret: Ret| {
        let call = history.call(1, now, get("x"));
        history.end(call, now + 1, Outcome::Done(ret));
    };
    add(&mut history, 10, Ret::Value(None));
    check(&Kv, &history, BUDGET).demand();
    add(&mut history, 20, value("1"));
    check(&Kv, &history, BUDGET).demand();
    add(&mut history, 30, Ret::Value(None));
    assert!(check(&Kv, &history, BUDGET).is_violation());
}

#[test]
fn what_failed_for_sure_must_not_be_seen() {
    let mut history = Kvs::default();
    let call = history.call(1, 0, put("x", "1"));
    history.end(call, 5, Outcome::Failed);
    let call = history.call(1, 10, get("x"));
    history.end(call, 15, Outcome::Done(value("1")));
    assert!(check(&Kv, &history, BUDGET).is_violation());
}

#[test]
fn too_long_a_search_is_neither() {
    let mut history = Kvs::default();
    for process in 0..12 {
        let call = history.call(process, 0, put("x", &process.to_string()));
        history.end(call, 100, Outcome::Done(Ret::Written));
    }
    let call = history.call(1, 200, get("x"));
    history.end(call, 201, Outcome::Done(value("nobody's")));
    let verdict = check(&Kv, &history, 1_000);
    assert!(matches!(verdict, Verdict::GaveUp { steps: 1_000 }), "{verdict:?}");
}

/// Two that overlap may come in either order, unless they say which states they made.
#[test]
fn numbers_that_answers_contradict_are_found() {
    let mut history = Kvs::default();
    let calls = ["1", "2"].map(|value| history.call(1, 0, put("x", value)));
    calls.iter().for_each(|call| history.end(*call, 10, Outcome::Done(Ret::Written)));
    let read = history.call(2, 20, get("x"));
    history.end(read, 25, Outcome::Done(value("1")));
    check(&Kv, &history, BUDGET).demand();
    history.place(calls[0], 6);
    check(&Kv, &history, BUDGET).demand();
    history.place(calls[1], 7);
    let Verdict::Violation(counterexample) = check(&Kv, &history, BUDGET) else { panic!() };
    assert!(counterexample.to_string().contains("in state 7"), "{counterexample}");
}

/// A read cannot have seen a state that was made only after the read had returned.
#[test]
fn a_number_of_the_future_is_found() {
    let mut history = Kvs::default();
    let add = |history: &mut Kvs, now, op, ret, at| {
        let call = history.call(1, now, op);
        history.end(call, now + 1, Outcome::Done(ret));
        history.place(call, at);
    };
    add(&mut history, 0, get("x"), Ret::Value(None), 3);
    add(&mut history, 10, put("x", "1"), Ret::Written, 3);
    check(&Kv, &history, BUDGET).demand();
    add(&mut history, 20, get("x"), value("1"), 5);
    add(&mut history, 30, put("x", "1"), Ret::Written, 4);
    assert!(check(&Kv, &history, BUDGET).is_violation());
}

#[test]
fn numbers_that_real_time_contradicts_are_found() {
    let mut history = Kvs::default();
    let mut add = |(called, returned), key, at| {
        let call = history.call(1, called, get(key));
        history.end(call, returned, Outcome::Done(Ret::Value(None)));
        history.place(call, at);
        check_numbers(&history).map_err(|(earlier, later)| (earlier.at, later.at))
    };
    assert_eq!(add((0, 10), "x", 5), Ok(()));
    assert_eq!(add((10, 20), "y", 4), Ok(()), "they overlap");
    assert_eq!(add((11, 30), "y", 5), Ok(()));
    assert_eq!(add((31, 32), "z", 4), Err((Some(5), Some(4))));
}

/// Many at once, none of which is ever answered, all read later: too much for a search, unless it
/// is known which states they made.
#[test]
fn numbers_decide_what_is_too_long_a_search() {
    let mut history = Kvs::default();
    let mut calls = Vec::new();
    for process in 0..40 {
        calls.push(history.call(process, 0, put("x", &process.to_string())));
    }
    for (time, read) in (10..).step_by(2).zip((0..40).rev()) {
        let call = history.call(50, time, get("x"));
        history.end(call, time + 1, Outcome::Done(value(&read.to_string())));
    }
    let nobodys = history.call(50, 200, get("x"));
    let mut with_numbers = history.clone();
    for (at, call) in (2..).zip(calls.iter().rev()) {
        with_numbers.place(*call, at);
    }
    let steps = |verdict| match verdict {
        Verdict::Linearizable { steps } => steps,
        verdict => panic!("{verdict:?}"),
    };
    assert!(steps(check(&Kv, &with_numbers, BUDGET)) < 4_000);
    with_numbers.end(nobodys, 201, Outcome::Done(value("nobody's")));
    assert!(check(&Kv, &with_numbers, 4_000).is_violation());
}

/// Reads never make a search longer, however many overlap.
#[test]
fn reads_are_not_tried_in_every_order() {
    let mut history = Kvs::default();
    for process in 0..30 {
        let call = history.call(process, 0, get("x"));
        history.end(call, 100, Outcome::Done(Ret::Value(None)));
    }
    let call = history.call(50, 50, get("x"));
    history.end(call, 200, Outcome::Done(value("nobody's")));
    assert!(check(&Kv, &history, 1_000).is_violation());
}

#[test]
fn long_histories_over_many_keys_are_quick() {
    let mut rng = Rng::new(1);
    // Every key on its own: transactions over two of them would connect all.
    let parts = (0..100).map(|_| correct(&mut rng, 200, 1, 8));
    let own = |part: usize, mut operation: Recorded| {
        rename(&mut operation.op, &format!("p{part}"));
        operation
    };
    let history: Kvs = parts
        .enumerate()
        .flat_map(|(part, history)| {
            history.operations().iter().cloned().map(|op| own(part, op)).collect::<Vec<_>>()
        })
        .collect();
    let Verdict::Linearizable { steps } = check(&Kv, &history, 5_000_000) else { panic!() };
    assert!(steps < 1_000_000, "{steps}");
}

fn rename(op: &mut Op, to: &str) {
    match op {
        Op::Get { key } | Op::Put { key, .. } | Op::Delete { key } | Op::Cas { key, .. } => {
            *key = to.to_owned();
        }
        Op::Txn { when, then, otherwise } => {
            when.iter_mut().for_each(|(key, _)| *key = to.to_owned());
            then.iter_mut().chain(otherwise).for_each(|op| rename(op, to));
        }
    }
}
