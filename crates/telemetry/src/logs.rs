//! Log lines on standard error, written by a thread of their own: a slow terminal slows nobody.

use std::io::{self, Write};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::InitError;
use crate::trace;

/// Lines that wait for the writer; beyond it they are lost rather than waited for.
const MAX_WAITING_LINES: usize = 16 * 1024;

/// Starts logging. A process that logs already (a test) goes on as it did.
pub(crate) fn init(
    level: &str,
    sdk_level: Option<&str>,
    json: bool,
) -> Result<WorkerGuard, InitError> {
    let filter = filter(level, sdk_level)?;
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(MAX_WAITING_LINES).finish(io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(move || Traced(writer.clone()));
    let lines = if json {
        lines.json().flatten_event(true).with_filter(filter).boxed()
    } else {
        lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).with_filter(filter).boxed()
    };
    let _ = tracing_subscriber::registry().with(lines).try_init();
    Ok(guard)
}

/// `Targets`, since `EnvFilter` takes a lock on every span. The SDK's own complaints are replaced
/// by ours, which come once and say what to do; `OTEL_LOG_LEVEL` brings them back.
fn filter(level: &str, sdk_level: Option<&str>) -> Result<Targets, InitError> {
    let rejected = || InitError::LogLevel { level: level.to_owned() };
    // A bare word that is no level would be taken for a module, and everything else be silenced.
    let mut words = level.split(',').filter(|part| !part.contains('='));
    if !words.all(|word| word.trim().parse::<LevelFilter>().is_ok()) {
        return Err(rejected());
    }
    let filter: Targets = level.parse().map_err(|_error| rejected())?;
    let is_set = filter.iter().any(|(target, _)| target.starts_with("opentelemetry"));
    let sdk_level = sdk_level.and_then(|level| level.trim().parse().ok());
    let sdk_level = sdk_level.unwrap_or(LevelFilter::OFF);
    Ok(if is_set { filter } else { filter.with_target("opentelemetry", sdk_level) })
}

/// Adds the trace id of the current request to a line, text or JSON.
///
/// The subscriber hands over each line in one piece, in the thread and poll in which the event
/// happened, so the context is at hand here; a span to carry it would cost a lock per request.
struct Traced<W>(W);

impl<W: Write> Write for Traced<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Some(context) = trace::current() else { return self.0.write(line) };
        let mut longer = line.to_vec();
        if longer.ends_with(b"}\n") && longer.starts_with(b"{") {
            longer.truncate(longer.len() - 2);
            writeln!(longer, ",\"trace_id\":\"{}\"}}", context.trace_id)?;
        } else if longer.ends_with(b"\n") {
            longer.pop();
            writeln!(longer, " trace_id={}", context.trace_id)?;
        }
        self.0.write_all(&longer)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether [`init`] would take this level.
pub fn check_level(level: &str) -> Result<(), InitError> {
    filter(level, None).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{TraceContext, WithContext as _};

    #[test]
    fn levels_are_checked_before_they_are_used() {
        check_level("info").unwrap();
        check_level("info,hyper=warn").unwrap();
        assert!(check_level("info,hyper=loud").is_err());
        assert!(check_level("loud").is_err());
    }

    #[tokio::test]
    async fn a_line_about_a_request_has_its_trace_id() {
        let context = TraceContext::random();
        let write = |line: &str| {
            let mut written = Traced(Vec::new());
            written.write_all(line.as_bytes()).unwrap();
            String::from_utf8(written.0).unwrap()
        };
        assert_eq!(write("INFO started\n"), "INFO started\n");
        let (text, json) = async { (write("INFO failed\n"), write("{\"level\":\"INFO\"}\n")) }
            .with_context(context)
            .await;
        let id = context.trace_id;
        assert_eq!(text, format!("INFO failed trace_id={id}\n"));
        assert_eq!(json, format!("{{\"level\":\"INFO\",\"trace_id\":\"{id}\"}}\n"));
    }
}
