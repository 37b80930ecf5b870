//! What has to be reached, and whether it was. Of what was not measured, nothing is said.

use super::super::bar::{Bar, none};
use super::super::report::Row;
use super::super::systems::System;
use super::Report;
use super::operations::Operation;

const PUT_RATIO: f64 = 4.0;
const GET_RATIO: f64 = 4.0;
const P99_RATIO: f64 = 0.5;
/// Of what nginx serves in the same CPU time.
const NGINX_SHARE: f64 = 0.5;
const OUTAGE_MEDIAN_MS: f64 = 1_000.0;
const OUTAGE_MAX_MS: f64 = 3_000.0;
const EVENT_P99_MS: f64 = 100.0;

pub(super) fn judge(report: &Report) -> Vec<Bar> {
    let mut bars = Vec::new();
    for row in &report.throughput {
        throughput(row, &mut bars);
    }
    nginx(&report.throughput, &mut bars);
    for one in report.failover.iter().filter(|one| one.system == System::Quartet) {
        let outage = |what, wanted: f64, measured: f64| Bar {
            what: format!("leader killed: {what}"),
            wanted: format!("below {wanted:.0} ms"),
            measured: format!("{measured:.0} ms"),
            met: measured < wanted,
        };
        bars.push(outage("median outage", OUTAGE_MEDIAN_MS, one.median_ms));
        bars.push(outage("longest outage", OUTAGE_MAX_MS, one.max_ms));
        bars.push(none("leader killed: acknowledged writes lost", one.lost as u64));
        bars.push(none("leader killed: reads that went back", one.stale_reads as u64));
    }
    for one in report.watchers.iter().filter(|one| one.system == System::Quartet) {
        let what = format!("{} {}", one.watchers, one.api);
        bars.push(none(&format!("{what}: events missing"), one.missing));
        bars.push(none(&format!("{what}: events twice or out of order"), one.disordered));
        bars.push(Bar {
            what: format!("{what}: p99 from put to event"),
            wanted: format!("below {EVENT_P99_MS:.0} ms"),
            measured: format!("{:.0} ms at {:.0} puts/s", one.p99_ms, one.puts_per_second),
            met: one.p99_ms < EVENT_P99_MS,
        });
    }
    bars
}

fn throughput(row: &Row, bars: &mut Vec<Bar>) {
    let Some(ratio) = row.ratio.as_ref().filter(|ratio| ratio.to == System::Etcd) else { return };
    let what = |what| format!("{}: {what}", name(row));
    let is_put = row.operation == Operation::Put.name();
    let wanted = match (is_put, row.connections) {
        (true, 1) => 1.0,
        (true, _) => PUT_RATIO,
        (false, 64) if row.operation == Operation::Get.name() => GET_RATIO,
        _ => return,
    };
    let rate = ratio.requests_per_second;
    bars.push(Bar {
        what: what("requests/s"),
        wanted: format!("at least {wanted} x etcd"),
        measured: format!("{rate:.2} x"),
        met: wanted <= rate,
    });
    if is_put {
        bars.push(Bar {
            what: what("p99"),
            wanted: format!("at most {P99_RATIO} x etcd"),
            measured: format!("{:.2} x", ratio.p99),
            met: ratio.p99 <= P99_RATIO,
        });
    }
}

/// By CPU time, because nginx has one core at most and a node of ours has what is left of all.
fn nginx(rows: &[Row], bars: &mut Vec<Bar>) {
    for row in rows {
        let ratio = row.ratio.as_ref().filter(|ratio| ratio.to == System::Nginx);
        let Some((rate, cpu)) =
            ratio.and_then(|it| it.server_cpu.map(|cpu| (it.requests_per_second, cpu)))
        else {
            continue;
        };
        let share = 1.0 / cpu;
        bars.push(Bar {
            what: format!("{}: per core", name(row)),
            wanted: format!("at least {NGINX_SHARE} x nginx"),
            measured: format!("{share:.2} x ({rate:.2} x in requests/s)"),
            met: NGINX_SHARE <= share,
        });
    }
}

fn name(row: &Row) -> String {
    let connections = if row.connections == 1 { "connection" } else { "connections" };
    format!("{}, {} {connections}, {}", row.operation, row.connections, row.api)
}

#[cfg(test)]
mod tests {
    use super::super::super::report::{CpuPerRequest, Sample, compare};
    use super::*;

    fn row(operation: Operation, connections: u16, system: System, rate: f64) -> Row {
        let sample = Sample {
            requests_per_second: rate,
            p50_ms: 1.0,
            p99_ms: 1e3 / rate,
            max_ms: 1.0,
            errors: 0,
            first_error: None,
            cpu_us_per_request: CpuPerRequest { servers: Some(vec![1e6 / rate]), generator: None },
            other_cores: None,
        };
        Row::new(operation.name(), connections, (system, "/x"), vec![sample])
    }

    fn verdicts(mut rows: Vec<Row>) -> Vec<bool> {
        compare(&mut rows);
        let mut bars = Vec::new();
        rows.iter().for_each(|row| throughput(row, &mut bars));
        nginx(&rows, &mut bars);
        bars.into_iter().map(|bar| bar.met).collect()
    }

    #[test]
    fn many_puts_have_to_be_four_times_as_fast_and_one_at_a_time_faster() {
        let of = |connections, ours| {
            let theirs = row(Operation::Put, connections, System::Etcd, 100.0);
            verdicts(vec![row(Operation::Put, connections, System::Quartet, ours), theirs])
        };
        // Rate and p99, which is four times as short at four times the rate here.
        assert_eq!(of(64, 400.0), [true, true]);
        assert_eq!(of(64, 390.0), [false, true]);
        assert_eq!(of(1, 110.0), [true, false]);
        assert_eq!(of(1, 90.0), [false, false]);
    }

    #[test]
    fn reads_of_one_node_may_cost_twice_what_nginx_costs() {
        let of = |ours| {
            let theirs = row(Operation::OneNodeGet, 64, System::Nginx, 100.0);
            verdicts(vec![row(Operation::OneNodeGet, 64, System::Quartet, ours), theirs])
        };
        assert_eq!((of(50.0), of(49.0)), (vec![true], vec![false]));
    }

    #[test]
    fn nothing_is_said_of_what_was_not_compared() {
        assert!(verdicts(vec![row(Operation::Put, 64, System::Quartet, 1.0)]).is_empty());
    }
}
