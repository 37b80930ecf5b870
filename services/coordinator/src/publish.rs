//! Wakes the watchers.
//!
//! Waking a thousand watchers for every single change would cost more than the changes: the more
//! there are, the more changes they see at once. The first change after a quiet time is published
//! at once.

use std::sync::Arc;
use std::time::Duration;

use raft_node::Group;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::state_machine::{Machine, Newest};
use crate::store::Snapshot;

/// Time between two wake-ups for each watcher there is: several times what one of them costs, so
/// that the wake-ups of a crowd take a small part of a core.
const PAUSE_PER_WATCHER: Duration = Duration::from_micros(100);
/// While nobody watches: as long as a clone of the store lives, each change copies what it touches.
/// But what was published last must not keep for ever what has been deleted since.
const UNWATCHED: Duration = Duration::from_secs(1);
/// Below this, pausing would cost more than it saves.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// What a change may wait for because of all others that watch.
const PAUSE_MAX: Duration = Duration::from_millis(40);

pub(crate) async fn run(
    group: Group<Machine>,
    newest: Newest,
    subscribed: Arc<Notify>,
    publish: watch::Sender<Snapshot>,
    stop: CancellationToken,
) {
    let mut applied = group.applied();
    // Whatever was applied before the subscription counts as news.
    applied.mark_changed();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = applied.changed() => if changed.is_err() { return },
        }
        // One is there always: others are cloned from it.
        if publish.receiver_count() <= 1 {
            tokio::select! {
                () = stop.cancelled() => return,
                () = subscribed.notified() => {}
                () = tokio::time::sleep(UNWATCHED) => {}
            }
        }
        publish.send_replace(newest.current(&group).await);
        if let Some(pause) = pause(publish.receiver_count()) {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

fn pause(watchers: usize) -> Option<Duration> {
    let watchers = u32::try_from(watchers).unwrap_or(u32::MAX);
    let pause = PAUSE_PER_WATCHER.saturating_mul(watchers).min(PAUSE_MAX);
    (PAUSE_MIN <= pause).then_some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_watchers_see_each_change_and_many_see_several_at_once() {
        assert_eq!(pause(0), None);
        assert_eq!(pause(9), None);
        assert_eq!(pause(10), Some(PAUSE_MIN));
        assert_eq!(pause(1_000), Some(PAUSE_MAX));
        assert_eq!(pause(usize::MAX), Some(PAUSE_MAX));
    }
}
