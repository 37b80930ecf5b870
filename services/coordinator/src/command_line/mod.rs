//! What the program was started for: to serve, or to bring a backup back.
//!
//! Whoever has an etcd in a script or a unit file can put this program in its place: its flags
//! and `ETCD_*` variables are understood, see [`etcd`].

mod etcd;
mod etcd_values;
mod restore;

use std::process::ExitCode;

use chassis::Given;

/// The command line cannot be used.
const USAGE: u8 = 2;

/// `main` of `quartet-coordinator`.
#[must_use]
pub fn run() -> ExitCode {
    let given = Given::to_process();
    if given.arguments.get(1).is_some_and(|first| first == "restore") {
        return restore::run(given.arguments);
    }
    match etcd::translate(given) {
        Ok(translated) => {
            for note in &translated.notes {
                telemetry::note!("quartet-coordinator: {note}");
            }
            chassis::run_given(translated.given, crate::start)
        }
        Err(error) => {
            telemetry::note!("quartet-coordinator: {error}");
            ExitCode::from(USAGE)
        }
    }
}
