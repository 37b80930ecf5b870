//! Figures: medians of several runs, ratios, a table.

use std::time::Duration;

use serde::Serialize;

use super::load::{Tally, Window};
use super::systems::System;
use crate::output::{Table, say};

/// What one run found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) requests_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    pub(crate) errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_error: Option<String>,
    pub(crate) cpu_us_per_request: CpuPerRequest,
    /// Cores that were busy with something else meanwhile: the more, the less this run is worth.
    pub(crate) other_cores: Option<f64>,
}

/// Microseconds of user and system time. What cannot be seen from here is absent.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CpuPerRequest {
    /// Of each server; the leader first.
    pub(crate) servers: Option<Vec<f64>>,
    pub(crate) generator: Option<f64>,
}

/// What a generator found in a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) requests: f64,
    pub(crate) length: Duration,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Not a number where it does not say.
    pub(crate) max_ms: f64,
}

/// CPU time spent in a window.
#[derive(Clone, Debug)]
pub(crate) struct CpuSpent {
    pub(crate) servers: Option<Vec<Duration>>,
    pub(crate) generator: Option<Duration>,
    /// Everything on this machine.
    pub(crate) machine: Option<Duration>,
}

impl CpuSpent {
    fn by_others(&self) -> Option<Duration> {
        let ours = self.servers.as_ref()?.iter().sum::<Duration>() + self.generator?;
        Some(self.machine?.saturating_sub(ours))
    }
}

impl CpuPerRequest {
    /// Of all servers together.
    pub(crate) fn total(&self) -> Option<f64> {
        self.servers.as_ref().map(|servers| servers.iter().sum())
    }
}

impl Sample {
    pub(crate) fn new(tally: &Tally, window: Window, spent: &CpuSpent) -> Self {
        let counted = Counted {
            requests: tally.answered as f64,
            length: window.length(),
            p50_ms: tally.quantile_ms(0.5),
            p99_ms: tally.quantile_ms(0.99),
            max_ms: tally.max_ms(),
        };
        let (errors, first_error) = (tally.errors, tally.first_error.clone());
        Self { errors, first_error, ..Self::of_client(&counted, spent) }
    }

    /// What another generator than ours has counted. It ends at the first error.
    pub(crate) fn of_client(counted: &Counted, spent: &CpuSpent) -> Self {
        let per_request = |spent: Duration| spent.as_secs_f64() * 1e6 / counted.requests;
        let any = 0.0 < counted.requests;
        let servers = spent.servers.as_ref().filter(|_| any);
        let seconds = counted.length.as_secs_f64();
        Self {
            requests_per_second: counted.requests / seconds,
            p50_ms: counted.p50_ms,
            p99_ms: counted.p99_ms,
            max_ms: counted.max_ms,
            errors: 0,
            first_error: None,
            cpu_us_per_request: CpuPerRequest {
                servers: servers.map(|all| all.iter().copied().map(per_request).collect()),
                generator: spent.generator.filter(|_| any).map(per_request),
            },
            other_cores: spent.by_others().map(|others| others.as_secs_f64() / seconds),
        }
    }

    /// Figure by figure; the largest maximum, and all errors.
    pub(crate) fn of_runs(runs: &[Self]) -> Self {
        let figure = |of: fn(&Self) -> f64| median(runs.iter().map(of));
        let cpu = |of: &dyn Fn(&CpuPerRequest) -> Option<f64>| {
            let known: Option<Vec<f64>> =
                runs.iter().map(|run| of(&run.cpu_us_per_request)).collect();
            known.map(median)
        };
        let servers = runs[0].cpu_us_per_request.servers.as_ref().map_or(0, Vec::len);
        let servers: Option<Vec<f64>> = (0..servers)
            .map(|at| cpu(&|cpu| cpu.servers.as_ref().and_then(|all| all.get(at)).copied()))
            .collect();
        Self {
            requests_per_second: figure(|run| run.requests_per_second),
            p50_ms: figure(|run| run.p50_ms),
            p99_ms: figure(|run| run.p99_ms),
            max_ms: runs.iter().map(|run| run.max_ms).fold(0.0, f64::max),
            errors: runs.iter().map(|run| run.errors).sum(),
            first_error: runs.iter().find_map(|run| run.first_error.clone()),
            cpu_us_per_request: CpuPerRequest {
                servers: servers.filter(|servers| !servers.is_empty()),
                generator: cpu(&|cpu| cpu.generator),
            },
            other_cores: runs
                .iter()
                .map(|run| run.other_cores)
                .collect::<Option<Vec<f64>>>()
                .map(median),
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) operation: &'static str,
    pub(crate) connections: u16,
    pub(crate) system: System,
    pub(crate) api: &'static str,
    pub(crate) median: Sample,
    /// Compared with the other system in the same operation with as many connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<Ratio>,
    pub(crate) runs: Vec<Sample>,
}

/// Ours divided by theirs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) to: System,
    pub(crate) requests_per_second: f64,
    pub(crate) p99: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_cpu: Option<f64>,
}

impl Row {
    /// `runs` has at least one.
    pub(crate) fn new(
        operation: &'static str,
        connections: u16,
        (system, api): (System, &'static str),
        runs: Vec<Sample>,
    ) -> Self {
        let median = Sample::of_runs(&runs);
        Self { operation, connections, system, api, median, ratio: None, runs }
    }
}

/// Compares every row of Quartet with that of its peer, where there is one.
pub(crate) fn compare(rows: &mut [Row]) {
    let peers: Vec<Row> =
        rows.iter().filter(|row| row.system != System::Quartet).cloned().collect();
    for row in rows.iter_mut().filter(|row| row.system == System::Quartet) {
        let same =
            |peer: &&Row| peer.operation == row.operation && peer.connections == row.connections;
        row.ratio = peers.iter().find(same).map(|peer| Ratio {
            to: peer.system,
            requests_per_second: row.median.requests_per_second / peer.median.requests_per_second,
            p99: row.median.p99_ms / peer.median.p99_ms,
            server_cpu: row
                .median
                .cpu_us_per_request
                .total()
                .zip(peer.median.cpu_us_per_request.total())
                .map(|(ours, theirs)| ours / theirs),
        });
    }
}

pub(crate) fn print(rows: &[Row]) {
    let mut table = Table::new([
        "OPERATION",
        "CONNECTIONS",
        "SYSTEM",
        "REQUESTS/S",
        "RATIO",
        "P50 MS",
        "P99 MS",
        "RATIO",
        "MAX MS",
        "ERRORS",
        "SERVERS US/REQUEST",
        "RATIO",
        "GENERATOR US",
        "OTHERS",
    ]);
    for row in rows {
        let (median, ratio) = (&row.median, row.ratio.as_ref());
        let cpu = &median.cpu_us_per_request;
        table.row([
            row.operation.to_owned(),
            row.connections.to_string(),
            format!("{} {}", row.system.name(), row.api),
            format!("{:.0}", median.requests_per_second),
            times(ratio.map(|ratio| ratio.requests_per_second)),
            format!("{:.2}", median.p50_ms),
            format!("{:.2}", median.p99_ms),
            times(ratio.map(|ratio| ratio.p99)),
            format!("{:.1}", median.max_ms),
            median.errors.to_string(),
            servers(cpu),
            times(ratio.and_then(|ratio| ratio.server_cpu)),
            cpu.generator.map_or_else(String::new, |cpu| format!("{cpu:.1}")),
            median.other_cores.map_or_else(String::new, |cores| format!("{cores:.2}")),
        ]);
    }
    for column in [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13] {
        table.right(column);
    }
    table.print();
    for row in rows {
        if let Some(error) = &row.median.first_error {
            let what = format!("{}, {} connections", row.operation, row.connections);
            say!("{} {}, {what}: the first error: {error}", row.system.name(), row.api);
        }
    }
}

/// `96 = 52+23+21`, the leader first.
pub(crate) fn servers(cpu: &CpuPerRequest) -> String {
    let (Some(servers), Some(total)) = (&cpu.servers, cpu.total()) else { return String::new() };
    let each: Vec<String> = servers.iter().map(|cpu| format!("{cpu:.0}")).collect();
    if each.len() == 1 {
        return each.concat();
    }
    format!("{total:.0} = {}", each.join("+"))
}

pub(crate) fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x"))
}

/// The middle one, or the mean of the two in the middle. Of nothing: not a number.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => figures[count / 2],
        count => f64::midpoint(figures[count / 2 - 1], figures[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(system: System, connections: u16, rates: &[f64]) -> Row {
        let run = |&rate: &f64| Sample {
            requests_per_second: rate,
            p50_ms: 1.0,
            p99_ms: 2.0,
            max_ms: rate,
            errors: 1,
            first_error: None,
            cpu_us_per_request: CpuPerRequest { servers: Some(vec![rate, 1.0]), generator: None },
            other_cores: None,
        };
        Row::new("put", connections, (system, "/v3/kv"), rates.iter().map(run).collect())
    }

    #[test]
    fn a_row_shows_the_median_the_largest_maximum_and_all_errors() {
        let median = row(System::Quartet, 1, &[30.0, 10.0, 20.0]).median;
        assert_eq!((median.requests_per_second, median.max_ms, median.errors), (20.0, 30.0, 3));
        assert_eq!(median.cpu_us_per_request.total(), Some(21.0));
    }

    #[test]
    fn ours_is_compared_with_as_many_connections_of_theirs() {
        let mut rows = [
            row(System::Quartet, 1, &[30.0]),
            row(System::Quartet, 64, &[90.0]),
            row(System::Etcd, 64, &[30.0]),
        ];
        compare(&mut rows);
        assert!(rows[0].ratio.is_none() && rows[2].ratio.is_none());
        assert_eq!(rows[1].ratio.as_ref().map(|ratio| ratio.requests_per_second), Some(3.0));
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median([4.0, 1.0, 2.0, 100.0]), 3.0);
        assert!(median([]).is_nan());
    }
}
