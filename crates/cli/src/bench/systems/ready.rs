//! Does a server serve already, and which version is it of? Each is asked in its own way.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::Request;
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::bench::load::{Connection, Target};
use crate::bench::v3;

/// One question.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);
/// What a server says first is shorter.
const GREETING_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// Its status names a leader.
    Etcd,
    /// `/readyz` of a service of ours.
    Broker,
    /// The server's half of the handshake, which it gives when it has joined the others.
    Amqp,
    /// What it sends to whoever connects.
    Nats,
    /// `INFO`. A replica serves when it has the primary's data.
    Redis,
}

impl Greeting {
    pub(super) async fn version(self, target: &Target) -> anyhow::Result<String> {
        timeout(TIMEOUT, self.ask(target)).await.context("no answer")?
    }

    async fn ask(self, target: &Target) -> anyhow::Result<String> {
        match self {
            Self::Etcd => {
                let status = v3::status(target).await?;
                status.leader.context("it knows no leader")?;
                Ok(status.version)
            }
            Self::Broker => {
                let request = Request::get("/readyz").body(Bytes::new()).expect("it is a constant");
                let answer = Connection::open(target).await?.send(request).await?;
                ensure!(answer.status.is_success(), "/readyz answers {answer}");
                v3::own_version(target).await
            }
            Self::Amqp => {
                // The mechanisms of authentication stand behind the properties.
                amqp_version(&exchange(target, b"AMQP\0\0\x09\x01", b"PLAIN").await?)
            }
            Self::Nats => between(&exchange(target, b"", b"\r\n").await?, b"\"version\":\"", b'"'),
            Self::Redis => {
                let info = exchange(target, b"INFO\r\n", b"# Keyspace").await?;
                if memmem::find(&info, b"master_link_status:down").is_some() {
                    bail!("it does not follow its primary yet");
                }
                between(&info, b"redis_version:", b'\r')
            }
        }
    }
}

/// Sends `question` and reads up to `end`.
async fn exchange(target: &Target, question: &[u8], end: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut stream = target.connect().await?;
    stream.write_all(question).await.context("cannot ask")?;
    let mut answer = Vec::new();
    while memmem::find(&answer, end).is_none() {
        let read = stream.read_buf(&mut answer).await.context("no answer")?;
        ensure!(read != 0, "the connection is closed instead of an answer");
        ensure!(answer.len() <= GREETING_BYTES_MAX, "the answer does not end");
    }
    Ok(answer)
}

/// What stands between `before` and the next `after`.
fn between(text: &[u8], before: &[u8], after: u8) -> anyhow::Result<String> {
    let start = memmem::find(text, before).context("it names no version")? + before.len();
    let end = memchr::memchr(after, &text[start..]).context("it names no version")?;
    Ok(String::from_utf8_lossy(&text[start..start + end]).into_owned())
}

/// In the table of server properties: a name with its length, `S`, and a text with its own.
fn amqp_version(start: &[u8]) -> anyhow::Result<String> {
    const NAME: &[u8] = b"\x07versionS";
    let rest = memmem::find(start, NAME).and_then(|at| start.get(at + NAME.len()..));
    let (length, text) = rest.and_then(<[u8]>::split_first_chunk).context("it names no version")?;
    let text = text.get(..u32::from_be_bytes(*length) as usize).context("it names no version")?;
    Ok(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_greetings() {
        let amqp = b"\x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x063.10.8\0\0\0\x0eAMQPLAIN";
        assert_eq!(amqp_version(amqp).unwrap(), "3.10.8");
        assert!(amqp_version(&amqp[..30]).is_err());
        let nats = b"INFO {\"server_id\":\"X\",\"version\":\"2.15.2\",\"proto\":1}\r\n";
        assert_eq!(between(nats, b"\"version\":\"", b'"').unwrap(), "2.15.2");
        assert!(between(b"INFO {}", b"\"version\":\"", b'"').is_err());
    }
}
