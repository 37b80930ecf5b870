//! Streams against a naive model: the whole content of each, and every request a producer made.

use std::collections::BTreeMap;

use bytes::Bytes;
use consensus::Index;
use messaging::frame;
use messaging::ids::Epoch;
use messaging::partition::Producer;
use messaging::stream::{
    Lifetime, Position, Stream, StreamCommand, StreamConfig, StreamDone, StreamPath, StreamRefused,
    StreamReply, Streams,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Create {
        path: u8,
        text: bool,
        lifetime: Lifetime,
        closed: bool,
        body: Vec<u8>,
    },
    Append {
        path: u8,
        text: bool,
        seq: Option<u8>,
        producer: Option<(u8, u64, u64)>,
        close: bool,
        body: Vec<u8>,
    },
    Delete {
        path: u8,
    },
    /// Time passes, and the leader lets expire what it finds.
    Pass {
        ms: u64,
    },
    /// The leader hears of a reader.
    Read {
        path: u8,
    },
    /// A node takes over a snapshot and goes on from there.
    Restore,
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), proptest::collection::vec(any::<u8>(), 1..6)]
}

fn step() -> impl Strategy<Value = Step> {
    let lifetime = prop_oneof![
        3 => Just(Lifetime::Unbounded),
        1 => (1_u64..4).prop_map(Lifetime::Idle),
        1 => (0_u64..9_000).prop_map(Lifetime::Until),
    ];
    let producer = proptest::option::of((0_u8..2, 0_u64..3, 0_u64..4));
    prop_oneof![
        3 => (0_u8..3, any::<bool>(), lifetime, proptest::bool::weighted(0.2), body())
            .prop_map(|(path, text, lifetime, closed, body)| Step::Create { path, text, lifetime, closed, body }),
        9 => (0_u8..3, proptest::bool::weighted(0.8), proptest::option::of(0_u8..30), producer, proptest::bool::weighted(0.1), body())
            .prop_map(|(path, text, seq, producer, close, body)| Step::Append { path, text, seq, producer, close, body }),
        1 => (0_u8..3).prop_map(|path| Step::Delete { path }),
        2 => (0_u64..2_000).prop_map(|ms| Step::Pass { ms }),
        2 => (0_u8..3).prop_map(|path| Step::Read { path }),
        1 => Just(Step::Restore),
    ]
}

fn path(number: u8) -> StreamPath {
    format!("s/{number}").parse().unwrap()
}

fn content_type(text: bool) -> String {
    if text { "text/plain" } else { "application/octet-stream" }.to_owned()
}

/// What a stream is, told in full.
#[derive(Clone, Debug)]
struct Naive {
    text: bool,
    lifetime: Lifetime,
    appends: Vec<Vec<u8>>,
    closed: Option<Option<(u8, u64, u64)>>,
    seq: Option<String>,
    /// Every request that was carried out.
    taken: Vec<(u8, u64, u64)>,
    due: Option<u64>,
}

impl Naive {
    fn tail(&self) -> Position {
        let bytes = self.appends.iter().map(|body| body.len() as u64).sum();
        Position { appends: self.appends.len() as u64, bytes }
    }

    fn touch(&mut self, now: u64) {
        self.due = match self.lifetime {
            Lifetime::Unbounded => None,
            Lifetime::Idle(seconds) => Some(now + seconds * 1_000),
            Lifetime::Until(end) => Some(end),
        };
    }

    fn epoch_of(&self, producer: u8) -> Option<u64> {
        self.taken.iter().filter(|(id, ..)| *id == producer).map(|(_, epoch, _)| *epoch).max()
    }

    /// How many requests of this epoch were carried out: they are numbered from 0.
    fn count_of(&self, producer: u8, epoch: u64) -> u64 {
        self.taken.iter().filter(|(id, at, _)| (*id, *at) == (producer, epoch)).count() as u64
    }
}

#[derive(Default)]
struct World {
    machine: Streams,
    log: BTreeMap<u64, Bytes>,
    model: BTreeMap<u8, Naive>,
    now: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self::default();
        world.machine.lead(Epoch(1));
        world.machine.overdue(0, 0);
        world
    }

    fn apply(&mut self, command: &StreamCommand, body: &[u8]) -> StreamReply {
        let payload = frame::encode_with(self.now, command, body);
        let index = self.log.last_key_value().map_or(7, |(index, _)| index + 1);
        self.log.insert(index, payload.clone());
        self.machine.apply(Index(index), &payload)
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let now = self.now;
        let ended = |naive: &Naive| matches!(naive.lifetime, Lifetime::Until(end) if end <= now);
        self.model.retain(|_, naive| !ended(naive));
        match step {
            Step::Create { path: at, text, lifetime, closed, body } => {
                let config = StreamConfig { content_type: content_type(text), lifetime };
                let command = StreamCommand::Create { path: path(at), config, closed };
                let expected = self.create(at, (text, lifetime, closed), &body);
                let reply = self.apply(&command, &body);
                match expected {
                    Ok(expected) => prop_assert_eq!(reply, Ok(expected)),
                    Err(()) => {
                        let differs = matches!(reply, Err(StreamRefused::Differs { .. }));
                        prop_assert!(differs);
                    }
                }
            }
            Step::Append { path: at, text, seq, producer, close, body } => {
                if body.is_empty() && !close {
                    return Ok(());
                }
                let by =
                    producer.map(|(id, epoch, seq)| Producer { id: id.to_string(), epoch, seq });
                let command = StreamCommand::Append {
                    path: path(at),
                    content_type: (!body.is_empty()).then(|| content_type(text)),
                    seq: seq.map(|seq| seq.to_string()),
                    producer: by,
                    close,
                };
                let expected = self.append(at, text, (seq, producer, close), &body);
                prop_assert_eq!(self.apply(&command, &body), expected);
            }
            Step::Delete { path: at } => {
                let expected = match self.model.remove(&at) {
                    Some(_) => Ok(StreamDone::Deleted),
                    None => Err(StreamRefused::NoStream),
                };
                prop_assert_eq!(
                    self.apply(&StreamCommand::Delete { path: path(at) }, &[]),
                    expected
                );
            }
            Step::Pass { ms } => {
                self.now += ms;
                let now = self.now;
                let (streams, next) = self.machine.overdue(now, 100);
                prop_assert!(next.is_none_or(|next| now < next));
                let gone = streams.len() as u64;
                let expired = self.apply(&StreamCommand::Expire { streams }, &[]);
                prop_assert_eq!(expired, Ok(StreamDone::Expired(gone)));
                self.model.retain(|_, naive| naive.due.is_none_or(|due| now < due));
            }
            Step::Read { path: at } => {
                self.machine.touch(&path(at), now);
                self.model.entry(at).and_modify(|naive| naive.touch(now));
            }
            Step::Restore => {
                let mut restored = Streams::default();
                restored.restore(&self.machine.snapshot()()).unwrap();
                self.machine = restored;
                self.machine.lead(Epoch(2));
                self.machine.overdue(now, 0);
                self.model.values_mut().for_each(|naive| naive.touch(now));
            }
        }
        self.check()
    }

    fn create(
        &mut self,
        at: u8,
        (text, lifetime, closed): (bool, Lifetime, bool),
        body: &[u8],
    ) -> Result<StreamDone, ()> {
        if let Some(naive) = self.model.get(&at) {
            let has = (naive.text, naive.lifetime, naive.closed.is_some());
            let exists =
                StreamDone::Exists { content_type: content_type(text), tail: naive.tail() };
            return if has == (text, lifetime, closed) { Ok(exists) } else { Err(()) };
        }
        let appends = if body.is_empty() { Vec::new() } else { vec![body.to_vec()] };
        let closed = closed.then_some(None);
        let (seq, taken, due) = (None, Vec::new(), None);
        let mut naive = Naive { text, lifetime, appends, closed, seq, taken, due };
        naive.touch(self.now);
        let tail = naive.tail();
        self.model.insert(at, naive);
        Ok(StreamDone::Created { tail })
    }

    fn append(
        &mut self,
        at: u8,
        text: bool,
        (seq, producer, close): (Option<u8>, Option<(u8, u64, u64)>, bool),
        body: &[u8],
    ) -> StreamReply {
        let now = self.now;
        let naive = self.model.get_mut(&at).ok_or(StreamRefused::NoStream)?;
        let tail = naive.tail();
        let newest = producer.and_then(|(id, ..)| naive.epoch_of(id));
        let stale = producer.and_then(|(_, epoch, _)| newest.filter(|newest| epoch < *newest));
        if let Some(by) = &naive.closed {
            let is_repeat = close && producer.is_some() && *by == producer;
            let is_idle = close && producer.is_none() && body.is_empty();
            let done = match (is_repeat, is_idle, stale) {
                (true, ..) => StreamDone::Repeated { tail, closed: true, seq: producer.unwrap().2 },
                (_, true, _) => StreamDone::Appended { tail, closed: true },
                (.., Some(known)) => return Err(StreamRefused::Stale { known }),
                _ => return Err(StreamRefused::Closed { tail }),
            };
            naive.touch(now);
            return Ok(done);
        }
        if !body.is_empty() && naive.text != text {
            return Err(StreamRefused::ContentType { stream: content_type(naive.text) });
        }
        if let Some(known) = stale {
            return Err(StreamRefused::Stale { known });
        }
        if let Some((id, epoch, received)) = producer {
            let expected = naive.count_of(id, epoch);
            if received < expected {
                naive.touch(now);
                return Ok(StreamDone::Repeated { tail, closed: false, seq: expected - 1 });
            }
            if expected < received {
                let is_newer = newest.is_some_and(|newest| newest < epoch);
                let gap = StreamRefused::Gap { expected, received };
                return Err(if is_newer { StreamRefused::Epoch } else { gap });
            }
        }
        let seq = seq.map(|seq| seq.to_string());
        if let (Some(last), Some(seq)) = (&naive.seq, &seq)
            && seq <= last
        {
            return Err(StreamRefused::Seq { last: last.clone() });
        }
        if !body.is_empty() {
            naive.appends.push(body.to_vec());
        }
        naive.taken.extend(producer);
        naive.seq = seq.or(naive.seq.take());
        if close {
            naive.closed = Some(producer);
        }
        naive.touch(now);
        Ok(StreamDone::Appended { tail: naive.tail(), closed: naive.closed.is_some() })
    }

    /// Every stream is read from every position, from entries that are retained.
    fn check(&self) -> Result<(), TestCaseError> {
        let retained = self.machine.retained();
        let (mut live, mut seen) = (0, 0);
        for at in 0..3 {
            let stream = self.machine.get(&path(at), self.now);
            let naive = self
                .model
                .get(&at)
                .filter(|naive| !matches!(naive.lifetime, Lifetime::Until(end) if end <= self.now));
            prop_assert_eq!(stream.is_some(), naive.is_some());
            let (Some(stream), Some(naive)) = (stream, naive) else { continue };
            prop_assert_eq!(stream.tail, naive.tail());
            prop_assert_eq!(stream.is_closed(), naive.closed.is_some());
            live += naive.appends.len();
            seen += 1;
            for skipped in 0..=naive.appends.len() {
                let bytes = naive.appends[..skipped].iter().map(|body| body.len() as u64).sum();
                let from = Position { appends: skipped as u64, bytes };
                let read = self.read(stream, from, &retained);
                prop_assert_eq!(read, naive.appends[skipped..].concat());
            }
        }
        let kept: u64 = retained.iter().map(|range| range.end().0 - range.start().0 + 1).sum();
        prop_assert!(live as u64 <= kept, "what is read is retained");
        if self.machine.len() == seen {
            prop_assert_eq!(live as u64, kept, "and nothing else is");
        }
        Ok(())
    }

    fn read(
        &self,
        stream: &Stream,
        from: Position,
        retained: &[std::ops::RangeInclusive<Index>],
    ) -> Vec<u8> {
        let mut read = Vec::new();
        for piece in stream.from(from, u64::MAX) {
            let mut at = piece.start;
            for index in piece.indexes() {
                assert!(retained.iter().any(|range| range.contains(&Index(index))));
                let payload = &self.log[&index];
                let decoded = frame::decode::<StreamCommand>(payload).unwrap();
                let body = &payload[decoded.records..];
                if from.appends <= at.appends {
                    read.extend_from_slice(body);
                }
                at = Position { appends: at.appends + 1, bytes: at.bytes + body.len() as u64 };
            }
        }
        read
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn streams_are_what_was_appended_to_them(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.step(step)?;
        }
    }
}

/// Appends of one stream in a row share a piece, and a long read is cut where it is asked to be.
#[test]
fn a_stream_that_is_alone_takes_little_memory() {
    let mut world = World::new();
    let config = StreamConfig { content_type: content_type(true), lifetime: Lifetime::Unbounded };
    let create = StreamCommand::Create { path: path(0), config, closed: false };
    world.apply(&create, b"x").unwrap();
    let append = StreamCommand::Append {
        path: path(0),
        content_type: Some(content_type(true)),
        seq: None,
        producer: None,
        close: false,
    };
    for _ in 0..999 {
        world.apply(&append, b"y").unwrap();
    }
    let stream = world.machine.get(&path(0), 0).unwrap();
    assert_eq!(stream.tail, Position { appends: 1_000, bytes: 1_000 });
    assert_eq!(stream.from(Position::default(), u64::MAX).len(), 16);
    assert_eq!(stream.from(Position::default(), 100).len(), 2);
    let middle = Position { appends: 130, bytes: 130 };
    assert_eq!(stream.from(middle, 1)[0].start.appends, 128);
    assert_eq!(stream.from(stream.tail, u64::MAX), []);
}

/// Between a leader's look and its entry others come in.
#[test]
fn what_is_used_after_its_leader_looked_does_not_expire() {
    let mut world = World::new();
    let lifetime = Lifetime::Idle(1);
    let config = StreamConfig { content_type: content_type(true), lifetime };
    let create = |at: u8| {
        let config = config.clone();
        StreamCommand::Create { path: path(at), config, closed: false }
    };
    for at in 0..3 {
        world.apply(&create(at), b"").unwrap();
    }
    world.now = 1_000;
    let (streams, _) = world.machine.overdue(world.now, 9);
    assert_eq!(streams.len(), 3);
    let append = StreamCommand::Append {
        path: path(0),
        content_type: Some(content_type(true)),
        seq: None,
        producer: None,
        close: false,
    };
    world.apply(&append, b"x").unwrap();
    world.apply(&StreamCommand::Delete { path: path(1) }, b"").unwrap();
    world.apply(&create(1), b"another").unwrap();
    let expired = world.apply(&StreamCommand::Expire { streams }, b"");
    assert_eq!(expired, Ok(StreamDone::Expired(1)));
    let is_there = |at: u8| world.machine.get(&path(at), world.now).is_some();
    assert_eq!([0, 1, 2].map(is_there), [true, true, false]);
}
