//! Attribute values.

use std::borrow::Cow;

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
    String as value => value;
    Cow<'static, str> as value => value;
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self(value.to_owned().into())
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self(value.clone().into())
    }
}
