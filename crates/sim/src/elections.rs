//! Who led, and was everybody told so?
//!
//! Candidates stand in line: each has a key below the election's name, and the oldest key leads.
//! Its age is the fencing token. So the history of the store says who led when, and what observers
//! and winners were told is compared with that. Locks are lines as well.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fencing::Grant;
use crate::watch::Event;

/// Whoever leads: the fencing token, and what it says of itself.
pub type Leader = (u64, String);

/// Who leads from a revision on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// From when on.
    pub revision: u64,
    /// `None` while nobody does.
    pub leader: Option<Leader>,
}

/// What one observer was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Who it is, for messages.
    pub name: String,
    /// Which election.
    pub election: String,
    /// One stream after the other: who led when it began, then every change.
    pub streams: Vec<Vec<Sight>>,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// At that revision somebody else led, or nobody.
    NeverLed(Sight, Option<Leader>),
    /// A stream went on with this, and what came next was that.
    Missed(Sight, Option<Sight>),
    /// What was told later is older.
    WentBack(Sight, Sight),
    /// Somebody was told to lead who never did.
    NeverWon(Box<Grant>),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverLed(sight, leader) => write!(f, "told {sight:?}, but it was {leader:?}"),
            Self::Missed(sight, next) => write!(f, "told {sight:?}, but next was {next:?}"),
            Self::WentBack(first, second) => write!(f, "told {second:?} after {first:?}"),
            Self::NeverWon(grant) => {
                write!(
                    f,
                    "{} was told to lead with token {} and never did",
                    grant.owner, grant.token
                )
            }
        }
    }
}

/// Who led, from the first change on. A leader that says something new counts as a change.
#[must_use]
pub fn reigns(changes: &[Event], election: &str) -> Vec<Sight> {
    let below = format!("{election}/");
    let mut changes: Vec<&Event> =
        changes.iter().filter(|event| event.key.starts_with(&below)).collect();
    changes.sort_by_key(|event| event.revision);
    let mut line: BTreeMap<u64, (&str, &str, u64)> = BTreeMap::new();
    let (mut reigns, mut last) = (Vec::new(), None);
    for one_revision in changes.chunk_by(|a, b| a.revision == b.revision) {
        let revision = one_revision[0].revision;
        for Event { key, value, .. } in one_revision {
            let place = line.iter().find(|(_, (other, ..))| other == key).map(|(at, _)| *at);
            match value {
                Some(value) => {
                    line.insert(place.unwrap_or(revision), (key, value, revision));
                }
                None => line.retain(|_, (other, ..)| other != key),
            }
        }
        let first = line.first_key_value().map(|(token, (_, value, at))| (*token, *value, *at));
        if last != first {
            last = first;
            let leader = first.map(|(token, value, _)| (token, value.to_owned()));
            reigns.push(Sight { revision, leader });
        }
    }
    reigns
}

/// Compares what an observer was told with who led.
///
/// # Errors
///
/// The first thing that was wrong, or that was not told.
pub fn check_observed(reigns: &[Sight], observed: &Observed) -> Result<(), Fault> {
    let mut last: Option<&Sight> = None;
    for stream in &observed.streams {
        let Some(first) = stream.first() else { continue };
        if let Some(last) = last.filter(|last| first.revision < last.revision) {
            return Err(Fault::WentBack(last.clone(), first.clone()));
        }
        let begun = reigns.partition_point(|reign| reign.revision <= first.revision);
        let then = begun.checked_sub(1).and_then(|at| reigns[at].leader.clone());
        if then != first.leader {
            return Err(Fault::NeverLed(first.clone(), then));
        }
        let mut next = reigns[begun..].iter();
        for sight in &stream[1..] {
            let due = next.next();
            if due != Some(sight) {
                return Err(Fault::Missed(sight.clone(), due.cloned()));
            }
        }
        last = stream.last();
    }
    Ok(())
}

/// Whoever was told to lead did.
///
/// # Errors
///
/// The first that did not, with this token.
pub fn check_winners(reigns: &[Sight], grants: &[Grant]) -> Result<(), Fault> {
    let led = |grant: &&Grant| {
        let it = |leader: &Leader| leader.0 == grant.token && leader.1 == grant.owner;
        reigns.iter().any(|reign| reign.leader.as_ref().is_some_and(it))
    };
    let never = grants.iter().find(|grant| !led(grant));
    never.map_or(Ok(()), |grant| Err(Fault::NeverWon(Box::new(grant.clone()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(revision: u64, leader: Option<(u64, &str)>) -> Sight {
        Sight { revision, leader: leader.map(|(token, value)| (token, value.to_owned())) }
    }

    /// `a` leads from 2 on, says something new in 5, and goes in 6, when `b` takes over; `b` goes
    /// in 7.
    fn truth() -> Vec<Sight> {
        let changes = [
            (2, "e/1", Some("a")),
            (3, "e/2", Some("b")),
            (4, "other/1", Some("z")),
            (5, "e/1", Some("a!")),
            (6, "e/1", None),
            (7, "e/2", None),
            (9, "e/1", Some("c")),
        ];
        let changes = changes.map(|(revision, key, value)| Event {
            revision,
            key: key.into(),
            value: value.map(Into::into),
        });
        reigns(&changes, "e")
    }

    fn observed(streams: Vec<Vec<Sight>>) -> Observed {
        Observed { name: "o".into(), election: "e".into(), streams }
    }

    #[test]
    fn the_oldest_candidate_leads() {
        let expected = [
            sight(2, Some((2, "a"))),
            sight(5, Some((2, "a!"))),
            sight(6, Some((3, "b"))),
            sight(7, None),
            sight(9, Some((9, "c"))),
        ];
        assert_eq!(truth(), expected);
    }

    #[test]
    fn every_change_in_order_is_right() {
        let told = observed(vec![
            vec![sight(1, None), sight(2, Some((2, "a")))],
            vec![],
            vec![sight(4, Some((2, "a"))), sight(5, Some((2, "a!"))), sight(6, Some((3, "b")))],
            vec![sight(8, None), sight(9, Some((9, "c")))],
        ]);
        assert_eq!(check_observed(&truth(), &told), Ok(()));
    }

    #[test]
    fn every_fault_of_an_observer_is_told_apart() {
        let fault = |streams| check_observed(&truth(), &observed(streams)).unwrap_err();
        let a = || sight(4, Some((2, "a")));
        let missed = fault(vec![vec![a(), sight(6, Some((3, "b")))]]);
        assert!(matches!(missed, Fault::Missed(..)), "{missed}");
        let twice = fault(vec![vec![sight(6, Some((3, "b"))), sight(6, Some((3, "b")))]]);
        assert!(matches!(twice, Fault::Missed(..)), "{twice}");
        let other = fault(vec![vec![sight(3, Some((3, "b")))]]);
        assert!(matches!(other, Fault::NeverLed(..)), "{other}");
        let token = fault(vec![vec![sight(3, Some((1, "a")))]]);
        assert!(matches!(token, Fault::NeverLed(..)), "{token}");
        let back = fault(vec![vec![sight(7, None)], vec![a()]]);
        assert!(matches!(back, Fault::WentBack(..)), "{back}");
    }

    #[test]
    fn who_was_told_to_lead_has_led() {
        let grant = |owner: &str, token| Grant { owner: owner.into(), call: 0, returned: 1, token };
        assert_eq!(check_winners(&truth(), &[grant("a", 2), grant("c", 9)]), Ok(()));
        for never in [grant("b", 2), grant("a", 3), grant("c", 8)] {
            assert!(matches!(check_winners(&truth(), &[never]), Err(Fault::NeverWon(_))));
        }
    }
}
