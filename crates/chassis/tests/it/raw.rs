//! A client that sends exactly these bytes and sees exactly those.

use std::time::Duration;

use chassis::testing::Running;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::service::Config;

/// Longer than anything here takes; what has not happened by then does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A request that is answered with `7`.
pub(crate) const REQUEST: &[u8] = b"GET /items/7 HTTP/1.1\r\nhost: trial\r\n\r\n";

pub(crate) struct Raw(pub(crate) TcpStream);

/// One answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Raw {
    pub(crate) async fn connect(server: &Running<Config>) -> Self {
        Self(TcpStream::connect(server.context.listen).await.unwrap())
    }

    /// The server may have stopped listening halfway: that is its right.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).await;
    }

    /// Reads until the peer closes. A reset is a way of closing.
    pub(crate) async fn until_closed(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut bytes)).await.expect("closed in time");
        bytes
    }

    /// Reads one answer with a `content-length`.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> impl Future<Output = Answer> {
        let location = std::panic::Location::caller();
        async move {
            let mut bytes = Vec::new();
            loop {
                if let Some(answer) = Answer::parse(&bytes) {
                    return answer;
                }
                let read = timeout(PATIENCE, self.0.read_buf(&mut bytes)).await;
                let read = read.expect("an answer in time").unwrap();
                assert_ne!(read, 0, "{location}: {}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}

impl Answer {
    /// `None` while it is not complete.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let answer = Self { head: head.to_owned(), body: body.to_owned() };
        let len: usize = answer.header("content-length").map_or(0, |len| len.parse().unwrap());
        (len <= body.len()).then_some(answer)
    }

    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.into_iter().find_map(|(n, value)| n.eq_ignore_ascii_case(name).then_some(value))
    }
}
