//! Single keys, conditional writes, and pairs of keys that change together.
//!
//! Keys are given up after a while for new ones, so that the history of each stays short enough to
//! be searched. No value is ever written by two operations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sim::Rng;
use sim::linearizability::kv::Op;
use tokio::time::sleep;

use super::{Shared, etcd, native};
use crate::record::Ended;

/// Keys in use at a time, besides one pair.
pub(super) const REGISTERS: u64 = 3;
/// Operations, of all clients together, until new keys are taken.
pub(super) const GENERATION: u64 = 240;
/// Time to think, so that a run is long enough for its faults.
const PAUSE: Duration = Duration::from_millis(10);

/// What was last read of each key: the value and its revision.
pub(super) type Known = BTreeMap<String, Option<(String, u64)>>;

/// What a client was told.
pub(super) struct Told {
    pub(super) ended: Ended,
    /// What it read.
    pub(super) seen: Vec<(String, Option<(String, u64)>)>,
}

impl Told {
    /// It read nothing.
    pub(super) fn ended(ended: Ended) -> Self {
        Self { ended, seen: Vec::new() }
    }
}

pub(super) struct Writer {
    process: u64,
    shared: Arc<Shared>,
    rng: Rng,
    written: u64,
    known: Known,
}

impl Writer {
    pub(super) fn new(process: u64, shared: Arc<Shared>, rng: Rng) -> Self {
        Self { process, shared, rng, written: 0, known: Known::new() }
    }

    pub(super) async fn run(mut self) {
        while !self.shared.is_over() {
            let generation = self.shared.begin() / GENERATION;
            let door = self.shared.any_door(&mut self.rng).clone();
            let op = self.draw(generation);
            let call = self.shared.recorder.call(self.process, op.clone());
            // Whoever speaks one face is to be understood by those that speak the other.
            let Told { ended, seen } = match self.rng.chance(1, 2) {
                true => native::carry_out(&door, &op, &self.known).await,
                false => etcd::carry_out(&door, &op, &self.known).await,
            };
            self.known.extend(seen);
            if !ended.written.is_empty() {
                self.shared.done();
            }
            self.shared.recorder.end(call, ended);
            sleep(PAUSE).await;
        }
    }

    fn draw(&mut self, generation: u64) -> Op {
        let key = format!("r/{generation}/{}", self.rng.range(0..REGISTERS));
        let [a, b] = ["a", "b"].map(|half| format!("r/{generation}/pair-{half}"));
        match self.rng.index(16) {
            0..5 => Op::Get { key },
            5..8 => Op::Put { key, value: self.value() },
            8 => Op::Delete { key },
            9..11 => Op::Cas { expected: self.expected(&key), key, value: self.value() },
            11 => self.swap_in_transaction(key),
            12 | 13 => {
                let then = [a, b].map(|key| Op::Get { key }).to_vec();
                Op::Txn { when: vec![], then, otherwise: vec![] }
            }
            14 => {
                let value = self.value();
                let then = [a, b].map(|key| Op::Put { key, value: value.clone() }).to_vec();
                Op::Txn { when: vec![], then, otherwise: vec![] }
            }
            _ => self.swap_pair(a, b),
        }
    }

    fn swap_in_transaction(&mut self, key: String) -> Op {
        Op::Txn {
            when: vec![(key.clone(), self.expected(&key))],
            then: vec![Op::Put { key: key.clone(), value: self.value() }],
            otherwise: vec![Op::Get { key }],
        }
    }

    /// If the first half is as it was last seen, both halves change, the second one to something
    /// else.
    fn swap_pair(&mut self, a: String, b: String) -> Op {
        Op::Txn {
            when: vec![(a.clone(), self.expected(&a))],
            then: vec![
                Op::Put { key: a.clone(), value: self.value() },
                Op::Put { key: b.clone(), value: self.value() },
            ],
            otherwise: vec![Op::Get { key: a }, Op::Get { key: b }],
        }
    }

    fn expected(&self, key: &str) -> Option<String> {
        self.known.get(key).cloned().flatten().map(|(value, _)| value)
    }

    fn value(&mut self) -> String {
        self.written += 1;
        format!("{}-{}", self.process, self.written)
    }
}
