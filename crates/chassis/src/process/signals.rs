//! SIGTERM and SIGINT: the first drains, the second ends at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code after a second signal: what a shell reports for a process ended by SIGINT.
const INTERRUPTED: i32 = 130;

/// Both signals, listened to from now on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Must be called inside the runtime.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next of either, by name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Ends the process at the next signal, whatever it is doing.
    pub(super) async fn exit_at_next(mut self) {
        let name = self.next().await;
        telemetry::note!("second signal ({name}): ending at once");
        std::process::exit(INTERRUPTED);
    }
}
