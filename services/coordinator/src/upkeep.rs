//! What the leader does by itself: ends leases, saves the time, forgets old history.

use std::time::Duration;

use chassis::health::Check;
use tokio_util::sync::CancellationToken;

use crate::coordinator::{CommandError, Coordinator, Failure};
use crate::store::{Command, Revision, Store};

/// Leases that one command ends.
const EXPIRE_MAX: usize = 1000;
/// The longest sleep: leases are looked at this often, also if nothing else happens.
const PERIOD: Duration = Duration::from_millis(500);
/// After a crash a lease may live this much longer than its TTL.
const TICK_MS: u64 = 10_000;
/// History kept when the quota is nearly used up.
const HISTORY_UNDER_PRESSURE: u64 = 1000;

pub(crate) struct Upkeep {
    pub(crate) coordinator: Coordinator,
    /// Revisions to keep.
    pub(crate) history: u64,
    /// Says in `/readyz` whether it works.
    pub(crate) check: Check,
}

impl Upkeep {
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut failing = None;
        loop {
            let outcome = round(&self.coordinator, self.history).await.err();
            if failing != outcome {
                self.report(outcome);
            }
            failing = outcome;
            let pause = match failing {
                Some(_) => PERIOD,
                None => pause(&self.coordinator.recent(), self.coordinator.now_ms()),
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
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

async fn round(coordinator: &Coordinator, history: u64) -> Result<(), Failure> {
    let (store, now_ms) = (coordinator.recent(), coordinator.now_ms());
    let expired = store.leases.expired(now_ms, EXPIRE_MAX);
    if !expired.is_empty() {
        let ended = coordinator.expire(expired).await?;
        coordinator.metrics().leases_expired.add(ended.len() as u64);
    } else if !store.leases.is_empty() && store.now_ms() + TICK_MS <= now_ms {
        coordinator.command(Command::Tick).await?;
    }
    if let Some(revision) = compaction(&store, history, coordinator.quota_bytes()) {
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
    let keep = if quota_bytes / 5 * 4 < store.used_bytes() {
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
        assert_eq!(compaction(&store, 0, store.used_bytes()), Some(Revision(1001)));
    }
}
