//! One change is encoded once, also for watchers that are told different runs.
//!
//! Those with equal ranges share all they are told: see [`crate::runs`]. Those with different ones,
//! or with ids of their own in their messages, hear of the same change within the same few
//! milliseconds all the same: what is alike for all of them is found here by whoever is not the
//! first.

use std::sync::{Arc, Mutex, PoisonError};

use crate::store::Record;

/// Changes that are remembered: about what thousands of changes a second make in the time that a
/// crowd of watchers takes to hear of them.
const SLOTS: usize = 512;
/// Longer keys and values are encoded for each watcher: copying them costs as much. So all slots
/// together take some 8 MiB at most.
const RECORD_BYTES_MAX: usize = 4 << 10;

type Slot<T> = Mutex<Option<(Arc<Record>, T)>>;

/// The newest changes as `T`. A slot holds the last one that came to it.
#[derive(Debug)]
pub(super) struct Encoded<T>(Box<[Slot<T>]>);

impl<T> Default for Encoded<T> {
    fn default() -> Self {
        Self((0..SLOTS).map(|_| Mutex::default()).collect())
    }
}

impl<T: Clone> Encoded<T> {
    /// What `encode` makes of this record, made by this call or by an earlier one.
    pub(super) fn get(&self, record: &Arc<Record>, encode: impl FnOnce() -> T) -> T {
        if RECORD_BYTES_MAX < record.key.len() + record.value.len() {
            return encode();
        }
        let place = record.mod_revision.0.wrapping_mul(31).wrapping_add(u64::from(record.order));
        let slot = &self.0[place as usize % SLOTS];
        // Held while encoding: whoever comes for the same change meanwhile would do it again.
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, encoded)) = &*slot
            && Arc::ptr_eq(of, record)
        {
            return encoded.clone();
        }
        let encoded = encode();
        *slot = Some((Arc::clone(record), encoded.clone()));
        encoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{LeaseId, Revision};

    fn record(revision: u64, bytes: usize) -> Arc<Record> {
        Arc::new(Record {
            key: "a".into(),
            value: vec![0; bytes].into(),
            create_revision: Revision(1),
            mod_revision: Revision(revision),
            version: 1,
            lease: LeaseId::NONE,
            order: 0,
        })
    }

    #[test]
    fn a_change_is_encoded_once_and_never_taken_for_another() {
        let encoded = Encoded::default();
        let (first, same_place) = (record(1, 1), record(1 + SLOTS as u64, 1));
        assert_eq!(encoded.get(&first, || 1), 1);
        assert_eq!(encoded.get(&first, || 2), 1);
        assert_eq!(encoded.get(&same_place, || 3), 3);
        assert_eq!(encoded.get(&first, || 4), 4);
        // As after a restore: the same place in another history.
        assert_eq!(encoded.get(&record(1, 1), || 5), 5);
    }

    #[test]
    fn long_values_are_not_kept() {
        let encoded = Encoded::default();
        let long = record(1, RECORD_BYTES_MAX);
        assert_eq!(encoded.get(&long, || 1), 1);
        assert_eq!(encoded.get(&long, || 2), 2);
    }
}
