//! NDJSON as it comes: one document a line.

use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;

use super::Streaming;
use crate::Error;

/// The longest line that is read, in bytes.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A body of lines.
#[derive(Debug)]
pub struct Lines<T> {
    body: Option<Streaming>,
    buffer: LineBuffer,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    pub(super) fn new(body: Streaming) -> Self {
        Self { body: Some(body), buffer: LineBuffer::default(), kind: PhantomData }
    }

    /// The next document; `None` at the end of the body. After an error there is no more.
    ///
    /// # Errors
    ///
    /// When the stream breaks, or a line is not the JSON that was expected.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        let next = self.next_line().await;
        if next.is_err() {
            self.body = None;
        }
        next
    }

    async fn next_line(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(line) = self.buffer.take_line()? {
                return decode(&line).map(Some);
            }
            let Some(body) = &mut self.body else { return Ok(None) };
            match body.chunk().await? {
                Some(chunk) => self.buffer.push(&chunk),
                None => {
                    self.body = None;
                    // The last line may lack its end.
                    return self.buffer.take_rest().map(|rest| decode(&rest)).transpose();
                }
            }
        }
    }
}

fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(line).map_err(|error| {
        Error::bad_answer("a line is not the JSON that was expected").because(error)
    })
}

/// Cuts chunks into lines. Chunks end anywhere, also within a line ending.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    buffer: BytesMut,
    /// Up to here there is no line feed.
    searched: usize,
}

impl LineBuffer {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next line that is not blank, without its end.
    pub(super) fn take_line(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(line) = self.take_any()? {
            if !line.is_empty() {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// The next line, blank or not, without its end.
    pub(super) fn take_any(&mut self) -> Result<Option<Bytes>, Error> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(found) = found else {
            self.searched = self.buffer.len();
            if LINE_BYTES_MAX < self.searched {
                let detail = format!("a line is longer than {LINE_BYTES_MAX} bytes");
                return Err(Error::bad_answer(detail));
            }
            return Ok(None);
        };
        let mut line = self.buffer.split_to(self.searched + found + 1);
        self.searched = 0;
        line.truncate(line.len() - 1);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        Ok(Some(line.freeze()))
    }

    /// What is left at the end of the body, unless it is blank.
    pub(super) fn take_rest(&mut self) -> Option<Bytes> {
        let rest = std::mem::take(&mut self.buffer).freeze();
        self.searched = 0;
        (!rest.trim_ascii().is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_wherever_the_chunks_end() {
        let text = b"one\r\n\ntwo\nlast";
        for cut in 0..text.len() {
            let mut buffer = LineBuffer::default();
            let mut lines = Vec::new();
            for chunk in [&text[..cut], &text[cut..]] {
                buffer.push(chunk);
                while let Some(line) = buffer.take_line().unwrap() {
                    lines.push(line);
                }
            }
            assert_eq!(lines, [&b"one"[..], b"two"], "cut at {cut}");
            assert_eq!(buffer.take_rest().unwrap(), &b"last"[..]);
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut buffer = LineBuffer::default();
        buffer.push(&vec![b'x'; LINE_BYTES_MAX + 1]);
        assert!(buffer.take_line().is_err());
    }
}
