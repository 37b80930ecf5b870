//! What the transport costs:
//! `cargo test --release -p raft-node --lib measure -- --ignored --nocapture --test-threads 1`

use std::time::Instant;

use super::*;

/// User and system time of this process so far, in microseconds.
fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Fields 14 and 15, in ticks of 10 ms, after the name in parentheses.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks * 10_000
}

#[expect(clippy::disallowed_methods, reason = "this measures")]
fn now() -> Instant {
    Instant::now()
}

/// Sends `count` messages of `len` bytes, `burst` at once, keeping at most `window` on their way,
/// and prints what that took, for both sides together.
async fn measure(name: &str, len: usize, count: u64, (burst, window): (u64, u64)) {
    let (one, mut two) = pair().await;
    let payload = Bytes::from(vec![7; len]);
    let message = append(1, payload);
    let (began, cpu) = (now(), cpu_us());
    let (mut sent, mut received) = (0, 0);
    while received < count {
        while sent < count && sent - received < window {
            let frame = PeerFrame {
                messages: vec![(GROUP, message.clone()); burst as usize],
                ..PeerFrame::default()
            };
            one.send(two.id, frame);
            sent += burst;
        }
        received += two.next_messages().await.len() as u64;
    }
    let seconds = began.elapsed().as_secs_f64();
    let cpu = (cpu_us() - cpu) as f64;
    let frames = one.figures(two.id).sent_frames.get();
    println!(
        "{name:32} {:>9.0} messages/s {:>7.1} MB/s {:>8.0} frames/s {:>8.0} us CPU per 1,000",
        count as f64 / seconds,
        count as f64 * len as f64 / seconds / 1e6,
        frames as f64 / seconds,
        cpu / (count as f64 / 1000.0),
    );
}

#[tokio::test]
#[ignore = "measures; see the first line of this file"]
async fn measure_both_sides_on_one_core() {
    measure("64 B, one by one", 64, 400_000, (1, 1)).await;
    measure("64 B, up to 64 on the way", 64, 1_000_000, (1, 64)).await;
    measure("64 B, bursts of 32 up to 4096", 64, 4_000_000, (32, 4096)).await;
    measure("1 KiB, up to 1024 on the way", 1024, 1_000_000, (8, 1024)).await;
    measure("64 KiB, up to 64 on the way", 64 << 10, 40_000, (1, 64)).await;
    measure("1 MiB, up to 8 on the way", 1 << 20, 4000, (1, 8)).await;
    measure("8 MiB, up to 2 on the way", 8 << 20, 300, (1, 2)).await;
}
