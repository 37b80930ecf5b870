//! Clients of the simulated cluster, and what they were told.

use std::collections::{BTreeMap, BTreeSet};

use consensus::{Index, NodeId, ReadId, Term};
use sim::history::{Call, History, Operation, Outcome};
use sim::linearizability::{self, Model, Verdict};

use crate::cluster::{Machine, Oracle};

/// What is asked of a register.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Write(u8, u64),
    Read(u8),
}

/// Registers, for the linearizability checker.
struct Registers;

impl Model for Registers {
    type State = u64;
    type Op = Op;
    type Ret = u64;
    type Key = u8;

    fn initial(&self) -> u64 {
        0
    }

    fn keys(&self, op: &Op) -> Vec<u8> {
        let (Op::Write(register, _) | Op::Read(register)) = op;
        vec![*register]
    }

    fn step(&self, state: &u64, op: &Op, ret: Option<&u64>) -> Option<u64> {
        match op {
            Op::Write(_, value) => Some(*value),
            Op::Read(_) => ret.is_none_or(|ret| ret == state).then_some(*state),
        }
    }

    fn is_read(&self, op: &Op, _: &u64) -> bool {
        matches!(op, Op::Read(_))
    }
}

/// A proposal that its leader has taken.
struct Waiting {
    node: NodeId,
    term: Term,
    call: Call,
}

/// A read that somebody has taken.
struct Reading {
    floor: Index,
    register: u8,
    call: Call,
}

#[derive(Default)]
pub(crate) struct Clients {
    history: History<Op, u64>,
    /// By index. Two leaders may have taken proposals for the same one.
    writes: BTreeMap<Index, Vec<Waiting>>,
    /// Those that no node has applied yet, whoever waits for them: an entry is what its leader put
    /// there in its term.
    proposed: BTreeMap<(Index, Term), Call>,
    reads: BTreeMap<ReadId, Reading>,
    /// Reads that may be served when a node has applied so far.
    ready: BTreeMap<(NodeId, Index), Vec<ReadId>>,
    next_read: u64,
    next_value: u64,
    pub(crate) writes_done: u64,
    pub(crate) reads_done: u64,
}

impl Clients {
    /// A value that nobody wrote before.
    pub(crate) fn next_value(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }

    /// Writes without an answer.
    pub(crate) fn open(&self) -> usize {
        self.writes.values().map(Vec::len).sum()
    }

    pub(crate) fn wrote(&mut self, now: u64, node: NodeId, op: Op, (term, index): (Term, Index)) {
        let call = self.history.call(node.0, now, op);
        self.writes.entry(index).or_default().push(Waiting { node, term, call });
        self.proposed.insert((index, term), call);
    }

    pub(crate) fn begin_read(&mut self, now: u64, register: u8, floor: Index) -> ReadId {
        self.next_read += 1;
        let read = ReadId(self.next_read);
        let call = self.history.call(self.next_read, now, Op::Read(register));
        self.reads.insert(read, Reading { floor, register, call });
        read
    }

    /// The core says from where on the reads may be served.
    pub(crate) fn read_ready(
        &mut self,
        oracle: &mut Oracle,
        node: NodeId,
        reads: Vec<ReadId>,
        index: Index,
    ) -> Result<(), String> {
        for read in &reads {
            let Some(reading) = self.reads.get(read) else {
                return Err(format!("{node} serves a read twice"));
            };
            oracle.check_read(node, reading.floor, index)?;
        }
        self.ready.entry((node, index)).or_default().extend(reads);
        Ok(())
    }

    pub(crate) fn read_failed(&mut self, now: u64, reads: Vec<ReadId>) -> Result<(), String> {
        for read in reads {
            let Some(reading) = self.reads.remove(&read) else {
                return Err("a read failed after it was answered".to_owned());
            };
            self.history.end(reading.call, now, Outcome::Failed);
        }
        Ok(())
    }

    /// A node has applied one more entry, of this term.
    pub(crate) fn applied(
        &mut self,
        oracle: &mut Oracle,
        now: u64,
        (node, term): (NodeId, Term),
        index: Index,
    ) {
        if let Some(call) = self.proposed.remove(&(index, term)) {
            self.history.place(call, index.0);
        }
        let Some(waiting) = self.writes.get_mut(&index) else { return };
        let (here, elsewhere) =
            std::mem::take(waiting).into_iter().partition(|waiting| waiting.node == node);
        *waiting = elsewhere;
        for Waiting { term: proposed, call, .. } in here {
            if proposed == term {
                oracle.acknowledge(index);
                self.writes_done += 1;
                self.history.end(call, now, Outcome::Done(0));
            } else {
                self.history.end(call, now, Outcome::Failed);
            }
        }
        if waiting.is_empty() {
            self.writes.remove(&index);
        }
    }

    /// Answers the reads that this machine has caught up with.
    pub(crate) fn serve(&mut self, now: u64, node: NodeId, machine: &Machine) {
        while let Some((&at, _)) =
            self.ready.range((node, Index(0))..=(node, machine.applied)).next()
        {
            for read in self.ready.remove(&at).unwrap_or_default() {
                let Some(Reading { register, call, .. }) = self.reads.remove(&read) else {
                    continue;
                };
                let value = machine.registers[usize::from(register)];
                self.history.place(call, machine.applied.0);
                self.history.end(call, now, Outcome::Done(value));
                self.reads_done += 1;
            }
        }
    }

    /// A node's memory is gone: its clients never learn.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.writes.retain(|_, waiting| {
            waiting.retain(|waiting| waiting.node != node);
            !waiting.is_empty()
        });
        self.ready.retain(|(at, _), _| *at != node);
    }

    /// What the checker makes of it all, given where in the log each write was found and how far
    /// each read had come. `None` if it was too much to search.
    pub(crate) fn check(&self) -> Result<Option<()>, String> {
        let history = self.observed();
        linearizability::check_numbers(&history)
            .map_err(|(earlier, later)| format!("{later:?} went back behind {earlier:?}"))?;
        match linearizability::check(&Registers, &history, 300_000) {
            Verdict::Linearizable { .. } => Ok(Some(())),
            Verdict::GaveUp { .. } => Ok(None),
            Verdict::Violation(counterexample) => Err(counterexample.to_string()),
        }
    }

    /// Without what cannot matter. A write of unknown outcome whose value nobody has read may be
    /// taken for one that never happened: every value is written once, so wherever it might have
    /// taken effect, nobody looked before the next write.
    fn observed(&self) -> History<Op, u64> {
        let is_read = |op: &Op| matches!(op, Op::Read(_));
        let read: BTreeSet<u64> = self
            .history
            .operations()
            .iter()
            .filter(|operation| is_read(&operation.op))
            .filter_map(|operation| operation.answer().copied())
            .collect();
        let matters = |operation: &&Operation<Op, u64>| match operation.op {
            Op::Write(_, value) => operation.answer().is_some() || read.contains(&value),
            Op::Read(_) => operation.answer().is_some(),
        };
        self.history.operations().iter().filter(matters).cloned().collect()
    }
}
