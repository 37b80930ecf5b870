//! `quartet`: the command line of the four services.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
