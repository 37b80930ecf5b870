//! What a queue's machine costs: `cargo bench -p messaging --bench queue -- [MESSAGES]`.
//!
//! First the memory that messages take beside their bodies, in a queue of a million. Then the time
//! of one message's way through an empty queue and through the full one (a send, a receive and an
//! ack, each its own log entry), as the leader takes it and as a follower does, and the time a
//! snapshot keeps the machine from other work. No log and no disk: what is measured is the core
//! that applies entries.

use std::time::Instant;

use bytes::Bytes;
use consensus::Index;
use messaging::frame::{self, Records};
use messaging::ids::Epoch;
use messaging::queue::{Outgoing, Queue, QueueCommand, Why};
use peak_alloc::PeakAlloc;

/// Counts what is allocated.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const MESSAGES: u64 = 1_000_000;
const TURNS: u64 = 100_000;
const ROUNDS: usize = 5;

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

struct Host {
    queue: Queue,
    index: u64,
}

impl Host {
    fn new(leads: bool) -> Self {
        let mut queue = Queue::new();
        if leads {
            queue.lead(Epoch(1));
        }
        let config = messaging::config::QueueConfig {
            max_messages: u64::MAX,
            max_bytes: u64::MAX,
            ..Default::default()
        };
        let mut host = Self { queue, index: 0 };
        host.apply(&payload(&QueueCommand::Configure { version: 1, config }));
        host
    }

    fn apply(&mut self, payload: &Bytes) {
        self.index += 1;
        self.queue.apply(Index(self.index), payload);
    }

    /// Sends, each in its own entry.
    fn fill(&mut self, messages: u64, priority: impl Fn(u64) -> u8) {
        for at in 0..messages {
            self.apply(&send(priority(at)));
        }
    }

    /// Nanoseconds for a message's way in and out.
    fn turn(&mut self) -> f64 {
        let send = send(0);
        let begin = now();
        for _ in 0..TURNS {
            self.apply(&send);
            let received = self.queue.receive(1, 1, None).expect("it leads");
            for receipt in received.receipts {
                let items = vec![(receipt.taken.id, receipt.taken.delivery)];
                self.apply(&payload(&QueueCommand::Settle { why: Why::Acked, items }));
            }
        }
        begin.elapsed().as_nanos() as f64 / TURNS as f64
    }

    /// The same on a node that only follows: the oldest message is settled each time.
    fn follow(&mut self, oldest: &mut u64) -> f64 {
        let send = send(0);
        let begin = now();
        for _ in 0..TURNS {
            self.apply(&send);
            let items = vec![(*oldest, 1)];
            self.apply(&payload(&QueueCommand::Settle { why: Why::Acked, items }));
            *oldest += 1;
        }
        begin.elapsed().as_nanos() as f64 / TURNS as f64
    }
}

fn payload(command: &QueueCommand) -> Bytes {
    frame::encode(1, command, &Records::default())
}

fn send(priority: u8) -> Bytes {
    let messages = vec![Outgoing { priority, ..Outgoing::default() }];
    payload(&QueueCommand::Send { idempotency_key: None, messages })
}

fn median(mut rounds: impl FnMut() -> f64) -> f64 {
    let mut all: Vec<f64> = (0..ROUNDS).map(|_| rounds()).collect();
    all.sort_by(f64::total_cmp);
    all[ROUNDS / 2]
}

fn bytes_per_message(messages: u64, priority: impl Fn(u64) -> u8) -> f64 {
    let before = HEAP.current_usage();
    let mut host = Host::new(true);
    host.fill(messages, priority);
    (HEAP.current_usage() - before) as f64 / messages as f64
}

fn main() {
    let messages = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(MESSAGES);
    println!("{messages} messages");
    println!("bytes a message, one priority     {:>8.1}", bytes_per_message(messages, |_| 0));
    let mixed = |at: u64| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61) as u8;
    println!("bytes a message, eight priorities {:>8.1}", bytes_per_message(messages, mixed));

    let mut empty = Host::new(true);
    println!("ns send+receive+ack, empty        {:>8.0}", median(|| empty.turn()));
    let mut full = Host::new(true);
    full.fill(messages, |_| 0);
    println!("ns send+receive+ack, full         {:>8.0}", median(|| full.turn()));
    let mut follower = Host::new(false);
    follower.fill(messages, |_| 0);
    let mut oldest = 1;
    println!("ns send+ack, full, follower       {:>8.0}", median(|| follower.follow(&mut oldest)));

    let micros = |take: &mut dyn FnMut()| {
        median(|| {
            let begin = now();
            take();
            begin.elapsed().as_nanos() as f64 / 1_000.0
        })
    };
    let retained = micros(&mut || drop(full.queue.retained()));
    println!("us retained entries, full         {retained:>8.1}");
    let mut snapshots = Vec::new();
    let snapshot = micros(&mut || snapshots.push(full.queue.snapshot()));
    println!("us begin of a snapshot, full      {snapshot:>8.1}");
    let deposed = micros(&mut || full.queue.follow());
    println!("us end of leading, full           {deposed:>8.1}");
}
