//! Calls of the etcd v3 JSON API that set a measurement up. Both systems speak it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use anyhow::{Context, bail};

use super::load::{Connection, Target};

/// A member, as it sees itself.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) member: String,
    pub(crate) leader: Option<String>,
    pub(crate) term: u64,
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A string of bytes in an answer, where it is text.
pub(crate) fn text(encoded: &Value) -> Option<String> {
    String::from_utf8(STANDARD.decode(encoded.as_str()?).ok()?).ok()
}

pub(crate) fn request(path: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    Request::post(path)
        .header(CONTENT_TYPE, "application/json")
        .body(body.into())
        .expect("the path is a constant")
}

pub(crate) async fn call(
    connection: &mut Connection,
    path: &str,
    body: &Value,
) -> anyhow::Result<Value> {
    let answer = connection.send(request(path, body.to_string())).await?;
    if !answer.status.is_success() {
        bail!("{path} answers {answer}");
    }
    serde_json::from_slice(&answer.body).with_context(|| format!("{path} answers no JSON"))
}

pub(crate) async fn status(target: &Target) -> anyhow::Result<Status> {
    let mut connection = Connection::open(target).await?;
    let answer = call(&mut connection, "/v3/maintenance/status", &json!({})).await?;
    // 64-bit numbers are strings in this API; zero is left out.
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Ok(Status {
        version: text(&answer["version"]).unwrap_or_default(),
        member: text(&answer["header"]["member_id"]).context("the status names no member")?,
        leader: text(&answer["leader"]),
        term: text(&answer["raftTerm"])
            .and_then(|term| term.parse().ok())
            .context("the status names no term")?,
    })
}

/// Of a service of ours, which says under `etcdserver` what `/v3` behaves like.
pub(crate) async fn own_version(target: &Target) -> anyhow::Result<String> {
    let request = Request::get("/version").body(Bytes::new()).expect("it is a constant");
    let answer = Connection::open(target).await?.send(request).await?;
    let answer: Value = serde_json::from_slice(&answer.body).context("/version is no JSON")?;
    Ok(answer["version"].as_str().context("/version names no version")?.to_owned())
}
