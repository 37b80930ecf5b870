//! What requests say in their path, headers and query.

use http::{HeaderMap, HeaderName, StatusCode, header};
use messaging::partition::{MAX_PRODUCER_NUMBER, Producer};
use messaging::stream::{InvalidPath, Lifetime, MAX_TEXT, StreamPath};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::failure::{self, Failure};
use super::{CLOSED, EXPIRES_AT, PRODUCER_EPOCH, PRODUCER_ID, PRODUCER_SEQ, TTL};
use crate::streams::Start;

/// Headers of forks begin so.
const FORK: &str = "stream-fork";

/// The stream that is meant.
pub(super) fn path(text: &str) -> Result<StreamPath, Failure> {
    text.parse().map_err(|error| match error {
        InvalidPath::Reserved => {
            let message = "subscriptions (paths below `__ds`) are not supported; read live with \
                           live=long-poll or live=sse, or use subscriptions of /v1/topics";
            Failure::new(StatusCode::NOT_IMPLEMENTED, failure::NOT_IMPLEMENTED, message)
        }
        InvalidPath::Length | InvalidPath::Segment | InvalidPath::Control => invalid(error),
    })
}

/// Forks are asked for by headers alone: whoever sends them must not get an empty stream instead.
pub(super) fn no_fork(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.keys().any(|name| name.as_str().starts_with(FORK)) {
        false => Ok(()),
        true => {
            let message = "forks are not supported; create a stream and append what it needs";
            Err(Failure::new(StatusCode::NOT_IMPLEMENTED, failure::NOT_IMPLEMENTED, message))
        }
    }
}

/// The value of a header, if it is there once and is printable ASCII.
pub(super) fn value<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Failure> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid(format!("send {name} once")));
    }
    let value = value.to_str().map_err(|_| invalid(format!("{name} must be printable ASCII")))?;
    if MAX_TEXT < value.len() {
        return Err(invalid(format!("{name} has at most {MAX_TEXT} bytes")));
    }
    Ok(Some(value))
}

pub(super) fn content_type(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let value = value(headers, &header::CONTENT_TYPE)?.map(str::trim);
    Ok(value.filter(|value| !value.is_empty()).map(str::to_owned))
}

/// Anything but `true` is as if it were not there.
pub(super) fn closes(headers: &HeaderMap) -> bool {
    headers.get(CLOSED).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

pub(super) fn lifetime(headers: &HeaderMap) -> Result<Lifetime, Failure> {
    match (value(headers, &TTL)?, value(headers, &EXPIRES_AT)?) {
        (None, None) => Ok(Lifetime::Unbounded),
        (Some(_), Some(_)) => Err(invalid(format!("send {TTL} or {EXPIRES_AT}, not both"))),
        (Some(ttl), None) => {
            let seconds = whole(ttl).filter(|_| ttl == "0" || !ttl.starts_with('0'));
            let wanted = || {
                invalid(format!(
                    "{TTL} is a number of seconds without sign, point or leading zeros"
                ))
            };
            seconds.map(Lifetime::Idle).ok_or_else(wanted)
        }
        (None, Some(at)) => {
            let at = OffsetDateTime::parse(at, &Rfc3339);
            let at = at.map_err(|_| {
                invalid(format!("{EXPIRES_AT} is an RFC 3339 time such as 2030-01-31T12:00:00Z"))
            })?;
            let ms = at.unix_timestamp_nanos() / 1_000_000;
            Ok(Lifetime::Until(u64::try_from(ms).unwrap_or(0)))
        }
    }
}

/// Who appends, and which of its requests it is.
pub(super) fn producer(headers: &HeaderMap) -> Result<Option<Producer>, Failure> {
    let id = value(headers, &PRODUCER_ID)?;
    let epoch = value(headers, &PRODUCER_EPOCH)?;
    let seq = value(headers, &PRODUCER_SEQ)?;
    let (id, epoch, seq) = match (id, epoch, seq) {
        (None, None, None) => return Ok(None),
        (Some(id), Some(epoch), Some(seq)) if !id.is_empty() => (id, epoch, seq),
        _ => {
            let all = format!("{PRODUCER_ID}, {PRODUCER_EPOCH} and {PRODUCER_SEQ}");
            return Err(invalid(format!("send all of {all}, none of them empty, or none")));
        }
    };
    let number = |name: HeaderName, text: &str| {
        let number = whole(text).filter(|number| *number <= MAX_PRODUCER_NUMBER);
        number.ok_or_else(|| invalid(format!("{name} is a number from 0 to {MAX_PRODUCER_NUMBER}")))
    };
    let (epoch, seq) = (number(PRODUCER_EPOCH, epoch)?, number(PRODUCER_SEQ, seq)?);
    Ok(Some(Producer { id: id.to_owned(), epoch, seq }))
}

/// Digits only.
fn whole(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// How a stream is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    CatchUp,
    LongPoll,
    Events,
}

/// What of a stream is read, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) start: Start,
    pub(super) mode: Mode,
    pub(super) cursor: Option<u64>,
}

/// Parameters that are not known are nobody's mistake.
pub(super) fn wanted(parameters: &[(String, String)]) -> Result<Wanted, Failure> {
    let once = |name: &str| {
        let mut values = parameters.iter().filter(|(key, _)| key == name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(invalid(format!("give `{name}` once"))),
            (value, None) => Ok(value.map(|(_, value)| value.as_str())),
        }
    };
    let mode = match once("live")? {
        None => Mode::CatchUp,
        Some("long-poll") => Mode::LongPoll,
        Some("sse") => Mode::Events,
        Some(_) => return Err(invalid("`live` is long-poll or sse")),
    };
    let start = match once("offset")? {
        None if mode != Mode::CatchUp => {
            return Err(invalid("say with `offset` from where to read live: -1, now or an offset"));
        }
        None | Some("-1") => Start::Beginning,
        Some("now") => Start::Tail,
        Some(offset) => {
            let position = offset.parse();
            let failure =
                |error| Failure::new(StatusCode::BAD_REQUEST, failure::INVALID_OFFSET, error);
            Start::At(position.map_err(failure)?)
        }
    };
    // One that is not ours is of no use, and no harm.
    let cursor = once("cursor")?.and_then(whole);
    Ok(Wanted { start, mode, cursor })
}

pub(super) fn invalid(message: impl std::fmt::Display) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, failure::INVALID_REQUEST, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn lifetimes_are_exact() {
        let ttl = |text| lifetime(&headers(&[("stream-ttl", text)])).ok();
        assert_eq!(ttl("0"), Some(Lifetime::Idle(0)));
        assert_eq!(ttl("3600"), Some(Lifetime::Idle(3_600)));
        for bad in ["", "-1", "+1", "01", "1.5", "1e3", "abc", "99999999999999999999"] {
            assert_eq!(ttl(bad), None, "{bad}");
        }
        let at = |text| lifetime(&headers(&[("stream-expires-at", text)])).ok();
        assert_eq!(at("1970-01-01T00:00:01Z"), Some(Lifetime::Until(1_000)));
        assert_eq!(at("1970-01-01T01:00:00.5+01:00"), Some(Lifetime::Until(500)));
        assert_eq!(at("1969-01-01T00:00:00Z"), Some(Lifetime::Until(0)));
        assert_eq!(at("tomorrow"), None);
        let both = [("stream-ttl", "1"), ("stream-expires-at", "2030-01-01T00:00:00Z")];
        assert!(lifetime(&headers(&both)).is_err());
    }

    #[test]
    fn a_producer_says_all_or_nothing() {
        let one = [("producer-id", "p"), ("producer-epoch", "1"), ("producer-seq", "0")];
        assert!(producer(&headers(&one)).unwrap().is_some());
        assert!(producer(&headers(&[])).unwrap().is_none());
        for left_out in 0..3 {
            let mut some = one.to_vec();
            some.remove(left_out);
            assert!(producer(&headers(&some)).is_err());
        }
        for bad in ["", "-1", "1.0", "x", "9007199254740992"] {
            assert!(producer(&headers(&[one[0], one[1], ("producer-seq", bad)])).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_read_says_where_it_begins_and_how_it_waits() {
        let read = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            wanted(&pairs.collect::<Vec<_>>()).ok().map(|it| (it.start, it.mode, it.cursor))
        };
        let (start, mode) = (Start::Beginning, Mode::CatchUp);
        assert_eq!(read(&[]), Some((start, mode, None)));
        assert_eq!(read(&[("offset", "-1"), ("x", "y"), ("x", "z")]), Some((start, mode, None)));
        let live = [("offset", "now"), ("live", "sse"), ("cursor", "7")];
        assert_eq!(read(&live), Some((Start::Tail, Mode::Events, Some(7))));
        for bad in ["", "0", "NOW", "a,b", "..", "0000000000000000_000000000000000"] {
            assert_eq!(read(&[("offset", bad)]), None, "{bad}");
        }
        assert_eq!(read(&[("offset", "-1"), ("offset", "-1")]), None);
        assert_eq!(read(&[("live", "long-poll")]), None);
        assert_eq!(read(&[("offset", "-1"), ("live", "ws")]), None);
    }
}
