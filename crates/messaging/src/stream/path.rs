//! Where a stream is.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// No stream's path begins with this segment: the protocol keeps it for what it says of streams.
pub const RESERVED: &str = "__ds";

/// The path of a stream below the root: 1 to 1,024 bytes of segments between slashes, none of
/// them empty, `.` or `..`, without control characters. Checked once, where it enters the program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamPath(Arc<str>);

/// A path that no stream can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// Nothing, or too much.
    #[error("a stream's path has 1 to {} bytes", StreamPath::MAX_BYTES)]
    Length,
    /// HTTP clients resolve dot segments away, and proxies merge slashes.
    #[error("a stream's path has no empty segment, and none that is `.` or `..`")]
    Segment,
    /// Nobody could write it.
    #[error("a stream's path has no control characters")]
    Control,
    /// See [`RESERVED`].
    #[error("paths below `{RESERVED}` are kept for subscriptions; choose another first segment")]
    Reserved,
}

impl StreamPath {
    /// Longest path, in bytes.
    pub const MAX_BYTES: usize = 1_024;

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for StreamPath {
    type Error = InvalidPath;

    fn try_from(path: String) -> Result<Self, InvalidPath> {
        path.parse()
    }
}

impl std::str::FromStr for StreamPath {
    type Err = InvalidPath;

    fn from_str(path: &str) -> Result<Self, InvalidPath> {
        if !(1..=Self::MAX_BYTES).contains(&path.len()) {
            return Err(InvalidPath::Length);
        }
        if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(InvalidPath::Segment);
        }
        if path.chars().any(char::is_control) {
            return Err(InvalidPath::Control);
        }
        if path.split('/').next() == Some(RESERVED) {
            return Err(InvalidPath::Reserved);
        }
        Ok(Self(path.into()))
    }
}

impl From<StreamPath> for String {
    fn from(path: StreamPath) -> Self {
        path.0.as_ref().to_owned()
    }
}

impl fmt::Display for StreamPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_checked() {
        for good in ["a", "a/b", "Ä ö/…", "a/__ds", "__dsx", &"a".repeat(1_024)] {
            assert!(good.parse::<StreamPath>().is_ok(), "{good}");
        }
        for bad in ["", "/", "/a", "a/", "a//b", ".", "a/../b", "a\0", "a\nb", "__ds", "__ds/x"] {
            assert!(bad.parse::<StreamPath>().is_err(), "{bad}");
        }
        assert!("a".repeat(1_025).parse::<StreamPath>().is_err());
    }
}
