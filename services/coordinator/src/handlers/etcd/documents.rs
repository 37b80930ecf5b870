//! A request body as a stream of JSON documents, which need not align with its chunks. It may be
//! silent for as long as it likes: a caller that is gone is noticed by the answer. It may also be
//! as long as it likes: each document has its bound.

use api::problem::Code;
use axum::body::{Body, BodyDataStream};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;

use super::super::App;
use super::error::{self, EtcdError, GrpcCode};

pub(super) struct Documents {
    body: BodyDataStream,
    buffer: BytesMut,
    scan: Scan,
    ended: bool,
    max_bytes: usize,
}

/// How far the document at the start of the buffer has been looked through, so that one that comes
/// in many pieces is not parsed anew with each.
#[derive(Default)]
struct Scan {
    at: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// How long the buffer was when it was parsed last.
    tried: usize,
}

impl Scan {
    /// Whether parsing the buffer is worth it: where a document may end, and whenever it has
    /// doubled, so that what is none is refused early.
    fn is_due(&mut self, buffer: &[u8]) -> bool {
        while let Some(byte) = buffer.get(self.at) {
            self.at += 1;
            if self.may_end_with(*byte) {
                return true;
            }
        }
        let due = self.tried * 2 < buffer.len();
        if due {
            self.tried = buffer.len();
        }
        due
    }

    fn may_end_with(&mut self, byte: u8) -> bool {
        if std::mem::take(&mut self.escaped) {
            return false;
        }
        match byte {
            b'\\' if self.in_string => self.escaped = true,
            b'"' => {
                self.in_string = !self.in_string;
                return !self.in_string && self.depth == 0;
            }
            _ if self.in_string => {}
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => return self.depth == 0 && !byte.is_ascii_whitespace(),
        }
        false
    }
}

impl Documents {
    /// A single document may be up to `max_bytes` long.
    pub(super) fn new(body: Body, max_bytes: usize) -> Self {
        Self {
            body: body.into_data_stream(),
            buffer: BytesMut::new(),
            scan: Scan::default(),
            ended: false,
            max_bytes,
        }
    }

    /// The first document, which is waited for until the node drains. One that is none is answered
    /// like any failed call.
    pub(super) async fn first<T: DeserializeOwned>(
        &mut self,
        app: &App,
    ) -> Result<Option<T>, EtcdError> {
        tokio::select! {
            biased;
            first = self.next() => first.map_err(|error| error.as_unknown()),
            () = app.draining().cancelled() => Err(error::STOPPED),
        }
    }

    /// The next document, `None` at the end of the body. Nothing is lost if it is dropped while
    /// it waits.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, EtcdError> {
        loop {
            self.skip_space();
            while self.scan.is_due(&self.buffer) {
                if let Some(document) = self.take()? {
                    return Ok(Some(document));
                }
            }
            if self.ended {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    self.buffer.clear();
                    Err(EtcdError::malformed("unexpected EOF"))
                };
            }
            if self.max_bytes < self.buffer.len() {
                return Err(error::TOO_LARGE);
            }
            match self.body.next().await {
                Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Err(error)) => match chassis::extract::unreadable(&error) {
                    problem if problem.code() == Code::TooLarge => return Err(problem.into()),
                    problem if problem.code() == Code::RequestTimeout => {}
                    // A body that breaks off is one that ended; if the caller is gone, the response
                    // is dropped as well.
                    _ => self.ended = true,
                },
                None => self.ended = true,
            }
        }
    }

    /// What stands between documents is part of none, however much of it there is.
    fn skip_space(&mut self) {
        if self.scan.at == 0 {
            let space = self.buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let _ = self.buffer.split_to(space);
        }
    }

    fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, EtcdError> {
        let mut documents = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<T>();
        match documents.next() {
            Some(Ok(document)) => {
                let read = documents.byte_offset();
                let _ = self.buffer.split_to(read);
                self.scan = Scan::default();
                Ok(Some(document))
            }
            Some(Err(error)) if error.is_eof() => Ok(None),
            Some(Err(error)) => Err(EtcdError::malformed(error)),
            None => Ok(None),
        }
    }
}

impl EtcdError {
    /// How the gateway reports a stream whose first document is malformed.
    pub(super) fn as_unknown(&self) -> Self {
        Self { code: GrpcCode::Unknown, message: self.message.clone() }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use serde_json::Value;

    use super::*;

    fn documents(chunks: &[&'static str]) -> Documents {
        let chunks: Vec<_> =
            chunks.iter().map(|chunk| Ok::<_, std::convert::Infallible>(*chunk)).collect();
        Documents::new(Body::from_stream(stream::iter(chunks)), 100)
    }

    #[tokio::test]
    async fn documents_are_found_wherever_chunks_end() {
        let mut documents = documents(&["{\"a\"", ":1}{\"b\":2}\n", " {\"c\":", "3}", "\n"]);
        for expected in ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"] {
            let value: Value = documents.next().await.unwrap().unwrap();
            assert_eq!(value.to_string(), expected);
        }
        assert_eq!(documents.next::<Value>().await, Ok(None));
    }

    #[tokio::test]
    async fn documents_are_found_byte_by_byte_with_brackets_in_strings() {
        let text = " {\"a\":\"}\\\"{\",\"b\":[{},[]]}[1] \"x\\\\\" {}";
        let mut documents = Documents::new(
            Body::from_stream(stream::iter(
                text.bytes().map(|byte| Ok::<_, std::convert::Infallible>(vec![byte])),
            )),
            100,
        );
        let mut found = Vec::new();
        while let Some(value) = documents.next::<Value>().await.unwrap() {
            found.push(value.to_string());
        }
        let expected = ["{\"a\":\"}\\\"{\",\"b\":[{},[]]}", "[1]", "\"x\\\\\"", "{}"];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_document_in_many_pieces_is_parsed_a_few_times() {
        let text = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 16));
        let mut scan = Scan::default();
        let parsed = (1..=text.len()).filter(|len| scan.is_due(&text.as_bytes()[..*len])).count();
        assert!(parsed < 20, "{parsed}");
    }

    #[tokio::test]
    async fn a_body_may_be_longer_than_a_document() {
        let mut documents = documents(&[
            "{\"a\":1}                                                           ",
            "                                                                     \n",
            "                                                                     \n",
            "\n{\"b\":2}",
            "                                                                     \n",
        ]);
        for expected in ["{\"a\":1}", "{\"b\":2}"] {
            let value: Value = documents.next().await.unwrap().unwrap();
            assert_eq!(value.to_string(), expected);
        }
        assert_eq!(documents.next::<Value>().await, Ok(None));
    }

    #[tokio::test]
    async fn what_is_not_json_or_too_long_is_an_error() {
        assert!(documents(&["{bad"]).next::<Value>().await.is_err());
        assert!(documents(&["{\"a\":"]).next::<Value>().await.is_err());
        let long: &'static str = "\"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";
        assert_eq!(documents(&[long]).next::<Value>().await, Err(error::TOO_LARGE));
    }
}
