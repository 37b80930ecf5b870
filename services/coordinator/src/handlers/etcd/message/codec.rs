//! Protobuf's JSON mapping, the parts that the etcd gateway shows.
//!
//! Input is lenient: integers as numbers or strings, enums by name or number, base64 in either
//! alphabet with or without padding, `null` for absent. Output is strict: 64-bit integers as
//! strings, and no field that is zero.

use std::fmt;
use std::marker::PhantomData;

use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::{DecodePaddingMode, Engine as _};
use bytes::Bytes;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// `skip_serializing_if` for every field.
pub(crate) trait IsZero {
    fn is_zero(&self) -> bool;
}

pub(crate) fn zero<T: IsZero>(value: &T) -> bool {
    value.is_zero()
}

/// `deserialize_with` for lists, texts and flags: `null` is absent.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// An int64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Int(pub(crate) i64);

/// A uint64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uint(pub(crate) u64);

/// Bytes, as base64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Bytes);

impl IsZero for Int {
    fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl IsZero for Uint {
    fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl IsZero for u32 {
    fn is_zero(&self) -> bool {
        *self == 0
    }
}

impl IsZero for bool {
    fn is_zero(&self) -> bool {
        !*self
    }
}

impl IsZero for Blob {
    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }
}

impl IsZero for String {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

impl<T> IsZero for Vec<T> {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }
}

impl<T> IsZero for Option<T> {
    fn is_zero(&self) -> bool {
        self.is_none()
    }
}

impl Serialize for Int {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(itoa::Buffer::new().format(self.0))
    }
}

impl Serialize for Uint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(itoa::Buffer::new().format(self.0))
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntVisitor(PhantomData)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Uint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntVisitor(PhantomData)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BlobVisitor)
    }
}

struct IntVisitor<T>(PhantomData<T>);

impl<T> Visitor<'_> for IntVisitor<T>
where
    T: Default + TryFrom<i64> + TryFrom<u64> + std::str::FromStr,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a 64-bit integer, as a number or a decimal string")
    }

    fn visit_unit<E: de::Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        T::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        T::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

struct BlobVisitor;

impl Visitor<'_> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes as base64")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Blob, E> {
        Ok(Blob::default())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Blob, E> {
        const LENIENT: GeneralPurposeConfig =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
        const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
        let engine = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
        match engine.decode(text) {
            Ok(bytes) => Ok(Blob(bytes.into())),
            Err(error) => Err(E::custom(format_args!("illegal base64 data: {error}"))),
        }
    }
}

/// An enum of the protocol: its names in the order of their numbers. The first is the default.
pub(crate) trait Named: Copy + Default + 'static {
    const VALUES: &[(&'static str, Self)];
}

/// An enum in its JSON form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Enum<T>(pub(crate) T);

impl<'de, T: Named> Deserialize<'de> for Enum<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EnumVisitor(PhantomData))
    }
}

impl<T: Named + PartialEq> Serialize for Enum<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = T::VALUES.iter().find(|(_, value)| *value == self.0);
        serializer.serialize_str(named.map_or("", |(name, _)| name))
    }
}

impl<T: Named + PartialEq> IsZero for Enum<T> {
    fn is_zero(&self) -> bool {
        self.0 == T::default()
    }
}

struct EnumVisitor<T>(PhantomData<T>);

impl<T: Named> Visitor<'_> for EnumVisitor<T> {
    type Value = Enum<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name or number of one of")?;
        T::VALUES.iter().try_for_each(|(name, _)| write!(f, " {name}"))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Enum<T>, E> {
        Ok(Enum::default_of())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Enum<T>, E> {
        usize::try_from(number)
            .ok()
            .and_then(|number| T::VALUES.get(number))
            .map(|(_, value)| Enum(*value))
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Enum<T>, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Enum<T>, E> {
        T::VALUES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| Enum(*value))
            .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

impl<T: Named> Enum<T> {
    fn default_of() -> Self {
        Self(T::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_as_numbers_or_strings_and_leave_as_strings() {
        for text in ["5", "\"5\""] {
            assert_eq!(serde_json::from_str::<Int>(text).unwrap(), Int(5));
        }
        assert_eq!(serde_json::from_str::<Int>("null").unwrap(), Int(0));
        assert_eq!(serde_json::from_str::<Int>("\"-1\"").unwrap(), Int(-1));
        assert_eq!(serde_json::to_string(&Int(i64::MIN)).unwrap(), "\"-9223372036854775808\"");
        for bad in ["1.5", "\"\"", "\"x\"", "true", "9223372036854775808", "[]"] {
            assert!(serde_json::from_str::<Int>(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Uint>("-1").is_err());
    }

    #[test]
    fn base64_is_read_in_either_alphabet_with_or_without_padding() {
        for text in ["\"//8=\"", "\"__8=\"", "\"//8\"", "\"__8\""] {
            assert_eq!(serde_json::from_str::<Blob>(text).unwrap().0, &[0xff, 0xff][..]);
        }
        let error = serde_json::from_str::<Blob>("\"!!!\"").unwrap_err();
        assert!(error.to_string().starts_with("illegal base64 data"), "{error}");
    }
}
