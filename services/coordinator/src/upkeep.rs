//! What the leader does by itself: ends leases, saves the time, forgets old history.

use std::collections::VecDeque;
use std::time::Duration;

use chassis::health::Check;
use consensus::RoleName;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::coordinator::{CommandError, Coordinator, Failure};
use crate::leading::Leading;
use crate::store::{Command, Revision, Store};

/// Leases that one command ends.
const EXPIRE_MAX: usize = 1000;
/// The longest sleep: leases are looked at this often, also if nothing else happens.
const PERIOD: Duration = Duration::from_millis(500);
/// After a crash a lease may live this much longer than its TTL.
const TICK_MS: u64 = 10_000;
/// History kept when a fifth of the quota is left, and when a twentieth is.
const HISTORY_UNDER_PRESSURE: u64 = 1000;
const HISTORY_IN_NEED: u64 = 10;
/// How finely a time is kept: the history kept is up to a tenth longer than asked for.
const SAMPLES: u64 = 10;

/// How much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct History {
    /// 0: all.
    revisions: u64,
    /// 0: as many as `revisions` says.
    seconds: u64,
}

impl History {
    pub(crate) fn of(config: &Config) -> Self {
        Self { revisions: config.history_revisions, seconds: config.history_seconds }
    }
}

/// Where the store was when, since this node started.
#[derive(Debug, Default)]
struct Past(VecDeque<(u64, Revision)>);

impl Past {
    /// The newest revision that is at least `seconds` old.
    fn revision(&mut self, seconds: u64, now_ms: u64, now: Revision) -> Option<Revision> {
        let kept_ms = seconds * 1000;
        let newest = self.0.back().map(|(at_ms, _)| *at_ms);
        if newest.is_none_or(|at_ms| at_ms + kept_ms / SAMPLES <= now_ms) {
            self.0.push_back((now_ms, now));
        }
        let mut old = None;
        while let Some((_, revision)) = self.0.pop_front_if(|(at_ms, _)| *at_ms + kept_ms <= now_ms)
        {
            old = Some(revision);
        }
        old
    }
}

pub(crate) struct Upkeep {
    pub(crate) coordinator: Coordinator,
    pub(crate) history: History,
    /// Says in `/readyz` whether it works.
    pub(crate) check: Check,
    pub(crate) leading: Leading,
}

impl Upkeep {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let (mut failing, mut past, mut warned) = (None, Past::default(), false);
        loop {
            let quota = self.coordinator.quota_bytes();
            let store = self.coordinator.recent().await;
            warned = warn_of_quota(&store, quota, warned);
            drop(store);
            self.note_role().await;
            let outcome = self.round(&mut past).await.err();
            if failing != outcome {
                self.report(outcome);
            }
            failing = outcome;
            let pause = match failing {
                Some(_) => PERIOD,
                None => {
                    let store = self.coordinator.recent().await;
                    pause(&store, self.coordinator.now_ms())
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn note_role(&self) {
        // Whoever leads votes; for the others the driver knows.
        let learns = !self.coordinator.leads()
            && matches!(self.coordinator.status().await, Ok(status) if status.role == RoleName::Learner);
        self.coordinator.metrics().is_learner.set_count(u64::from(learns));
    }

    /// Followers leave it to the leader.
    async fn round(&mut self, past: &mut Past) -> Result<(), Failure> {
        match self.leading.lead().await? {
            true => round(&self.coordinator, self.history, past).await,
            false => Ok(()),
        }
    }

    /// A full disk lasts: it is said once, not twice a second.
    fn report(&self, outcome: Option<Failure>) {
        let Some(failure) = outcome else { return self.check.pass() };
        tracing::warn!(%failure, "leases and history are not looked after");
        self.check.fail(format!("leases and history are not looked after: {failure}"));
    }
}

/// Until the next lease ends, but not longer than [`PERIOD`].
fn pause(store: &Store, now_ms: u64) -> Duration {
    let next = store.leases.first_deadline_ms();
    next.map_or(PERIOD, |deadline_ms| Duration::from_millis(deadline_ms.saturating_sub(now_ms)))
        .clamp(Duration::from_millis(10), PERIOD)
}

/// Says once that the store is nearly full, and once that it no longer is.
fn warn_of_quota(store: &Store, quota_bytes: u64, warned: bool) -> bool {
    let used_bytes = store.used_bytes();
    let nearly = quota_bytes / 5 * 4 < used_bytes;
    match (nearly, warned) {
        (true, false) => tracing::warn!(
            used_bytes,
            quota_bytes,
            "more than 80 % of the quota is used; history is kept shorter, delete keys or raise quota_bytes"
        ),
        (false, true) => {
            tracing::info!(used_bytes, quota_bytes, "less than 80 % of the quota is used")
        }
        _ => {}
    }
    nearly
}

async fn round(
    coordinator: &Coordinator,
    history: History,
    past: &mut Past,
) -> Result<(), Failure> {
    let (store, now_ms) = (coordinator.recent().await, coordinator.now_ms());
    let expired = store.leases.expired(now_ms, EXPIRE_MAX);
    if !expired.is_empty() {
        let ended = coordinator.expire(expired).await?;
        coordinator.metrics().leases_expired.add(ended.len() as u64);
    } else if !store.leases.is_empty() && store.now_ms() + TICK_MS <= now_ms {
        coordinator.command(Command::Tick).await?;
    }
    let mut due = compaction(&store, history.revisions, coordinator.quota_bytes());
    if 0 < history.seconds {
        due = due.max(past.revision(history.seconds, now_ms, store.revision()));
    }
    if let Some(revision) = due.filter(|due| store.mvcc.compacted() < *due) {
        match coordinator.compact(revision).await {
            // Somebody else was faster.
            Ok(_) | Err(CommandError::Refused(_)) => {}
            Err(CommandError::Failed(failure)) => return Err(failure),
        }
    }
    Ok(())
}

/// Where to compact, if it is time. A tenth more than asked for is kept, so that one compaction
/// does for many writes.
fn compaction(store: &Store, history: u64, quota_bytes: u64) -> Option<Revision> {
    let keep = if quota_bytes / 20 * 19 < store.used_bytes() {
        HISTORY_IN_NEED
    } else if quota_bytes / 5 * 4 < store.used_bytes() {
        HISTORY_UNDER_PRESSURE
    } else if history == 0 {
        return None;
    } else {
        history
    };
    let due = keep + keep / 10 < store.mvcc.history_len();
    due.then(|| Revision(store.revision().0 - keep))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{LeaseId, Op, Put, Stamp, Txn};

    fn store(puts: u64) -> Store {
        let mut store = Store::default();
        let stamp = Stamp { now_ms: 0, quota_bytes: u64::MAX };
        for _ in 0..puts {
            let value = Some(vec![0; 1000].into());
            let put = Put { key: "k".into(), value, lease: Some(LeaseId::NONE), previous: false };
            store.apply(stamp, Command::Txn(Txn::always(Op::Put(put))));
        }
        store
    }

    #[test]
    fn history_is_kept_to_what_was_asked_for() {
        assert_eq!(compaction(&store(110), 100, u64::MAX), None);
        assert_eq!(compaction(&store(111), 100, u64::MAX), Some(Revision(12)));
        assert_eq!(compaction(&store(111), 0, u64::MAX), None);
    }

    #[test]
    fn less_is_kept_when_the_quota_is_nearly_used_up() {
        let store = store(2000);
        assert_eq!(compaction(&store, 0, store.used_bytes() * 2), None);
        let (used, kept) = (store.used_bytes(), store.revision().0 - 1000);
        assert_eq!(compaction(&store, 0, used + used / 10), Some(Revision(kept)));
        let kept = store.revision().0 - 10;
        assert_eq!(compaction(&store, 0, used), Some(Revision(kept)));
    }

    #[test]
    fn a_time_is_kept_at_least_and_a_tenth_more_at_most() {
        let mut past = Past::default();
        let mut compacted = 0;
        for second in 0..1000_u64 {
            let now = Revision(second + 1);
            if let Some(revision) = past.revision(100, second * 1000, now) {
                compacted = revision.0;
            }
            let age = now.0 - compacted;
            assert!(100 <= age || compacted == 0, "{second}: {age}");
            assert!(age <= 111 || second < 111, "{second}: {age}");
            assert!(past.0.len() <= 11);
        }
    }
}
