//! What a waiting message costs beside its body, counted by the allocator: 100 bytes at most.

use bytes::Bytes;
use consensus::Index;
use messaging::config::QueueConfig;
use messaging::frame::{self, Records};
use messaging::ids::Epoch;
use messaging::queue::{Outgoing, Queue, QueueCommand, Why};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const MESSAGES: u64 = 1_000_000;
/// Of those that lie apart.
const APART: u64 = 200_000;
const AT_MOST: u64 = 100;

struct Host {
    queue: Queue,
    index: u64,
    before: usize,
}

impl Host {
    fn new() -> Self {
        let before = HEAP.current_usage();
        let mut host = Self { queue: Queue::new(), index: 0, before };
        host.queue.lead(Epoch(1));
        let config = QueueConfig { max_messages: u64::MAX, ..QueueConfig::default() };
        host.apply(&QueueCommand::Configure { version: 1, config });
        host
    }

    fn apply(&mut self, command: &QueueCommand) {
        self.index += 1;
        let payload: Bytes = frame::encode(1, command, &Records::default());
        self.queue.apply(Index(self.index), &payload);
    }

    fn send(&mut self, priority: u8, count: usize) {
        let messages = vec![Outgoing { priority, ..Outgoing::default() }; count];
        self.apply(&QueueCommand::Send { idempotency_key: None, messages });
    }

    #[track_caller]
    fn check(&self, what: &str) {
        let each = (HEAP.current_usage() - self.before) as u64 / self.queue.len();
        assert!(each <= AT_MOST, "{what}: {each} bytes a message");
    }
}

/// One test, as all of a process allocate from one heap.
#[test]
fn a_waiting_message_costs_at_most_100_bytes() {
    let mut host = Host::new();
    for _ in 0..MESSAGES / 10 {
        host.send(0, 10);
    }
    host.check("one after the other");

    // Snapshots share; the machine goes on beside them.
    let snapshot = host.queue.snapshot();
    for at in 1..=1_000 {
        let items = vec![(at * 997 % MESSAGES, u32::MAX)];
        host.apply(&QueueCommand::Settle { why: Why::Acked, items });
    }
    host.check("while a snapshot is written");
    let snapshot = snapshot();
    let mut restored = Queue::new();
    host.queue = Queue::new();
    restored.restore(&snapshot).unwrap();
    assert_eq!(restored.len(), MESSAGES);
    drop(snapshot);
    host.queue = restored;
    host.check("restored");
    drop(host);

    // Priorities at random, and every other message gone: nothing lies next to its like.
    let mut host = Host::new();
    let mut rng = sim::Rng::new(1);
    for at in 0..APART {
        host.send(u8::try_from(rng.range(0..10)).unwrap(), 1);
        if at % 2 == 1 {
            let items = vec![(at, u32::MAX)];
            host.apply(&QueueCommand::Settle { why: Why::Acked, items });
        }
    }
    assert_eq!(host.queue.len(), APART / 2);
    host.check("with gaps");

    // What was taken and given back untouched is as if it had never been taken.
    for _ in 0..100 {
        let received = host.queue.receive(2, 1_000, None).unwrap().receipts;
        let taken: Vec<_> = received.iter().map(|receipt| receipt.taken).collect();
        host.queue.untake(&taken);
        host.queue.take_progress(usize::MAX);
    }
    host.check("taken back");
}
