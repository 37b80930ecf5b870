//! Spans of a publish and its delivery.

use broker::Config;
use chassis::config::Correlation;
use serde_json::json;
use telemetry::testing::{RecordedSpan, record};
use telemetry::trace::{TraceContext, TraceId};

use crate::server::{Broker, read};
use crate::trio::Trio;

fn trace_of(response: &reqwest::Response) -> TraceId {
    let text = response.headers()["x-trace-id"].to_str().unwrap();
    let text = format!("00-{text}-00f067aa0ba902b7-01");
    TraceContext::parse(text.as_bytes()).unwrap().trace_id
}

fn named<'a>(spans: &'a [RecordedSpan], name: &str) -> &'a RecordedSpan {
    let found = spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("no `{name}` among {spans:?}"))
}

async fn publish_and_pull(broker: &Broker, headers: &[(&str, &str)]) -> (TraceId, TraceId) {
    broker.put("/v1/topics/t", json!({})).await;
    broker.put("/v1/topics/t/subscriptions/s", json!({})).await;
    let published = broker.raw("/v1/topics/t/messages", headers, "x").await;
    let pulled = broker.raw("/v1/topics/t/subscriptions/s/pull", &[], "").await;
    let traces = (trace_of(&published), trace_of(&pulled));
    assert_eq!(read(pulled).await["messages"].as_array().unwrap().len(), 1);
    traces
}

#[tokio::test]
async fn a_delivery_links_to_the_span_that_published_it() {
    let recorder = record();
    let broker = Broker::start().await;
    let (publish, pull) = publish_and_pull(&broker, &[]).await;
    let spans = recorder.trace(publish);
    let producer = named(&spans, "publish t");
    assert_eq!(producer.kind, "producer");
    assert_eq!(producer.attributes["messaging.destination.name"], "t");
    assert_eq!(producer.attributes["messaging.system"], "quartet");
    let spans = recorder.trace(pull);
    let receive = named(&spans, "receive t");
    assert_eq!(receive.kind, "internal");
    assert_eq!(receive.links, [producer.context]);
    assert_eq!(receive.attributes["messaging.batch.message_count"], "1");
    broker.stop().await;
}

#[tokio::test]
async fn a_message_that_brings_its_own_context_keeps_it() {
    const OWN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let recorder = record();
    let broker = Broker::start().await;
    let (publish, pull) = publish_and_pull(&broker, &[("x-attr-traceparent", OWN)]).await;
    let own = TraceContext::parse(OWN.as_bytes()).unwrap();
    let spans = recorder.trace(publish);
    // Made elsewhere: here it only passes by.
    assert_eq!(named(&spans, "publish t").kind, "internal");
    assert_eq!(named(&spans, "publish t").links, [own]);
    assert_eq!(named(&recorder.trace(pull), "receive t").links, [own]);
    let message = broker.get("/v1/topics/t/messages").await["messages"][0].clone();
    assert_eq!(message["attributes"]["traceparent"], OWN);
    broker.stop().await;
}

#[tokio::test]
async fn where_configured_a_delivery_also_shows_in_the_publishers_trace() {
    let recorder = record();
    let mut config = Config::default();
    config.base.telemetry.messaging.correlation = Correlation::Parent;
    let broker = Broker::start_with(config).await;
    let (publish, pull) = publish_and_pull(&broker, &[]).await;
    let spans = recorder.trace(publish);
    let (producer, joined) = (named(&spans, "publish t"), named(&spans, "receive t"));
    assert_eq!(joined.parent, Some(producer.context.span_id));
    let pulled = recorder.trace(pull);
    assert_eq!(joined.links, [named(&pulled, "receive t").context]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hop_to_another_broker_is_in_the_same_trace() {
    let recorder = record();
    let trio = Trio::start().await;
    trio.put(0, "/v1/queues/q", json!({ "replicas": 1 })).await;
    let mut hops = 0;
    for node in 0..3 {
        let sent = trio.send(node, "/v1/queues/q/messages", "x").await;
        assert_eq!(sent.status(), 201);
        let is_here = sent.headers()["x-quartet-node"] == trio.nodes[node].name;
        let spans = recorder.trace(trace_of(&sent));
        let kinds = |kind: &str| spans.iter().filter(|span| span.kind == kind).count();
        assert_eq!(named(&spans, "publish q").kind, "producer");
        // The request; elsewhere also the call and what it asked for.
        let expected = if is_here { (1, 0) } else { (2, 1) };
        assert_eq!((kinds("server"), kinds("client")), expected, "{spans:?}");
        hops += usize::from(!is_here);
    }
    assert_eq!(hops, 2);
    trio.stop().await;
}
