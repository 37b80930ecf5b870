//! What others follow: the change stream, digests, the snapshot.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{alone, http, send};

/// Reads events until there are `count`.
async fn events(url: &str, last: Option<&str>, count: usize) -> Vec<(String, Value)> {
    let mut request = http().get(url);
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let mut response = request.send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let mut text = String::new();
    let read = async {
        loop {
            let found: Vec<_> = text
                .split("\n\n")
                .filter_map(|event| {
                    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                    Some((field("id: ")?.to_owned(), serde_json::from_str(field("data: ")?).ok()?))
                })
                .collect();
            if count <= found.len() {
                return found;
            }
            let chunk =
                response.chunk().await.expect("it does not break").expect("the stream goes on");
            text.push_str(std::str::from_utf8(&chunk).expect("our events are text"));
        }
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.expect("the events come")
}

#[tokio::test]
async fn changes_come_in_order_and_resume_after_any_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let node = alone(dir.path()).await;
    let kv = |key: &str| format!("{}/v1/kv/{key}", node.url);
    send(http().put(kv("a")).header("content-type", "text/plain").body("1")).await;
    send(http().put(kv("a")).header("idempotency-key", "k").body("2")).await;
    let batch = json!({"operations": [
        {"op": "put", "key": "b", "value_base64": "/w=="}, {"op": "delete", "key": "a"},
    ]});
    let batch = send(http().post(format!("{}/v1/batch", node.url)).json(&batch)).await;
    let url = format!("{}/v1/changes", node.url);
    let all = events(&format!("{url}?from=0:0"), None, 3).await;
    assert_eq!(
        all[0].1["changes"],
        json!([
            {"op": "put", "key": "a", "value": "1", "content_type": "text/plain"}
        ])
    );
    assert_eq!(all[1].1["changes"], json!([{"op": "put", "key": "a", "value": "2"}]));
    assert_eq!(
        all[2].1["changes"],
        json!([
            {"op": "put", "key": "b", "value_base64": "/w=="}, {"op": "delete", "key": "a"}
        ])
    );
    assert_eq!(all[2].0, batch.header("x-session"));
    let rest = events(&url, Some(&all[0].0), 2).await;
    assert_eq!(rest, all[1..]);

    let live = events(&url, Some(&all[2].0), 1);
    let write = async {
        tokio::task::yield_now().await;
        send(http().delete(kv("b"))).await
    };
    let (live, deleted) = tokio::join!(live, write);
    assert_eq!(
        (&live[0].0, &live[0].1["changes"][0]["op"]),
        (&deleted.header("x-session").to_owned(), &json!("delete"))
    );
    let lost = send(http().get(format!("{url}?from=0:1"))).await;
    assert_eq!(lost.code(), "history-lost", "no epoch 0 ever wrote");
    node.stop().await;
}

#[tokio::test]
async fn a_digest_is_that_of_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let node = alone(dir.path()).await;
    let put = async |value: &str| {
        let put = send(http().put(format!("{}/v1/kv/a", node.url)).body(value.to_owned())).await;
        put.header("x-session").to_owned()
    };
    let digest = async |at: &str| send(http().get(format!("{}/v1/digest?at={at}", node.url))).await;
    let first = put("1").await;
    let at_first = digest(&first).await;
    assert_eq!(at_first.status, StatusCode::OK, "{at_first:?}");
    let second = put("1").await;
    let at_second = digest(&second).await.json();
    assert_ne!(at_first.json()["digest"], at_second["digest"], "versions count");
    assert_eq!(digest(&first).await.json(), at_first.json());
    assert_eq!(digest("9:2").await.code(), "too-stale");
    node.stop().await;
}

#[tokio::test]
async fn a_snapshot_is_whole_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let node = alone(dir.path()).await;
    for i in 0..30 {
        let url = format!("{}/v1/kv/k/{i:02}", node.url);
        assert_eq!(send(http().put(url).body(vec![i; 20_000])).await.status, StatusCode::OK);
    }
    let snapshot = send(http().get(format!("{}/v1/snapshot", node.url))).await;
    assert_eq!(snapshot.header("content-type"), "application/x-ndjson");
    let lines: Vec<Value> =
        snapshot.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let digest = send(http().get(format!("{}/v1/digest", node.url))).await.json();
    assert_eq!((&lines[0]["position"], &lines[0]["digest"]), (&digest["at"], &digest["digest"]));
    assert_eq!(lines.last().unwrap(), &json!({"end": true, "count": 30}));
    assert_eq!(lines.len(), 32);
    assert_eq!(lines[1]["key"], "k/00");
    node.stop().await;
}

#[tokio::test]
async fn the_api_describes_itself() {
    let dir = tempfile::tempdir().unwrap();
    let node = alone(dir.path()).await;
    let document = send(http().get(format!("{}/openapi.json", node.url))).await.json();
    for path in
        ["/v1/kv/{key}", "/v1/kv", "/v1/batch", "/v1/changes", "/v1/replication", "/v1/digest"]
    {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    let metrics = send(http().get(format!("{}/metrics", node.url))).await;
    for name in ["replica_index", "replica_epoch", "replica_log_fsyncs_total"] {
        assert!(metrics.text().contains(name), "{name}: {}", metrics.text());
    }
    node.stop().await;
}
