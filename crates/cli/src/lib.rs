//! The command `quartet`: a local cluster, every API from the command line, and the demonstration.
//!
//! A command is three steps: arguments become a request, the request goes to one service, the
//! answer becomes a table for people or stays the service's own JSON for programs. Data goes to
//! stdout, everything else to stderr, and the exit code is 1 when something went wrong.
//!
//! Commands talk straight to the service they concern, so they work with any subset of the four
//! running; `--endpoint http://gateway:8080/broker` goes through a gateway instead.
//!
//! **Invariant:** no retries in commands: a person wants the first answer. The demo retries where
//! the contract says that it is safe, and nowhere else.
//! **Invariant:** the demo's expected totals come from a pass over the file that shares no code
//! with what the services and workers compute.

mod args;
mod output;

mod http;

mod cluster;
mod commands;

mod demo;

mod bench;

use std::process::ExitCode;

use clap::Parser;

/// Parses the command line, carries it out, and reports what went wrong with all its causes.
#[must_use]
pub fn run() -> ExitCode {
    let args = args::Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            crate::output::note!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(commands::run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::output::note!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
