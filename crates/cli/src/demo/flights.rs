//! The input: one message a row.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Every flight that left New York in the first week of January 2013: see `data/README.md`.
const EMBEDDED: &str = include_str!("../../data/flights-2013-01.csv");

/// A departure this late, in minutes, becomes a job.
pub(crate) const LATE_MINUTES: i64 = 60;

pub(crate) struct Input {
    /// The file as it is, for the totals to compare with.
    pub(crate) text: String,
    pub(crate) flights: Vec<Flight>,
}

/// What is published: the row, and which flight of its carrier it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flight {
    pub(crate) carrier: String,
    /// Counts the flights of this carrier from 0: the identity by which each is counted once.
    pub(crate) number: u64,
    /// Minutes; negative is early. A flight without one did not leave.
    pub(crate) dep_delay: Option<i64>,
    /// The other columns.
    #[serde(flatten)]
    pub(crate) columns: Map<String, Value>,
}

impl Flight {
    pub(crate) fn cancelled(&self) -> bool {
        self.dep_delay.is_none()
    }

    /// The delay, if it is long enough for a job.
    pub(crate) fn late(&self) -> Option<i64> {
        self.dep_delay.filter(|&minutes| LATE_MINUTES <= minutes)
    }
}

pub(crate) fn load(file: Option<&Path>, rows: Option<u64>) -> anyhow::Result<Input> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?,
        None => EMBEDDED.to_owned(),
    };
    let mut flights = parse(&text)?;
    if let Some(rows) = rows {
        flights.truncate(usize::try_from(rows).unwrap_or(usize::MAX));
    }
    if flights.is_empty() {
        bail!("the file holds no flights");
    }
    Ok(Input { text, flights })
}

fn parse(text: &str) -> anyhow::Result<Vec<Flight>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().context("the file has no header line")?.clone();
    for needed in ["carrier", "dep_delay"] {
        if !header.iter().any(|name| name == needed) {
            bail!("the file has no column `{needed}`");
        }
    }
    let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
    let mut flights = Vec::new();
    for row in reader.records() {
        let row = row.context("the file is not CSV")?;
        let mut columns: Map<String, Value> =
            header.iter().zip(&row).map(|(name, cell)| (name.to_owned(), value(cell))).collect();
        let carrier = match columns.remove("carrier") {
            Some(Value::String(carrier)) => carrier,
            // `9` is a number, and still a name.
            other => other.unwrap_or_default().to_string(),
        };
        let dep_delay = columns.remove("dep_delay").as_ref().and_then(Value::as_i64);
        let next = numbers.entry(carrier.clone()).or_default();
        flights.push(Flight { carrier, number: *next, dep_delay, columns });
        *next += 1;
    }
    Ok(flights)
}

/// A cell as JSON: a number if it is one, null if it is empty.
fn value(cell: &str) -> Value {
    match cell.parse::<i64>() {
        Ok(number) => Value::from(number),
        Err(_) if cell.is_empty() || cell == "NA" => Value::Null,
        Err(_) => Value::from(cell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_data_set_is_a_flight() {
        let input = load(None, None).unwrap();
        assert_eq!(input.flights.len(), input.text.lines().count() - 1);
    }

    #[test]
    fn a_flight_survives_the_wire() {
        let flights = parse("carrier,dep_delay,dest\nUA,75,IAH\nUA,,MIA\n").unwrap();
        let bytes = serde_json::to_vec(&flights[0]).unwrap();
        assert_eq!(serde_json::from_slice::<Flight>(&bytes).unwrap(), flights[0]);
        assert_eq!(flights[0].late(), Some(75));
        assert_eq!((flights[1].number, flights[1].cancelled()), (1, true));
    }

    #[test]
    fn a_file_without_the_columns_is_refused() {
        let error = parse("a,b\n1,2\n").unwrap_err();
        assert!(error.to_string().contains("`carrier`"), "{error}");
    }
}
