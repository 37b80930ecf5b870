//! One publish through the gateway and its later delivery are one story in spans.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

use crate::load::until;
use crate::node::{Node, ok};
use crate::otlp_sink::{Seen, Sink, hex};

/// Services export once in a while, and all that is left when they stop.
#[tokio::test(flavor = "multi_thread")]
async fn a_publish_through_the_gateway_is_one_tree_that_its_delivery_links_to() {
    let sink = Sink::start().await;
    let telemetry = format!("[telemetry]\notlp_endpoint = {:?}\n", sink.endpoint());
    let mut coordinator = Node::start_with("coordinator", &telemetry).await;
    let endpoints = format!("[coordinator]\nendpoints = [{:?}]\n{telemetry}", coordinator.url(""));
    let mut broker = Node::start_with("broker", &endpoints).await;
    let mut gateway = Node::start_with("gateway", &endpoints).await;
    until("the gateway finds the broker", || async {
        let answer = gateway.get("/broker/v1/topics").send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    })
    .await;

    ok(gateway.put("/broker/v1/topics/orders").json(&json!({}))).await;
    ok(gateway.put("/broker/v1/topics/orders/subscriptions/bill").json(&json!({}))).await;
    let published = ok(gateway.post("/broker/v1/topics/orders/messages").json(&json!(1))).await;
    let trace_id = header(&published, "x-trace-id");
    let pull = gateway.post("/broker/v1/topics/orders/subscriptions/bill/pull").json(&json!({}));
    let pulled = ok(pull).await;
    let pull_trace_id = header(&pulled, "x-trace-id");
    let delivered: Value = pulled.json().await.unwrap();

    for node in [&mut gateway, &mut broker, &mut coordinator] {
        node.terminate().await;
    }
    let spans = sink.spans();
    let of = |trace_id: &str| -> Vec<Seen> {
        spans.iter().filter(|seen| seen.trace_id() == trace_id).cloned().collect()
    };
    let producer = publish_is_a_tree(&of(&trace_id));

    // The message carries the context of the span that made it.
    let traceparent = delivered["messages"][0]["attributes"]["traceparent"].as_str();
    let expected = format!("00-{trace_id}-{}-01", hex(&producer.span.span_id));
    assert_eq!(traceparent, Some(&*expected), "{delivered}");

    let delivery = of(&pull_trace_id);
    let receive = one(&delivery, "quartet-broker receive orders");
    assert!(
        receive.span.links.iter().any(|link| link.span_id == producer.span.span_id),
        "the delivery does not link to the publish: {:?}",
        receive.span.links
    );
    names_are_of_services(&spans);
}

/// gateway server → gateway client → broker server → broker producer. Returns the last.
fn publish_is_a_tree(spans: &[Seen]) -> Seen {
    let root = spans.iter().find(|seen| seen.span.parent_span_id.is_empty());
    let root = root.unwrap_or_else(|| panic!("no root: {:?}", titles(spans)));
    assert_eq!(root.service, "quartet-gateway", "{:?}", titles(spans));
    assert_eq!(root.span.kind(), SpanKind::Server);

    let producer = one(spans, "quartet-broker publish orders");
    assert_eq!(producer.span.kind(), SpanKind::Producer);
    assert_eq!(producer.attribute("messaging.system").as_deref(), Some("quartet"));
    assert_eq!(producer.attribute("messaging.destination.name").as_deref(), Some("orders"));

    let server = parent(spans, &producer);
    assert_eq!(server.title(), "quartet-broker POST /v1/topics/{topic}/messages");
    assert_eq!(server.span.kind(), SpanKind::Server);
    let client = parent(spans, &server);
    assert_eq!(client.service, "quartet-gateway");
    assert_eq!(client.span.kind(), SpanKind::Client);
    assert!(client.is_child_of(root), "{:?}", titles(spans));

    for seen in spans.iter().filter(|seen| !seen.span.parent_span_id.is_empty()) {
        assert!(spans.iter().any(|other| seen.is_child_of(other)), "an orphan: {}", seen.title());
    }
    producer
}

/// `service.name` is the same on every node; the node is the instance.
fn names_are_of_services(spans: &[Seen]) {
    for seen in spans {
        let service = seen.service.strip_prefix("quartet-").unwrap_or_default();
        assert!(["coordinator", "broker", "gateway"].contains(&service), "{}", seen.service);
        assert_eq!(seen.instance, format!("{service}-1"));
    }
}

fn one(spans: &[Seen], title: &str) -> Seen {
    let found: Vec<&Seen> = spans.iter().filter(|seen| seen.title() == title).collect();
    assert_eq!(found.len(), 1, "`{title}` among {:?}", titles(spans));
    found[0].clone()
}

fn parent(spans: &[Seen], child: &Seen) -> Seen {
    let found = spans.iter().find(|seen| child.is_child_of(seen));
    found.unwrap_or_else(|| panic!("{} has no parent", child.title())).clone()
}

fn titles(spans: &[Seen]) -> Vec<String> {
    spans.iter().map(Seen::title).collect()
}

fn header(response: &reqwest::Response, name: &str) -> String {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_else(|| panic!("no {name}")).to_owned()
}
