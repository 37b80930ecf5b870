//! Locks whose every grant carries a higher fencing token than the one before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Model;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Takes a free lock.
    Acquire {
        /// Which.
        lock: String,
        /// For whom.
        owner: String,
    },
    /// Gives a lock back.
    Release {
        /// Which.
        lock: String,
        /// What the grant carried.
        token: u64,
    },
    /// A lease that may run out. A recorder notes it with an unknown outcome, called at the
    /// earliest moment at which that is allowed: it then happens at some later time, or never.
    Expire {
        /// Which.
        lock: String,
        /// What the grant carried; `None` if its answer was never heard.
        token: Option<u64>,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ret {
    /// To an acquire: it was free and is now held under this token.
    Granted(u64),
    /// To an acquire: somebody holds it.
    Busy,
    /// To a release: it was held under that token and is free now.
    Released,
    /// To a release: it is not held under that token.
    NotHeld,
    /// To a release: it is not held under that token any more, whether it was or not.
    Gone,
}

/// One lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lock {
    /// Under which token it is held. The inner `None` is a grant whose answer nobody heard.
    held: Option<Option<u64>>,
    /// The highest token that was heard of.
    last: u64,
}

/// The model: every lock starts free, tokens start above 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Locks;

impl Locks {
    fn step_one(lock: &Lock, op: &Op, ret: Option<&Ret>) -> Option<Lock> {
        let Lock { held, last } = *lock;
        let free = |last| Lock { held: None, last };
        match (op, ret) {
            (Op::Acquire { .. }, Some(Ret::Granted(token))) => (held.is_none() && last < *token)
                .then_some(Lock { held: Some(Some(*token)), last: *token }),
            (Op::Acquire { .. }, Some(Ret::Busy)) => held.is_some().then(|| lock.clone()),
            (Op::Acquire { .. }, None) => {
                Some(if held.is_none() { Lock { held: Some(None), last } } else { lock.clone() })
            }
            (Op::Release { token, .. }, Some(Ret::Released)) => {
                holds(held, last, *token).then(|| free(last.max(*token)))
            }
            (Op::Release { token, .. }, Some(Ret::NotHeld)) => {
                (held != Some(Some(*token))).then(|| lock.clone())
            }
            (Op::Release { token, .. }, Some(Ret::Gone) | None) => {
                Some(if holds(held, last, *token) { free(last.max(*token)) } else { lock.clone() })
            }
            (Op::Expire { token, .. }, _) => {
                let it = match token {
                    Some(token) => held == Some(Some(*token)),
                    None => held == Some(None),
                };
                Some(if it { free(last) } else { lock.clone() })
            }
            _ => None,
        }
    }
}

/// Whether a lock can be held under `token`: an unheard grant may carry any token above the last.
fn holds(held: Option<Option<u64>>, last: u64, token: u64) -> bool {
    match held {
        Some(Some(held)) => held == token,
        Some(None) => last < token,
        None => false,
    }
}

impl Model for Locks {
    type State = BTreeMap<String, Lock>;
    type Op = Op;
    type Ret = Ret;
    type Key = String;

    fn initial(&self) -> Self::State {
        BTreeMap::new()
    }

    fn keys(&self, op: &Op) -> Vec<String> {
        vec![name(op).to_owned()]
    }

    fn step(&self, state: &Self::State, op: &Op, ret: Option<&Ret>) -> Option<Self::State> {
        let before = state.get(name(op)).cloned().unwrap_or_default();
        let after = Self::step_one(&before, op, ret)?;
        let mut state = state.clone();
        if after != before {
            state.insert(name(op).to_owned(), after);
        }
        Some(state)
    }

    fn is_read(&self, _: &Op, ret: &Ret) -> bool {
        matches!(ret, Ret::Busy | Ret::NotHeld)
    }
}

fn name(op: &Op) -> &str {
    match op {
        Op::Acquire { lock, .. } | Op::Release { lock, .. } | Op::Expire { lock, .. } => lock,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{History, Outcome};
    use crate::linearizability::check;

    fn acquire(owner: &str) -> Op {
        Op::Acquire { lock: "l".into(), owner: owner.into() }
    }

    fn release(token: u64) -> Op {
        Op::Release { lock: "l".into(), token }
    }

    fn legal(operations: &[(Op, Outcome<Ret>)]) -> bool {
        let mut history = History::default();
        for (time, (op, outcome)) in (0..).step_by(2).zip(operations) {
            let call = history.call(time, time, op.clone());
            if *outcome != Outcome::Unknown {
                history.end(call, time + 1, outcome.clone());
            }
        }
        check(&Locks, &history, 10_000).is_linearizable()
    }

    #[test]
    fn a_lock_is_granted_again_only_after_it_was_given_back() {
        let granted = |token| Outcome::Done(Ret::Granted(token));
        let released = Outcome::Done(Ret::Released);
        assert!(legal(&[
            (acquire("a"), granted(1)),
            (acquire("b"), Outcome::Done(Ret::Busy)),
            (release(1), released.clone()),
            (acquire("b"), granted(5)),
        ]));
        assert!(!legal(&[(acquire("a"), granted(1)), (acquire("b"), granted(2))]));
        assert!(!legal(&[
            (acquire("a"), granted(2)),
            (release(2), released),
            (acquire("b"), granted(2)),
        ]));
    }

    #[test]
    fn a_lease_may_run_out_but_only_once() {
        let granted = |token| Outcome::Done(Ret::Granted(token));
        let expire = |token| (Op::Expire { lock: "l".into(), token }, Outcome::Unknown);
        let first = (acquire("a"), granted(1));
        let (second, third) = ((acquire("b"), granted(2)), (acquire("c"), granted(3)));
        assert!(legal(&[first.clone(), expire(Some(1)), second.clone()]));
        assert!(!legal(&[first, expire(Some(1)), second, third]));
    }

    #[test]
    fn an_unheard_grant_may_or_may_not_hold_the_lock() {
        let unheard = (acquire("a"), Outcome::Unknown);
        let granted = (acquire("b"), Outcome::Done(Ret::Granted(4)));
        let busy = (acquire("b"), Outcome::Done(Ret::Busy));
        assert!(legal(&[unheard.clone(), granted.clone()]));
        assert!(legal(&[unheard.clone(), busy.clone()]));
        assert!(legal(&[unheard, granted, busy.clone()]));
        assert!(!legal(&[busy]));
    }
}
