//! What has to be reached, and whether it was. Of what was not measured, nothing is said.

use super::super::bar::{Bar, none};
use super::super::systems::System;
use super::Report;
use super::backlog::Backlog;
use super::failover::Failover;
use super::fanout::Fanout;
use super::table::Row;
use super::topics::Topics;

const ONE_NODE_RATE: f64 = 30_000.0;
const CYCLE_RATIO: f64 = 3.0;
/// Of the rate of one topic.
const TOPICS_SHARE: f64 = 0.7;
/// What two measurements of the same differ by.
const FSYNC_NOISE: f64 = 1.1;
const BYTES_PER_MESSAGE: f64 = 100.0;
const P99_NOISE: f64 = 1.25;
const RESTART_SECONDS: f64 = 5.0;
const FANOUT_P99_MS: f64 = 250.0;
const OUTAGE_MS: f64 = 1_000.0;

pub(super) fn judge(report: &Report) -> Vec<Bar> {
    let mut bars = Vec::new();
    for row in &report.publish {
        publish(row, &mut bars);
    }
    for row in &report.cycle {
        cycle(row, &mut bars);
    }
    topics(&report.topics, &mut bars);
    report.backlog.iter().for_each(|one| backlog(one, &mut bars));
    report.fanout.iter().for_each(|one| fanout(one, &mut bars));
    report.failover.iter().for_each(|one| failover(one, &mut bars));
    bars
}

fn at_least(what: String, wanted: f64, measured: f64, unit: &str) -> Bar {
    Bar {
        what,
        wanted: format!("at least {wanted} {unit}"),
        measured: format!("{measured:.2} {unit}"),
        met: wanted <= measured,
    }
}

fn below(what: String, wanted: f64, measured: f64, unit: &str) -> Bar {
    Bar {
        what,
        wanted: format!("below {wanted:.2} {unit}"),
        measured: format!("{measured:.2} {unit}"),
        met: measured < wanted,
    }
}

fn publish(row: &Row, bars: &mut Vec<Bar>) {
    let what = format!("{}, {} node(s)", row.operation, row.nodes);
    // Its replicas may lack what its primary has acknowledged: that is another promise.
    let is_weaker = row.system == System::Redis && 1 < row.nodes;
    if let Some(ratio) = row.quartet_rate.filter(|_| !is_weaker) {
        let than = format!("x {}", row.system.name());
        bars.push(at_least(format!("{what}: messages/s"), 1.0, ratio, &than));
    }
    let is_plain = row.nodes == 1 && row.operation == "publish 256 B, 64 connections";
    if row.system == System::Quartet && is_plain {
        let rate = row.median.requests_per_second;
        bars.push(Bar {
            what,
            wanted: format!("at least {ONE_NODE_RATE:.0}/s"),
            measured: format!("{rate:.0}/s"),
            met: ONE_NODE_RATE <= rate,
        });
    }
}

fn cycle(row: &Row, bars: &mut Vec<Bar>) {
    if let Some(ratio) = row.quartet_per_core {
        let what = format!("{}: per core", row.operation);
        bars.push(at_least(what, CYCLE_RATIO, ratio, &format!("x {}", row.system.name())));
    }
}

fn topics(all: &[Topics], bars: &mut Vec<Bar>) {
    let [one, many] = all else { return };
    let what = |what| format!("{} topics against one: {what}", many.topics);
    let share = many.messages_per_second / one.messages_per_second;
    bars.push(at_least(what("messages/s"), TOPICS_SHARE, share, "x one topic"));
    let more = many.fsyncs_per_second / one.fsyncs_per_second;
    bars.push(below(what("fsyncs/s"), FSYNC_NOISE, more, "x one topic"));
}

fn backlog(one: &Backlog, bars: &mut Vec<Bar>) {
    let what = |what| format!("{} queued messages: {what}", one.messages);
    bars.push(below(what("memory of each"), BYTES_PER_MESSAGE, one.bytes_per_message, "bytes"));
    let slower = one.full_p99_ms / one.empty_p99_ms;
    bars.push(below(what("p99 of receive"), P99_NOISE, slower, "x an empty queue"));
    bars.push(below(what("restart"), RESTART_SECONDS, one.restart_seconds, "s"));
}

fn fanout(one: &Fanout, bars: &mut Vec<Bar>) {
    let what = |what| format!("{} readers: {what}", one.subscribers);
    bars.push(none(&what("messages missing"), one.missing));
    bars.push(none(&what("messages twice or out of order"), one.disordered));
    bars.push(below(what("p99 from publish to event"), FANOUT_P99_MS, one.p99_ms, "ms"));
}

fn failover(one: &Failover, bars: &mut Vec<Bar>) {
    let what = |what| format!("leader killed: {what}");
    bars.push(below(what("longest time until a publish succeeds"), OUTAGE_MS, one.max_ms, "ms"));
    bars.push(none(&what("acknowledged messages lost"), one.lost as u64));
    bars.push(none(&what("messages not consumed"), one.not_consumed as u64));
}

#[cfg(test)]
mod tests {
    use super::super::super::report::{CpuPerRequest, Sample};
    use super::super::table::compare;
    use super::*;

    fn row(system: System, rate: f64, cpu: f64) -> Row {
        let sample = Sample {
            requests_per_second: rate,
            p50_ms: 1.0,
            p99_ms: 1.0,
            max_ms: 1.0,
            errors: 0,
            first_error: None,
            cpu_us_per_request: CpuPerRequest { servers: Some(vec![cpu]), generator: None },
            other_cores: None,
        };
        Row::new("publish 256 B, 64 connections".to_owned(), 1, system, vec![sample])
    }

    fn verdicts(mut rows: Vec<Row>, judge: fn(&Row, &mut Vec<Bar>)) -> Vec<bool> {
        compare(&mut rows);
        let mut bars = Vec::new();
        rows.iter().for_each(|row| judge(row, &mut bars));
        bars.into_iter().map(|bar| bar.met).collect()
    }

    #[test]
    fn every_peer_has_to_be_slower() {
        let rows = vec![
            row(System::Quartet, 30_000.0, 1.0),
            row(System::Redis, 29_000.0, 1.0),
            row(System::Nats, 31_000.0, 1.0),
        ];
        assert_eq!(verdicts(rows, publish), [true, true, false]);
    }

    #[test]
    fn a_cycle_has_to_take_a_third_of_the_cpu_time() {
        let of = |cpu| {
            let rows = vec![row(System::Quartet, 1.0, 1.0), row(System::RabbitMq, 9.0, cpu)];
            verdicts(rows, cycle)
        };
        assert_eq!((of(3.0), of(2.9)), (vec![true], vec![false]));
    }
}
