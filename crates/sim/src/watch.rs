//! Did a watcher see every change, once, in order?
//!
//! Linear in the number of events: the order of changes is given by their revisions, so nothing has
//! to be searched for.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One change of one key. Several keys may change in one revision, each of them once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Event {
    /// Which state of the store it made.
    pub revision: u64,
    /// What changed.
    pub key: String,
    /// To what; `None` if it was deleted.
    pub value: Option<String>,
}

/// What one watcher asked for and got, over all its reconnects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Who it is, for messages.
    pub name: String,
    /// Every key that begins with this.
    pub prefix: String,
    /// The first revision it asked for.
    pub from: u64,
    /// Up to where it was told that nothing is missing: a bookmark, or the end of the run once the
    /// watcher has caught up.
    pub through: u64,
    /// What it got, in order of arrival.
    pub events: Vec<Event>,
}

/// What is wrong with what a watcher got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A revision came after a higher one.
    OutOfOrder(Event),
    /// The same change came twice.
    Duplicate(Event),
    /// Nobody made this change, or made another one.
    Phantom(Event),
    /// Not asked for: too old, or another prefix.
    Unasked(Event),
    /// It should have come and did not.
    Missing(Event),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, event) = match self {
            Self::OutOfOrder(event) => ("came after a later one", event),
            Self::Duplicate(event) => ("came twice", event),
            Self::Phantom(event) => ("never happened", event),
            Self::Unasked(event) => ("was not asked for", event),
            Self::Missing(event) => ("never came", event),
        };
        let Event { revision, key, value } = event;
        match value {
            Some(value) => write!(f, "revision {revision}, {key} = {value:?}, {what}"),
            None => write!(f, "revision {revision}, {key} deleted, {what}"),
        }
    }
}

/// Compares what a watcher got with all changes that were made.
///
/// `changes` need not be sorted: a run can gather them from the answers to its writes. A change
/// whose write was never answered is learned from whoever saw it; it has to be the same for all.
///
/// # Errors
///
/// The first fault in order of arrival, else the first change that is missing.
pub fn check(changes: &[Event], watched: &Watched) -> Result<(), Fault> {
    let truth: BTreeMap<(u64, &str), &Event> =
        changes.iter().map(|event| ((event.revision, event.key.as_str()), event)).collect();
    let mut seen = BTreeMap::new();
    let mut last = 0;
    for event in &watched.events {
        let at = (event.revision, event.key.as_str());
        if event.revision < watched.from || !event.key.starts_with(&watched.prefix) {
            return Err(Fault::Unasked(event.clone()));
        }
        if seen.insert(at, event).is_some() {
            return Err(Fault::Duplicate(event.clone()));
        }
        if event.revision < last {
            return Err(Fault::OutOfOrder(event.clone()));
        }
        if truth.get(&at) != Some(&event) {
            return Err(Fault::Phantom(event.clone()));
        }
        last = event.revision;
    }
    let due = |event: &&&Event| {
        (watched.from..=watched.through).contains(&event.revision)
            && event.key.starts_with(&watched.prefix)
    };
    let missing = truth
        .values()
        .filter(due)
        .find(|event| !seen.contains_key(&(event.revision, event.key.as_str())));
    missing.map_or(Ok(()), |event| Err(Fault::Missing((*event).clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: u64, key: &str) -> Event {
        Event { revision, key: key.into(), value: Some(format!("v{revision}")) }
    }

    fn watched(events: Vec<Event>) -> Watched {
        Watched { name: "w".into(), prefix: "a/".into(), from: 2, through: 5, events }
    }

    fn changes() -> Vec<Event> {
        vec![
            event(1, "a/0"),
            event(2, "a/1"),
            event(3, "b/1"),
            event(4, "a/1"),
            event(4, "a/2"),
            event(6, "a/3"),
        ]
    }

    fn seen() -> Vec<Event> {
        vec![event(2, "a/1"), event(4, "a/1"), event(4, "a/2")]
    }

    #[test]
    fn all_that_was_asked_for_once_and_in_order_is_right() {
        assert_eq!(check(&changes(), &watched(seen())), Ok(()));
        // More than it was promised is right as well.
        let mut more = seen();
        more.push(event(6, "a/3"));
        assert_eq!(check(&changes(), &watched(more)), Ok(()));
    }

    #[test]
    fn every_fault_is_told_apart() {
        let mut swapped = seen();
        swapped.swap(0, 1);
        assert_eq!(check(&changes(), &watched(swapped)), Err(Fault::OutOfOrder(event(2, "a/1"))));
        let mut twice = seen();
        twice.push(event(4, "a/2"));
        assert_eq!(check(&changes(), &watched(twice)), Err(Fault::Duplicate(event(4, "a/2"))));
        let mut lost = seen();
        lost.remove(1);
        assert_eq!(check(&changes(), &watched(lost)), Err(Fault::Missing(event(4, "a/1"))));
        let mut old = seen();
        old.insert(0, event(1, "a/0"));
        assert_eq!(check(&changes(), &watched(old)), Err(Fault::Unasked(event(1, "a/0"))));
        let mut other = seen();
        other[2].value = None;
        let fault = check(&changes(), &watched(other)).unwrap_err();
        assert_eq!(fault.to_string(), "revision 4, a/2 deleted, never happened");
    }
}
