//! `quartet-replica`: a primary-replica key-value store over HTTP.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::run(replica::start)
}
