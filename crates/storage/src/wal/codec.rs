//! Numbers, ranges and runs as bytes. Decoding trusts nothing, although checksums come first.

use super::ranges::{Ranges, Span};
use super::runs::{Point, Run};

/// Appends to a payload. Numbers take 7 bits per byte, the lowest first.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push((number as u8 & 0x7f) | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.bytes.push(u8::from(flag));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// The count, then each item.
    pub(crate) fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.number(items.len() as u64);
        items.iter().for_each(|item| each(self, item));
    }

    /// Gaps and lengths, so that ranges that lie close together take two bytes each.
    pub(crate) fn ranges(&mut self, ranges: &Ranges) {
        let mut from = 0;
        self.list(ranges.spans(), |encoder, span| {
            encoder.number(span.start - from);
            encoder.number(span.end - span.start);
            from = span.end;
        });
    }

    /// Without its points: they are found again in the segment itself.
    pub(crate) fn run(&mut self, run: &Run) {
        for number in [
            run.span.start,
            run.span.end - run.span.start,
            run.term,
            run.segment,
            run.begin,
            run.entries,
            run.bytes,
        ] {
            self.number(number);
        }
    }

    pub(crate) fn points(&mut self, points: &[Point]) {
        let (mut index, mut at) = (0, 0);
        self.list(points, |encoder, point| {
            encoder.number(point.index - index);
            encoder.number(u64::from(point.at - at));
            (index, at) = (point.index, point.at);
        });
    }
}

/// Takes a payload apart. `None` where it ends too early or says something impossible.
pub(crate) struct Decoder<'a> {
    bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.number()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        let len = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    pub(crate) fn list<T>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let count = usize::try_from(self.number()?).ok()?;
        // Each item takes a byte at least, so a wrong count cannot allocate much.
        let mut items = Vec::with_capacity(count.min(self.bytes.len()));
        for _ in 0..count {
            items.push(each(self)?);
        }
        Some(items)
    }

    pub(crate) fn ranges(&mut self) -> Option<Ranges> {
        let mut from = 0u64;
        let spans = self.list(|decoder| {
            let start = from.checked_add(decoder.number()?)?;
            from = start.checked_add(decoder.number()?)?;
            Some(Span::new(start, from))
        })?;
        Some(Ranges::from_spans(spans))
    }

    pub(crate) fn run(&mut self) -> Option<Run> {
        let start = self.number()?;
        let span = Span::new(start, start.checked_add(self.number()?)?);
        Some(Run {
            span,
            term: self.number()?,
            segment: self.number()?,
            begin: self.number()?,
            entries: self.number()?.max(1),
            bytes: self.number()?,
            points: Vec::new(),
        })
    }

    pub(crate) fn points(&mut self) -> Option<Vec<Point>> {
        let (mut index, mut at) = (0u64, 0u32);
        self.list(|decoder| {
            index = index.checked_add(decoder.number()?)?;
            at = at.checked_add(u32::try_from(decoder.number()?).ok()?)?;
            Some(Point { index, at })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            numbers in proptest::collection::vec(any::<u64>(), 0..20),
            spans in proptest::collection::vec((1u64..1 << 40, 0u64..1000), 0..20),
        ) {
            let spans = spans.iter().map(|(start, len)| Span::new(*start, start + len)).collect();
            let ranges = Ranges::from_spans(spans);
            let mut encoder = Encoder::default();
            encoder.list(&numbers, |encoder, number| encoder.number(*number));
            encoder.ranges(&ranges);
            encoder.text("fault");
            let bytes = encoder.into_bytes();
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(decoder.list(Decoder::number).unwrap(), numbers);
            prop_assert_eq!(decoder.ranges().unwrap(), ranges);
            prop_assert_eq!(decoder.text().unwrap(), "fault");
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Decoder::new(&bytes).ranges();
            let _ = Decoder::new(&bytes).list(Decoder::run);
            let _ = Decoder::new(&bytes).points();
            let _ = Decoder::new(&bytes).text();
        }
    }
}
