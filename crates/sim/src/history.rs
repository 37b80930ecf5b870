//! What clients asked, when, and what they were told: the input of every checker.
//!
//! A history is recorded while a system runs, simulated or real, and checked afterwards. As text it
//! is one JSON object per line, so that a run that ends badly leaves evidence:
//!
//! ```text
//! {"process":3,"call":1200,"return":1950,"op":{"put":{"key":"a","value":"1"}},"outcome":{"done":"written"},"at":17}
//! {"process":4,"call":1300,"return":null,"op":{"get":{"key":"a"}},"outcome":"unknown"}
//! ```
//!
//! **Invariant:** an operation is exactly one of done, failed for sure, and unknown. What was never
//! answered is unknown: it may take effect at any later time, or never.

use std::io::{self, BufRead, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How an operation ended, as its caller knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome<R> {
    /// It took effect between call and return, and answered this.
    Done(R),
    /// It certainly did not take effect and never will.
    Failed,
    /// It may have taken effect, may do so later, or never.
    Unknown,
}

/// One operation of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation<O, R> {
    /// Who called. A process has one operation open at a time, not counting unknown ones.
    pub process: u64,
    /// When it was called, in any unit, from one clock that all processes share.
    pub call: u64,
    /// When it returned, by the same clock. `None` if it never did.
    #[serde(rename = "return")]
    pub returned: Option<u64>,
    /// What was asked.
    pub op: O,
    /// What came of it.
    pub outcome: Outcome<R>,
    /// The number of the state that it made or saw, if the system said so. What has one took effect,
    /// even where nobody knows the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

impl<O, R> Operation<O, R> {
    /// What the operation answered, if it is known to have taken effect.
    #[must_use]
    pub fn answer(&self) -> Option<&R> {
        match &self.outcome {
            Outcome::Done(answer) => Some(answer),
            Outcome::Failed | Outcome::Unknown => None,
        }
    }
}

/// Names an operation that [`History::call`] began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call(usize);

/// The operations of one run, in the order of their calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History<O, R> {
    operations: Vec<Operation<O, R>>,
}

impl<O, R> Default for History<O, R> {
    fn default() -> Self {
        Self { operations: Vec::new() }
    }
}

impl<O, R> FromIterator<Operation<O, R>> for History<O, R> {
    fn from_iter<I: IntoIterator<Item = Operation<O, R>>>(operations: I) -> Self {
        Self { operations: operations.into_iter().collect() }
    }
}

impl<O, R> History<O, R> {
    /// Begins an operation. Until it is told otherwise, its outcome is unknown.
    pub fn call(&mut self, process: u64, now: u64, op: O) -> Call {
        let outcome = Outcome::Unknown;
        let operation = Operation { process, call: now, returned: None, op, outcome, at: None };
        self.operations.push(operation);
        Call(self.operations.len() - 1)
    }

    /// Ends an operation.
    ///
    /// # Panics
    ///
    /// If it ended before, or returns before it was called.
    pub fn end(&mut self, call: Call, now: u64, outcome: Outcome<R>) {
        let operation = &mut self.operations[call.0];
        assert!(operation.returned.is_none(), "an operation ends once");
        assert!(operation.call <= now, "an operation returns after its call");
        operation.returned = Some(now);
        operation.outcome = outcome;
    }

    /// Notes the number of the state that an operation made or saw.
    pub fn place(&mut self, call: Call, at: u64) {
        self.operations[call.0].at = Some(at);
    }

    /// Every operation so far.
    #[must_use]
    pub fn operations(&self) -> &[Operation<O, R>] {
        &self.operations
    }

    /// Writes one line per operation.
    ///
    /// # Errors
    ///
    /// What `to` fails with.
    pub fn write(&self, mut to: impl Write) -> io::Result<()>
    where
        O: Serialize,
        R: Serialize,
    {
        for operation in &self.operations {
            serde_json::to_writer(&mut to, operation)?;
            to.write_all(b"\n")?;
        }
        to.flush()
    }

    /// Reads what [`History::write`] wrote, or what several of them wrote one after the other.
    ///
    /// # Errors
    ///
    /// What `from` fails with, and the number of the first line that is no operation.
    pub fn read(from: impl BufRead) -> io::Result<Self>
    where
        O: DeserializeOwned,
        R: DeserializeOwned,
    {
        let mut operations = Vec::new();
        for (number, line) in from.lines().enumerate() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            operations.push(serde_json::from_str(&line).map_err(|error| {
                let text = format!("line {} is no operation: {error}", number + 1);
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?);
        }
        Ok(Self { operations })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Text = History<String, u32>;

    #[test]
    fn a_history_survives_being_written_and_read() {
        let mut history = Text::default();
        let first = history.call(1, 10, "a".into());
        let second = history.call(2, 11, "b".into());
        history.call(3, 12, "c".into());
        history.place(first, 4);
        history.end(second, 15, Outcome::Done(7));
        history.end(first, 16, Outcome::Failed);

        let mut lines = Vec::new();
        history.write(&mut lines).unwrap();
        assert_eq!(Text::read(lines.as_slice()).unwrap(), history);
    }

    #[test]
    fn the_form_of_a_line_is_fixed() {
        let mut history = Text::default();
        let call = history.call(1, 10, "a".into());
        history.end(call, 16, Outcome::Done(7));
        history.call(2, 20, "b".into());
        let mut lines = Vec::new();
        history.write(&mut lines).unwrap();
        let expected = concat!(
            r#"{"process":1,"call":10,"return":16,"op":"a","outcome":{"done":7}}"#,
            "\n",
            r#"{"process":2,"call":20,"return":null,"op":"b","outcome":"unknown"}"#,
            "\n",
        );
        assert_eq!(String::from_utf8(lines).unwrap(), expected);
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = Text::read(b"\n{}\n".as_slice()).unwrap_err();
        assert!(error.to_string().starts_with("line 2 is no operation"), "{error}");
    }
}
