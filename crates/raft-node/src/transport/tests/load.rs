//! More than fits: queues fill, drop, and never block each other.

use super::network::Proxy;
use super::*;

#[tokio::test]
async fn a_full_outbox_drops_messages_and_heartbeats_pass() {
    const ROUNDS: u64 = 200;
    let mut settings = config(1);
    settings.outbox_bytes = 4 << 20;
    let mut one = Node::start_with(settings, 64).await;
    let mut two = Node::start_with(config(2), 1).await;
    one.know(&[(two.id, two.address)]);
    one.until_connected(two.id).await;
    // Nobody empties the second node's inbox meanwhile.
    let payload = Bytes::from(vec![7; 1 << 20]);
    for index in 1..=ROUNDS {
        one.send(two.id, of(append(index, payload.clone())));
        one.send(two.id, beat(index));
        tokio::task::yield_now().await;
    }
    let figures = one.figures(two.id);
    eventually(|| 0 < figures.dropped_messages.get()).await;
    let mut long = forward(9);
    long.forwards[0].command = Bytes::from(vec![7; 3 << 20]);
    assert_eq!(one.transport.send(two.id, long).forwards, [9], "no room");
    let mut got = Vec::new();
    loop {
        let Incoming::Frame { frame, .. } = two.next().await else { continue };
        got.extend(frame.messages.iter().map(|(_, message)| index_of(message)));
        if frame.heartbeat.is_some_and(|heartbeat| heartbeat.sent_ms == ROUNDS) {
            break;
        }
    }
    assert!(got.is_sorted(), "{got:?}");
    assert!((got.len() as u64) < ROUNDS);
    one.send(two.id, small(ROUNDS + 1));
    while got.last() != Some(&(ROUNDS + 1)) {
        got.extend(two.next_messages().await.iter().map(index_of));
    }
    assert_eq!(got.len() as u64 + figures.dropped_messages.get(), ROUNDS + 1);
}

#[tokio::test]
async fn a_heartbeat_does_not_wait_for_all_that_was_sent_before() {
    let mut one = Node::start(1).await;
    let mut two = Node::start_with(config(2), 1).await;
    one.know(&[(two.id, two.address)]);
    one.until_connected(two.id).await;
    let payload = Bytes::from(vec![7; 1 << 20]);
    for index in 1..=40 {
        one.send(two.id, of(append(index, payload.clone())));
    }
    one.send(two.id, beat(1));
    let mut before = 0;
    loop {
        let Incoming::Frame { frame, .. } = two.next().await else { continue };
        if frame.heartbeat.is_some() {
            break;
        }
        before += frame.messages.len();
    }
    assert!(before < 40, "all {before} came first");
}

/// B31: two drivers that answer every message with two, over queues of one. Whoever waited for
/// room in the other's queue would wait forever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_queues_in_both_directions_do_not_deadlock() {
    for inbox_max in [1, 2] {
        let mut settings = [config(1), config(2)];
        for settings in &mut settings {
            settings.outbox_bytes = 64 * 1024;
            settings.frame_bytes = 8 * 1024;
        }
        let [first, second] = settings;
        let mut one = Node::start_with(first, inbox_max).await;
        let mut two = Node::start_with(second, inbox_max).await;
        one.know(&[(two.id, two.address)]);
        two.know(&[(one.id, one.address)]);
        one.until_connected(two.id).await;
        two.until_connected(one.id).await;
        let payload = Bytes::from(vec![7; 1000]);
        one.send(two.id, of(append(1, payload.clone())));
        let (near, far) = (one.id, two.id);
        let echoes = async |node: &mut Node, peer: NodeId| {
            let mut got = 0;
            while got < 5000 {
                for message in node.next_messages().await {
                    got += 1;
                    let next = index_of(&message) + 1;
                    for _ in 0..2 {
                        node.send(peer, of(append(next, payload.clone())));
                    }
                }
            }
        };
        tokio::join!(echoes(&mut one, far), echoes(&mut two, near));
    }
}

#[tokio::test]
async fn entries_of_eight_mebibytes_arrive_whole() {
    let (one, mut two) = pair().await;
    let payload = |seed: u8| {
        let mut bytes = vec![seed; 8 << 20];
        bytes[4 << 20] = 0xff;
        Bytes::from(bytes)
    };
    for seed in 1..=3 {
        one.send(two.id, of(append(u64::from(seed), payload(seed))));
    }
    for seed in 1..=3 {
        let [Message::Append(append)] = &two.next_messages().await[..] else {
            panic!("one append a frame")
        };
        assert!(append.entries[0].payload == payload(seed), "entry {seed}");
    }
}

#[tokio::test]
async fn forwards_and_their_answers_pass() {
    let (mut one, mut two) = pair().await;
    one.send(two.id, forward(7));
    let event = two.next().await;
    let Incoming::Frame { from, frame } = event else { panic!("{event:?}") };
    assert_eq!((from, frame), (one.id, forward(7)));
    let outcome = ForwardOutcome::Placed { term: Term(3), index: Index(9) };
    let replies = vec![ForwardReply { id: 7, outcome }];
    two.send(one.id, PeerFrame { replies: replies.clone(), ..PeerFrame::default() });
    let event = one.next().await;
    let Incoming::Frame { frame, .. } = event else { panic!("{event:?}") };
    assert_eq!(frame.replies, replies);
}

#[tokio::test]
async fn no_forward_is_both_named_unsent_and_received() {
    let mut one = Node::start(1).await;
    let mut two = Node::start_with(config(2), 1).await;
    let proxy = Proxy::to(two.address).await;
    assert_eq!(one.transport.send(two.id, forward(1)).forwards, [1], "unknown peer");
    one.know(&[(two.id, proxy.address)]);
    assert_eq!(one.transport.send(two.id, forward(2)).forwards, [2], "no connection yet");
    one.until_connected(two.id).await;
    // The second node reads nothing any more, so the rest stays in the outbox.
    let payload = Bytes::from(vec![7; 1 << 20]);
    for index in 1..=40 {
        one.send(two.id, of(append(index, payload.clone())));
    }
    one.send(two.id, forward(3));
    for index in 41..=60 {
        one.send(two.id, of(append(index, payload.clone())));
    }
    drop(proxy);
    let lost = one.until(|event| matches!(event, Incoming::Disconnected { .. })).await;
    let Incoming::Disconnected { unsent, .. } = lost else { unreachable!() };
    let mut arrived = Vec::new();
    while let Ok(Some(event)) =
        tokio::time::timeout(Duration::from_millis(300), two.inbox.recv()).await
    {
        if let Incoming::Frame { frame, .. } = event {
            arrived.extend(frame.forwards.iter().map(|forward| forward.id));
        }
    }
    assert!(unsent.is_empty() || arrived.is_empty(), "{unsent:?} {arrived:?}");
}
