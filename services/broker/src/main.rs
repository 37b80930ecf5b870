//! `quartet-broker`: topics, subscriptions and queues over HTTP.

use std::process::ExitCode;

fn main() -> ExitCode {
    chassis::run(broker::start)
}
