//! Records in an order: the changes of one key, or of one revision.
//!
//! As a rule there is one, and there are millions of such lists. So the one costs a pointer and
//! nothing else; more of them are a persistent vector, whose clone shares everything.

use std::sync::Arc;

use imbl::Vector;

use super::ids::Revision;
use super::mvcc::Record;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Records {
    #[default]
    None,
    One(Arc<Record>),
    Many(Box<Vector<Arc<Record>>>),
}

impl Records {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(records) => records.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn get(&self, at: usize) -> Option<&Arc<Record>> {
        match self {
            Self::One(record) if at == 0 => Some(record),
            Self::Many(records) => records.get(at),
            Self::None | Self::One(_) => None,
        }
    }

    pub(super) fn first(&self) -> Option<&Arc<Record>> {
        self.get(0)
    }

    pub(super) fn last(&self) -> Option<&Arc<Record>> {
        self.get(self.len().checked_sub(1)?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Record>> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(record) => (Some(record), None),
            Self::Many(records) => (None, Some(records)),
        };
        one.into_iter().chain(many.into_iter().flat_map(|records| records.iter()))
    }

    pub(super) fn push(&mut self, record: Arc<Record>) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(record),
            Self::One(first) => Self::Many(Box::new(Vector::from_iter([first, record]))),
            Self::Many(mut records) => {
                records.push_back(record);
                Self::Many(records)
            }
        };
    }

    /// Among the changes of one revision, which may be millions, in the order in which they were
    /// made.
    pub(super) fn insert_in_order(&mut self, record: Arc<Record>) {
        match self {
            Self::Many(records) => records.insert_ord_by_key(record, |other| other.order),
            Self::One(first) if record.order < first.order => {
                let last = std::mem::replace(first, record);
                self.push(last);
            }
            Self::None | Self::One(_) => self.push(record),
        }
    }

    pub(super) fn pop_first(&mut self) -> Option<Arc<Record>> {
        let (first, rest) = match std::mem::take(self) {
            Self::None => (None, Self::None),
            Self::One(record) => (Some(record), Self::None),
            Self::Many(mut records) => {
                let first = records.pop_front();
                let rest = match records.len() {
                    1 => records.pop_front().map_or(Self::None, Self::One),
                    _ => Self::Many(records),
                };
                (first, rest)
            }
        };
        *self = rest;
        first
    }

    /// The last one not after `revision`, of the changes of one key.
    pub(super) fn at(&self, revision: Revision) -> Option<&Arc<Record>> {
        match self {
            Self::None => None,
            Self::One(record) => (record.mod_revision <= revision).then_some(record),
            Self::Many(records) => {
                match records.binary_search_by_key(&revision, |record| record.mod_revision) {
                    Ok(at) => records.get(at),
                    Err(after) => records.get(after.checked_sub(1)?),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ids::LeaseId;
    use super::*;

    fn record(revision: u64) -> Arc<Record> {
        Arc::new(Record {
            key: "a".into(),
            value: "1".into(),
            create_revision: Revision(1),
            mod_revision: Revision(revision),
            version: 1,
            lease: LeaseId::NONE,
            order: 0,
        })
    }

    proptest! {
        /// A step pushes behind the last, or takes the first.
        #[test]
        fn they_are_what_a_vector_is(steps in proptest::collection::vec(any::<bool>(), 0..40)) {
            let (mut records, mut model) = (Records::default(), Vec::new());
            for (revision, push) in (1..).zip(steps) {
                if push {
                    records.push(record(2 * revision));
                    model.push(2 * revision);
                } else {
                    let first = records.pop_first().map(|record| record.mod_revision.0);
                    prop_assert_eq!(first, (!model.is_empty()).then(|| model.remove(0)));
                }
                let all: Vec<u64> = records.iter().map(|record| record.mod_revision.0).collect();
                prop_assert_eq!(&all, &model);
                prop_assert_eq!((records.len(), records.is_empty()), (model.len(), model.is_empty()));
                let number = |record: Option<&Arc<Record>>| record.map(|it| it.mod_revision.0);
                prop_assert_eq!(number(records.first()), model.first().copied());
                prop_assert_eq!(number(records.last()), model.last().copied());
                for at in 0..2 * revision + 2 {
                    let expected = model.iter().rev().find(|known| **known <= at).copied();
                    prop_assert_eq!(number(records.at(Revision(at))), expected);
                }
            }
        }
    }

    #[test]
    fn the_changes_of_a_revision_come_back_in_any_order() {
        for orders in [[3, 1, 2, 4], [1, 2, 3, 4], [4, 3, 2, 1]] {
            let mut records = Records::default();
            for order in orders {
                records.insert_in_order(Arc::new(Record { order, ..(*record(1)).clone() }));
            }
            let all: Vec<u32> = records.iter().map(|record| record.order).collect();
            assert_eq!(all, [1, 2, 3, 4]);
        }
    }

    #[test]
    fn a_list_of_one_costs_two_words() {
        assert_eq!(size_of::<Records>(), 16);
    }
}
