//! Many groups on a few nodes.

use std::time::Duration;

use bytes::Bytes;
use consensus::{GroupId, Index, NodeId};
use futures_util::StreamExt as _;
use futures_util::stream;
use raft_node::{Beginning, Config, Group};

use super::Host;
use super::cluster::until;
use super::journal::Journal;
use super::stand::{Running, Stand, book};

const GROUPS: u64 = 2_000;
/// Groups that are started at a time on each node.
const AT_A_TIME: usize = 64;

/// Groups that are founded are led soon, most of them by whom their founders agreed on; then they
/// need nothing more: what nodes send each other does not grow with the number of groups.
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_groups_are_led_and_fall_silent() {
    let (mut stands, mut nodes) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (stand, node) = Stand::new(|config| config).await;
        stands.push(stand);
        nodes.push(node);
    }
    for node in &nodes {
        node.groups().know(book(&stands)).await;
    }
    let of: Vec<NodeId> = stands.iter().map(|stand| stand.node).collect();
    let started = nodes.iter().map(|node| start(node, of.clone()));
    let started: Vec<Vec<Group<Journal>>> = futures_util::future::join_all(started).await;
    let first = |at: usize| at % of.len();
    for _ in 0..4 {
        // A busy machine may take longer than one patience.
        let led = count_led(&started);
        if led == started[0].len() {
            break;
        }
        until("more groups are led", async || led < count_led(&started)).await;
    }
    until("every group is led", async || count_led(&started) == started[0].len()).await;
    let as_agreed = (0..started[0].len())
        .filter(|at| started[first(*at)][*at].leadership().borrow().is_here)
        .count();
    assert!(started[0].len() / 2 < as_agreed, "only {as_agreed} are led by their first founder");

    // An idle group sends nothing: frames are heartbeats, one for each pair of nodes.
    let sent = |nodes: &[Running]| -> u64 { nodes.iter().map(Running::messages).sum() };
    let mut before = 0;
    until("they fall silent", async || {
        let now = sent(&nodes);
        tokio::time::sleep(Duration::from_millis(500)).await;
        before = now;
        sent(&nodes) == now
    })
    .await;

    // Everything at once: whoever leads hands over.
    nodes[0].groups().resign_all().await;
    until("the others lead", async || {
        started[0].iter().all(|group| !group.leadership().borrow().is_here)
            && count_led(&started) == started[0].len()
    })
    .await;
    let led = |at: usize| started[at].iter().filter(|g| g.leadership().borrow().is_here).count();
    assert!(GROUPS as usize / 5 < led(1) && GROUPS as usize / 5 < led(2), "{} {}", led(1), led(2));
    drop(started);
    for node in nodes {
        node.stop().await;
    }
}

/// A group in which nothing happens any more does not keep the log of a busy one.
#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_group_lets_old_segments_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path().to_owned());
    config.max_command_bytes = 32 << 10;
    config.wal.segment_bytes = 256 << 10;
    config.wal.queue_bytes = 64 << 10;
    config.wal.batch_bytes = 64 << 10;
    config.wal.hot_segments = 3;
    let host = Host::open(config);
    let quiet = host.groups.start(GroupId(1), Journal::default()).await.unwrap();
    let busy = host.groups.start(GroupId(2), Journal::default()).await.unwrap();
    quiet.propose(Bytes::from_static(b"once")).await.unwrap();
    until("the quiet one is snapshotted", async || {
        busy.propose(vec![b'.'; 8 << 10].into()).await.unwrap();
        Index::ZERO < quiet.status().await.unwrap().base
    })
    .await;
    assert!(host.groups.wal().stats().hot_segments <= 5);
    drop((quiet, busy));
    host.close().await;
}

async fn start(node: &Running, of: Vec<NodeId>) -> Vec<Group<Journal>> {
    let groups = node.groups();
    let start = |at: u64| {
        let first = of[at as usize % of.len()];
        let beginning = Beginning::Founders { of: of.clone(), first };
        async move {
            let group = GroupId(100 + at);
            groups.start_with(group, Journal::default(), beginning).await.unwrap()
        }
    };
    stream::iter(0..GROUPS).map(start).buffered(AT_A_TIME).collect().await
}

fn count_led(started: &[Vec<Group<Journal>>]) -> usize {
    let is_led = |at: &usize| started.iter().any(|node| node[*at].leadership().borrow().is_here);
    (0..started[0].len()).filter(is_led).count()
}
