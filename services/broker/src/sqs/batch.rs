//! What is wrong with a batch as a whole.

use std::collections::BTreeSet;

use super::error::{Code, Fault};

/// Most entries of a batch.
pub(crate) const MAX_BATCH: usize = 10;
/// Longest id of an entry.
const MAX_ID: usize = 80;

/// Checks the ids of a batch: one to ten, well-formed, distinct.
pub(crate) fn check_batch<'a>(ids: impl ExactSizeIterator<Item = &'a str>) -> Result<(), Fault> {
    let count = ids.len();
    if count == 0 {
        let message = "There should be at least one entry in the request.";
        return Err(Fault::new(Code::EmptyBatchRequest, message));
    }
    if MAX_BATCH < count {
        let message = format!(
            "Maximum number of entries per request are {MAX_BATCH}. You have sent {count}."
        );
        return Err(Fault::new(Code::TooManyEntriesInBatchRequest, message));
    }
    let mut seen = BTreeSet::new();
    for id in ids {
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        if !(1..=MAX_ID).contains(&id.len()) || !id.bytes().all(fits) {
            let message = "A batch entry id can only contain alphanumeric characters, hyphens and \
                           underscores. It can be at most 80 letters long.";
            return Err(Fault::new(Code::InvalidBatchEntryId, message));
        }
        if !seen.insert(id) {
            return Err(Fault::new(Code::BatchEntryIdsNotDistinct, format!("Id {id} repeated.")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ids: &[&str]) -> Option<Code> {
        check_batch(ids.iter().copied()).err().map(|fault| fault.code)
    }

    #[test]
    fn a_batch_has_one_to_ten_entries_with_ids_of_their_own() {
        assert_eq!(check(&["a", "B-_9"]), None);
        assert_eq!(check(&[]), Some(Code::EmptyBatchRequest));
        assert_eq!(check(&["a"; 11]), Some(Code::TooManyEntriesInBatchRequest));
        assert_eq!(check(&["a", "b", "a"]), Some(Code::BatchEntryIdsNotDistinct));
        for bad in ["", "a b", "ä", &"a".repeat(81)] {
            assert_eq!(check(&["ok", bad]), Some(Code::InvalidBatchEntryId), "{bad}");
        }
    }
}
