//! One connection of the closed loop: a request written before, one write, one read.
//!
//! A client library costs as much as the kernel does, and all of it is taken from the servers that
//! share this machine. So this one keeps its buffers and looks only at what it needs: the status
//! and where the answer ends.

use anyhow::{Context, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use http::{Request, StatusCode};
use httparse::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Answer, Target};

pub(super) const MAX_HEADERS: usize = 64;
/// The first room for an answer; grows when needed.
const BUFFER: usize = 8 << 10;

/// A request as it goes over the wire, but for the Host header.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    head: Vec<u8>,
    body: Bytes,
}

impl Written {
    pub(crate) fn new(request: &Request<Bytes>) -> Self {
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri()).into_bytes();
        for (name, value) in request.headers() {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        let body = request.body().clone();
        if !body.is_empty() {
            head.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        Self { head, body }
    }

    /// Appends the whole request. `host`: that header and the end of the head.
    pub(super) fn write(&self, host: &str, output: &mut Vec<u8>) {
        for part in [&self.head, host.as_bytes(), &self.body] {
            output.extend_from_slice(part);
        }
    }
}

pub(super) fn host(target: &Target) -> String {
    format!("host: {target}\r\n\r\n")
}

pub(crate) struct Exchange {
    stream: TcpStream,
    host: String,
    output: Vec<u8>,
    input: BytesMut,
}

impl Exchange {
    pub(crate) async fn open(target: &Target) -> anyhow::Result<Self> {
        let input = BytesMut::with_capacity(BUFFER);
        let stream = target.connect().await?;
        Ok(Self { stream, host: host(target), output: Vec::new(), input })
    }

    /// Sends one request and reads the whole answer.
    pub(crate) async fn ask(&mut self, request: &Written) -> anyhow::Result<Answer> {
        self.output.clear();
        request.write(&self.host, &mut self.output);
        self.stream.write_all(&self.output).await.context("cannot send")?;
        loop {
            self.input.reserve(1);
            let read = self.stream.read_buf(&mut self.input).await.context("no answer")?;
            ensure!(read != 0, "the connection is closed instead of an answer");
            if let Some(whole) = parse(&self.input)? {
                ensure!(whole.end == self.input.len(), "more is answered than was asked");
                let mut body = self.input.split();
                body.advance(whole.body);
                return Ok(Answer { status: whole.status, body: body.freeze() });
            }
        }
    }
}

/// An answer that is there to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Whole {
    status: StatusCode,
    /// Where the body begins. It keeps its chunk marks, if it has any.
    body: usize,
    end: usize,
}

/// `None`: more has to come.
fn parse(input: &[u8]) -> anyhow::Result<Option<Whole>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let Status::Complete(body) = response.parse(input).context("not HTTP/1.1")? else {
        return Ok(None);
    };
    let status = StatusCode::from_u16(response.code.unwrap_or(0)).context("no status")?;
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| header.value)
    };
    let length = match header("content-length") {
        Some(length) => {
            let length = std::str::from_utf8(length).ok().and_then(|text| text.parse().ok());
            Some(length.context("the content-length is no number")?)
        }
        None if header("transfer-encoding")
            .is_some_and(|it| it.eq_ignore_ascii_case(b"chunked")) =>
        {
            chunks_end(&input[body..])?
        }
        None if status == StatusCode::NO_CONTENT => Some(0),
        None => bail!("the answer does not say where it ends"),
    };
    let end = length.map(|length: usize| body + length).filter(|end| *end <= input.len());
    Ok(end.map(|end| Whole { status, body, end }))
}

/// The length of a chunked body with its marks, without trailers.
fn chunks_end(input: &[u8]) -> anyhow::Result<Option<usize>> {
    const LINE_END: usize = 2;
    let mut at = 0;
    while let Some(rest) = input.get(at..) {
        let size = httparse::parse_chunk_size(rest).ok().context("a chunk without a size")?;
        let Status::Complete((mark, size)) = size else { return Ok(None) };
        at += mark + usize::try_from(size).context("a chunk that is too long")? + LINE_END;
        if size == 0 {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer is found when its last byte is there, and not before.
    fn check(answer: &str, status: u16, body: &str) {
        for part in 0..answer.len() {
            assert_eq!(parse(&answer.as_bytes()[..part]).unwrap(), None, "after {part} bytes");
        }
        let whole = parse(answer.as_bytes()).unwrap().unwrap();
        assert_eq!((whole.status.as_u16(), whole.end), (status, answer.len()));
        assert_eq!(&answer[whole.body..], body);
    }

    #[test]
    fn an_answer_ends_where_its_length_says() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello");
        check("HTTP/1.1 204 No Content\r\n\r\n", 204, "");
    }

    #[test]
    fn an_answer_in_chunks_ends_with_the_empty_one() {
        let body = "5\r\nhello\r\na\r\n0123456789\r\n0\r\n\r\n";
        check(&format!("HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n{body}"), 503, body);
    }

    #[test]
    fn what_has_no_end_is_an_error() {
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse(b"SMTP\r\n\r\n").is_err());
    }

    #[test]
    fn a_request_is_written_with_its_length() {
        let request = Request::put("/v1/kv/a").body(Bytes::from_static(b"value")).unwrap();
        let written = Written::new(&request);
        assert_eq!(written.head, b"PUT /v1/kv/a HTTP/1.1\r\ncontent-length: 5\r\n");
    }
}
