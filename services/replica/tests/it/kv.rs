//! Keys on a node alone.

use reqwest::StatusCode;
use serde_json::json;

use crate::support::{alone, http, send};

#[tokio::test]
async fn a_value_comes_back_with_its_type_and_version() {
    let dir = tempfile::tempdir().unwrap();
    let node = alone(dir.path()).await;
    let url = format!("{}/v1/kv/colors/sky", node.url);
    let put = send(http().put(&url).header("content-type", "text/plain").body("blue")).await;
    assert_eq!(put.status, StatusCode::OK, "{put:?}");
    assert_eq!(put.header("x-acked-by"), "1");
    let version = put.header("x-session").to_owned();
    assert_eq!(put.header("etag"), format!("\"{version}\""));
    assert_eq!(put.json()["version"], version);

    for consistency in ["eventual", "strong", "bounded&max_lag_ms=0"] {
        let get = send(http().get(format!("{url}?consistency={consistency}"))).await;
        assert_eq!((get.status, get.text()), (StatusCode::OK, "blue"), "{get:?}");
        assert_eq!(get.header("content-type"), "text/plain");
        assert_eq!(get.header("etag"), format!("\"{version}\""));
        assert_eq!(get.header("x-role"), "primary");
        assert_eq!(get.header("x-served-by"), "replica-1");
        assert_eq!(get.header("x-lag-ms"), "0");
    }
    let get = send(http().get(&url).header("if-none-match", format!("\"{version}\""))).await;
    assert_eq!(get.status, StatusCode::NOT_MODIFIED);

    let delete = send(http().delete(&url)).await;
    assert_eq!(delete.status, StatusCode::OK, "{delete:?}");
    let get = send(http().get(&url)).await;
    assert_eq!(get.code(), "key-not-found");
    node.stop().await;
}

#[tokio::test]
async fn conditions_compare_versions() {
    let dir = tempfile::tempdir().unwrap();
    let node = alone(dir.path()).await;
    let url = format!("{}/v1/kv/a", node.url);
    let put =
        |name: &'static str, value: String| send(http().put(&url).header(name, value).body("x"));
    assert_eq!(put("if-match", "*".into()).await.code(), "precondition-failed");
    let first = put("if-none-match", "*".into()).await;
    assert_eq!(first.status, StatusCode::OK, "{first:?}");
    let again = put("if-none-match", "*".into()).await;
    assert_eq!(again.code(), "precondition-failed");
    assert_eq!(again.json()["version"], first.header("x-session"));
    let second = put("if-match", first.header("etag").into()).await;
    assert_eq!(second.status, StatusCode::OK, "{second:?}");
    let stale = put("if-match", first.header("etag").into()).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    node.stop().await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut session = String::new();
    for round in 0..3 {
        let node = alone(dir.path()).await;
        for earlier in 0..round {
            let url = format!("{}/v1/kv/round-{earlier}", node.url);
            let get = send(http().get(url).header("x-session", &session)).await;
            assert_eq!(get.text(), format!("value-{earlier}"), "{get:?}");
        }
        let url = format!("{}/v1/kv/round-{round}", node.url);
        let put = send(http().put(url).body(format!("value-{round}"))).await;
        session = put.header("x-session").to_owned();
        assert!(session.starts_with(&format!("{}:", round + 1)), "an epoch each run: {session}");
        node.abort().await;
    }
}

#[tokio::test]
async fn a_batch_happens_all_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let node = alone(dir.path()).await;
    let batch =
        |body: serde_json::Value| send(http().post(format!("{}/v1/batch", node.url)).json(&body));
    let both = json!([
        {"op": "put", "key": "a", "value": "1"},
        {"op": "put", "key": "b%FF", "value_base64": "AP8=", "content_type": "x/y"},
    ]);
    let written = batch(json!({"if": [{"key": "a", "exists": false}], "operations": both})).await;
    assert_eq!(written.status, StatusCode::OK, "{written:?}");
    let get = send(http().get(format!("{}/v1/kv/b%FF", node.url))).await;
    assert_eq!((get.body.as_slice(), get.header("content-type")), (&[0, 255][..], "x/y"));

    let version = written.header("x-session");
    let operations = json!([{"op": "delete", "key": "a"}, {"op": "put", "key": "c", "value": ""}]);
    let compares = json!([{"key": "a", "version": version}, {"key": "c", "exists": true}]);
    let refused = batch(json!({"if": compares, "operations": operations})).await;
    assert_eq!(refused.code(), "precondition-failed");
    assert_eq!(refused.json()["key"], "c");
    let get = send(http().get(format!("{}/v1/kv/a", node.url))).await;
    assert_eq!(get.text(), "1");
    node.stop().await;
}

#[tokio::test]
async fn pages_cover_every_key_once_whatever_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let node = alone(dir.path()).await;
    let keys: Vec<String> = (0..25).map(|i| format!("p/%{:02X}/{i:02}", i * 10)).collect();
    for key in keys.iter().chain(&["o".to_owned(), "q".to_owned()]) {
        let put = send(http().put(format!("{}/v1/kv/{key}", node.url)).body(key.clone())).await;
        assert_eq!(put.status, StatusCode::OK, "{put:?}");
    }
    let (mut seen, mut start) = (Vec::new(), None::<String>);
    loop {
        let from = start.map(|start| format!("&start={start}")).unwrap_or_default();
        let page = send(http().get(format!("{}/v1/kv?prefix=p/&limit=4{from}", node.url))).await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        let page = page.json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 4);
        seen.extend(items.iter().map(|item| item["value"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        start = Some(next.to_owned());
    }
    assert_eq!(seen, keys);
    node.stop().await;
}
