//! The newest messages of a partition, written out as events.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use chassis::sse::{self, Event};
use messaging::ids::Name;

use crate::log::Published;

/// Most messages that a ring keeps.
const MAX_MESSAGES: usize = 1_024;
/// Most bytes that a ring keeps, unless one run alone has more.
const MAX_BYTES: usize = 4 << 20;

/// Messages that were read at once, each as an event with its offset as id.
#[derive(Debug)]
pub(crate) struct Run {
    /// Of each message. They ascend.
    offsets: Vec<u64>,
    /// Whoever has heard all of it waits for this offset.
    end: u64,
    events: sse::Run,
    /// The same with the name of their topic, for streams of several topics.
    named: OnceLock<sse::Run>,
}

impl Run {
    /// Writes messages out. `write` makes the data of one.
    pub(super) fn new(
        messages: Vec<Published>,
        end: u64,
        write: impl Fn(Published) -> String,
    ) -> Self {
        let offsets: Vec<_> = messages.iter().map(|message| message.offset).collect();
        let event = |message: Published| {
            let id = message.offset;
            Event::new(write(message)).id(id)
        };
        let events = messages.into_iter().map(event).collect();
        Self { offsets, end, events, named: OnceLock::new() }
    }

    /// The offset after its last message.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Its messages from this offset on.
    pub(super) fn from(&self, offset: u64) -> Range<usize> {
        self.offsets.partition_point(|at| *at < offset)..self.offsets.len()
    }

    /// The offset of a message.
    pub(crate) fn offset(&self, at: usize) -> u64 {
        self.offsets[at]
    }

    /// The events.
    pub(crate) fn events(&self) -> &sse::Run {
        &self.events
    }

    /// The events, each with the name of the topic it is of.
    pub(crate) fn named(&self, topic: &Name) -> &sse::Run {
        /// What the data of every event begins with.
        const OPENS: &str = "{";
        self.named.get_or_init(|| {
            let name = |at| {
                let data = self.events.data(at);
                let rest = data.strip_prefix(OPENS).expect("a message is an object");
                Event::new(format!(r#"{{"topic":"{topic}",{rest}"#))
            };
            (0..self.offsets.len()).map(name).collect()
        })
    }

    fn bytes(&self) -> usize {
        self.events.bytes() + self.named.get().map_or(0, sse::Run::bytes)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ring {
    runs: VecDeque<Arc<Run>>,
    /// What it has begins here.
    start: u64,
    /// And ends here.
    next: u64,
    messages: usize,
    bytes: usize,
}

/// What a ring has for somebody.
#[derive(Debug)]
pub(super) enum Look {
    /// These.
    Run(Arc<Run>),
    /// Nothing yet.
    Nothing,
    /// Nothing any more: it begins at this offset.
    Behind(u64),
}

impl Ring {
    pub(super) fn new(start: u64) -> Self {
        Self { runs: VecDeque::new(), start, next: start, messages: 0, bytes: 0 }
    }

    /// What there is from an offset on.
    pub(super) fn look(&self, offset: u64) -> Look {
        if offset < self.start {
            return Look::Behind(self.start);
        }
        let first = self.runs.partition_point(|run| run.end <= offset);
        self.runs.get(first).map_or(Look::Nothing, |run| Look::Run(run.clone()))
    }

    /// Takes what comes next, and lets the oldest go: `is_tight`: all of it.
    pub(super) fn push(&mut self, run: Run, is_tight: bool) {
        self.next = run.end;
        self.messages += run.offsets.len();
        self.bytes += run.bytes();
        self.runs.push_back(Arc::new(run));
        let is_full =
            |ring: &Self| is_tight || MAX_MESSAGES < ring.messages || MAX_BYTES < ring.bytes;
        while 1 < self.runs.len() && is_full(self) {
            let Some(run) = self.runs.pop_front() else { break };
            self.start = run.end;
            self.messages -= run.offsets.len();
            self.bytes = self.runs.iter().map(|run| run.bytes()).sum();
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use messaging::frame::{Envelope, Record};

    use super::*;

    fn record() -> Record {
        Record { envelope: Envelope::default(), body: Bytes::new() }
    }

    fn run(offsets: Range<u64>, len: usize) -> Run {
        let end = offsets.end;
        let message = |offset| Published { offset, at_ms: 0, record: record() };
        let write = |message: Published| format!("{{{}{}}}", message.offset, " ".repeat(len));
        Run::new(offsets.map(message).collect(), end, write)
    }

    fn offsets(ring: &Ring, from: u64) -> Option<Vec<u64>> {
        match ring.look(from) {
            Look::Run(run) => Some(run.from(from).map(|at| run.offset(at)).collect()),
            Look::Nothing => None,
            Look::Behind(start) => panic!("{from} is behind {start}"),
        }
    }

    #[test]
    fn everybody_goes_on_where_they_are() {
        let mut ring = Ring::new(5);
        assert!(matches!(ring.look(4), Look::Behind(5)));
        assert_eq!(offsets(&ring, 5), None);
        ring.push(run(5..7, 1), false);
        ring.push(run(9..12, 1), false);
        assert_eq!(offsets(&ring, 5), Some(vec![5, 6]));
        assert_eq!(offsets(&ring, 6), Some(vec![6]));
        // Retention has dropped what was in between.
        assert_eq!(offsets(&ring, 7), Some(vec![9, 10, 11]));
        assert_eq!(offsets(&ring, 12), None);
        assert_eq!(offsets(&ring, 99), None);
    }

    #[test]
    fn the_oldest_goes_when_there_is_too_much() {
        let mut ring = Ring::new(0);
        for step in 0..100 {
            ring.push(run(step * 20..step * 20 + 20, 1), false);
        }
        assert_eq!(ring.messages, 1_020);
        assert!(matches!(ring.look(979), Look::Behind(980)));
        assert_eq!(offsets(&ring, 1_999), Some(vec![1_999]));
        // One run may be larger than all of a ring.
        ring.push(run(2_000..2_003, 2 << 20), false);
        assert_eq!(offsets(&ring, 2_002), Some(vec![2_002]));
        assert!(matches!(ring.look(1_999), Look::Behind(2_000)));
        ring.push(run(2_003..2_004, 1), true);
        assert!(matches!(ring.look(2_002), Look::Behind(2_003)));
        assert!(ring.bytes() < 100);
    }

    #[test]
    fn a_run_is_named_for_streams_of_several_topics() {
        let run = run(0..2, 1);
        let topic: Name = "a.b".parse().unwrap();
        let named = run.named(&topic).encoded(1);
        assert_eq!(named, Event::new(r#"{"topic":"a.b",1 }"#).encode());
    }
}
