//! The totals, straight from the file: a plain pass over its lines that shares no code with the
//! parser, the messages or the workers.

use std::collections::BTreeMap;

use anyhow::{Context, bail};

/// What is counted per carrier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) flights: u64,
    pub(crate) cancelled: u64,
    /// Departures an hour late or more.
    pub(crate) late: u64,
    /// The sum of their delays.
    pub(crate) late_minutes: i64,
}

pub(crate) fn totals(text: &str, rows: usize) -> anyhow::Result<BTreeMap<String, Totals>> {
    if text.contains('"') {
        bail!("the file has quoted cells, which the check does not understand; remove the quotes");
    }
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| {
        let found = header.iter().position(|column| *column == name);
        found.with_context(|| format!("the file has no column `{name}`"))
    };
    let (carrier, delay) = (column("carrier")?, column("dep_delay")?);

    let mut totals: BTreeMap<String, Totals> = BTreeMap::new();
    for line in lines.take(rows) {
        let cells: Vec<&str> = line.split(',').collect();
        let of = totals.entry(cells[carrier].to_owned()).or_default();
        of.flights += 1;
        match cells[delay].parse::<i64>() {
            Err(_) => of.cancelled += 1,
            Ok(minutes) if minutes > 59 => {
                of.late += 1;
                of.late_minutes += minutes;
            }
            Ok(_) => (),
        }
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_counts_and_a_minute_less_does_not() {
        let totals = totals("dep_delay,carrier\n60,UA\n59,UA\n,UA\n-3,AA\n", 10).unwrap();
        let united = Totals { flights: 3, cancelled: 1, late: 1, late_minutes: 60 };
        assert_eq!(totals["UA"], united);
        assert_eq!(totals["AA"], Totals { flights: 1, ..Totals::default() });
    }

    #[test]
    fn only_the_rows_that_are_replayed_count() {
        assert_eq!(totals("carrier,dep_delay\nUA,1\nAA,1\n", 1).unwrap().len(), 1);
    }
}
