//! `quartet-gateway`: one entry point to all services over HTTP.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::run(gateway::start)
}
