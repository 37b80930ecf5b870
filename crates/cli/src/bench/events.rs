//! Finds events in what a stream sends, at the least possible cost: a thousand watchers get a
//! million events a second, and parsing JSON would measure the parser.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem::{self, Finder};

/// A value begins with its time of sending, in so many digits. Divisible by three, so that base64
/// keeps it apart from the rest.
pub(crate) const TIME_DIGITS: usize = 12;

/// What a stream looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `/v1/watch` of a coordinator.
    Watch,
    /// `/v3/watch` of etcd, with values in base64.
    EtcdWatch,
    /// A topic of a broker as SSE.
    Topic,
}

/// One put, or one message, as a reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Or the offset: it grows.
    pub(crate) revision: u64,
    /// The time in the value.
    pub(crate) sent_us: u64,
}

/// So much is added to what was cut off, to find the rest of its event.
const STEP_BYTES: usize = 512;

/// Takes a stream apart whose parts end anywhere.
pub(crate) struct Scanner {
    shape: Shape,
    revision: Finder<'static>,
    value: Finder<'static>,
    /// What was read, but not understood yet: less than one event.
    rest: Vec<u8>,
}

impl Scanner {
    pub(crate) fn new(shape: Shape) -> Self {
        // What stands first in an event, and in nothing else.
        let revision: &[u8] = match shape {
            Shape::Watch => b"event: put\ndata: {\"revision\":",
            Shape::EtcdWatch => b"\"mod_revision\":\"",
            Shape::Topic => b"\"offset\":",
        };
        let value: &[u8] = match shape {
            Shape::Watch | Shape::EtcdWatch => b"\"value\":\"",
            Shape::Topic => b"\"data\":\"",
        };
        let (revision, value) = (Finder::new(revision), Finder::new(value));
        Self { shape, revision, value, rest: Vec::new() }
    }

    /// Whether the watch is open, by all that it has sent so far.
    pub(crate) fn opens(&self, text: &[u8]) -> bool {
        let sign: &[u8] = match self.shape {
            Shape::Watch => b"event: bookmark",
            Shape::EtcdWatch => b"\"created\":true",
            // It begins where it was asked to begin, whenever that is.
            Shape::Topic => return true,
        };
        memmem::find(text, sign).is_some()
    }

    /// Hands over every event that `part` completes.
    pub(crate) fn feed(&mut self, mut part: &[u8], mut seen: impl FnMut(Event)) {
        while !self.rest.is_empty() && !part.is_empty() {
            let (before, (step, _)) = (self.rest.len(), part.split_at(STEP_BYTES.min(part.len())));
            self.rest.extend_from_slice(step);
            let Some((event, end)) = self.next(&self.rest) else {
                part = &part[step.len()..];
                continue;
            };
            seen(event);
            // It ends behind what was there, or it would have been found before.
            part = &part[end - before..];
            self.rest.clear();
        }
        while let Some((event, end)) = self.next(part) {
            seen(event);
            part = &part[end..];
        }
        self.rest.extend_from_slice(part);
    }

    /// The first event in `text`, and where what was needed of it ends.
    fn next(&self, text: &[u8]) -> Option<(Event, usize)> {
        let revision = self.revision.find(text)? + self.revision.needle().len();
        let value = revision + self.value.find(&text[revision..])? + self.value.needle().len();
        let digits = match self.shape {
            Shape::Watch | Shape::Topic => TIME_DIGITS,
            Shape::EtcdWatch => TIME_DIGITS / 3 * 4,
        };
        let sent = text.get(value..value + digits)?;
        let sent_us = match self.shape {
            Shape::Watch | Shape::Topic => number(sent),
            Shape::EtcdWatch => {
                let mut decoded = [0; TIME_DIGITS];
                STANDARD.decode_slice(sent, &mut decoded).ok()?;
                number(&decoded)
            }
        };
        Some((Event { revision: number(&text[revision..]), sent_us }, value + digits))
    }
}

/// The digits at the beginning.
fn number(text: &[u8]) -> u64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, byte| number * 10 + u64::from(byte - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(shape: Shape, text: &str, chunk: usize) -> Vec<Event> {
        let (mut scanner, mut events) = (Scanner::new(shape), Vec::new());
        for chunk in text.as_bytes().chunks(chunk) {
            scanner.feed(chunk, |event| events.push(event));
        }
        events
    }

    fn check(shape: Shape, text: &str) {
        let expected = [Event { revision: 5, sent_us: 77 }, Event { revision: 16, sent_us: 123 }];
        for chunk in [1, 7, 50, text.len()] {
            assert_eq!(scan(shape, text, chunk), expected, "{shape:?} in chunks of {chunk}");
        }
    }

    #[test]
    fn events_are_found_wherever_a_chunk_ends() {
        check(
            Shape::Watch,
            "id: 4\nevent: bookmark\ndata: {\"revision\":4}\n\n\
             id: 5\nevent: put\ndata: {\"revision\":5,\"key\":\"k\",\"value\":\"000000000077x\",\"create_revision\":5}\n\n\
             id: 9\nevent: bookmark\ndata: {\"revision\":9}\n\n\
             id: 16\nevent: put\ndata: {\"revision\":16,\"key\":\"k\",\"value\":\"000000000123y\",\"create_revision\":5}\n\n",
        );
        check(
            Shape::Topic,
            "id: 5\ndata: {\"partition\":0,\"offset\":5,\"data\":\"000000000077x\",\"attributes\":{}}\n\n: alive\n\n\
             id: 16\ndata: {\"partition\":0,\"offset\":16,\"data\":\"000000000123y\"}\n\n",
        );
        let value = |text: &str| STANDARD.encode(text);
        check(
            Shape::EtcdWatch,
            &format!(
                "{{\"result\":{{\"header\":{{\"revision\":\"16\"}},\"events\":[\
                 {{\"kv\":{{\"create_revision\":\"5\",\"mod_revision\":\"5\",\"value\":\"{}\"}}}},\
                 {{\"kv\":{{\"create_revision\":\"5\",\"mod_revision\":\"16\",\"value\":\"{}\"}}}}]}}}}\n",
                value("000000000077x"),
                value("000000000123yz")
            ),
        );
    }
}
