//! Streams come, go, and come back.

use super::network::Proxy;
use super::*;

/// Neither what a peer says nor that it says no more.
fn is_about_links(event: &Incoming) -> bool {
    !matches!(event, Incoming::Frame { .. } | Incoming::Unheard { .. })
}

#[tokio::test]
async fn what_is_sent_arrives_in_order_both_ways() {
    const COUNT: u64 = 2000;
    let (mut one, mut two) = pair().await;
    for index in 1..=COUNT {
        one.send(two.id, small(index));
        two.send(one.id, small(index));
    }
    for node in [&mut one, &mut two] {
        let mut got = Vec::new();
        while got.len() < COUNT as usize {
            got.extend(node.next_messages().await.iter().map(index_of));
        }
        assert_eq!(got, (1..=COUNT).collect::<Vec<_>>());
    }
    let figures = one.figures(two.id);
    assert_eq!(figures.sent_messages.get(), COUNT);
    assert_eq!(figures.received_messages.get(), COUNT);
    assert!(figures.sent_frames.get() <= COUNT, "what waits leaves together");
}

#[tokio::test]
async fn three_nodes_hear_the_right_sender() {
    let mut nodes = vec![Node::start(1).await, Node::start(2).await, Node::start(3).await];
    let all: Vec<_> = nodes.iter().map(|node| (node.id, node.address)).collect();
    for node in &nodes {
        node.know(&all);
    }
    for node in &mut nodes {
        let mut left: Vec<NodeId> = all.iter().map(|(id, _)| *id).collect();
        left.retain(|id| *id != node.id);
        while !left.is_empty() {
            if let Incoming::Connected { node } = node.next().await {
                left.retain(|id| *id != node);
            }
        }
    }
    for from in [0, 1] {
        nodes[from].send(NodeId(3), small(from as u64 + 1));
    }
    let mut heard = BTreeMap::new();
    while heard.len() < 2 {
        if let Incoming::Frame { from, frame } = nodes[2].next().await {
            heard.insert(from.0, index_of(&frame.messages[0].1));
        }
    }
    assert_eq!(heard, BTreeMap::from([(1, 1), (2, 2)]));
}

#[tokio::test]
async fn a_killed_peer_is_refused_at_once_and_heard_again_when_it_is_back() {
    let (mut one, mut two) = pair().await;
    let node = two.id;
    // As when a process dies: its listener and all of its sockets.
    two.transport.set_peers(BTreeMap::new());
    two.kill_listener().await;
    let lost = one.until(is_about_links).await;
    assert_eq!(lost, Incoming::Disconnected { node, unsent: vec![] });
    let refused = one.until(is_about_links).await;
    assert_eq!(refused, Incoming::Refused { node });
    // Sent into the void, and kept: there is little of it.
    one.send(node, small(5));

    two.revive_listener().await;
    let back = one.until(is_about_links).await;
    assert_eq!(back, Incoming::Connected { node }, "refusal is told once");
    one.send(node, small(6));
    let mut got = Vec::new();
    while got.len() < 2 {
        got.extend(two.next_messages().await.iter().map(index_of));
    }
    assert_eq!(got, [5, 6]);
}

/// Whoever waits for an answer learns that it will not come.
#[tokio::test]
async fn the_end_of_a_peers_stream_is_told_behind_its_last_frame() {
    let (mut one, mut two) = pair().await;
    two.send(one.id, small(1));
    assert_eq!(one.next_messages().await.len(), 1);
    // Only the stream of the other ends; this node still reaches it.
    two.transport.set_peers(BTreeMap::new());
    let event = one.until(|event| !matches!(event, Incoming::Frame { .. })).await;
    assert_eq!(event, Incoming::Unheard { node: two.id });
    one.send(two.id, small(2));
    assert_eq!(two.next_messages().await.len(), 1);
}

#[tokio::test]
async fn a_peer_that_is_still_heard_is_not_gone() {
    let (mut one, mut two) = pair().await;
    // Only its listener closes; its own stream to us stays open.
    two.kill_listener().await;
    one.until(|event| matches!(event, Incoming::Disconnected { .. })).await;
    for sent_ms in 1..=3 {
        two.send(one.id, beat(sent_ms));
        let event = one.next().await;
        assert!(matches!(event, Incoming::Frame { .. }), "{event:?}");
    }
    // Now it dies for good.
    two.transport.set_peers(BTreeMap::new());
    let event = one.until(is_about_links).await;
    assert_eq!(event, Incoming::Refused { node: two.id });
}

#[tokio::test]
async fn timeouts_and_unknown_names_are_no_proof_of_death() {
    let mut settings = config(1);
    settings.connect_timeout = Duration::from_millis(100);
    let mut one = Node::start_with(settings, 64).await;
    // It accepts, by its backlog, and never answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let urls = BTreeMap::from([
        (NodeId(2), url(mute.local_addr().unwrap())),
        (NodeId(3), "http://nobody.invalid:1".to_owned()),
        (NodeId(4), "not an address".to_owned()),
    ]);
    one.transport.set_peers(urls);
    let event = tokio::time::timeout(Duration::from_millis(700), one.inbox.recv()).await;
    assert!(event.is_err(), "{event:?}");
}

#[tokio::test]
async fn a_peer_that_was_never_there_is_refused_and_then_found() {
    let (mut one, mut two) = (Node::start(1).await, Node::start(2).await);
    two.kill_listener().await;
    one.know(&[(two.id, two.address)]);
    assert_eq!(one.next().await, Incoming::Refused { node: two.id });
    two.revive_listener().await;
    one.until_connected(two.id).await;
}

#[tokio::test]
async fn one_direction_dies_alone() {
    let (mut one, mut two) = (Node::start(1).await, Node::start(2).await);
    let proxy = Proxy::to(two.address).await;
    one.know(&[(two.id, proxy.address)]);
    two.know(&[(one.id, one.address)]);
    one.until_connected(two.id).await;
    two.until_connected(one.id).await;

    proxy.swallow(true);
    let lost = one.until(|event| matches!(event, Incoming::Disconnected { .. })).await;
    assert_eq!(lost, Incoming::Disconnected { node: two.id, unsent: vec![] });
    two.send(one.id, small(1));
    assert_eq!(one.next_messages().await.len(), 1, "the other direction works");

    proxy.swallow(false);
    let back = one.next().await;
    assert_eq!(back, Incoming::Connected { node: two.id }, "and nobody was told that it is gone");
    one.send(two.id, small(2));
    assert_eq!(index_of(&two.next_messages().await[0]), 2);
}

#[tokio::test]
async fn peers_move_come_and_leave_while_it_runs() {
    let (mut one, mut two) = (Node::start(1).await, Node::start(2).await);
    one.know(&[(two.id, two.address)]);
    one.until_connected(two.id).await;

    let proxy = Proxy::to(two.address).await;
    one.know(&[(two.id, proxy.address)]);
    let node = two.id;
    assert_eq!(one.next().await, Incoming::Disconnected { node, unsent: vec![] });
    assert_eq!(one.next().await, Incoming::Connected { node });
    assert_eq!(proxy.connections(), 1);
    one.send(node, small(1));
    assert_eq!(two.next_messages().await.len(), 1);

    one.know(&[(two.id, proxy.address)]);
    one.send(node, small(2));
    assert_eq!(two.next_messages().await.len(), 1, "the same address changes nothing");

    one.know(&[]);
    assert_eq!(one.next().await, Incoming::Disconnected { node, unsent: vec![] });
    assert_eq!(one.transport.send(node, forward(9)).forwards, [9]);
    one.know(&[(two.id, two.address)]);
    one.until_connected(node).await;
}

#[tokio::test]
async fn strangers_are_told_why_and_are_not_connected() {
    let two = Node::start(2).await;
    let mut wrong_cluster = config(1);
    wrong_cluster.cluster = 0xbad;
    let cases = [
        (wrong_cluster, NodeId(2), "cluster"),
        (config(1), NodeId(7), "looks for node"),
        (config(2), NodeId(2), "copy of the other"),
    ];
    for (settings, called, reason) in cases {
        let hello = wire::Hello {
            version: wire::VERSION,
            cluster: settings.cluster,
            from: settings.node,
            to: called,
            epoch: settings.epoch,
            url: String::new(),
        };
        let (status, text) = requests::post(two.address, hello.encode()).await;
        assert_eq!(status, 409);
        assert!(text.contains(reason), "{text}");
        assert!(text.contains("urn:quartet:problem:conflict"), "{text}");
        // A node of that kind sees no connection.
        let mut stranger = Node::start_with(settings, 8).await;
        stranger.know(&[(called, two.address)]);
        let event = tokio::time::timeout(Duration::from_millis(100), stranger.inbox.recv()).await;
        assert!(event.is_err(), "{event:?}");
    }
}

#[tokio::test]
async fn a_second_stream_of_the_same_node_takes_the_place_of_the_first() {
    let (mut one, mut two) = pair().await;
    // Its former life, which did not notice that it is over.
    let mut former = Node::start(1).await;
    former.know(&[(two.id, two.address)]);
    former.until_connected(two.id).await;
    former.send(two.id, small(7));
    assert_eq!(index_of(&two.next_messages().await[0]), 7);
    one.until(|event| matches!(event, Incoming::Disconnected { .. })).await;
}
