//! Panics that the process must not outlive: whoever waits for what has panicked would wait for
//! ever.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use tokio::sync::watch;

/// What has panicked, once something has. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Alarm(watch::Sender<Option<&'static str>>);

/// Raises the alarm if its thread panics while this exists.
pub(crate) struct Armed {
    name: &'static str,
    alarm: Alarm,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<&'static str>> {
        self.0.subscribe()
    }

    /// For work on a thread of its own.
    pub(crate) fn arm(&self, name: &'static str) -> Armed {
        Armed { name, alarm: self.clone() }
    }

    /// For a task.
    pub(crate) async fn watch(self, name: &'static str, task: impl Future<Output = ()>) {
        if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
            self.0.send_replace(Some(name));
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.alarm.0.send_replace(Some(self.name));
        }
    }
}
