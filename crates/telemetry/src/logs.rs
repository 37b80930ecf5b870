//! Log lines on standard error, written by a thread of their own: a slow terminal slows nobody.

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::InitError;

/// Lines that wait for the writer; beyond it they are lost rather than waited for.
const MAX_WAITING_LINES: usize = 16 * 1024;

/// Starts logging. A process that logs already (a test) goes on as it did.
pub(crate) fn init(level: &str, json: bool) -> Result<WorkerGuard, InitError> {
    let filter = filter(level)?;
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_WAITING_LINES)
        .finish(std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = if json {
        lines.json().flatten_event(true).with_filter(filter).boxed()
    } else {
        lines
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .with_filter(filter)
            .boxed()
    };
    let _ = tracing_subscriber::registry().with(lines).try_init();
    Ok(guard)
}

/// `Targets`, since `EnvFilter` takes a lock on every span. The SDK's own complaints are replaced
/// by ours, which come once and say what to do.
fn filter(level: &str) -> Result<Targets, InitError> {
    let rejected = || InitError::LogLevel { level: level.to_owned() };
    // A bare word that is no level would be taken for a module, and everything else be silenced.
    let mut words = level.split(',').filter(|part| !part.contains('='));
    if !words.all(|word| word.trim().parse::<LevelFilter>().is_ok()) {
        return Err(rejected());
    }
    let filter: Targets = level.parse().map_err(|_error| rejected())?;
    let is_set = filter.iter().any(|(target, _)| target.starts_with("opentelemetry"));
    let off = LevelFilter::OFF;
    Ok(if is_set { filter } else { filter.with_target("opentelemetry", off) })
}

/// Whether [`init`] would take this level.
pub fn check_level(level: &str) -> Result<(), InitError> {
    filter(level).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_checked_before_they_are_used() {
        check_level("info").unwrap();
        check_level("info,hyper=warn").unwrap();
        assert!(check_level("info,hyper=loud").is_err());
        assert!(check_level("loud").is_err());
    }
}
