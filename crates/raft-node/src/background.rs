//! Work that takes long and has time, on a thread of its own: where there are fewer cores than
//! work, those who answer requests go first.

use std::io;

use tokio_util::task::TaskTracker;

/// As `nice -n 10`: about a tenth of the time of a thread that competes with it.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Runs work that the process waits for at its end. Fails if there is no thread to be had.
pub(crate) fn spawn(
    tasks: &TaskTracker,
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let token = tasks.token();
    let run = move || {
        let _token = token;
        give_way();
        work();
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

/// Elsewhere it would slow down the whole process.
#[cfg(target_os = "linux")]
fn give_way() {
    // Refused where priorities are not ours to change: then it goes on as it is.
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

#[cfg(not(target_os = "linux"))]
fn give_way() {}
