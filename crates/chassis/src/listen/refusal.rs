//! The answers to heads that never become a request.
//!
//! HTTP/1 only: HTTP/2 has resets for what it cannot read, which carry no document.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use api::headers;
use api::problem::{Code, ProblemDetails};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use telemetry::trace::TraceContext;

use crate::clock::Clock;

/// Makes problem documents, head and all.
#[derive(Debug)]
pub(crate) struct Refusals {
    node: HeaderValue,
    clock: Clock,
    max_head_bytes: usize,
    header_timeout: Duration,
}

impl Refusals {
    pub(crate) fn new(
        node: HeaderValue,
        clock: Clock,
        (max_head_bytes, header_timeout): (usize, Duration),
    ) -> Self {
        Self { node, clock, max_head_bytes, header_timeout }
    }

    /// What is said in place of `head`, if that is one of hyper's answers to a head.
    pub(super) fn instead_of(&self, head: &[u8]) -> Option<Bytes> {
        let code = match head.strip_prefix(b"HTTP/1.1 ")?.first_chunk()? {
            b"400" => Code::InvalidRequest,
            b"414" | b"431" => Code::HeadTooLarge,
            _ => return None,
        };
        Some(self.answer(code))
    }

    /// The answer to a head that did not arrive in time.
    pub(super) fn late(&self) -> Bytes {
        self.answer(Code::RequestTimeout)
    }

    fn detail(&self, code: Code) -> String {
        match code {
            Code::HeadTooLarge => format!(
                "the request's head is larger than {} bytes or has more than 100 header lines; \
                 send less of it, or send it in the body",
                self.max_head_bytes
            ),
            Code::RequestTimeout => format!(
                "the request's head did not arrive within {} s; send it in one go",
                self.header_timeout.as_secs()
            ),
            _ => "the head of this request cannot be read: its first line, a header line or its \
                  length is malformed; correct it. A URL takes `>`, `<`, blanks and quotes only \
                  percent-encoded, `>` as %3E. This port speaks plain HTTP"
                .to_owned(),
        }
    }

    fn answer(&self, code: Code) -> Bytes {
        let trace_id = TraceContext::random().trace_id.to_string();
        let mut details = ProblemDetails::new(code, self.detail(code));
        details.trace_id = Some(trace_id.clone());
        let body = serde_json::to_string(&details).expect("strings always encode");
        let status = StatusCode::from_u16(code.status()).expect("codes have statuses of HTTP");
        let date = SystemTime::UNIX_EPOCH + Duration::from_millis(self.clock.unix_ms());
        let lines = [
            ("content-type", headers::PROBLEM_JSON),
            ("content-length", &body.len().to_string()),
            ("connection", "close"),
            ("date", &httpdate::fmt_http_date(date)),
            (headers::NODE, self.node.to_str().unwrap_or_default()),
            (headers::TRACE_ID, &trace_id),
        ];
        let mut text = format!("HTTP/1.1 {status}\r\n");
        for (name, value) in lines {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        text.push_str("\r\n");
        text.push_str(&body);
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hypers_own_refusals_are_replaced() {
        let node = HeaderValue::from_static("n-1");
        let refusals = Refusals::new(node, Clock::manual(0), (65_536, Duration::from_secs(30)));
        for (head, status) in [
            ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", Some("400 Bad Request")),
            ("HTTP/1.1 414 URI Too Long\r\n\r\n", Some("431 Request Header Fields Too Large")),
            ("HTTP/1.1 431 X\r\n\r\n", Some("431 Request Header Fields Too Large")),
            ("HTTP/1.1 200 OK\r\n\r\n", None),
            ("HTTP/1.1 100 Continue\r\n\r\n", None),
            ("HTTP/1.1 40", None),
            ("", None),
        ] {
            let answer = refusals.instead_of(head.as_bytes());
            let answer = answer.map(|answer| String::from_utf8(answer.to_vec()).unwrap());
            match status {
                Some(status) => {
                    let answer = answer.unwrap();
                    assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
                    assert!(answer.contains("date: Thu, 01 Jan 1970 00:00:00 GMT"), "{answer}");
                }
                None => assert_eq!(answer, None, "{head}"),
            }
        }
    }
}
