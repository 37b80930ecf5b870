//! What may be submitted: the shape of every log as it will be once everything queued is durable.
//!
//! **Invariant:** whatever passes here can be applied; the writer never meets an impossible write.

use std::collections::BTreeMap;

use consensus::{Entry, GroupId, Index};

use super::format::{BATCH_OVERHEAD, RECORD};
use super::state::{Group, State};
use crate::error::{Fault, SubmitError};
use crate::types::Write;

/// Where each log will stand.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    heads: BTreeMap<GroupId, Head>,
}

#[derive(Clone, Debug, Default)]
struct Head {
    base: u64,
    last: u64,
    fault: Option<Fault>,
    filling: bool,
}

impl Admission {
    pub(crate) fn new(state: &State) -> Self {
        let head = |log: &Group| {
            let Group { base, last, filling, .. } = *log;
            Head { base, last, fault: log.fault.clone(), filling }
        };
        Self { heads: state.groups.iter().map(|(group, log)| (*group, head(log))).collect() }
    }

    /// Marks a group that was found damaged after the log was opened.
    pub(crate) fn mark(&mut self, group: GroupId, fault: Fault) {
        if let Some(head) = self.heads.get_mut(&group) {
            head.fault.get_or_insert(fault);
        }
    }

    /// Takes all writes or none.
    pub(crate) fn admit(&mut self, writes: &[Write]) -> Result<(), SubmitError> {
        if let [write] = writes {
            let group = write.group();
            let head = check(write, self.heads.get(&group).cloned())?;
            self.set(group, head);
            return Ok(());
        }
        let mut changed: BTreeMap<GroupId, Option<Head>> = BTreeMap::new();
        for write in writes {
            let group = write.group();
            let head = match changed.get(&group) {
                Some(head) => head.clone(),
                None => self.heads.get(&group).cloned(),
            };
            changed.insert(group, check(write, head)?);
        }
        changed.into_iter().for_each(|(group, head)| self.set(group, head));
        Ok(())
    }

    fn set(&mut self, group: GroupId, head: Option<Head>) {
        match head {
            Some(head) => self.heads.insert(group, head),
            None => self.heads.remove(&group),
        };
    }
}

/// The head after this write.
fn check(write: &Write, head: Option<Head>) -> Result<Option<Head>, SubmitError> {
    let group = write.group();
    let heals = matches!(write, Write::Reset { .. } | Write::Remove { .. });
    if let Some(Head { fault: Some(fault), .. }) = &head
        && !heals
    {
        return Err(SubmitError::Faulty { group, fault: fault.clone() });
    }
    let mut head = head.unwrap_or_default();
    let wrong = |expected: u64, found: Index| {
        Err(SubmitError::OutOfOrder { group, expected: Index(expected), found })
    };
    match write {
        Write::Append { entries, .. } => {
            for entry in entries {
                if entry.index.0 != head.last + 1 {
                    return wrong(head.last + 1, entry.index);
                }
                head.last += 1;
            }
        }
        Write::HardState { .. } => (),
        Write::Truncate { from, .. } => {
            if from.0 <= head.base || from.0 > head.last + 1 {
                return wrong(from.0.clamp(head.base + 1, head.last + 1), *from);
            }
            head.last = from.0 - 1;
        }
        Write::Compact { through, .. } => {
            if through.0 > head.last {
                return wrong(head.last, *through);
            }
            head.base = head.base.max(through.0);
        }
        Write::Reset { next, filling, .. } => {
            if next.0 == 0 {
                return wrong(1, *next);
            }
            let (base, filling) = (next.0 - 1, *filling);
            head = Head { base, last: base, fault: None, filling };
        }
        Write::Refill { entries, .. } => {
            if let Err((expected, found)) = check_refill(&head, entries) {
                return wrong(expected, found);
            }
        }
        Write::Filled { .. } => head.filling = false,
        Write::Remove { .. } => return Ok(None),
    }
    Ok(Some(head))
}

/// Entries that are filled in stand below the log, in order, while it is being filled. Else what was
/// expected, and what was found.
fn check_refill(head: &Head, entries: &[Entry]) -> Result<(), (u64, Index)> {
    let mut least = 1;
    for entry in entries {
        if !head.filling || entry.index.0 < least || head.base < entry.index.0 {
            return Err((least, entry.index));
        }
        least = entry.index.0 + 1;
    }
    Ok(())
}

/// Bytes that these writes take on disk at most, if they make a batch of their own.
pub(crate) fn encoded_len(writes: &[Write]) -> usize {
    BATCH_OVERHEAD + writes.iter().map(write_len).sum::<usize>()
}

fn write_len(write: &Write) -> usize {
    match write {
        Write::Append { entries, .. } | Write::Refill { entries, .. } => {
            entries.iter().map(|entry| RECORD + entry.payload.len()).sum()
        }
        Write::Compact { keep, .. } | Write::Reset { keep, .. } => RECORD + 10 + 20 * keep.len(),
        _ => RECORD + 16,
    }
}

/// What writes are for, which decides how much of the last space they may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Entries. Refused early on a full disk.
    Grow,
    /// Entries that let others go: acknowledgements, deletes. They may use part of the reserve.
    Free,
    /// No entries: promises, compactions, removals. They may use all of the reserve.
    Upkeep,
}

impl Purpose {
    /// Of these writes; `freeing` is the caller's word that their entries let others go.
    pub(crate) fn of(writes: &[Write], freeing: bool) -> Self {
        let adds = |write: &Write| match write {
            Write::Append { entries, .. } | Write::Refill { entries, .. } => !entries.is_empty(),
            _ => false,
        };
        match (writes.iter().any(adds), freeing) {
            (false, _) => Self::Upkeep,
            (true, false) => Self::Grow,
            (true, true) => Self::Free,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use consensus::Term;

    const GROUP: GroupId = GroupId(1);

    fn append(indexes: std::ops::RangeInclusive<u64>) -> Write {
        let entry = |index| Entry::command(Term(1), Index(index), Bytes::new());
        Write::Append { group: GROUP, entries: indexes.map(entry).collect() }
    }

    #[test]
    fn a_gap_is_refused_and_says_what_was_expected() {
        let mut admission = Admission::default();
        admission.admit(&[append(1..=3)]).unwrap();
        assert_eq!(
            admission.admit(&[append(5..=5)]),
            Err(SubmitError::OutOfOrder { group: GROUP, expected: Index(4), found: Index(5) })
        );
        admission.admit(&[append(4..=5)]).unwrap();
    }

    #[test]
    fn one_bad_write_refuses_all_of_them() {
        let mut admission = Admission::default();
        let compact = Write::Compact { group: GROUP, through: Index(9), keep: vec![] };
        assert!(admission.admit(&[append(1..=3), compact]).is_err());
        admission.admit(&[append(1..=3)]).unwrap();
    }

    #[test]
    fn a_damaged_group_takes_nothing_but_what_heals_it() {
        let mut admission = Admission::default();
        admission.admit(&[append(1..=3)]).unwrap();
        admission.mark(GROUP, Fault { file: "f".to_owned(), offset: 7 });
        let error = admission.admit(&[append(4..=4)]).unwrap_err();
        assert!(matches!(error, SubmitError::Faulty { .. }), "{error}");
        let reset = Write::reset(GROUP, Index(10), Term(2));
        admission.admit(&[reset, append(10..=10)]).unwrap();
    }

    #[test]
    fn what_a_snapshot_covers_cannot_be_truncated() {
        let mut admission = Admission::default();
        let compact = Write::Compact { group: GROUP, through: Index(2), keep: vec![] };
        admission.admit(&[append(1..=3), compact]).unwrap();
        let truncate = |from| Write::Truncate { group: GROUP, from: Index(from) };
        assert!(admission.admit(&[truncate(2)]).is_err());
        admission.admit(&[truncate(3)]).unwrap();
        admission.admit(&[append(3..=3)]).unwrap();
    }
}
