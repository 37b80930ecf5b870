//! Live streams: all who listen hear everything, in order, whoever else is slow or gone.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::server::Broker;
use crate::trio::Trio;

/// A stream that is read message by message.
struct Stream {
    response: Response,
    text: Vec<u8>,
    last: Option<String>,
}

impl Stream {
    async fn open(request: RequestBuilder) -> Self {
        let response = request.header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self { response, text: Vec::new(), last: None }
    }

    /// The next message; none at the end of the stream.
    async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let event = String::from_utf8(self.text.drain(..end + 2).collect()).unwrap();
                let field = |name| event.lines().find_map(|line| line.strip_prefix(name));
                if let Some(data) = field("data: ") {
                    self.last = field("id: ").map(str::to_owned);
                    return Some(serde_json::from_str(data).unwrap());
                }
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.text.extend_from_slice(&chunk),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The next offsets of its only partition.
    async fn offsets(&mut self, count: u64) -> Vec<u64> {
        let mut offsets = Vec::new();
        for _ in 0..count {
            let message = self.next().await.expect("the stream goes on");
            offsets.push(message["offset"].as_u64().unwrap());
        }
        offsets
    }
}

fn listen(broker: &Broker, query: &str) -> impl Future<Output = Stream> + use<> {
    Stream::open(broker.request(Method::GET, &format!("/v1/topics/t/messages{query}")))
}

async fn publish(broker: &Broker, key: &str, body: &str) {
    let headers = [("idempotency-key", key)];
    assert_eq!(broker.raw("/v1/topics/t/messages", &headers, body).await.status(), 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_listeners_hear_everything_in_order() {
    const MESSAGES: u64 = 60;
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({})).await;
    publish(&broker, "before", "x").await;
    // Half of them from the beginning: the ring begins later.
    let query = |number| if number % 2 == 0 { "?from=earliest" } else { "?from=latest" };
    let streams = join_all((0..1_000).map(|number| listen(&broker, query(number)))).await;
    let listening = streams.into_iter().enumerate().map(async |(number, mut stream)| {
        let first = (number % 2) as u64;
        let offsets = stream.offsets(MESSAGES + 1 - first).await;
        assert_eq!(offsets, (first..=MESSAGES).collect::<Vec<_>>());
    });
    let publishing = async {
        for number in 0..MESSAGES {
            publish(&broker, &number.to_string(), "x").await;
            if number % 7 == 0 {
                // A repeat is in the log and nowhere else.
                publish(&broker, &number.to_string(), "x").await;
            }
        }
    };
    tokio::join!(join_all(listening), publishing);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stands_still_holds_nobody_and_misses_nothing() {
    // More than connections and the ring hold.
    const MESSAGES: u64 = 400;
    let body = "x".repeat(64 << 10);
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({})).await;
    let mut still = listen(&broker, "").await;
    let streams = join_all((0..3).map(|_| listen(&broker, ""))).await;
    let listening = streams.into_iter().map(async |mut stream| {
        assert_eq!(stream.offsets(MESSAGES).await, (0..MESSAGES).collect::<Vec<_>>());
    });
    let publishing = async {
        for number in 0..MESSAGES {
            publish(&broker, &number.to_string(), &body).await;
        }
    };
    tokio::join!(join_all(listening), publishing);
    assert_eq!(still.offsets(MESSAGES).await, (0..MESSAGES).collect::<Vec<_>>());
    assert_eq!(still.last.as_deref(), Some("399"));
    drop(still);
    // Nobody listens any more; the next one does.
    let mut late = listen(&broker, "?from=398").await;
    assert_eq!(late.offsets(2).await, [398, 399]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_topic() {
    let broker = Broker::start().await;
    broker.put("/v1/topics/t", json!({})).await;
    let mut stream = listen(&broker, "").await;
    publish(&broker, "1", "x").await;
    assert_eq!(stream.offsets(1).await, [0]);
    let deleted = broker.request(Method::DELETE, "/v1/topics/t").send().await.unwrap();
    assert!(deleted.status().is_success());
    assert!(stream.next().await.is_none());
    broker.put("/v1/topics/t", json!({})).await;
    let mut stream = listen(&broker, "?from=earliest").await;
    publish(&broker, "1", "y").await;
    assert_eq!(stream.next().await.unwrap()["data"], "y");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn partitions_of_other_brokers_are_heard() {
    let trio = Trio::start().await;
    trio.put(0, "/v1/topics/t", json!({ "partitions": 3, "replicas": 1 })).await;
    let path = "/v1/topics/t/messages";
    let mut streams = Vec::new();
    for node in 0..3 {
        streams.push(Stream::open(trio.request(node, Method::GET, path)).await);
    }
    for number in 0..30 {
        let sent = trio.send(number % 3, path, &number.to_string()).await;
        assert_eq!(sent.status(), 201);
    }
    for stream in &mut streams {
        let mut next = [0_u64; 3];
        for _ in 0..30 {
            let message = stream.next().await.expect("the stream goes on");
            let partition = usize::try_from(message["partition"].as_u64().unwrap()).unwrap();
            assert_eq!(message["offset"], next[partition]);
            next[partition] += 1;
        }
        let id = format!("0:{},1:{},2:{}", next[0], next[1], next[2]);
        assert_eq!(stream.last, Some(id));
    }
    trio.stop().await;
}

/// What was on its way to a leader that dies has no known outcome: the same again, then.
async fn publish_once(trio: &Trio, node: usize, path: &str, body: &str) {
    let publishing = async {
        loop {
            let request = trio.request(node, Method::POST, path).header("idempotency-key", body);
            match request.body(body.to_owned()).send().await.unwrap().status().as_u16() {
                201 => return,
                503 | 504 => tokio::task::yield_now().await,
                status => panic!("{status}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), publishing).await.expect("somebody leads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_goes_on_when_the_leader_is_killed() {
    let mut trio = Trio::start().await;
    trio.put(0, "/v1/topics/t", json!({})).await;
    let path = "/v1/topics/t/messages";
    assert_eq!(trio.send(0, path, "0").await.status(), 201);
    let leader = trio.leader_of_topic(0, "t").await.expect("somebody leads");
    let left: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    let mut streams = Vec::new();
    for node in &left {
        let request = trio.request(*node, Method::GET, &format!("{path}?from=earliest"));
        streams.push(Stream::open(request).await);
    }
    for number in 1..40 {
        if number == 20 {
            trio.nodes[leader].kill().await;
        }
        publish_once(&trio, left[number % 2], path, &number.to_string()).await;
    }
    for stream in &mut streams {
        for number in 0..40 {
            let message = stream.next().await.expect("the stream goes on");
            assert_eq!(message["offset"], number);
            assert_eq!(message["data"], number.to_string());
        }
    }
    trio.stop().await;
}
