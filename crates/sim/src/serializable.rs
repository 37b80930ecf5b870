//! Is what a node answers without asking the others at least old truth?
//!
//! A serializable read is answered from what one node has applied. It may be stale. It may not be
//! from a history that did not happen, nor from the future; and what one process has applied it
//! has applied: as long as it lives, whatever is asked later sees the same state or a later one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::watch::Event;

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// One key.
    One(String),
    /// Every key that begins with this.
    Prefix(String),
}

/// A read that one node answered by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Who asked, for messages.
    pub process: u64,
    /// Who answered.
    pub node: u64,
    /// Which process of that node did; `None` if it may have been either of two.
    pub life: Option<u64>,
    /// When it was asked.
    pub call: u64,
    /// When the answer came, by the same clock.
    #[serde(rename = "return")]
    pub returned: u64,
    /// What was asked for.
    pub keys: Keys,
    /// The state that was read, as the node says.
    pub revision: u64,
    /// What was there: each key with its value and the revision that wrote it.
    pub found: BTreeMap<String, (String, u64)>,
}

/// What is wrong with a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It tells of a revision whose write had not even been asked for.
    Future {
        /// Which read.
        read: Box<Read>,
        /// The revision, and when its write was asked for.
        unborn: (u64, u64),
    },
    /// The state that it names was another one, or there was no such state.
    NeverHappened {
        /// Which read.
        read: Box<Read>,
        /// What the state held.
        held: BTreeMap<String, (String, u64)>,
    },
    /// The same process had answered with a later state before it was asked.
    WentBack(Box<(Read, Read)>),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Future { read, unborn: (revision, called) } => {
                write!(f, "{read} is from the future: {revision} was asked for at {called}")
            }
            Self::NeverHappened { read, held } => {
                write!(f, "{read} never happened: that state held {held:?}")
            }
            Self::WentBack(reads) => {
                let (first, second) = reads.as_ref();
                write!(f, "{second} went back behind {first}")
            }
        }
    }
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, node, life, call, returned, keys, revision, found } = self;
        write!(f, "process {process}'s read [{call}, {returned}] of {keys:?} on node {node}")?;
        if let Some(life) = life {
            write!(f, " (life {life})")?;
        }
        write!(f, ", which said revision {revision} and {found:?},")
    }
}

/// Every state that there was, and from when on.
pub struct Truth {
    /// By key: what it became, by revision.
    keys: BTreeMap<String, BTreeMap<u64, Option<String>>>,
    /// By revision: of this one and all before it, the write that was asked for last, and when.
    born: BTreeMap<u64, (u64, u64)>,
    last: u64,
}

impl Truth {
    /// `changes` are all that were ever made, in any order. `asked` says when the write that made a
    /// revision was asked for, as far as that is known: a state cannot be older.
    #[must_use]
    pub fn new(changes: &[Event], asked: &BTreeMap<u64, u64>) -> Self {
        let mut keys: BTreeMap<String, BTreeMap<u64, Option<String>>> = BTreeMap::new();
        for Event { revision, key, value } in changes {
            keys.entry(key.clone()).or_default().insert(*revision, value.clone());
        }
        let mut latest = (0, 0);
        let mut born = BTreeMap::new();
        for (revision, call) in asked {
            if latest.1 <= *call {
                latest = (*revision, *call);
            }
            born.insert(*revision, latest);
        }
        let last = changes.iter().map(|event| event.revision).max().unwrap_or(0);
        Self { keys, born, last }
    }

    /// What a read of this state finds.
    fn held(&self, keys: &Keys, revision: u64) -> BTreeMap<String, (String, u64)> {
        let start = match keys {
            Keys::One(key) | Keys::Prefix(key) => key,
        };
        let is_asked_for = |key: &str| match keys {
            Keys::One(one) => key == one,
            Keys::Prefix(prefix) => key.starts_with(prefix.as_str()),
        };
        let asked = self.keys.range(start.clone()..).take_while(|(key, _)| is_asked_for(key));
        let there = asked.filter_map(|(key, changes)| {
            let (at, value) = changes.range(..=revision).next_back()?;
            Some((key.clone(), (value.clone()?, *at)))
        });
        there.collect()
    }
}

/// Judges all serializable reads of a run.
///
/// # Errors
///
/// The first read that is from the future or from nowhere, else the first two that contradict each
/// other.
pub fn check(truth: &Truth, reads: &[Read]) -> Result<(), Fault> {
    for read in reads {
        let born = truth.born.range(..=read.revision).next_back();
        if let Some((_, unborn)) = born.filter(|(_, (_, call))| read.returned < *call) {
            return Err(Fault::Future { read: Box::new(read.clone()), unborn: *unborn });
        }
        let held = truth.held(&read.keys, read.revision);
        if held != read.found || truth.last < read.revision {
            return Err(Fault::NeverHappened { read: Box::new(read.clone()), held });
        }
    }
    let lives: BTreeSet<(u64, u64)> =
        reads.iter().filter_map(|read| Some((read.node, read.life?))).collect();
    for (node, life) in lives {
        let of_it = reads.iter().filter(|read| (read.node, read.life) == (node, Some(life)));
        one_life(of_it.collect())?;
    }
    Ok(())
}

/// By time: whatever was asked after an answer had come sees at least what that answer saw.
fn one_life(mut by_call: Vec<&Read>) -> Result<(), Fault> {
    let mut by_return = by_call.clone();
    by_call.sort_by_key(|read| read.call);
    by_return.sort_by_key(|read| read.returned);
    let mut answered = by_return.into_iter().peekable();
    let mut highest: Option<&Read> = None;
    for read in by_call {
        while let Some(earlier) = answered.next_if(|earlier| earlier.returned < read.call) {
            if highest.is_none_or(|highest| highest.revision < earlier.revision) {
                highest = Some(earlier);
            }
        }
        if let Some(highest) = highest.filter(|highest| read.revision < highest.revision) {
            return Err(Fault::WentBack(Box::new((highest.clone(), read.clone()))));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = &'static [(&'static str, &'static str, u64)];

    fn event(revision: u64, key: &str, value: Option<&str>) -> Event {
        Event { revision, key: key.into(), value: value.map(Into::into) }
    }

    /// Revision 2 to 5, each asked for at ten times its number; that of 3 is not known.
    fn truth() -> Truth {
        let changes = [
            event(2, "a/1", Some("one")),
            event(3, "a/2", Some("two")),
            event(4, "a/1", Some("three")),
            event(4, "b", Some("three")),
            event(5, "a/2", None),
        ];
        Truth::new(&changes, &BTreeMap::from([(2, 20), (4, 40), (5, 50)]))
    }

    fn read(at: u64, revision: u64, found: Found) -> Read {
        let found = found.iter().map(|(key, value, revision)| {
            let (key, value) = ((*key).to_owned(), (*value).to_owned());
            (key, (value, *revision))
        });
        Read {
            process: 7,
            node: 1,
            life: Some(1),
            call: at,
            returned: at + 5,
            keys: Keys::Prefix("a/".into()),
            revision,
            found: found.collect(),
        }
    }

    const AT_2: Found = &[("a/1", "one", 2)];
    const AT_3: Found = &[("a/1", "one", 2), ("a/2", "two", 3)];
    const AT_5: Found = &[("a/1", "three", 4)];

    #[test]
    fn a_stale_read_is_right() {
        let old = [read(100, 2, AT_2), read(110, 3, AT_3), read(120, 3, AT_3), read(130, 5, AT_5)];
        assert_eq!(check(&truth(), &old), Ok(()));
        let one = Read { keys: Keys::One("a/1".into()), ..read(100, 3, AT_2) };
        assert_eq!(check(&truth(), &[one]), Ok(()));
        assert_eq!(check(&truth(), &[read(1, 0, &[])]), Ok(()));
    }

    #[test]
    fn a_read_that_knows_a_write_before_it_was_asked_for_is_found() {
        assert_eq!(check(&truth(), &[read(45, 5, AT_5)]), Ok(()), "it came while it was asked");
        let fault = check(&truth(), &[read(44, 5, AT_5)]).unwrap_err();
        assert!(matches!(fault, Fault::Future { unborn: (5, 50), .. }), "{fault}");
        assert!(fault.to_string().ends_with("is from the future: 5 was asked for at 50"));
        // Of revision 3 it is not known when it was asked for, but it came after 2.
        assert!(matches!(check(&truth(), &[read(1, 3, AT_3)]), Err(Fault::Future { .. })));
        // Later than anything there was.
        let beyond = check(&truth(), &[read(100, 6, AT_5)]);
        assert!(matches!(beyond, Err(Fault::NeverHappened { .. })), "{beyond:?}");
    }

    #[test]
    fn a_read_of_a_state_that_there_never_was_is_found() {
        let lies: [(u64, Found); 6] = [
            (2, &[("a/1", "other", 2)]),
            (2, &[("a/1", "one", 1)]),
            (3, AT_2),
            (2, AT_3),
            // Half of one state and half of another.
            (4, &[("a/1", "one", 2), ("a/2", "two", 3)]),
            // Deleted, and still there.
            (5, &[("a/1", "three", 4), ("a/2", "two", 3)]),
        ];
        for (revision, found) in lies {
            let verdict = check(&truth(), &[read(100, revision, found)]);
            assert!(matches!(verdict, Err(Fault::NeverHappened { .. })), "{revision}: {verdict:?}");
        }
    }

    #[test]
    fn a_process_that_forgets_what_it_knew_is_found() {
        let (new, old) = (read(100, 3, AT_3), read(110, 2, AT_2));
        let fault = check(&truth(), &[new.clone(), old.clone()]).unwrap_err();
        assert_eq!(fault, Fault::WentBack(Box::new((new.clone(), old.clone()))));
        // Whoever asked.
        let other = Read { process: 8, ..old.clone() };
        assert!(check(&truth(), &[new.clone(), other]).is_err());
        // Not if both were asked at once, of another node, of another process, or of nobody knows.
        let at_once = Read { call: 105, ..old.clone() };
        let elsewhere = Read { node: 2, ..old.clone() };
        let restarted = Read { life: Some(2), ..old.clone() };
        let between = Read { life: None, ..old };
        for right in [at_once, elsewhere, restarted, between] {
            assert_eq!(check(&truth(), &[new.clone(), right]), Ok(()));
        }
    }
}
