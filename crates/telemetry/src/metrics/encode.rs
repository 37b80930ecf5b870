//! The two text formats that a scrape may ask for.

use std::fmt::Write as _;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0: has exemplars.
    OpenMetrics,
    /// The classic Prometheus text format 0.0.4: no exemplars, for scrapers that ask for nothing else.
    Prometheus,
}

impl Format {
    /// What an `Accept` header asks for. OpenMetrics unless only plain text is accepted, so that
    /// a person with curl sees the exemplars too.
    #[must_use]
    pub fn for_accept(accept: &str) -> Self {
        let plain_only = accept.contains("text/plain")
            && !accept.contains("application/openmetrics-text")
            && !accept.contains("*/*;q=1");
        if plain_only { Self::Prometheus } else { Self::OpenMetrics }
    }

    /// The `Content-Type` of the text.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

pub(super) fn encode(registry: &Registry, format: Format) -> String {
    let mut text = String::new();
    text::encode(&mut text, registry).expect("writing to a string does not fail");
    match format {
        Format::OpenMetrics => text,
        Format::Prometheus => classic(&text),
    }
}

/// OpenMetrics names a counter without its `_total` in the metadata and knows `info`, exemplars
/// and an end marker; the classic format has none of that.
fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines().filter(|line| *line != "# EOF") {
        if line.starts_with("# HELP ") {
            help = Some(line);
        } else if let Some(meta) = line.strip_prefix("# TYPE ") {
            let (name, kind) = meta.split_once(' ').unwrap_or((meta, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some(help) = help.take().and_then(|help| help.split_once(name)) {
                let _ = writeln!(text, "# HELP {name}{suffix}{}", help.1);
            }
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with("# UNIT ") {
            let sample = line.split_once(" # {").map_or(line, |(sample, _exemplar)| sample);
            text.push_str(sample);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_the_format_it_asks_for() {
        assert_eq!(Format::for_accept("*/*"), Format::OpenMetrics);
        assert_eq!(Format::for_accept(""), Format::OpenMetrics);
        assert_eq!(Format::for_accept("text/plain;version=0.0.4"), Format::Prometheus);
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;q=0.3,*/*;q=0.2";
        assert_eq!(Format::for_accept(prometheus), Format::OpenMetrics);
    }

    #[test]
    fn the_classic_format_names_counters_in_full_and_has_no_exemplars() {
        let open_metrics = "# HELP orders Orders.\n# TYPE orders counter\norders_total 3\n\
            # HELP wait Wait.\n# TYPE wait histogram\nwait_bucket{le=\"1.0\"} 1 # {trace_id=\"ab\"} 0.5\n# EOF\n";
        assert_eq!(
            classic(open_metrics),
            "# HELP orders_total Orders.\n# TYPE orders_total counter\norders_total 3\n\
             # HELP wait Wait.\n# TYPE wait histogram\nwait_bucket{le=\"1.0\"} 1\n"
        );
    }
}
