//! The W3C trace context: `traceparent` as bytes in, bytes out.

use std::fmt;
use std::str::FromStr;

/// Sixteen bytes, not all zero. Displayed as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// Eight bytes, not all zero. Displayed as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

/// One span as seen from elsewhere: what travels in `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Shared by everything that one request causes.
    pub trace_id: TraceId,
    /// The span that is the parent of what is done next.
    pub span_id: SpanId,
    /// Whether spans of this trace are recorded.
    pub sampled: bool,
}

/// The text is not a `traceparent`. By the standard it is then as good as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent: 00-<32 hex digits>-<16 hex digits>-<2 hex digits> in lower case")]
pub struct InvalidTraceparent;

impl TraceContext {
    /// A fresh, unsampled context with random ids.
    #[must_use]
    pub fn random() -> Self {
        Self { trace_id: TraceId::random(), span_id: SpanId::random(), sampled: false }
    }

    /// Reads `00-<trace id>-<span id>-<flags>`. A later version may append fields, version `ff`
    /// is forbidden, and zero ids are invalid.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidTraceparent> {
        let fits = match text.len() {
            55 => true,
            56.. => text[55] == b'-' && !text.starts_with(b"00"),
            _ => false,
        };
        if !fits || text[2] != b'-' || text[35] != b'-' || text[52] != b'-' {
            return Err(InvalidTraceparent);
        }
        let [version] = hex(&text[..2])?;
        let trace_id = TraceId(hex(&text[3..35])?);
        let span_id = SpanId(hex(&text[36..52])?);
        let [flags] = hex(&text[53..55])?;
        if version == 0xff || trace_id.0 == [0; 16] || span_id.0 == [0; 8] {
            return Err(InvalidTraceparent);
        }
        Ok(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTraceparent;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

impl TraceId {
    /// Random, never zero.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random::<u128>().max(1).to_be_bytes())
    }
}

impl SpanId {
    /// Random, never zero.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random::<u64>().max(1).to_be_bytes())
    }
}

impl TraceId {
    /// The 32 hex digits, without the machinery of formatting: every answer carries them.
    #[must_use]
    pub fn hex(&self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        text
    }
}

/// The ids as 128 and 64 bit numbers print fastest.
impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Lower-case hex only, as the standard wants it.
fn hex<const N: usize>(text: &[u8]) -> Result<[u8; N], InvalidTraceparent> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        _ => Err(InvalidTraceparent),
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_survives_a_round_trip() {
        let context: TraceContext = VALID.parse().unwrap();
        assert!(context.sampled);
        assert_eq!(context.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(&context.trace_id.hex(), b"4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.to_string(), VALID);
    }

    #[test]
    fn what_the_standard_calls_invalid_is_refused() {
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
        ] {
            assert_eq!(text.parse::<TraceContext>(), Err(InvalidTraceparent), "{text}");
        }
    }

    #[test]
    fn a_later_version_may_append_fields() {
        let later = format!("01{}-what-comes", &VALID[2..]);
        assert_eq!(later.parse::<TraceContext>(), VALID.parse());
    }
}
