//! The smallest service there is, as a process: for the tests of starting and stopping.

#[path = "../tests/it/service.rs"]
mod service;

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::run(service::start)
}
