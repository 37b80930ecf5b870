//! Many groups on a few nodes.

use std::time::Duration;

use consensus::{GroupId, NodeId};
use futures_util::StreamExt as _;
use futures_util::stream;
use raft_node::{Beginning, Group};

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
