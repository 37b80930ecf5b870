//! What the process costs, read from `/proc` when somebody looks.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::metrics::Registry;

/// Registers the `process_*` metrics that dashboards expect, and `quartet_build_info`.
pub fn register_process_metrics(registry: &Registry, service: &str, version: &str) {
    let resident = registry.gauge("process_resident_memory_bytes", "Resident memory size.");
    let descriptors = registry.gauge("process_open_fds", "Open file descriptors.");
    let threads = registry.gauge("process_threads", "Threads.");
    let start =
        registry.gauge("process_start_time_seconds", "When the process started, in Unix time.");
    start.set(unix_now());
    let build = registry.gauges("quartet_build_info", "What runs here.", &["service", "version"]);
    build.with(&[&format!("quartet-{service}"), version]).set(1.0);
    registry.before_encoding(move || {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(kib) = field(&status, "VmRSS:") {
            resident.set_count(kib * 1024);
        }
        if let Some(count) = field(&status, "Threads:") {
            threads.set_count(count);
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            descriptors.set_count(entries.count() as u64);
        }
    });
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "read once at start, shown and never decided on")]
fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Format;

    #[test]
    fn this_process_has_memory_threads_and_open_files() {
        let registry = Registry::default();
        register_process_metrics(&registry, "broker", "1.2.3");
        let text = registry.encode(Format::OpenMetrics);
        let build = "quartet_build_info{service=\"quartet-broker\",version=\"1.2.3\"} 1.0";
        assert!(text.contains(build), "{text}");
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_threads"] {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(0.0 < value, "{line}");
        }
    }
}
