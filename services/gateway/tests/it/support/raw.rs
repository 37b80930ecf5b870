//! A client that sends exact bytes and sees exact bytes.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;
use super::backend::find;

/// One connection to a gateway.
pub(crate) struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(url: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap();
        Self { stream: TcpStream::connect(address).await.unwrap(), buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends what the other end may no longer want.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Everything until the other end closes.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let read = async { while let Ok(1..) = self.stream.read_buf(&mut self.buffer).await {} };
        tokio::time::timeout(PATIENCE, read).await.expect("the connection is closed");
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }

    /// Everything up to and including `end`.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        let read = async {
            loop {
                if let Some(at) = find(&self.buffer, end.as_bytes()) {
                    let taken: Vec<u8> = self.buffer.drain(..at + end.len()).collect();
                    return String::from_utf8_lossy(&taken).into_owned();
                }
                let len = self.stream.read_buf(&mut self.buffer).await.unwrap();
                let so_far = String::from_utf8_lossy(&self.buffer);
                assert!(len > 0, "closed before {end:?}: {so_far}");
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the bytes arrive")
    }

    /// The head of a response.
    pub(crate) async fn read_head(&mut self) -> String {
        self.read_until("\r\n\r\n").await
    }
}

/// Sends bytes on a new connection and reads until it is closed.
pub(crate) async fn exchange(url: &str, bytes: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::connect(url).await;
    raw.send(bytes).await;
    raw.read_to_end().await
}

/// The status code of a response.
pub(crate) fn status(response: &str) -> u16 {
    let code = response.split(' ').nth(1);
    code.and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no response: {response:?}"))
}

/// A GET that asks for the connection to be closed after it.
pub(crate) fn get(path: &str, extra: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: gw.test\r\nconnection: close\r\n{extra}\r\n")
}
