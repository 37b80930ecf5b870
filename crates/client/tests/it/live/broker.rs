//! Topics, subscriptions and queues of a real broker.

use std::time::Duration;

use api::broker::{
    AckOutcome, Capacity, PublishLine, PullRequest, QueueSpec, RedriveRequest, SendLine,
    SubscriptionSpec, TopicSpec,
};
use client::broker::{Broker, Payload, Read, SendOptions, Source};
use client::idempotency_key;
use serde_json::json;
use serde_json::value::to_raw_value;

use super::in_time;
use crate::process::Service;

const SUBSCRIPTION: Source<'static> = Source::Subscription { topic: "flights", name: "late" };

async fn start() -> Option<(Service, Broker)> {
    let service = Service::start("broker", &[]).await?;
    let broker = Broker::new(service.client());
    Some((service, broker))
}

fn pull(max: u32) -> PullRequest {
    PullRequest { max: Some(max), wait_seconds: Some(10.0), ..PullRequest::default() }
}

fn line(data: &str) -> PublishLine {
    PublishLine { data: Some(to_raw_value(data).unwrap()), ..PublishLine::default() }
}

#[tokio::test]
async fn topics_are_published_read_and_followed() {
    let Some((_service, broker)) = start().await else { return };
    let view = broker.put_topic("flights", &TopicSpec::default()).await.unwrap();
    assert_eq!((view.name.as_str(), view.partitions), ("flights", 1));
    let payload = Payload::json(&json!({"carrier": "UA"})).unwrap().attribute("kind", "late");
    let payload = payload.idempotency_key(idempotency_key());
    let first = broker.publish("flights", Some("UA"), payload.clone()).await.unwrap();
    let again = broker.publish("flights", Some("UA"), payload).await.unwrap();
    assert_eq!((first[0].first, &again), (0, &first), "the same answer, one message");
    broker.publish_batch("flights", &[line("a"), line("b")], None).await.unwrap();

    let page = broker.read("flights", &Read::earliest()).await.unwrap();
    assert_eq!(page.messages.len(), 3);
    let message = &page.messages[0];
    assert_eq!(message.data.as_ref().unwrap().get(), r#"{"carrier":"UA"}"#);
    assert_eq!((message.key.as_deref(), &*message.attributes["kind"]), (Some("UA"), "late"));

    let mut stream = broker.stream("flights", &Read::earliest()).await.unwrap();
    for offset in 0..3 {
        let message = in_time("a message", stream.next()).await.unwrap();
        assert_eq!(message.offset, offset);
    }
    broker.publish("flights", None, Payload::bytes("live")).await.unwrap();
    assert_eq!(in_time("a live message", stream.next()).await.unwrap().offset, 3);
    drop(stream);

    assert_eq!(broker.topics().await.unwrap().topics.len(), 1);
    broker.delete_topic("flights").await.unwrap();
    assert_eq!(&*broker.topic("flights").await.unwrap_err().code, "topic-not-found");
}

#[tokio::test]
async fn a_subscription_hands_out_and_settles() {
    let Some((_service, broker)) = start().await else { return };
    broker.put_topic("flights", &TopicSpec::default()).await.unwrap();
    let spec = SubscriptionSpec { start: Some("earliest".into()), ..SubscriptionSpec::default() };
    broker.put_subscription("flights", "late", &spec).await.unwrap();
    broker.publish_batch("flights", &[line("a"), line("b"), line("c")], None).await.unwrap();

    let taken = broker.pull(SUBSCRIPTION, &pull(3)).await.unwrap().messages;
    let ids: Vec<String> = taken.iter().map(|message| message.ack_id.clone()).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(broker.ack(SUBSCRIPTION, vec![ids[0].clone()]).await.unwrap().ok, 1);
    let twice = broker.ack(SUBSCRIPTION, vec![ids[0].clone()]).await.unwrap();
    assert_eq!((twice.ok, twice.results[0].result), (0, AckOutcome::Unknown));
    let longer = Some(Duration::from_secs(60));
    assert_eq!(broker.extend(SUBSCRIPTION, vec![ids[1].clone()], longer).await.unwrap().ok, 1);
    let nacked = broker.nack(SUBSCRIPTION, vec![ids[2].clone()], Some(Duration::ZERO)).await;
    assert_eq!(nacked.unwrap().ok, 1);
    let again = broker.pull(SUBSCRIPTION, &pull(3)).await.unwrap().messages;
    assert_eq!((again.len(), again[0].delivery, &again[0].id), (1, 2, &taken[2].id));

    broker.ack(SUBSCRIPTION, vec![again[0].ack_id.clone()]).await.unwrap();
    let stats = broker.subscription("flights", "late").await.unwrap().stats;
    assert_eq!((stats.acked, stats.in_flight, stats.redelivered), (2, 1, 1));
    assert_eq!(broker.seek("flights", "late", "latest").await.unwrap().positions, [3]);
    assert_eq!(broker.subscriptions("flights").await.unwrap().subscriptions.len(), 1);
    broker.delete_subscription("flights", "late").await.unwrap();
    let gone = broker.pull(SUBSCRIPTION, &pull(1)).await.unwrap_err();
    assert_eq!(&*gone.code, "subscription-not-found");
}

#[tokio::test]
async fn a_queue_orders_refuses_and_gives_up() {
    let Some((_service, broker)) = start().await else { return };
    broker.put_queue("dead", &QueueSpec::default()).await.unwrap();
    let spec = QueueSpec {
        capacity: Capacity { messages: Some(3), bytes: None },
        max_deliveries: Some(1),
        dead_letter: Some("dead".into()),
        ..QueueSpec::default()
    };
    broker.put_queue("jobs", &spec).await.unwrap();
    let urgent = SendOptions { priority: Some(9), ..SendOptions::default() };
    broker.send("jobs", Payload::bytes("slow"), &SendOptions::default()).await.unwrap();
    broker.send("jobs", Payload::bytes("fast"), &urgent).await.unwrap();
    let line = || SendLine { data: Some(to_raw_value(&1).unwrap()), ..SendLine::default() };
    let full = broker.send_batch("jobs", &[line(), line()], None).await.unwrap_err();
    assert_eq!((&*full.code, full.status.unwrap().as_u16()), ("queue-full", 429));
    assert_eq!(broker.send_batch("jobs", &[line()], None).await.unwrap().count, 1);

    assert_eq!(broker.peek("jobs", Some(1)).await.unwrap().messages[0].priority, 9);
    let queue = Source::Queue("jobs");
    let taken = broker.pull(queue, &pull(1)).await.unwrap().messages;
    assert_eq!(taken[0].data.as_ref().map_or("none", |data| data.get()), r#""fast""#);
    broker.nack(queue, vec![taken[0].ack_id.clone()], None).await.unwrap();
    let dead = broker.pull(Source::Queue("dead"), &pull(1)).await.unwrap().messages;
    assert_eq!(dead[0].dead_letter.as_ref().unwrap().reason, "max-deliveries");
    broker
        .nack(Source::Queue("dead"), vec![dead[0].ack_id.clone()], Some(Duration::ZERO))
        .await
        .unwrap();
    assert_eq!(broker.redrive("jobs", &RedriveRequest::default()).await.unwrap().moved, 1);

    let stats = broker.queue("jobs").await.unwrap().stats;
    assert_eq!((stats.messages, stats.dead_lettered), (3, 1));
    assert_eq!(broker.purge("jobs").await.unwrap().removed, 3);
    assert_eq!(broker.queues().await.unwrap().queues.len(), 2);
    broker.delete_queue("jobs").await.unwrap();
    let none = PullRequest { wait_seconds: None, ..pull(1) };
    assert_eq!(&*broker.pull(queue, &none).await.unwrap_err().code, "queue-not-found");
}
