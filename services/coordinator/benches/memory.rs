//! What keys cost in memory: `cargo bench -p coordinator --bench memory -- [KEYS]`.
//!
//! A store takes a million puts of 256 bytes each, as they come out of the log, and is then written
//! as a snapshot, restored from it, and compacted. Measured is the memory of the process as the
//! kernel counts it, with the allocator that the services use.

use std::convert::Infallible;
use std::time::Duration;
use std::{fs, thread};

use bytes::Bytes;
use coordinator::store::{Caller, Command, LeaseId, Op, Put, Stamp, Store, Txn};

const KEYS: usize = 1_000_000;
const VALUE_BYTES: usize = 256;
/// As a disk gives them back: one buffer for many entries.
const BATCH: usize = 64;

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel says it");
    let kib = line.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok());
    kib.expect("it is a number") * 1024.0
}

struct Meter {
    keys: f64,
    before: f64,
}

impl Meter {
    fn new(keys: usize) -> Self {
        Self { keys: keys as f64, before: status("VmRSS") }
    }

    /// Begins to look for the highest value.
    fn begin(&self) {
        fs::write("/proc/self/clear_refs", "5").expect("it is this process");
    }

    #[expect(clippy::disallowed_methods, reason = "the allocator gives back what was idle a while")]
    fn report(&self, what: &str) {
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(100));
            drop(Vec::<u8>::with_capacity(64 << 20));
        }
        let (now, highest) = (status("VmRSS") - self.before, status("VmHWM") - self.before);
        println!(
            "{what}: {:.0} bytes a key ({:.0} MiB), at most {:.0} MiB",
            now / self.keys,
            now / f64::from(1 << 20),
            highest / f64::from(1 << 20),
        );
    }
}

fn put(at: usize) -> Vec<u8> {
    // Spread like hashes, so that nodes of trees are as full as in service.
    let key = format!("key-{:016x}", (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let value = Some(vec![at as u8; VALUE_BYTES].into());
    let lease = Some(LeaseId::NONE);
    let put = Op::Put(Put { key: key.into(), value, lease, previous: false });
    let stamp = Stamp { now_ms: 0, quota_bytes: u64::MAX };
    Command::Txn(Txn::always(put)).encode(stamp, Caller::Node).into()
}

fn fill(store: &mut Store, keys: usize) {
    for first in (0..keys).step_by(BATCH) {
        let puts: Vec<_> = (first..keys.min(first + BATCH)).map(put).collect();
        let batch = Bytes::from(puts.concat());
        let mut at = 0;
        for put in &puts {
            let payload = batch.slice(at..at + put.len());
            at += put.len();
            let (stamp, caller, command) = Command::decode(&payload).expect("it was just encoded");
            store.apply_for(caller, stamp, command);
        }
    }
}

fn main() {
    // `cargo bench` adds a flag of its own.
    let keys = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(KEYS);
    let meter = Meter::new(keys);
    let mut store = Store::default();
    meter.begin();
    fill(&mut store, keys);
    meter.report("written");
    meter.begin();
    let mut len = 0;
    let Ok(()) = store.encode_to(|bytes| {
        len += bytes.len();
        Ok::<_, Infallible>(())
    });
    meter.report("while a snapshot is written");
    let bytes = store.encode();
    assert_eq!(bytes.len(), len);
    drop(store);
    meter.begin();
    let mut store = Store::decode(&bytes).expect("it was just encoded");
    drop(bytes);
    let now = store.mvcc.revision();
    store.mvcc.compact(now).expect("nothing was compacted");
    meter.report("restored and compacted");
}
