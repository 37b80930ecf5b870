//! An answer without an end, read by one of very many at the least possible cost: all that a
//! thread reads goes through one space, which so stays in the processor's cache, and nothing is
//! copied out of it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::ready;

use anyhow::{Context, bail, ensure};
use bytes::{Bytes, BytesMut};
use http::Request;
use httparse::Status;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::Target;
use super::exchange::{self, MAX_HEADERS, Written};

/// What is read at once.
const SPACE_BYTES: usize = 128 << 10;
/// The line before a chunk: its length, and perhaps more.
const MARK_BYTES_MAX: usize = 256;

/// Where the streams of a thread are read.
pub(crate) struct Space(RefCell<Box<[u8]>>);

impl Default for Space {
    fn default() -> Self {
        Self(RefCell::new(vec![0; SPACE_BYTES].into()))
    }
}

pub(crate) struct Stream {
    socket: TcpStream,
    chunks: Chunks,
    /// What came with the head.
    begun: BytesMut,
}

impl Stream {
    /// Sends the request, and returns when the answer has begun.
    pub(crate) async fn open(target: &Target, request: &Request<Bytes>) -> anyhow::Result<Self> {
        let mut socket = target.connect().await?;
        let mut output = Vec::new();
        Written::new(request).write(&exchange::host(target), &mut output);
        socket.write_all(&output).await.context("cannot send")?;
        let mut begun = BytesMut::new();
        loop {
            let read = socket.read_buf(&mut begun).await.context("no answer")?;
            ensure!(read != 0, "the connection is closed instead of an answer");
            if let Some(head) = head_len(&begun)? {
                let _ = begun.split_to(head);
                return Ok(Self { socket, chunks: Chunks::default(), begun });
            }
        }
    }

    /// Waits until something is there and hands it to `take`, perhaps in several parts.
    pub(crate) async fn read(
        &mut self,
        space: &Space,
        mut take: impl FnMut(&[u8]),
    ) -> anyhow::Result<()> {
        if !self.begun.is_empty() {
            return self.chunks.feed(&self.begun.split(), take);
        }
        poll_fn(|cx| {
            let mut space = space.0.borrow_mut();
            let mut buffer = ReadBuf::new(&mut space);
            let read = Pin::new(&mut self.socket).poll_read(cx, &mut buffer);
            let read = ready!(read).context("the stream breaks off").and_then(|()| {
                ensure!(!buffer.filled().is_empty(), "the stream breaks off");
                self.chunks.feed(buffer.filled(), &mut take)
            });
            read.into()
        })
        .await
    }
}

/// `None`: more has to come. Fails if no stream follows.
fn head_len(input: &[u8]) -> anyhow::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let Status::Complete(len) = response.parse(input).context("not HTTP/1.1")? else {
        return Ok(None);
    };
    let code = response.code.unwrap_or(0);
    ensure!(code == 200, "it is answered {code}: {}", String::from_utf8_lossy(&input[len..]));
    let mut headers = response.headers.iter();
    let is_chunked = headers.any(|header| {
        header.name.eq_ignore_ascii_case("transfer-encoding")
            && header.value.eq_ignore_ascii_case(b"chunked")
    });
    ensure!(is_chunked, "the answer is no stream");
    Ok(Some(len))
}

/// Takes the marks out of a chunked body that arrives in parts.
#[derive(Debug, Default)]
struct Chunks {
    /// What is left of the chunk.
    left: u64,
    /// Of the line before the next one.
    mark: Vec<u8>,
}

impl Chunks {
    fn feed(&mut self, mut input: &[u8], mut take: impl FnMut(&[u8])) -> anyhow::Result<()> {
        while !input.is_empty() {
            if self.left == 0 {
                input = self.read_mark(input)?;
                continue;
            }
            let len = usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()));
            let (data, rest) = input.split_at(len);
            take(data);
            self.left -= len as u64;
            input = rest;
        }
        Ok(())
    }

    /// Returns what follows the mark, or nothing if it goes on.
    fn read_mark<'a>(&mut self, input: &'a [u8]) -> anyhow::Result<&'a [u8]> {
        let end = memchr::memchr(b'\n', input).map_or(input.len(), |end| end + 1);
        let (line, rest) = input.split_at(end);
        self.mark.extend_from_slice(line);
        ensure!(self.mark.len() <= MARK_BYTES_MAX, "a chunk without a size");
        // The first line end belongs to the chunk before.
        if self.mark.ends_with(b"\n") && self.mark != b"\r\n" {
            match httparse::parse_chunk_size(self.mark.trim_ascii_start()) {
                Ok(Status::Complete((_, 0))) => bail!("the stream ends"),
                Ok(Status::Complete((_, size))) => self.left = size,
                _ => bail!("a chunk without a size"),
            }
            self.mark.clear();
        }
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_taken_out_wherever_a_part_ends() {
        let body = b"5\r\nhello\r\na;x=y\r\n\r\n23456789\r\n001\r\n!\r\n";
        for part in 1..=body.len() {
            let (mut chunks, mut data) = (Chunks::default(), Vec::new());
            for part in body.chunks(part) {
                chunks.feed(part, |piece| data.extend_from_slice(piece)).unwrap();
            }
            assert_eq!(data, b"hello\r\n23456789!", "in parts of {part}");
        }
    }

    #[test]
    fn the_last_chunk_and_what_is_no_chunk_end_a_stream() {
        let why = |body: &[u8]| Chunks::default().feed(body, |_| ()).unwrap_err().to_string();
        assert_eq!(why(b"1\r\na\r\n0\r\n\r\n"), "the stream ends");
        assert_eq!(why(b"hello\r\n"), "a chunk without a size");
        assert_eq!(why(&[b'1'; MARK_BYTES_MAX + 1]), "a chunk without a size");
    }

    #[test]
    fn a_stream_begins_behind_the_head_of_a_good_answer() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(head_len(&head.as_bytes()[..20]).unwrap(), None);
        assert_eq!(head_len(format!("{head}5\r\n").as_bytes()).unwrap(), Some(head.len()));
        for bad in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 404 No\r\n\r\n", "SMTP\r\n\r\n"] {
            assert!(head_len(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
