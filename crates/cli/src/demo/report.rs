//! What the demo says at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;

use super::expected::Totals;
use super::publish::Published;
use super::{GATEWAY, REPLICA};
use crate::args::DemoArgs;
use crate::cluster::Cluster;
use crate::cluster::up::Plan;
use crate::output::{Table, say};

/// Everything there is to tell.
pub(crate) struct Story {
    pub(crate) expected: BTreeMap<String, Totals>,
    pub(crate) stored: BTreeMap<String, Totals>,
    pub(crate) published: Published,
    pub(crate) outage: Duration,
    pub(crate) publishing: Duration,
    pub(crate) redelivered: u64,
    pub(crate) messages: u64,
}

impl Story {
    fn differing(&self) -> Vec<&str> {
        let same = |carrier: &&str| self.stored.get(*carrier) == self.expected.get(*carrier);
        self.expected.keys().map(String::as_str).filter(|carrier| !same(carrier)).collect()
    }

    /// An error if anything is missing or counted twice.
    pub(crate) fn verdict(&self) -> anyhow::Result<()> {
        let differing = self.differing();
        if !differing.is_empty() {
            bail!(
                "the totals of {} are not those of the file: see the table",
                differing.join(", ")
            );
        }
        Ok(())
    }

    fn percentile(&self, percent: usize) -> Duration {
        let latencies = &self.published.latencies;
        let at = (latencies.len() * percent).div_ceil(100).saturating_sub(1);
        latencies.get(at).copied().unwrap_or_default()
    }
}

pub(crate) fn print(story: &Story, cluster: &Cluster, plan: &Plan, args: &DemoArgs) {
    say!("");
    table(story).print();
    say!("");
    let flights = story.published.latencies.len();
    let differing = story.differing();
    if differing.is_empty() {
        say!(
            "  correct   all totals, read back through {}, equal those of the file",
            REPLICA.name()
        );
    } else {
        say!("  WRONG     {} of {} carriers", differing.len(), story.expected.len());
    }
    say!(
        "  published {flights} flights one by one in {:.1} s: {:.0} messages/s, p50 {}, p99 {}, slowest {}",
        story.publishing.as_secs_f64(),
        flights as f64 / story.publishing.as_secs_f64(),
        milliseconds(story.percentile(50)),
        milliseconds(story.percentile(99)),
        milliseconds(story.percentile(100)),
    );
    say!(
        "  survived  SIGKILL of the broker, away for {}; {} messages were delivered again, {} stored twice",
        milliseconds(story.outage),
        story.redelivered,
        story.messages.saturating_sub(flights as u64),
    );
    next(story, cluster, plan, args);
}

/// The stored totals; a carrier that differs has a second line with what the file says.
fn table(story: &Story) -> Table {
    let header = ["CARRIER", "FLIGHTS", "CANCELLED", "LATE 1 H+", "MINUTES LATE", ""];
    let mut table = Table::new(header);
    (1..header.len() - 1).for_each(|column| table.right(column));
    let mut sum = Totals::default();
    for (carrier, expected) in &story.expected {
        let stored = story.stored.get(carrier).copied().unwrap_or_default();
        let verdict = if stored == *expected { "" } else { "stored" };
        table.row(row(carrier, stored, verdict));
        if stored != *expected {
            table.row(row(carrier, *expected, "FILE"));
        }
        sum.flights += stored.flights;
        sum.cancelled += stored.cancelled;
        sum.late += stored.late;
        sum.late_minutes += stored.late_minutes;
    }
    table.row(row("all", sum, ""));
    table
}

fn row(carrier: &str, of: Totals, verdict: &str) -> [String; 6] {
    [
        carrier.to_owned(),
        of.flights.to_string(),
        of.cancelled.to_string(),
        of.late.to_string(),
        of.late_minutes.to_string(),
        verdict.to_owned(),
    ]
}

fn next(story: &Story, cluster: &Cluster, plan: &Plan, args: &DemoArgs) {
    if let Some(trace_id) = &story.published.trace_id {
        let jaeger = args.jaeger.trim_end_matches('/');
        say!("  trace     {trace_id}: a flight through every service");
        match &plan.otlp {
            Some(_) => say!("            {jaeger}/trace/{trace_id}"),
            None => say!(
                "            to see it: run scripts/jaeger in another terminal, then scripts/demo again"
            ),
        }
    }
    if args.keep {
        say!("  look at   {}/docs", cluster.url(GATEWAY));
        say!("            quartet topic show flights; quartet kv --store replica ls demo/");
    } else {
        say!(
            "  next      scripts/up, then curl -i -X PUT localhost:8080/replica/v1/kv/color -d blue"
        );
    }
    say!("");
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(stored: u64) -> Story {
        let totals =
            |flights| BTreeMap::from([("UA".to_owned(), Totals { flights, ..Totals::default() })]);
        Story {
            expected: totals(2),
            stored: totals(stored),
            published: Published {
                latencies: (1..=100).map(Duration::from_millis).collect(),
                trace_id: None,
            },
            outage: Duration::ZERO,
            publishing: Duration::from_secs(1),
            redelivered: 0,
            messages: 2,
        }
    }

    #[test]
    fn one_flight_too_many_or_too_few_is_an_error() {
        assert!(story(2).verdict().is_ok());
        assert!(story(1).verdict().unwrap_err().to_string().contains("UA"));
        assert!(story(3).verdict().is_err());
    }

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let story = story(2);
        let found = [50, 99, 100].map(|percent| story.percentile(percent).as_millis());
        assert_eq!(found, [50, 99, 100]);
    }
}
