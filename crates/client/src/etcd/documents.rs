//! Cuts a stream into JSON documents.
//!
//! Servers put one document into a chunk, proxies put anything into one: only the braces tell
//! where a document ends.

use bytes::{Bytes, BytesMut};

use crate::Error;

/// The largest document that is read, in bytes.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes in, JSON objects out.
#[derive(Debug, Default)]
pub struct Documents {
    buffer: BytesMut,
    /// How far it was looked at.
    at: usize,
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Documents {
    /// Takes a piece of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next complete document.
    ///
    /// # Errors
    ///
    /// When it is larger than can be meant, or something stands between documents.
    pub fn take(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(byte) = self.buffer.get(self.at).copied() {
            self.at += 1;
            if self.depth == 0 && byte.is_ascii_whitespace() {
                let _ = self.buffer.split_to(self.at);
                self.at = 0;
                continue;
            }
            if self.depth == 0 && byte != b'{' {
                return Err(Error::bad_answer("the stream is not one of JSON objects"));
            }
            if self.closes(byte) {
                let document = self.buffer.split_to(self.at);
                self.at = 0;
                return Ok(Some(document.freeze()));
            }
        }
        if DOCUMENT_BYTES_MAX < self.buffer.len() {
            return Err(Error::bad_answer("a document of the stream is too large"));
        }
        Ok(None)
    }

    /// Follows one byte; `true` if it ends the document.
    fn closes(&mut self, byte: u8) -> bool {
        if self.in_string {
            let ends = byte == b'"' && !self.escaped;
            self.escaped = byte == b'\\' && !self.escaped;
            self.in_string = !ends;
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' => self.depth += 1,
            b'}' => self.depth -= 1,
            _ => (),
        }
        self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_found_wherever_the_chunks_end() {
        let text = br#" {"a":"}\"{\\"}
{"b":{"c":[{}]}}{}  "#;
        for cut in 0..text.len() {
            let mut documents = Documents::default();
            let mut found = Vec::new();
            for chunk in [&text[..cut], &text[cut..]] {
                documents.push(chunk);
                while let Some(document) = documents.take().unwrap() {
                    found.push(document);
                }
            }
            let expected = [&br#"{"a":"}\"{\\"}"#[..], br#"{"b":{"c":[{}]}}"#, b"{}"];
            assert_eq!(found, expected, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let mut documents = Documents::default();
        documents.push(b"<html>");
        assert!(documents.take().is_err());
    }
}
