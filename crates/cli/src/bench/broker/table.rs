//! The table of throughput: what each system did in each case, and how ours compares.

use serde::Serialize;

use super::super::report::{self, Sample};
use super::super::systems::System;
use super::clients;
use crate::output::{Table, say};

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) operation: String,
    pub(super) nodes: u16,
    pub(super) system: System,
    pub(super) client: &'static str,
    /// A request is one message here, also in a batch.
    pub(super) median: Sample,
    /// How many times as many messages a second Quartet took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quartet_rate: Option<f64>,
    /// How many times as many messages in the same CPU time of the servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quartet_per_core: Option<f64>,
    pub(super) runs: Vec<Sample>,
}

impl Row {
    /// `runs` has at least one.
    pub(super) fn new(operation: String, nodes: u16, system: System, runs: Vec<Sample>) -> Self {
        Self {
            operation,
            nodes,
            system,
            client: clients::name(system),
            median: Sample::of_runs(&runs),
            quartet_rate: None,
            quartet_per_core: None,
            runs,
        }
    }
}

/// Compares every peer with Quartet in the same case.
pub(super) fn compare(rows: &mut [Row]) {
    let ours: Vec<Row> = rows.iter().filter(|row| row.system == System::Quartet).cloned().collect();
    for row in rows.iter_mut().filter(|row| row.system != System::Quartet) {
        let same = |ours: &&Row| ours.operation == row.operation && ours.nodes == row.nodes;
        let Some(ours) = ours.iter().find(same) else { continue };
        let per_core = |row: &Row| row.median.cpu_us_per_request.total();
        row.quartet_rate = Some(ours.median.requests_per_second / row.median.requests_per_second);
        row.quartet_per_core =
            per_core(ours).zip(per_core(row)).map(|(ours, theirs)| theirs / ours);
    }
}

pub(super) fn print(rows: &[Row]) {
    let mut table = Table::new([
        "OPERATION",
        "NODES",
        "SYSTEM",
        "MESSAGES/S",
        "QUARTET",
        "P50 MS",
        "P99 MS",
        "ERRORS",
        "SERVERS US/MESSAGE",
        "QUARTET PER CORE",
        "CLIENT US",
        "OTHERS",
    ]);
    for row in rows {
        let cpu = &row.median.cpu_us_per_request;
        table.row([
            row.operation.clone(),
            row.nodes.to_string(),
            format!("{}, {}", row.system.name(), row.client),
            format!("{:.0}", row.median.requests_per_second),
            report::times(row.quartet_rate),
            format!("{:.2}", row.median.p50_ms),
            format!("{:.2}", row.median.p99_ms),
            row.median.errors.to_string(),
            report::servers(cpu),
            report::times(row.quartet_per_core),
            cpu.generator.map_or_else(String::new, |cpu| format!("{cpu:.1}")),
            row.median.other_cores.map_or_else(String::new, |cores| format!("{cores:.2}")),
        ]);
    }
    for column in [1, 3, 4, 5, 6, 7, 8, 9, 10, 11] {
        table.right(column);
    }
    table.print();
    for row in rows {
        if let Some(error) = &row.median.first_error {
            let system = row.system.name();
            say!("{system}, {}, {} nodes: the first error: {error}", row.operation, row.nodes);
        }
    }
}
