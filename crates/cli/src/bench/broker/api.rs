//! The broker's own HTTP API: requests that are measured, and what a measurement needs.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::events::TIME_DIGITS;
use super::super::load::Connection;
use super::super::systems::Cluster;

/// Copies are made within this time.
const COPIES_TIMEOUT: Duration = Duration::from_secs(30);
/// Nobody has too much to do for longer.
const OVERLOAD_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// So many different payloads are sent.
pub(super) const PAYLOADS: usize = 64;

/// Text, so that every client takes it as it is; without a pattern, so that nothing compresses it.
pub(super) fn payload(number: usize, size: usize) -> String {
    let mut bytes = vec![0; size];
    StdRng::seed_from_u64(number as u64).fill_bytes(&mut bytes);
    let mut text = STANDARD_NO_PAD.encode(bytes);
    text.truncate(size);
    text
}

/// The same, but it begins with its time of sending, or with another number.
pub(super) fn timed(number: u64, payload: &str) -> String {
    format!("{number:0TIME_DIGITS$}{}", &payload[TIME_DIGITS..])
}

pub(super) fn request(
    method: Method,
    path: &str,
    content_type: &str,
    body: impl Into<Bytes>,
) -> Request<Bytes> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, content_type)
        .body(body.into())
        .expect("paths of ours need no escaping")
}

/// One message.
pub(super) fn publish(path: &str, payload: String) -> Request<Bytes> {
    request(Method::POST, path, "text/plain", payload)
}

/// Many messages, one a line.
pub(super) fn publish_all(
    path: &str,
    payloads: impl IntoIterator<Item = String>,
) -> Request<Bytes> {
    let line = |payload: String| format!("{{\"data\":\"{payload}\"}}\n");
    let lines: String = payloads.into_iter().map(line).collect();
    request(Method::POST, path, "application/x-ndjson", lines)
}

pub(super) fn post(path: &str, body: &Value) -> Request<Bytes> {
    request(Method::POST, path, "application/json", body.to_string())
}

pub(super) fn messages_of(topic: &str) -> String {
    format!("/v1/topics/{topic}/messages")
}

/// Sends a request that has to succeed, and reads JSON.
pub(super) async fn call(
    connection: &mut Connection,
    request: Request<Bytes>,
) -> anyhow::Result<Value> {
    let what = format!("{} {}", request.method(), request.uri());
    let answer = connection.send(request).await?;
    ensure!(answer.status.is_success(), "{what} answers {answer}");
    serde_json::from_slice(&answer.body).with_context(|| format!("{what} answers no JSON"))
}

/// A topic of one partition, with a copy on every node.
pub(super) async fn create_topic(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    let settings = json!({ "partitions": 1, "replicas": cluster.members.len() });
    create(cluster, &format!("/v1/topics/{name}"), &settings).await
}

/// A queue with room for `messages`, with a copy on every node.
pub(super) async fn create_queue(
    cluster: &Cluster,
    name: &str,
    messages: usize,
) -> anyhow::Result<()> {
    let settings = json!({
        "replicas": cluster.members.len(),
        "capacity": { "messages": messages, "bytes": messages * 2048 },
    });
    create(cluster, &format!("/v1/queues/{name}"), &settings).await
}

async fn create(cluster: &Cluster, path: &str, settings: &Value) -> anyhow::Result<()> {
    let mut connection = Connection::open(&cluster.members[0].target).await?;
    let request = request(Method::PUT, path, "application/json", settings.to_string());
    until_taken(&mut connection, &request).await?;
    Ok(())
}

/// Sends it again while the broker says that it has too much to do, as clients are told to. Returns
/// how often it said so.
pub(super) async fn until_taken(
    connection: &mut Connection,
    request: &Request<Bytes>,
) -> anyhow::Result<u64> {
    let began = Instant::now();
    for refusals in 0.. {
        let answer = connection.send(request.clone()).await?;
        if answer.status.is_success() {
            return Ok(refusals);
        }
        let is_over = OVERLOAD_MAX < began.elapsed();
        ensure!(
            answer.status == StatusCode::SERVICE_UNAVAILABLE && !is_over,
            "{} {} answers {answer}",
            request.method(),
            request.uri()
        );
        sleep(POLL).await;
    }
    unreachable!("there is always a next number")
}

/// Which member leads the topic or queue, once all copies are there.
pub(super) async fn leader(cluster: &Cluster, name: &str) -> anyhow::Result<usize> {
    let deadline = Instant::now() + COPIES_TIMEOUT;
    loop {
        if let Ok(Some(leader)) = find_leader(cluster, name, cluster.members.len()).await {
            return Ok(leader);
        }
        if deadline <= Instant::now() {
            bail!("`{name}` has no leader, or too few copies");
        }
        sleep(POLL).await;
    }
}

/// The numbers of nodes are in their names.
async fn find_leader(
    cluster: &Cluster,
    name: &str,
    copies: usize,
) -> anyhow::Result<Option<usize>> {
    for member in &cluster.members {
        let Ok(mut connection) = Connection::open(&member.target).await else { continue };
        let request = Request::get(api::broker::CLUSTER_GROUPS)
            .body(Bytes::new())
            .expect("the path is a constant");
        let Ok(groups) = call(&mut connection, request).await else { continue };
        let groups: api::broker::Groups =
            serde_json::from_value(groups).context("the list of groups is not understood")?;
        let is_it = |owner: &Option<String>| owner.as_deref() == Some(name);
        let group =
            groups.groups.into_iter().find(|group| is_it(&group.topic) || is_it(&group.queue));
        if let Some(group) = group
            && group.replicas.len() == copies
            && let Some(leader) = group.leader
        {
            let number = leader.rsplit_once('-').and_then(|(_, number)| number.parse().ok());
            return Ok(number.and_then(|number: usize| number.checked_sub(1)));
        }
    }
    Ok(None)
}

/// A counter in `/metrics`, over all members.
pub(super) async fn counter(cluster: &Cluster, name: &str) -> anyhow::Result<u64> {
    let mut total = 0;
    for member in &cluster.members {
        let mut connection = Connection::open(&member.target).await?;
        let request = Request::get("/metrics").body(Bytes::new()).expect("the path is a constant");
        let answer = connection.send(request).await?;
        let text = String::from_utf8_lossy(&answer.body);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.and_then(|value| value.trim().parse::<u64>().ok());
        total += value.with_context(|| format!("/metrics shows no {name}"))?;
    }
    Ok(total)
}

pub(super) async fn fsyncs(cluster: &Cluster) -> anyhow::Result<u64> {
    counter(cluster, "storage_fsyncs_total").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_length_and_differs_from_others() {
        assert_eq!((payload(1, 256).len(), payload(1, 1_024).len()), (256, 1_024));
        assert_ne!(payload(1, 256), payload(2, 256));
    }
}
