//! Three brokers: any of them does everything, one may stop, others come and go.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{data, read};
use crate::trio::{Trio, all_up};

/// Takes and acknowledges through any node, until nothing comes any more.
async fn drain(trio: &Trio, nodes: &[usize], base: &str, take: &str) -> Vec<String> {
    let mut all = Vec::new();
    for turn in 0.. {
        let node = nodes[turn % nodes.len()];
        let mut taken = trio
            .post(node, &format!("{base}/{take}"), json!({ "max": 10, "wait_seconds": 2 }))
            .await;
        let messages: Vec<Value> = serde_json::from_value(taken["messages"].take()).unwrap();
        if messages.is_empty() {
            return all;
        }
        all.extend(data(&messages).into_iter().map(str::to_owned));
        let ids: Vec<_> = messages.iter().map(|message| message["ack_id"].clone()).collect();
        let other = nodes[(turn + 1) % nodes.len()];
        let settled = trio.post(other, &format!("{base}/ack"), json!({ "ack_ids": ids })).await;
        assert_eq!(settled["ok"], messages.len(), "{settled}");
    }
    unreachable!("it returns when nothing comes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_broker_does_everything() {
    let trio = Trio::start().await;
    trio.put(0, "/v1/queues/q", json!({})).await;
    trio.put(1, "/v1/topics/t", json!({ "partitions": 3 })).await;
    trio.put(2, "/v1/topics/t/subscriptions/s", json!({})).await;
    let topic = trio.get(0, "/v1/topics/t").await;
    assert_eq!(topic["replicas"], 3);
    for number in 0..12 {
        let node = number % 3;
        let sent = trio.send(node, "/v1/queues/q/messages", &format!("m{number}")).await;
        assert_eq!(sent.status(), 201);
        let published = trio.send(node, "/v1/topics/t/messages", &format!("e{number}")).await;
        assert_eq!(published.status(), 201);
    }
    for node in 0..3 {
        assert_eq!(trio.get(node, "/v1/queues/q").await["stats"]["messages"], 12);
        assert_eq!(trio.get(node, "/v1/topics/t").await["messages"], 12);
        let read = trio.get(node, "/v1/topics/t/messages?from=earliest&limit=100").await;
        assert_eq!(read["messages"].as_array().unwrap().len(), 12);
        let stats = trio.get(node, "/v1/topics/t/subscriptions/s").await;
        assert_eq!(stats["stats"]["lag"], 12, "{stats}");
    }
    let mut jobs = drain(&trio, &[0, 1, 2], "/v1/queues/q", "receive").await;
    jobs.sort();
    jobs.dedup();
    assert_eq!(jobs.len(), 12);
    let mut events = drain(&trio, &[0, 1, 2], "/v1/topics/t/subscriptions/s", "pull").await;
    events.sort();
    events.dedup();
    assert_eq!(events.len(), 12);
    let sought = json!({ "to": "earliest" });
    trio.post(1, "/v1/topics/t/subscriptions/s/seek", sought).await;
    let stats = trio.get(2, "/v1/topics/t/subscriptions/s").await;
    assert_eq!(stats["stats"]["lag"], 12, "{stats}");
    let deleted = trio.request(1, Method::DELETE, "/v1/queues/q").send().await.unwrap();
    assert!(deleted.status().is_success());
    trio.until(2, "/v1/queues", |list| list["queues"].as_array().unwrap().is_empty()).await;
    trio.until(2, "/v1/cluster", |cluster| cluster["leaving"] == 0).await;
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wait_at_one_broker_ends_with_a_message_at_another() {
    let trio = Trio::start().await;
    trio.put(0, "/v1/queues/q", json!({})).await;
    trio.put(0, "/v1/topics/t", json!({ "partitions": 3 })).await;
    trio.put(0, "/v1/topics/t/subscriptions/s", json!({})).await;
    for (take, to) in [
        ("/v1/queues/q/receive", "/v1/queues/q/messages"),
        ("/v1/topics/t/subscriptions/s/pull", "/v1/topics/t/messages"),
    ] {
        let waits = (0..3).map(|node| {
            let body = json!({ "max": 1, "wait_seconds": 30 });
            let request = trio.request(node, Method::POST, take).json(&body);
            async move { read(request.send().await.unwrap()).await }
        });
        let sends = async {
            for number in 0..3 {
                assert_eq!(trio.send(number, to, "x").await.status(), 201);
            }
        };
        let (taken, ()) = tokio::join!(join_all(waits), sends);
        for taken in taken {
            assert_eq!(taken["messages"].as_array().unwrap().len(), 1, "{take}");
        }
    }
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_when_a_leader_stops() {
    let mut trio = Trio::start().await;
    trio.put(0, "/v1/queues/q", json!({ "ack_deadline_seconds": 5 })).await;
    for number in 0..20 {
        let sent = trio.send(number % 3, "/v1/queues/q/messages", &format!("m{number:02}")).await;
        assert_eq!(sent.status(), 201);
    }
    let taken = trio.post(0, "/v1/queues/q/receive", json!({ "max": 3 })).await;
    assert_eq!(taken["messages"].as_array().unwrap().len(), 3);
    let leader = trio.leader_of(0, "q").await.expect("somebody leads");
    trio.nodes[leader].kill().await;
    let left: Vec<usize> = (0..3).filter(|node| trio.nodes[*node].is_running()).collect();
    let sent = trio.send(left[0], "/v1/queues/q/messages", "m20").await;
    assert_eq!(sent.status(), 201);
    // Those that the consumer of the lost leader held come again after their deadline.
    let mut jobs = Vec::new();
    while jobs.len() < 21 {
        jobs.extend(drain(&trio, &left, "/v1/queues/q", "receive").await);
        jobs.sort();
        jobs.dedup();
    }
    let all: Vec<_> = (0..21).map(|number| format!("m{number:02}")).collect();
    assert_eq!(jobs, all);
    trio.nodes[leader].start().await;
    trio.until(leader, "/v1/queues/q", |queue| queue["stats"]["messages"] == 0).await;
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fourth_broker_gets_its_share_and_a_drained_one_loses_all() {
    let mut trio = Trio::start().await;
    for queue in 0..4 {
        trio.put(0, &format!("/v1/queues/q{queue}"), json!({})).await;
        for number in 0..5 {
            let path = format!("/v1/queues/q{queue}/messages");
            assert_eq!(trio.send(0, &path, &format!("m{number}")).await.status(), 201);
        }
    }
    trio.join().await;
    trio.until(0, "/v1/cluster", |cluster| {
        let brokers = cluster["brokers"].as_array().unwrap();
        let is_even = brokers.iter().all(|broker| broker["replicas"] == 3);
        all_up(cluster, 4) && is_even && cluster["moving"] == 0 && cluster["leaving"] == 0
    })
    .await;
    for queue in 0..4 {
        assert_eq!(trio.get(3, &format!("/v1/queues/q{queue}")).await["stats"]["messages"], 5);
    }
    trio.post(3, "/v1/cluster/members/b1/drain", json!({})).await;
    trio.until(3, "/v1/cluster", |cluster| {
        let brokers = cluster["brokers"].as_array().unwrap();
        let drained = brokers.iter().find(|broker| broker["name"] == "b1").unwrap();
        drained["replicas"] == 0 && cluster["moving"] == 0 && cluster["leaving"] == 0
    })
    .await;
    for queue in 0..4 {
        let base = format!("/v1/queues/q{queue}");
        let mut jobs = drain(&trio, &[0, 1, 2, 3], &base, "receive").await;
        jobs.sort();
        jobs.dedup();
        assert_eq!(jobs, ["m0", "m1", "m2", "m3", "m4"]);
    }
    let removed = trio.request(3, Method::DELETE, "/v1/cluster/members/b1").send().await.unwrap();
    assert_eq!(removed.status(), 204);
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_broker_tells_where_a_topic_and_a_queue_live() {
    let trio = Trio::start().await;
    trio.put(0, "/v1/queues/q", json!({})).await;
    trio.put(0, "/v1/topics/t", json!({ "partitions": 3 })).await;
    let names = |place: &Value| {
        let mut names: Vec<String> = serde_json::from_value(place["replicas"].clone()).unwrap();
        names.sort();
        names
    };
    for node in 0..3 {
        trio.until(node, "/v1/queues/q", |queue| queue["placement"]["leader"].is_string()).await;
        let queue = trio.get(node, "/v1/queues/q").await;
        let place = &queue["placement"];
        assert_eq!(names(place), ["b1", "b2", "b3"]);
        assert!(0 < place["term"].as_u64().unwrap(), "{place}");
        assert!(place.get("moving").is_none(), "{place}");
        let leader = trio.leader_of(node, "q").await.map(|leader| trio.nodes[leader].name.clone());
        assert_eq!(place["leader"].as_str(), leader.as_deref());
        let topic = trio.get(node, "/v1/topics/t").await;
        let places = topic["placement"].as_array().unwrap();
        let partitions: Vec<_> = places.iter().map(|place| &place["partition"]).collect();
        assert_eq!(partitions, [0, 1, 2]);
        assert!(places.iter().all(|place| names(place) == ["b1", "b2", "b3"]), "{topic}");
    }
    // Lists stay short.
    let queues = trio.get(0, "/v1/queues").await;
    assert!(queues["queues"][0].get("placement").is_none(), "{queues}");
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_listed_before_all_of_the_catalog_is_known() {
    let mut trio = Trio::start().await;
    trio.put(0, "/v1/queues/q", json!({})).await;
    trio.put(0, "/v1/topics/t", json!({})).await;
    for node in &mut trio.nodes {
        node.kill().await;
    }
    trio.nodes[0].start().await;
    let lists = ["/v1/queues", "/v1/topics", "/v1/topics/t/subscriptions", "/v1/cluster/groups"];
    for list in lists {
        let refused = trio.request(0, Method::GET, list).send().await.unwrap();
        assert_eq!(refused.status(), 503, "{list}");
        let refused: Value = refused.json().await.unwrap();
        assert_eq!(refused["code"], "unavailable", "{list}");
    }
    let sqs = trio.request(0, Method::POST, "/").header("x-amz-target", "AmazonSQS.ListQueues");
    let refused = sqs.json(&json!({})).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    trio.nodes[1].start().await;
    trio.until(0, "/v1/queues", |list| list["queues"].as_array().unwrap().len() == 1).await;
    trio.until(0, "/v1/topics", |list| list["topics"].as_array().unwrap().len() == 1).await;
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_broker_leads_because_it_is_told_to() {
    let trio = Trio::start().await;
    trio.put(0, "/v1/queues/q", json!({})).await;
    trio.put(0, "/v1/topics/t", json!({ "partitions": 2 })).await;
    assert_eq!(trio.send(0, "/v1/queues/q/messages", "m").await.status(), 201);
    let leader = trio.leader_of(0, "q").await.expect("it took a message");
    let (next, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let to = trio.nodes[next].name.clone();
    // Asked of one that neither leads nor is to lead.
    let done = trio.post(third, TRANSFER, json!({ "queue": "q", "to": to })).await;
    assert_eq!((&done["leader"], &done["moved"]), (&json!(to), &json!(1)), "{done}");
    trio.until(third, "/v1/queues/q", |queue| queue["placement"]["leader"] == to.as_str()).await;
    trio.until(third, "/v1/queues/q", |queue| queue["placement"]["preferred"] == to.as_str()).await;
    let again = trio.post(0, TRANSFER, json!({ "queue": "q", "to": to })).await;
    assert_eq!((&again["leader"], &again["moved"]), (&json!(to), &json!(0)), "{again}");
    assert_eq!(trio.get(0, "/v1/queues/q").await["stats"]["messages"], 1);

    let from = &trio.nodes[next].name;
    let done = trio.post(0, TRANSFER, json!({ "from": from })).await;
    assert!(done.get("stayed").is_none(), "{done}");
    trio.until(third, "/v1/cluster/groups", |groups| {
        let groups = groups["groups"].as_array().unwrap();
        groups.iter().all(|group| group["leader"].is_string() && group["leader"] != from.as_str())
    })
    .await;
    trio.stop().await;
}

const TRANSFER: &str = "/v1/cluster/transfer";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_that_cannot_lead_is_told_why() {
    let mut trio = Trio::start().await;
    trio.put(0, "/v1/queues/q", json!({})).await;
    trio.put(0, "/v1/queues/two", json!({ "replicas": 2 })).await;
    trio.put(0, "/v1/topics/t", json!({ "partitions": 2 })).await;
    let view = trio.get(0, "/v1/queues/two").await;
    let has = |name: &str| {
        view["placement"]["replicas"].as_array().unwrap().iter().any(|node| node == name)
    };
    let without = ["b1", "b2", "b3"].into_iter().find(|name| !has(name)).unwrap();
    for (asked, status, code) in [
        (json!({ "queue": "two", "to": without }), 409, "conflict"),
        (json!({ "queue": "q", "to": "b9" }), 404, "member-not-found"),
        (json!({ "queue": "none", "to": "b1" }), 404, "queue-not-found"),
        (json!({ "topic": "none", "to": "b1" }), 404, "topic-not-found"),
        (json!({ "topic": "t", "partition": 2, "to": "b1" }), 404, "partition-not-found"),
        (json!({ "topic": "t", "to": "b1" }), 400, "invalid-request"),
        (json!({ "queue": "q" }), 400, "invalid-request"),
        (json!({ "to": "b1" }), 400, "invalid-request"),
        (json!({ "queue": "q", "topic": "t", "to": "b1" }), 400, "invalid-request"),
        (json!({ "from": "b1", "to": "b1" }), 400, "invalid-request"),
        (json!({ "from": "b9" }), 404, "member-not-found"),
        (json!({ "streams": 0, "to": "b1" }), 404, "not-found"),
    ] {
        let answer = trio.request(1, Method::POST, TRANSFER).json(&asked).send().await.unwrap();
        assert_eq!(answer.status(), status, "{asked}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], code, "{asked}: {problem}");
    }
    let leader = trio.leader_of(0, "q").await.expect("somebody leads");
    let (gone, other) = ((leader + 1) % 3, (leader + 2) % 3);
    trio.nodes[gone].kill().await;
    let asked = json!({ "queue": "q", "to": trio.nodes[gone].name });
    let answer = trio.request(other, Method::POST, TRANSFER).json(&asked).send().await.unwrap();
    assert_eq!(answer.status(), 409);
    assert_eq!(trio.send(other, "/v1/queues/q/messages", "m").await.status(), 201);
    trio.stop().await;
}
