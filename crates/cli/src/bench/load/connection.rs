//! A connection for what is not measured itself.

use std::fmt;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A server, as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    authority: String,
    host: HeaderValue,
}

impl Target {
    /// Takes `http://host:port`.
    pub(crate) fn parse(url: &str) -> anyhow::Result<Self> {
        let Some(rest) = url.strip_prefix("http://") else {
            bail!("`{url}`: the generator speaks plain HTTP; write http://host:port");
        };
        let authority = rest.trim_end_matches('/');
        if authority.contains('/') || !authority.contains(':') {
            bail!("`{url}` is not of the form http://host:port");
        }
        let host = HeaderValue::from_str(authority)
            .with_context(|| format!("`{url}` cannot be sent as a Host header"))?;
        Ok(Self { authority: authority.to_owned(), host })
    }

    pub(crate) fn host_and_port(&self) -> (&str, &str) {
        self.authority.rsplit_once(':').expect("`parse` has seen the colon")
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(&self.authority).await.context("cannot connect")?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        Ok(stream)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)
    }
}

/// One request at a time. Closed when dropped.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    host: HeaderValue,
    /// Moves the bytes; aborted with the connection.
    _driver: JoinSet<()>,
}

/// What came back, with all of its body.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Connection {
    pub(crate) async fn open(target: &Target) -> anyhow::Result<Self> {
        let stream = TokioIo::new(target.connect().await?);
        let (sender, connection) =
            http1::handshake(stream).await.context("cannot speak HTTP/1.1")?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Whoever waits for an answer hears of it, too.
            let _ = connection.await;
        });
        Ok(Self { sender, host: target.host.clone(), _driver: driver })
    }

    /// Sends one request and reads the whole answer.
    pub(crate) async fn send(&mut self, request: Request<Bytes>) -> anyhow::Result<Answer> {
        let mut request = request.map(Full::new);
        request.headers_mut().insert(HOST, self.host.clone());
        self.sender.ready().await.context("the connection is closed")?;
        let response = self.sender.send_request(request).await.context("no answer")?;
        let status = response.status();
        let body = response.into_body().collect().await.context("the answer breaks off")?;
        Ok(Answer { status, body: body.to_bytes() })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 200;
        let shown = &self.body[..self.body.len().min(SHOWN)];
        write!(f, "{}: {}", self.status, String::from_utf8_lossy(shown).trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_url_without_a_path() {
        assert_eq!(Target::parse("http://127.0.0.1:2379/").unwrap().to_string(), "127.0.0.1:2379");
        for url in ["https://a:1", "http://a:1/b", "http://a", "a:1"] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
