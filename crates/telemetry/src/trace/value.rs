//! Attribute values.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Characters of a text that are kept: `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`.
static MAX_LEN: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Makes `max` the process's limit for text attributes.
pub(crate) fn limit_attributes(max: usize) {
    MAX_LEN.store(max, Ordering::Relaxed);
}

/// The text within the limit.
fn shortened(text: &str) -> &str {
    let max = MAX_LEN.load(Ordering::Relaxed);
    if text.len() <= max {
        return text;
    }
    text.char_indices().nth(max).map_or(text, |(end, _)| &text[..end])
}

/// Text, a number or a boolean. Text that is not `'static` is copied, but only for recorded spans.
#[derive(Clone, Debug)]
pub struct Value(pub(crate) opentelemetry::Value);

macro_rules! from {
    ($($source:ty as $value:ident => $into:expr;)+) => {$(
        impl From<$source> for Value {
            fn from($value: $source) -> Self {
                Self($into.into())
            }
        }
    )+};
}

from! {
    bool as value => value;
    i64 as value => value;
    u64 as value => i64::try_from(value).unwrap_or(i64::MAX);
    usize as value => i64::try_from(value).unwrap_or(i64::MAX);
    u32 as value => i64::from(value);
    i32 as value => i64::from(value);
    u16 as value => i64::from(value);
    f64 as value => value;
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::from(value.as_str())
    }
}

impl From<Cow<'static, str>> for Value {
    fn from(value: Cow<'static, str>) -> Self {
        Self::from(&*value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self(shortened(value).to_owned().into())
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::from(value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_the_wires_range_are_the_largest_there_is() {
        assert_eq!(Value::from(u64::MAX).0, opentelemetry::Value::I64(i64::MAX));
        assert_eq!(Value::from("orders").0, opentelemetry::Value::from("orders"));
    }
}
