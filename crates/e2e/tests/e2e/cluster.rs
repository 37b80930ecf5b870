//! Three coordinators as one store: any of them takes reads and writes, any of them may die.

use std::fs;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::load::until;
use crate::node::{Node, PATIENCE, leader_name, ok, trio};

#[tokio::test(flavor = "multi_thread")]
async fn every_member_takes_writes_and_reads_what_others_wrote() {
    let nodes = trio().await;
    for (number, node) in nodes.iter().enumerate() {
        ok(node.put(&format!("/v1/kv/color-{number}")).body(format!("{number}"))).await;
        for reader in &nodes {
            let value = read(reader, &format!("color-{number}")).await;
            assert_eq!(value.as_deref(), Some(number.to_string().as_str()), "{}", reader.name());
        }
    }
    until("one of three leads", || async {
        let cluster: Value = ok(nodes[0].get("/v1/cluster")).await.json().await.unwrap();
        let members = cluster["members"].as_array().unwrap();
        let leaders = members.iter().filter(|member| member["role"] == "leader").count();
        (members.len(), leaders) == (3, 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_survives_any_member_and_the_member_comes_back() {
    let mut nodes = trio().await;
    for round in 0..3 {
        let leader = leader(&nodes).await;
        ok(nodes[0].put(&format!("/v1/kv/before-{round}")).body("kept")).await;
        nodes[leader].kill().await;
        let other = (leader + 1) % 3;
        // While nobody leads, a refusal says that nothing was done.
        until("a successor takes writes", || {
            let put = nodes[other].put(&format!("/v1/kv/after-{round}")).body("kept");
            async { put.send().await.is_ok_and(|answer| answer.status().is_success()) }
        })
        .await;
        nodes[leader].restart().await;
        for earlier in 0..=round {
            for key in [format!("before-{earlier}"), format!("after-{earlier}")] {
                for node in &nodes {
                    let value = read(node, &key).await;
                    assert_eq!(value.as_deref(), Some("kept"), "{key} on {}", node.name());
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_refuses_instead_of_guessing() {
    let mut nodes = trio().await;
    ok(nodes[0].put("/v1/kv/color").body("blue")).await;
    // Whoever waits as with an etcd waits until it leaves, but not where nobody can tell it more.
    ok(nodes[0].post("/v3/lock/lock").body(r#"{"name":"bA=="}"#)).await;
    ok(nodes[0].post("/v3/lease/grant").body(r#"{"TTL":"600","ID":"9"}"#)).await;
    let waiting = nodes[0].post("/v3/lock/lock").body(r#"{"name":"bA==","lease":"9"}"#);
    let mut waits = JoinSet::new();
    waits.spawn(waiting.send());
    let line = async || ok(nodes[0].get("/v1/locks/l")).await.text().await.unwrap();
    until("it waits", || async { line().await.contains(r#""lease":"9""#) }).await;
    nodes[1].kill().await;
    nodes[2].kill().await;
    let put = nodes[0].put("/v1/kv/color").body("red").send().await.unwrap();
    assert!([503, 504].contains(&put.status().as_u16()), "{}", put.status());
    let get = nodes[0].get("/v1/kv/color").send().await.unwrap();
    assert_eq!(get.status(), 503);
    let stale = ok(nodes[0].get("/v1/kv/color?consistency=serializable")).await;
    assert_eq!(stale.text().await.unwrap(), "blue");
    assert_eq!(nodes[0].get("/livez").send().await.unwrap().status(), 200);
    assert_eq!(nodes[0].get("/readyz").send().await.unwrap().status(), 503);
    let told = tokio::time::timeout(PATIENCE, waits.join_next()).await;
    let told = told.expect("it is told in time").unwrap().unwrap().unwrap();
    assert_eq!(told.status(), 503);
    assert!(told.text().await.unwrap().contains("etcdserver: no leader"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_data_is_gone_is_not_let_in_as_if_nothing_had_happened() {
    let mut nodes = trio().await;
    ok(nodes[0].put("/v1/kv/color").body("blue")).await;
    nodes[2].kill().await;
    fs::remove_dir_all(nodes[2].data_dir()).unwrap();
    nodes[2].spawn();
    let ended = nodes[2].ended_or_started().await;
    assert!(ended.is_ok_and(|status| !status.success()), "it ends with an error");
    assert!(nodes[2].log().contains("add this node as a new one"), "{}", nodes[2].log());
}

async fn read(node: &Node, key: &str) -> Option<String> {
    let answer = ok(node.get(&format!("/v1/kv/{key}"))).await;
    answer.text().await.ok()
}

/// Where in the list the leader stands.
async fn leader(nodes: &[Node]) -> usize {
    let name = leader_name(&nodes[0]).await;
    nodes.iter().position(|node| node.name() == name).expect("it is one of them")
}
