//! Webhooks: what an endpoint gets, and what its answers do.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Broker, data, problem};
use crate::trio::Trio;
use crate::webhook::{Act, Endpoint, OK};

const BASE: &str = "/v1/topics/t/subscriptions/s";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn pushing(endpoint: &Endpoint, more: Value) -> Broker {
    let broker = Broker::start().await;
    broker.put("/v1/queues/dead", json!({})).await;
    broker.put("/v1/topics/t", json!({})).await;
    let mut spec = json!({ "push": { "url": endpoint.url, "secret": SECRET } });
    for (name, value) in more.as_object().unwrap() {
        match name.as_str() {
            "format" | "timeout_seconds" => spec["push"][name] = value.clone(),
            _ => spec[name] = value.clone(),
        }
    }
    broker.put(BASE, spec).await;
    broker
}

async fn publish(broker: &Broker, headers: &[(&str, &str)], body: &str) {
    let answer = broker.raw("/v1/topics/t/messages", headers, body).await;
    assert_eq!(answer.status(), 201);
}

async fn until_done(broker: &Broker, acked: u64) {
    broker.until(BASE, |seen| seen["stats"]["acked"] == acked && seen["stats"]["lag"] == 0).await;
}

#[tokio::test]
async fn a_message_is_brought_signed_as_it_was_published() {
    let endpoint = Endpoint::start(&[], OK).await;
    let broker = pushing(&endpoint, json!({})).await;
    let headers = [("x-attr-kind", "a"), ("x-key", "k"), ("content-type", "application/json")];
    publish(&broker, &headers, r#"{"a": 1.0}"#).await;
    let call = endpoint.calls(1).await.remove(0);
    assert_eq!(call.text(), r#"{"a": 1.0}"#);
    assert!(call.is_signed(SECRET), "{call:?}");
    let header = |name| call.header(name);
    assert_eq!((header("content-type"), header("x-attr-kind")), ("application/json", "a"));
    assert_eq!((header("x-key"), header("x-offset"), header("x-topic")), ("k", "0", "t"));
    assert_eq!(header("traceparent").len(), 55);
    assert!(!header("webhook-id").contains('.'));
    until_done(&broker, 1).await;
    broker.stop().await;
}

#[tokio::test]
async fn a_secret_is_drawn_shown_once_and_rotated() {
    let endpoint = Endpoint::start(&[], OK).await;
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({})).await;
    let spec = json!({ "push": { "url": endpoint.url } });
    let first = broker.put(BASE, spec.clone()).await["config"]["push"]["secret"].clone();
    let first = first.as_str().unwrap();
    assert!(broker.put(BASE, spec).await["config"]["push"]["secret"].is_null());
    assert!(broker.get(BASE).await["config"]["push"]["secret"].is_null());
    publish(&broker, &[], "x").await;
    assert!(endpoint.calls(1).await[0].is_signed(first));
    let second = broker.post(&format!("{BASE}/rotate-secret"), json!({})).await["secret"].clone();
    let tested = broker.post(&format!("{BASE}/test"), json!({})).await;
    assert_eq!((&tested["delivered"], &tested["status"]), (&json!(true), &json!(204)));
    let call = endpoint.calls(2).await.remove(1);
    assert!(call.is_signed(first) && call.is_signed(second.as_str().unwrap()), "{call:?}");
    broker.stop().await;
}

#[tokio::test]
async fn what_fails_comes_again_under_its_id_and_then_goes_to_the_dead_letters() {
    let fails = Act::Answer("500 Internal Server Error\r\n");
    let script = [fails.clone(), Act::HangUp, Act::Answer("302 Found\r\nlocation: /other\r\n")];
    let endpoint = Endpoint::start(&script, OK).await;
    let broker = pushing(&endpoint, json!({ "max_deliveries": 3, "dead_letter": "dead" })).await;
    publish(&broker, &[], "x").await;
    let dead = broker.take("/v1/queues/dead/receive", 1, 30.0).await;
    assert_eq!(data(&dead), ["x"]);
    let failure = dead[0]["dead_letter"]["failure"].as_str().unwrap();
    assert!(failure.contains("302"), "{failure}");
    let calls = endpoint.calls(3).await;
    assert!(calls.iter().all(|call| call.header("webhook-id") == calls[0].header("webhook-id")));
    assert_eq!(calls[2].header("x-delivery"), "3");
    publish(&broker, &[], "y").await;
    assert_eq!(endpoint.calls(4).await[3].text(), "y");
    broker.stop().await;
}

#[tokio::test]
async fn an_endpoint_without_time_or_away_costs_no_delivery() {
    let script = [
        Act::Answer("429 Too Many Requests\r\nretry-after: 1\r\n"),
        Act::Answer("503 Service Unavailable\r\n"),
        Act::Answer("502 Bad Gateway\r\n"),
    ];
    let endpoint = Endpoint::start(&script, OK).await;
    let more = json!({ "max_deliveries": 1, "dead_letter": "dead" });
    let broker = pushing(&endpoint, more).await;
    publish(&broker, &[], "x").await;
    assert_eq!(endpoint.calls(4).await.len(), 4);
    until_done(&broker, 1).await;
    assert_eq!(broker.get(BASE).await["stats"]["dead_lettered"], 0);
    broker.stop().await;
}

#[tokio::test]
async fn while_an_endpoint_is_down_messages_wait_and_none_is_used_up() {
    let endpoint = Endpoint::start(&[], Act::Answer("503 Service Unavailable\r\n")).await;
    let more = json!({ "max_deliveries": 2, "dead_letter": "dead" });
    let broker = pushing(&endpoint, more).await;
    for n in 0..50 {
        publish(&broker, &[], &n.to_string()).await;
    }
    let _ = endpoint.calls(6).await;
    broker.until(BASE, |seen| seen["stats"]["in_flight"] == 0).await;
    let before = endpoint.count();
    assert!(before < 50, "the breaker should have opened: {before} calls");
    endpoint.now(OK);
    until_done(&broker, 50).await;
    assert_eq!(broker.get(BASE).await["stats"]["dead_lettered"], 0);
    broker.stop().await;
}

#[tokio::test]
async fn who_is_slow_is_given_up_in_time() {
    let endpoint = Endpoint::start(&[Act::Hang], OK).await;
    let broker = pushing(&endpoint, json!({ "timeout_seconds": 0.2 })).await;
    publish(&broker, &[], "x").await;
    let calls = endpoint.calls(2).await;
    assert_eq!(calls[0].header("webhook-id"), calls[1].header("webhook-id"));
    until_done(&broker, 1).await;
    broker.stop().await;
}

#[tokio::test]
async fn who_is_gone_is_left_alone_until_somebody_says_otherwise() {
    let endpoint = Endpoint::start(&[Act::Answer("410 Gone\r\n")], OK).await;
    let broker = pushing(&endpoint, json!({})).await;
    publish(&broker, &[], "x").await;
    broker.until(BASE, |seen| !seen["push_paused"].is_null()).await;
    let seen = broker.get(BASE).await;
    assert!(seen["push_paused"]["reason"].as_str().unwrap().contains("410"), "{seen}");
    assert_eq!(seen["stats"]["lag"], 1);
    publish(&broker, &[], "y").await;
    assert_eq!(endpoint.count(), 1);
    let resumed = broker.post(&format!("{BASE}/resume"), json!({})).await;
    assert!(resumed["push_paused"].is_null(), "{resumed}");
    until_done(&broker, 2).await;
    broker.stop().await;
}

#[tokio::test]
async fn messages_of_a_key_are_pushed_one_at_a_time() {
    let fails = Act::Answer("500 Internal Server Error\r\n");
    let endpoint = Endpoint::start(&[fails], OK).await;
    let broker = pushing(&endpoint, json!({ "ordered_by_key": true })).await;
    for n in 0..10 {
        publish(&broker, &[("x-key", "k")], &n.to_string()).await;
    }
    let calls = endpoint.calls(11).await;
    let texts: Vec<_> = calls.iter().map(|call| call.text()).collect();
    assert_eq!(texts, ["0", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    broker.stop().await;
}

#[tokio::test]
async fn a_message_is_brought_as_a_cloud_event() {
    let endpoint = Endpoint::start(&[], OK).await;
    let broker = pushing(&endpoint, json!({ "format": "cloudevents-structured" })).await;
    publish(&broker, &[("content-type", "text/plain")], "hello").await;
    let call = endpoint.calls(1).await.remove(0);
    assert_eq!(call.header("content-type"), "application/cloudevents+json");
    let event: Value = serde_json::from_slice(&call.body).unwrap();
    assert_eq!((&event["data"], &event["specversion"]), (&json!("hello"), &json!("1.0")));
    assert_eq!(event["source"], "/v1/topics/t");
    let binary = json!({ "push": { "url": endpoint.url, "format": "cloudevents-binary" } });
    broker.put(BASE, binary).await;
    publish(&broker, &[("content-type", "text/plain")], "again").await;
    let call = endpoint.calls(2).await.remove(1);
    assert_eq!((call.text(), call.header("content-type")), ("again", "text/plain"));
    assert_eq!((call.header("ce-specversion"), call.header("ce-type")), ("1.0", "quartet.message"));
    assert!(call.is_signed(SECRET), "the secret stays where none is named");
    broker.stop().await;
}

#[tokio::test]
async fn bad_webhooks_are_refused() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({})).await;
    for push in [
        json!({}),
        json!({ "url": "nonsense" }),
        json!({ "url": "ftp://example.com/" }),
        json!({ "url": "https://example.com/" }),
        json!({ "url": "http://10.1.2.3/" }),
        json!({ "url": "http://169.254.169.254/latest/meta-data" }),
        json!({ "url": "http://[fd00::1]/" }),
        json!({ "url": "http://user:word@example.com/" }),
        json!({ "url": "http://example.com/", "secret": "whsec_AAAA" }),
        json!({ "url": "http://example.com/", "max_in_flight": 0 }),
        json!({ "url": "http://example.com/", "timeout_seconds": 1000 }),
    ] {
        let request = broker.request(Method::PUT, BASE).json(&json!({ "push": push }));
        problem(request.send().await.unwrap(), 400).await;
    }
    broker.put(BASE, json!({})).await;
    for what in ["resume", "test", "rotate-secret"] {
        let request = broker.request(Method::POST, &format!("{BASE}/{what}"));
        assert_eq!(problem(request.send().await.unwrap(), 409).await["code"], "conflict");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_leader_dies_in_its_call_comes_again_under_its_id() {
    let endpoint = Endpoint::start(&[Act::Hang], OK).await;
    let mut trio = Trio::start().await;
    trio.put(0, "/v1/topics/t", json!({})).await;
    let push = json!({ "url": endpoint.url, "timeout_seconds": 2 });
    trio.put(0, BASE, json!({ "push": push })).await;
    trio.send(1, "/v1/topics/t/messages", "x").await;
    let _ = endpoint.calls(1).await;
    let groups = trio.get(0, "/v1/cluster/groups").await;
    let groups = groups["groups"].as_array().unwrap().clone();
    let group = groups.into_iter().find(|group| group["topic"] == "t").unwrap();
    let leads = |node: &crate::trio::Node| group["leader"] == node.name.as_str();
    let leader = trio.nodes.iter().position(leads).unwrap();
    trio.nodes[leader].kill().await;
    let calls = endpoint.calls(2).await;
    assert_eq!(calls[0].header("webhook-id"), calls[1].header("webhook-id"));
    assert_eq!(calls[1].text(), "x");
    let other = (leader + 1) % 3;
    trio.until(other, BASE, |seen| seen["stats"]["acked"] == 1 && seen["stats"]["lag"] == 0).await;
    trio.stop().await;
}
