//! Writers that go on through faults, and remember what was acknowledged.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::RequestBuilder;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::node::PATIENCE;

const WRITERS: u64 = 8;

/// Concurrent writers of numbered things, none of which is written twice.
pub(crate) struct Load {
    writers: JoinSet<Vec<u64>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Load {
    /// `request` makes the write of one number.
    pub(crate) fn start<F>(request: F) -> Self
    where
        F: Fn(u64) -> RequestBuilder + Clone + Send + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let request = request.clone();
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            writers.spawn(async move {
                let mut mine = Vec::new();
                for number in (writer..).step_by(WRITERS as usize) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    // Refused, broken off, timed out: nothing was promised.
                    let answer = request(number).timeout(Duration::from_secs(10)).send().await;
                    if answer.is_ok_and(|answer| answer.status().is_success()) {
                        mine.push(number);
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    } else {
                        sleep(Duration::from_millis(5)).await;
                    }
                }
                mine
            });
        }
        Self { writers, stop, acknowledged }
    }

    /// Waits until so many more writes are acknowledged, however slowly they are.
    pub(crate) async fn progress(&self, more: u64) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + more;
        loop {
            let seen = self.acknowledged.load(Ordering::Relaxed);
            if goal <= seen {
                return;
            }
            let acknowledged = Arc::clone(&self.acknowledged);
            until("another write is acknowledged", || {
                let reached = seen < acknowledged.load(Ordering::Relaxed);
                async move { reached }
            })
            .await;
        }
    }

    /// Stops the writers. Returns what was acknowledged, in order.
    pub(crate) async fn finish(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all: Vec<u64> = self.writers.join_all().await.into_iter().flatten().collect();
        all.sort_unstable();
        all
    }
}

/// Polls until something holds.
pub(crate) async fn until<F, Fut>(what: &str, mut holds: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let poll = async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(PATIENCE, poll).await.is_ok(), "never came true: {what}");
}
