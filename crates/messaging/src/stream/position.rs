//! Positions in a stream, which clients call offsets.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A position between two appends. As text its order is that of the positions:
/// `<16 digits: appends before it>_<16 digits: bytes before it>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Appends before it.
    pub appends: u64,
    /// Bytes before it, as they are stored.
    pub bytes: u64,
}

/// A text that is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an offset is one that this server has given, `-1` or `now`")]
pub struct InvalidPosition;

/// Digits of each half.
const DIGITS: usize = 16;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$}_{:0DIGITS$}", self.appends, self.bytes)
    }
}

impl std::str::FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let half = |text: &str| {
            let is_number = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse().ok()).flatten()
        };
        let (appends, bytes) = text.split_once('_').ok_or(InvalidPosition)?;
        let (appends, bytes) = half(appends).zip(half(bytes)).ok_or(InvalidPosition)?;
        Ok(Self { appends, bytes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_are_read_as_written_and_ordered_as_positions(
            a in (0_u64..9_999_999_999_999_999, 0_u64..9_999_999_999_999_999),
            b in (0_u64..9_999_999_999_999_999, 0_u64..9_999_999_999_999_999),
        ) {
            let position = |(appends, bytes)| Position { appends, bytes };
            let (a, b) = (position(a), position(b));
            prop_assert_eq!(a.to_string().parse(), Ok(a));
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.cmp(&b));
        }
    }

    #[test]
    fn other_texts_are_none() {
        let zero = Position::default().to_string();
        assert_eq!(zero, "0000000000000000_0000000000000000");
        for text in [
            "",
            "0",
            "0_0",
            "-1",
            "now",
            &zero[1..],
            &format!("{zero}0"),
            "+000000000000000_0000000000000000",
        ] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text}");
        }
    }
}
