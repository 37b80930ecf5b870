//! Following every topic that matches.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Broker, problem};

/// The events of a stream that ends after `limit`, with the id of the last.
async fn events(broker: &Broker, query: &str, last: Option<&str>) -> (Vec<Value>, Option<String>) {
    let request = broker.request(Method::GET, &format!("/v1/subjects?{query}"));
    let request = match last {
        Some(last) => request.header("last-event-id", last),
        None => request,
    };
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let text = answer.text().await.unwrap();
    let field = |name: &'static str| text.lines().filter_map(move |it| it.strip_prefix(name));
    let events = field("data: ").map(|data| serde_json::from_str(data).unwrap()).collect();
    (events, field("id: ").next_back().map(str::to_owned))
}

/// What was heard, in an order of its own: topics are read side by side.
fn heard(events: &[Value]) -> Vec<String> {
    let text = |event: &Value| format!("{} {}", event["topic"].as_str().unwrap(), event["data"]);
    let mut heard: Vec<String> = events.iter().map(text).collect();
    heard.sort();
    heard
}

async fn publish(broker: &Broker, topic: &str, body: &str) {
    let path = format!("/v1/topics/{topic}/messages");
    assert_eq!(broker.raw(&path, &[], body).await.status(), 201);
}

#[tokio::test]
async fn a_pattern_is_followed_over_topics_and_resumes() {
    let broker = Broker::start().await;
    for topic in ["orders.eu.created", "orders.us.created", "orders.eu.gone", "orders.created"] {
        broker.put(&format!("/v1/topics/{topic}"), json!({ "partitions": 2 })).await;
        publish(&broker, topic, "1").await;
    }
    let (all, last) = events(&broker, "match=orders.*.created&from=earliest&limit=2", None).await;
    assert_eq!(heard(&all), ["orders.eu.created \"1\"", "orders.us.created \"1\""]);
    let (rest, _) = events(&broker, "match=orders.>&from=earliest&limit=4", None).await;
    assert_eq!(rest.len(), 4);

    // One was made while nobody listened; it is heard from its beginning.
    publish(&broker, "orders.us.created", "2").await;
    broker.put("/v1/topics/orders.asia.created", json!({})).await;
    publish(&broker, "orders.asia.created", "3").await;
    let query = "match=orders.*.created&limit=2";
    let (more, _) = events(&broker, query, last.as_deref()).await;
    assert_eq!(heard(&more), ["orders.asia.created \"3\"", "orders.us.created \"2\""]);
    broker.stop().await;
}

#[tokio::test]
async fn a_topic_made_while_somebody_listens_is_heard_from_its_beginning() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/a.x", json!({})).await;
    let listening = events(&broker, "match=a.*&from=earliest&limit=2", None);
    let publishing = async {
        publish(&broker, "a.x", "1").await;
        broker.put("/v1/topics/a.y", json!({})).await;
        publish(&broker, "a.y", "2").await;
    };
    let ((events, _), ()) = tokio::join!(listening, publishing);
    assert_eq!(heard(&events), ["a.x \"1\"", "a.y \"2\""]);
    broker.stop().await;
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused() {
    let broker = Broker::start().await;
    for query in ["", "match=a..*b", "match=>.a", "match=a&from=7", "match=a%2Fb"] {
        let request = broker.request(Method::GET, &format!("/v1/subjects?{query}"));
        problem(request.send().await.unwrap(), 400).await;
    }
    let request = broker.request(Method::GET, "/v1/subjects?match=a").header("last-event-id", "7");
    problem(request.send().await.unwrap(), 400).await;
    broker.stop().await;
}
