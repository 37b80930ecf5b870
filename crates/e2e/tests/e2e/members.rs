//! Members of a running cluster come and go, and nothing that was acknowledged goes with them.

use std::fs;
use std::path::Path;
use std::process::ExitStatus;

use e2e::binary;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::load::{Load, until};
use crate::node::{Node, joiner, leader_name, ok, trio, trio_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_node_grows_to_three_and_shrinks_to_one_while_writes_go_on() {
    let mut first = Node::start("coordinator").await;
    let load = write(&first);
    load.progress(20).await;

    let mut second = joiner("second", &[&first]);
    let added = add(&first, &second, "second").await;
    assert_eq!((&added["role"], &added["started"]), (&json!("learner"), &json!(false)));
    assert!(added["start"]["command"].as_str().unwrap().contains(&second.peer_url()));
    second.restart().await;
    promote(&second, "second").await;
    // The way of an etcd's operator: a voter at once, which here is one as soon as it can be.
    let mut third = joiner("third", &[&first, &second]);
    third.spawn();
    let request = json!({ "peerURLs": [third.peer_url()] });
    let answer = ok(second.post("/v3/cluster/member/add").json(&request)).await;
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["members"].as_array().unwrap().len(), 3, "{answer}");
    third.ready().await;
    until("the third votes", || async { role(&third, "third").await != "learner" }).await;
    load.progress(20).await;
    let acknowledged = load.finish().await;
    agree(&[&first, &second, &third]).await;

    let load = write(&second);
    for gone in [&mut third, &mut first] {
        load.progress(20).await;
        let path = format!("/v1/cluster/members/{}", gone.name());
        let left: Value = ok(second.client().delete(second.url(&path))).await.json().await.unwrap();
        let names: Vec<&str> = left["members"].as_array().unwrap().iter().map(name).collect();
        assert!(!names.contains(&gone.name()), "{left}");
        ended(gone, "was removed from the cluster").await;
    }
    load.progress(20).await;
    let later = load.finish().await;
    for number in acknowledged.iter().chain(&later) {
        assert_eq!(read(&second, *number).await, number.to_string());
    }
    let last = second.client().delete(second.url("/v1/cluster/members/second"));
    refused(last.send().await.unwrap(), 409, "the last voter").await;
    second.kill().await;
    second.restart().await;
    assert_eq!(role(&second, "second").await, "leader");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_replaced_while_writes_go_on() {
    let [one, two, mut dead] = trio().await;
    let load = write(&one);
    load.progress(20).await;
    dead.kill().await;
    until("the others know", || async {
        let cluster = cluster(&one).await;
        let leader = if cluster["leader"] == json!(one.name()) { &one } else { &two };
        member(&cluster_of(leader).await, dead.name())["reachable"] == json!(false)
    })
    .await;
    // Of the two that are left, neither may go: nobody could decide anything.
    let path = format!("/v1/cluster/members/{}", two.name());
    let unsafe_removal = one.client().delete(one.url(&path)).send().await.unwrap();
    refused(unsafe_removal, 412, "bring the others back first").await;

    let path = format!("/v1/cluster/members/{}", dead.name());
    ok(one.client().delete(one.url(&path))).await;
    let mut new = joiner("coordinator-4", &[&one, &two]);
    add(&two, &new, "coordinator-4").await;
    new.restart().await;
    promote(&new, "coordinator-4").await;
    load.progress(20).await;
    let acknowledged = load.finish().await;
    agree(&[&one, &two, &new]).await;
    for number in acknowledged {
        assert_eq!(read(&new, number).await, number.to_string());
    }
    // The dead one comes back with its old data: it is told.
    dead.spawn();
    ended(&mut dead, "was removed from the cluster").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_leader_hands_over() {
    let nodes = trio().await;
    ok(nodes[0].put("/v1/kv/before").body("kept")).await;
    let name = leader_name(&nodes[0]).await;
    let (gone, left): (Vec<Node>, Vec<Node>) =
        nodes.into_iter().partition(|node| node.name() == name);
    let path = format!("/v1/cluster/members/{name}");
    ok(left[0].client().delete(left[0].url(&path))).await;
    until("its successor takes writes", || async {
        let put = left[0].put("/v1/kv/after").body("kept").send().await;
        put.is_ok_and(|answer| answer.status().is_success())
    })
    .await;
    let two = cluster(&left[1]).await;
    assert_eq!(two["members"].as_array().unwrap().len(), 2, "{two}");
    for mut gone in gone {
        ended(&mut gone, "was removed from the cluster").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_where_it_is_sent() {
    let nodes = trio().await;
    for to in ["coordinator-1", "coordinator-2", "coordinator-3"] {
        let request = json!({ "to": to });
        let answer = ok(nodes[0].post("/v1/cluster/transfer").json(&request)).await;
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["leader"], json!(to));
        ok(nodes[1].put("/v1/kv/key").body(to)).await;
    }
    let one = member(&cluster(&nodes[0]).await, "coordinator-1")["id"].clone();
    let body = json!({ "targetID": one });
    ok(nodes[1].post("/v3/maintenance/transfer-leadership").json(&body)).await;
    until("it leads", || async { cluster(&nodes[1]).await["leader"] == json!("coordinator-1") })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_says_what_it_waits_for() {
    let first = Node::start("coordinator").await;
    let mut stranger = joiner("second", &[&first]);
    let settings = stranger.settings().replace("[cluster]\n", "[cluster]\ntoken = \"other\"\n");
    let right = stranger.settings().to_owned();
    stranger.set_settings(settings);
    stranger.spawn();
    waits_for(&stranger, "compare the cluster.token of both").await;
    stranger.kill().await;

    stranger.set_settings(right);
    stranger.spawn();
    waits_for(&stranger, "was not added to the cluster yet; on a member run: POST").await;
    until("the log says so too", || async {
        stranger.log().contains("was not added to the cluster yet")
    })
    .await;
    // One that never comes hinders nobody, and goes again.
    let never = joiner("never", &[&first]);
    add(&first, &never, "never").await;
    ok(first.put("/v1/kv/key").body("value")).await;
    ok(first.client().delete(first.url("/v1/cluster/members/never"))).await;
    add(&first, &stranger, "second").await;
    stranger.ready().await;
    assert_eq!(ok(stranger.get("/v1/kv/key")).await.text().await.unwrap(), "value");

    // Its data is gone: it is not the member any more that it was.
    promote(&first, "second").await;
    stranger.kill().await;
    fs::remove_dir_all(stranger.data_dir()).unwrap();
    // A majority of two is two: nothing goes without it, so it comes back or is lost for good.
    stranger.spawn();
    waits_for(&stranger, "nobody leads the cluster").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_data_is_gone_takes_no_ones_place() {
    let [one, two, three] = trio().await;
    let mut fourth = joiner("fourth", &[&one, &two]);
    add(&one, &fourth, "fourth").await;
    fourth.restart().await;
    promote(&one, "fourth").await;
    fourth.kill().await;
    fs::remove_dir_all(fourth.data_dir()).unwrap();
    fourth.spawn();
    ended(&mut fourth, "was started with other data").await;
    // As it is told: removed, added, and in again as a new one.
    ok(one.client().delete(one.url("/v1/cluster/members/fourth"))).await;
    add(&two, &fourth, "fourth").await;
    fourth.restart().await;
    promote(&three, "fourth").await;
    agree(&[&one, &two, &three, &fourth]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_missed_what_left_the_log_gets_the_snapshot() {
    let [one, two, mut late] = trio_with("snapshot_entries = 50\n").await;
    ok(one.put("/v1/kv/early").body("kept")).await;
    late.kill().await;
    let load = write(&one);
    load.progress(500).await;
    late.restart().await;
    // It is fed while writes go on, and cuts its own log meanwhile.
    load.progress(300).await;
    let acknowledged = load.finish().await;
    agree(&[&one, &two, &late]).await;
    let metrics = ok(late.get("/metrics")).await.text().await.unwrap();
    assert!(0 < counted(&metrics, "snapshot_received_bytes"), "{metrics}");
    for number in acknowledged {
        assert_eq!(read(&late, number).await, number.to_string());
    }
    // What it has installed and written survives.
    late.kill().await;
    late.restart().await;
    agree(&[&one, &two, &late]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_becomes_a_new_cluster_of_several() {
    let old = Node::start("coordinator").await;
    ok(old.put("/v1/kv/key").body("kept")).await;
    let backup = ok(old.get("/v1/snapshot")).await.bytes().await.unwrap();
    let old_id = cluster(&old).await["cluster_id"].clone();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup");
    fs::write(&file, backup).unwrap();

    let mut nodes = ["one", "two", "three"].map(Node::coordinator);
    let list: Vec<String> =
        nodes.iter().map(|node| format!("{}={}", node.name(), node.peer_url())).collect();
    for node in &mut nodes {
        let status = restore(&file, node, &list.join(",")).await;
        assert!(status.success());
        node.spawn();
    }
    for node in &mut nodes {
        node.ready().await;
    }
    agree(&[&nodes[0], &nodes[1], &nodes[2]]).await;
    for node in &nodes {
        assert_eq!(ok(node.get("/v1/kv/key")).await.text().await.unwrap(), "kept");
        let new = cluster(node).await;
        assert_ne!(new["cluster_id"], old_id);
        assert_eq!(new["members"].as_array().unwrap().len(), 3, "{new}");
    }
    // A restored cluster is one like any other: a member dies and comes back.
    nodes[0].kill().await;
    until("the others go on", || {
        let put = nodes[1].put("/v1/kv/key").body("new");
        async { put.send().await.is_ok_and(|answer| answer.status().is_success()) }
    })
    .await;
    nodes[0].restart().await;
    assert_eq!(ok(nodes[0].get("/v1/kv/key")).await.text().await.unwrap(), "new");
    agree(&[&nodes[0], &nodes[1], &nodes[2]]).await;
    // What lost its data is not let in again under its name.
    nodes[2].kill().await;
    fs::remove_dir_all(nodes[2].data_dir()).unwrap();
    assert!(restore(&file, &nodes[2], &list.join(",")).await.success());
    nodes[2].spawn();
    ended(&mut nodes[2], "what it had is gone from here").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_do_not_begin_with_the_same_do_not_begin() {
    let old = Node::start("coordinator").await;
    let directory = tempfile::tempdir().unwrap();
    let mut nodes = ["one", "two"].map(Node::coordinator);
    let list: Vec<String> =
        nodes.iter().map(|node| format!("{}={}", node.name(), node.peer_url())).collect();
    for (number, node) in nodes.iter().enumerate() {
        ok(old.put("/v1/kv/key").body(number.to_string())).await;
        let backup = ok(old.get("/v1/snapshot")).await.bytes().await.unwrap();
        let file = directory.path().join(number.to_string());
        fs::write(&file, backup).unwrap();
        assert!(restore(&file, node, &list.join(",")).await.success());
    }
    nodes.iter_mut().for_each(Node::spawn);
    // Whoever notices first ends.
    let [one, two] = &mut nodes;
    let (status, first) = tokio::select! {
        status = one.exit() => (status, 0),
        status = two.exit() => (status, 1),
    };
    assert!(!status.success());
    let log = nodes[first].log();
    assert!(log.contains("do not begin with the same"), "{log}");
}

/// Makes the data directory of one member of a new cluster.
async fn restore(backup: &Path, node: &Node, members: &str) -> ExitStatus {
    let restore = Command::new(binary("quartet-coordinator"))
        .arg("restore")
        .arg("--from")
        .arg(backup)
        .arg("--data-dir")
        .arg(node.data_dir())
        .args(["--name", node.name(), "--initial-cluster", members])
        .kill_on_drop(true)
        .status();
    restore.await.expect("it runs")
}

/// The sum of all series whose name contains this.
fn counted(metrics: &str, name: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.contains(name) && !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

fn write(node: &Node) -> Load {
    let (client, url) = (node.client().clone(), node.url("/v1/kv/load/"));
    Load::start(move |number| client.put(format!("{url}{number}")).body(number.to_string()))
}

async fn read(node: &Node, number: u64) -> String {
    ok(node.get(&format!("/v1/kv/load/{number}"))).await.text().await.unwrap()
}

async fn add(asked: &Node, new: &Node, name: &str) -> Value {
    let request = json!({ "name": name, "peer_url": new.peer_url() });
    ok(asked.post("/v1/cluster/members").json(&request)).await.json().await.unwrap()
}

async fn promote(asked: &Node, name: &str) {
    ok(asked.post(&format!("/v1/cluster/members/{name}/promote"))).await;
}

async fn cluster(node: &Node) -> Value {
    cluster_of(node).await
}

async fn cluster_of(node: &Node) -> Value {
    ok(node.get("/v1/cluster")).await.json().await.unwrap()
}

fn name(member: &Value) -> &str {
    member["name"].as_str().unwrap()
}

fn member<'a>(cluster: &'a Value, wanted: &str) -> &'a Value {
    let members = cluster["members"].as_array().unwrap();
    members.iter().find(|member| name(member) == wanted).unwrap_or(&Value::Null)
}

async fn role(node: &Node, wanted: &str) -> String {
    let cluster = cluster(node).await;
    member(&cluster, wanted)["role"].as_str().unwrap_or_default().to_owned()
}

/// Waits until all are at one revision, and checks that they hold the same there.
async fn agree(nodes: &[&Node]) {
    until("all members hold the same", || async {
        let mut hashes = Vec::new();
        for node in nodes {
            let hash = node.post("/v3/maintenance/hash").body("{}").send().await.unwrap();
            if !hash.status().is_success() {
                return false;
            }
            let hash: Value = hash.json().await.unwrap();
            hashes.push((hash["header"]["revision"].clone(), hash["hash"].clone()));
        }
        let revisions_agree = hashes.iter().all(|(revision, _)| *revision == hashes[0].0);
        let all_agree = hashes.iter().all(|hash| *hash == hashes[0]);
        all_agree && revisions_agree
    })
    .await;
}

async fn refused(answer: Response, status: u16, why: &str) {
    assert_eq!(answer.status().as_u16(), status);
    let problem: Value = answer.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains(why), "{problem}");
}

/// It ends by itself, with an error, and says why.
async fn ended(node: &mut Node, why: &str) {
    let status = node.exit().await;
    assert!(!status.success(), "{status}");
    assert!(node.log().contains(why), "{}", node.log());
}

/// It lives, is not ready, and says why.
async fn waits_for(node: &Node, why: &str) {
    until(why, || async {
        let Ok(answer) = node.get("/readyz?verbose").send().await else { return false };
        answer.status() == 503 && answer.text().await.is_ok_and(|text| text.contains(why))
    })
    .await;
}
