//! Cursors of live reads. They stand in the address of the next request, so that a cache in between
//! answers many readers at once, and none of them for ever.

use messaging::ids::Millis;

/// 2024-10-09T00:00:00Z.
const SINCE_MS: Millis = 1_728_432_000_000;
/// One cursor lasts so long.
const INTERVAL_MS: Millis = 20_000;
/// Who comes back with the cursor of now, or a later one, is sent ahead by up to an hour.
const MAX_AHEAD: u64 = 3_600_000 / INTERVAL_MS;

/// The cursor of an answer.
pub(super) fn next(now: Millis, client: Option<u64>) -> u64 {
    let current = now.saturating_sub(SINCE_MS) / INTERVAL_MS;
    match client.filter(|client| current <= *client) {
        Some(client) => client.saturating_add(rand::random_range(1..=MAX_AHEAD)),
        None => current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_time_and_never_stands_still_for_a_client() {
        assert_eq!(next(SINCE_MS + 19_999, None), 0);
        assert_eq!(next(SINCE_MS + 20_000, None), 1);
        assert_eq!(next(SINCE_MS + 100_000, Some(3)), 5);
        for client in [5, 6, 1_000] {
            let cursor = next(SINCE_MS + 100_000, Some(client));
            assert!((client + 1..=client + MAX_AHEAD).contains(&cursor), "{cursor}");
        }
        assert_eq!(next(0, Some(u64::MAX)), u64::MAX);
    }
}
