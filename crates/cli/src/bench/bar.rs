//! A bar, and whether it was met.

use serde::Serialize;

use crate::output::Table;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Bar {
    pub(crate) what: String,
    pub(crate) wanted: String,
    pub(crate) measured: String,
    pub(crate) met: bool,
}

/// Of something that may not happen.
pub(crate) fn none(what: &str, count: u64) -> Bar {
    Bar {
        what: what.to_owned(),
        wanted: "0".to_owned(),
        measured: count.to_string(),
        met: count == 0,
    }
}

pub(crate) fn print(bars: &[Bar]) {
    let mut table = Table::new(["BAR", "WANTED", "MEASURED", ""]);
    for bar in bars {
        let verdict = if bar.met { "met" } else { "MISSED" };
        table.row([bar.what.clone(), bar.wanted.clone(), bar.measured.clone(), verdict.to_owned()]);
    }
    table.print();
}
