//! CloudEvents in all modes.

use serde_json::{Value, json};

use crate::server::{Broker, problem};

const PATH: &str = "/v1/topics/t/messages";
const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json; charset=utf-8");

async fn broker() -> Broker {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({})).await;
    broker
}

async fn stored(broker: &Broker) -> Vec<Value> {
    broker.get(PATH).await["messages"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_event_is_the_same_in_headers_and_as_a_document() {
    let broker = broker().await;
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "a1"),
        ("ce-source", "/s"),
        ("ce-type", "Euro%20%E2%82%AC"),
        ("content-type", "application/json"),
    ];
    assert_eq!(broker.raw(PATH, &headers, r#"{"a": 1.0}"#).await.status(), 201);
    let document = r#"{"specversion":"1.0","id":"a1","source":"/s","type":"Euro €",
        "data":{"a": 1.0},"subject":null}"#;
    assert_eq!(broker.raw(PATH, &[STRUCTURED], document).await.status(), 201);
    let stored = stored(&broker).await;
    for message in &stored {
        let attributes = &message["attributes"];
        assert_eq!(attributes["ce-type"], "Euro €", "{message}");
        assert_eq!((&attributes["ce-id"], &message["data"]), (&json!("a1"), &json!({ "a": 1.0 })));
        assert_eq!(message["content_type"], "application/json");
        assert!(attributes["ce-subject"].is_null());
    }
    assert_eq!(stored.len(), 2);
    broker.stop().await;
}

#[tokio::test]
async fn a_batch_of_events_is_stored_as_a_whole_or_not() {
    let broker = broker().await;
    let event = |id: &str| json!({ "specversion": "1.0", "id": id, "source": "/s", "type": "x" });
    let mut text = event("1");
    text["datacontenttype"] = json!("text/plain");
    text["data"] = json!("hello");
    let mut bytes = event("2");
    bytes["data_base64"] = json!("/wA=");
    bytes["partitionkey"] = json!("k");
    let header = [("content-type", "application/cloudevents-batch+json")];
    let batch = json!([text, bytes, event("3")]).to_string();
    assert_eq!(broker.raw(PATH, &header, &batch).await.status(), 201);
    let messages = stored(&broker).await;
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[0]["data"], "hello");
    assert_eq!((&messages[1]["data_base64"], &messages[1]["key"]), (&json!("/wA="), &json!("k")));
    let bad = json!([event("4"), { "id": "5" }]).to_string();
    let refused = problem(broker.raw(PATH, &header, &bad).await, 400).await;
    assert_eq!(refused["event"], 2, "{refused}");
    assert_eq!(stored(&broker).await.len(), 3);
    problem(broker.raw(PATH, &header, "[]").await, 400).await;
    broker.stop().await;
}

#[tokio::test]
async fn what_is_no_event_is_refused_with_what_is_wrong() {
    let broker = broker().await;
    for (document, named) in [
        (json!({ "specversion": "1.0", "id": "1", "source": "/s" }), "type"),
        (json!({ "specversion": "1.0", "id": "", "source": "/s", "type": "x" }), "id"),
        (json!({ "specversion": "0.3", "id": "1", "source": "/s", "type": "x" }), "specversion"),
        (json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "x", "A": 1 }), "`A`"),
        (json!({ "specversion": "1.0", "id": "1", "source": "/", "type": "x", "a": [] }), "`a`"),
        (
            json!({ "specversion": "1.0", "id": "1", "source": "/", "type": "x", "time": "1" }),
            "time",
        ),
    ] {
        let refused = broker.raw(PATH, &[STRUCTURED], &document.to_string()).await;
        let refused = problem(refused, 400).await;
        assert!(refused["detail"].as_str().unwrap().contains(named), "{refused}");
    }
    problem(broker.raw(PATH, &[STRUCTURED], "{").await, 400).await;
    problem(broker.raw(PATH, &[("ce-specversion", "1.0")], "x").await, 400).await;
    let other = [("content-type", "application/cloudevents+avro")];
    problem(broker.raw(PATH, &other, "x").await, 400).await;
    assert_eq!(broker.raw(PATH, &[("ce-other", "1")], "x").await.status(), 201);
    broker.stop().await;
}
