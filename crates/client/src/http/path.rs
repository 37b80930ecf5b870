//! Paths and queries out of names that may hold any byte.

use std::fmt::{Display, Write};

use crate::Error;

/// A path below the base URL, percent-encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    path: String,
    /// The pattern it was made from: what traces show, because names of users are no names of
    /// operations.
    template: Option<&'static str>,
}

impl From<&'static str> for Path {
    /// A path that needs no encoding.
    fn from(path: &'static str) -> Self {
        Self { path: path.to_owned(), template: Some(path) }
    }
}

impl Path {
    /// A path that is percent-encoded already. It begins with a slash.
    #[must_use]
    pub fn encoded(path: impl Into<String>) -> Self {
        Self { path: path.into(), template: None }
    }

    /// Fills the `{placeholders}` of a route pattern, in order, each with one segment.
    ///
    /// # Errors
    ///
    /// When a segment is empty, `.` or `..`: no URL can carry those.
    ///
    /// # Panics
    ///
    /// When the number of placeholders differs.
    pub fn fill(pattern: &'static str, segments: &[&str]) -> Result<Self, Error> {
        let mut path = String::with_capacity(pattern.len() + 32);
        let mut rest = pattern;
        for segment in segments {
            if matches!(*segment, "" | "." | "..") {
                return Err(Error::invalid(format!("`{segment}` cannot be a name in a path")));
            }
            let (before, after) = rest.split_once('{').expect("a placeholder for each segment");
            let (_, after) = after.split_once('}').expect("a placeholder ends");
            path.push_str(before);
            encode(segment.as_bytes(), Slash::Encoded, &mut path);
            rest = after;
        }
        assert!(!rest.contains('{'), "a segment for each placeholder of {pattern}");
        path.push_str(rest);
        Ok(Self { path, template: Some(pattern) })
    }

    /// Fills the last placeholder of a pattern (`/v1/kv/{*key}`) with a key of any bytes. Its
    /// slashes stay readable, unless they would form `.` or `..` segments, which every URL library
    /// removes.
    ///
    /// # Errors
    ///
    /// When the key is empty, or `.` or `..` as a whole.
    pub fn key(pattern: &'static str, key: &[u8]) -> Result<Self, Error> {
        if matches!(key, b"" | b"." | b"..") {
            let key = String::from_utf8_lossy(key);
            return Err(Error::invalid(format!("`{key}` cannot be a key in a path")));
        }
        let dots = key.split(|byte| *byte == b'/').any(|part| matches!(part, b"." | b".."));
        let (before, _) = pattern.split_once('{').expect("a pattern with a placeholder");
        let mut path = before.to_owned();
        encode(key, if dots { Slash::Encoded } else { Slash::Kept }, &mut path);
        Ok(Self { path, template: Some(pattern) })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.path
    }

    pub(super) const fn template(&self) -> Option<&'static str> {
        self.template
    }
}

/// A query string, built parameter by parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(String);

impl Query {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A whole query string as it came with another request, percent-encoded already.
    #[must_use]
    pub fn raw(query: impl Into<String>) -> Self {
        Self(query.into())
    }

    /// Adds a parameter with a value of any bytes.
    #[must_use]
    pub fn bytes(mut self, name: &str, value: &[u8]) -> Self {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        encode(name.as_bytes(), Slash::Encoded, &mut self.0);
        self.0.push('=');
        encode(value, Slash::Kept, &mut self.0);
        self
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(self, name: &str, value: impl Display) -> Self {
        self.bytes(name, value.to_string().as_bytes())
    }

    /// Adds a parameter if there is a value.
    #[must_use]
    pub fn maybe(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds a parameter whose value is percent-encoded already, such as the `next` of a page.
    #[must_use]
    pub fn encoded(mut self, name: &str, value: &str) -> Self {
        let separator = if self.0.is_empty() { "" } else { "&" };
        let _ = write!(self.0, "{separator}{name}={value}");
        self
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(&*self.0)
    }
}

/// Percent-encodes a key as it stands in its URL, slashes readable.
#[must_use]
pub fn encode_key(key: &[u8]) -> String {
    let mut encoded = String::new();
    encode(key, Slash::Kept, &mut encoded);
    encoded
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slash {
    Kept,
    Encoded,
}

/// RFC 3986: what is not unreserved is encoded.
fn encode(bytes: &[u8], slash: Slash, out: &mut String) {
    for byte in bytes {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
        if plain || (*byte == b'/' && slash == Slash::Kept) {
            out.push(char::from(*byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fill_a_pattern_and_cannot_leave_their_segment() {
        let path = Path::fill("/v1/topics/{topic}/subscriptions/{name}/pull", &["a/b?", "ä"]);
        assert_eq!(path.unwrap().as_str(), "/v1/topics/a%2Fb%3F/subscriptions/%C3%A4/pull");
        for bad in ["", ".", ".."] {
            assert!(Path::fill("/v1/topics/{topic}", &[bad]).is_err());
        }
    }

    #[test]
    fn a_key_keeps_its_slashes_unless_a_url_would_lose_them() {
        let path = |key: &[u8]| Path::key("/v1/kv/{*key}", key).unwrap().path;
        assert_eq!(path(b"a/b c"), "/v1/kv/a/b%20c");
        assert_eq!(path(b"a/../b"), "/v1/kv/a%2F..%2Fb");
        assert_eq!(path(&[0xff, b'%']), "/v1/kv/%FF%25");
        assert_eq!(path(b"/a//"), "/v1/kv//a//");
        assert!(Path::key("/v1/kv/{*key}", b"..").is_err());
    }

    #[test]
    fn a_query_takes_any_bytes() {
        let query = Query::new().bytes("prefix", b"a&b=/+").with("limit", 3);
        let query = query.maybe("start", None::<&str>).encoded("next", "x%20y");
        assert_eq!(query.as_str(), Some("prefix=a%26b%3D/%2B&limit=3&next=x%20y"));
        assert_eq!(Query::new().as_str(), None);
    }
}
