//! `quartet-coordinator`: keys, transactions, watches, leases and services over HTTP.

use std::process::ExitCode;

fn main() -> ExitCode {
    coordinator::run()
}
