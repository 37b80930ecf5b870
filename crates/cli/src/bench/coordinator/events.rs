//! Finds events in what a watch sends, at the least possible cost: a thousand watchers get a
//! million events a second, and parsing JSON would measure the parser.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem::{self, Finder};

use super::operations::Api;

/// A value begins with its time of sending, in so many digits. Divisible by three, so that base64
/// keeps it apart from the rest.
pub(super) const TIME_DIGITS: usize = 12;

/// One put, as a watcher sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) revision: u64,
    /// The time in the value.
    pub(super) sent_us: u64,
}

/// Takes a stream apart whose chunks end anywhere.
pub(super) struct Scanner {
    api: Api,
    value: Finder<'static>,
    /// What was read, but not understood yet.
    rest: Vec<u8>,
}

impl Scanner {
    pub(super) fn new(api: Api) -> Self {
        Self { api, value: Finder::new(b"\"value\":\""), rest: Vec::new() }
    }

    /// Whether a chunk says that the watch is open: the first that it sends.
    pub(super) fn opens(&self, chunk: &[u8]) -> bool {
        let sign: &[u8] = match self.api {
            Api::V1 => b"event: bookmark",
            Api::V3 => b"\"created\":true",
        };
        memmem::find(chunk, sign).is_some()
    }

    /// Hands over every event that the chunk completes.
    pub(super) fn feed(&mut self, chunk: &[u8], mut seen: impl FnMut(Event)) {
        self.rest.extend_from_slice(chunk);
        let mut read = 0;
        while let Some((event, end)) = self.next(&self.rest[read..]) {
            seen(event);
            read += end;
        }
        self.rest.drain(..read);
    }

    fn next(&self, text: &[u8]) -> Option<(Event, usize)> {
        // In both APIs the revision of a change stands before its value.
        let (revision, digits): (&[u8], _) = match self.api {
            Api::V1 => (b"\"revision\":", TIME_DIGITS),
            Api::V3 => (b"\"mod_revision\":\"", TIME_DIGITS / 3 * 4),
        };
        let value = self.value.find(text)?;
        let begin = value + self.value.needle().len();
        let sent = text.get(begin..begin + digits)?;
        let revision = memmem::rfind(&text[..value], revision)? + revision.len();
        let sent_us = match self.api {
            Api::V1 => number(sent),
            Api::V3 => {
                let mut decoded = [0; TIME_DIGITS];
                STANDARD.decode_slice(sent, &mut decoded).ok()?;
                number(&decoded)
            }
        };
        Some((Event { revision: number(&text[revision..value]), sent_us }, begin + digits))
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

    fn scan(api: Api, text: &str, chunk: usize) -> Vec<Event> {
        let (mut scanner, mut events) = (Scanner::new(api), Vec::new());
        for chunk in text.as_bytes().chunks(chunk) {
            scanner.feed(chunk, |event| events.push(event));
        }
        events
    }

    fn check(api: Api, text: &str) {
        let expected = [Event { revision: 5, sent_us: 77 }, Event { revision: 16, sent_us: 123 }];
        for chunk in [1, 7, 50, text.len()] {
            assert_eq!(scan(api, text, chunk), expected, "{api:?} in chunks of {chunk}");
        }
    }

    #[test]
    fn events_are_found_wherever_a_chunk_ends() {
        check(
            Api::V1,
            "id: 4\nevent: bookmark\ndata: {\"revision\":4}\n\n\
             id: 5\nevent: put\ndata: {\"revision\":5,\"key\":\"k\",\"value\":\"000000000077x\",\"create_revision\":5}\n\n\
             id: 9\nevent: bookmark\ndata: {\"revision\":9}\n\n\
             id: 16\nevent: put\ndata: {\"revision\":16,\"key\":\"k\",\"value\":\"000000000123y\",\"create_revision\":5}\n\n",
        );
        let value = |text: &str| STANDARD.encode(text);
        check(
            Api::V3,
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
