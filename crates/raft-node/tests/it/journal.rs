//! The smallest machine that shows order, repetition and loss: it keeps every command it saw.

use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use consensus::Index;
use raft_node::{Encode, Entry, RestoreError, StateMachine};

/// A command that no journal survives.
pub(crate) const FAULT: &str = "fault";
/// As [`FAULT`], when a snapshot with this line is encoded.
pub(crate) const LATE_FAULT: &str = "late fault";

#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) lines: Vec<String>,
    /// How many lines came from a snapshot.
    pub(crate) restored: usize,
    /// Takes no snapshot for good.
    pub(crate) refuses: bool,
    /// Where its first line stands, as long as it is known.
    pub(crate) first: Option<Index>,
    /// Its snapshots wait here.
    pub(crate) gate: Option<Arc<Gate>>,
}

/// Holds up whoever comes, until it is opened.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    opened: Condvar,
}

#[derive(Default)]
struct GateState {
    is_open: bool,
    is_waited_for: bool,
}

impl Gate {
    pub(crate) fn closed() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_open = true;
        self.opened.notify_all();
    }

    pub(crate) fn is_waited_for(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_waited_for
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_waited_for = true;
        let is_closed = |state: &mut GateState| !state.is_open;
        let passed = self.opened.wait_while(state, is_closed);
        drop(passed.unwrap_or_else(PoisonError::into_inner));
    }
}

impl StateMachine for Journal {
    /// The number of lines with this one.
    type Reply = u64;

    fn apply(&mut self, entry: &Entry) -> u64 {
        assert_ne!(entry.payload, FAULT, "told to panic");
        self.first.get_or_insert(entry.index);
        self.lines.push(String::from_utf8_lossy(&entry.payload).into_owned());
        self.lines.len() as u64
    }

    fn snapshot(&self) -> Encode {
        let (first, lines) = (self.first.unwrap_or_default(), self.lines.clone());
        let gate = self.gate.clone();
        Box::new(move |file| {
            gate.inspect(|gate| gate.pass());
            assert!(lines.iter().all(|line| line != LATE_FAULT), "told to panic");
            write!(file, "{first}\n{}", lines.join("\n"))
        })
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        if self.refuses {
            return Err(RestoreError { reason: "told to refuse".into() });
        }
        let text = String::from_utf8_lossy(snapshot);
        let (first, lines) = text.split_once('\n').expect("a snapshot of a journal");
        self.first = first.parse().ok().map(Index);
        self.lines = lines.lines().map(String::from).collect();
        self.restored = self.lines.len();
        Ok(())
    }

    /// Its first line, as a message would be that nobody acknowledges.
    fn retained(&self) -> Vec<RangeInclusive<Index>> {
        self.first.iter().map(|first| *first..=*first).collect()
    }
}
