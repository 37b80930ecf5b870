//! Subjects: names of topics taken as tokens between dots, and patterns over them.
//!
//! The grammar is that of NATS, <https://docs.nats.io/nats-concepts/subjects>: `*` stands for one
//! token, `>` at the end for one or more. Matching is one walk over both, without going back.

use std::fmt;
use std::str::FromStr;

/// Longest pattern, in bytes: that of the longest name, and some.
pub const MAX_PATTERN_BYTES: usize = 128;

/// Which subjects are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// Too short or too long.
    #[error("a pattern has 1 to {MAX_PATTERN_BYTES} bytes")]
    Length,
    /// A wildcard with something beside it.
    #[error("`*` and `>` are tokens of their own, between dots: orders.*.created, not orders.v*")]
    Wildcard,
    /// Something behind the rest.
    #[error("`>` is the last token: it stands for all that follows")]
    Rest,
    /// Neither a wildcard nor part of a name.
    #[error("names of topics have only `a-z 0-9 A-Z . _ -`; {0:?} is in none")]
    Character(char),
}

impl Pattern {
    /// Whether this subject is meant.
    #[must_use]
    pub fn matches(&self, subject: &str) -> bool {
        let mut tokens = subject.split('.');
        for wanted in self.text.split('.') {
            let Some(token) = tokens.next() else { return false };
            match wanted {
                ">" => return true,
                "*" => {}
                name if name == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        if text.is_empty() || MAX_PATTERN_BYTES < text.len() {
            return Err(InvalidPattern::Length);
        }
        let is_known = |c: char| c.is_ascii_alphanumeric() || "._-*>".contains(c);
        if let Some(other) = text.chars().find(|c| !is_known(*c)) {
            return Err(InvalidPattern::Character(other));
        }
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            if token == ">" && tokens.peek().is_some() {
                return Err(InvalidPattern::Rest);
            }
            if 1 < token.len() && token.contains(['*', '>']) {
                return Err(InvalidPattern::Wildcard);
            }
        }
        Ok(Self { text: text.into() })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By trying every way.
    fn naive(pattern: &[&str], subject: &[&str]) -> bool {
        match (pattern, subject) {
            ([], []) | ([">"], [_, ..]) => true,
            (["*", pattern @ ..], [_, subject @ ..]) => naive(pattern, subject),
            ([wanted, pattern @ ..], [token, subject @ ..]) => {
                wanted == token && naive(pattern, subject)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_means_what_the_naive_matcher_says(
            pattern in proptest::collection::vec(prop_oneof!["[ab]{0,2}", Just("*".to_owned())], 1..5),
            rest in any::<bool>(),
            subject in proptest::collection::vec("[ab]{0,2}", 1..6),
        ) {
            let mut pattern: Vec<&str> = pattern.iter().map(String::as_str).collect();
            pattern.extend(rest.then_some(">"));
            let subject: Vec<&str> = subject.iter().map(String::as_str).collect();
            prop_assume!(pattern != [""]);
            let parsed: Pattern = pattern.join(".").parse().expect("it is one");
            prop_assert_eq!(parsed.matches(&subject.join(".")), naive(&pattern, &subject));
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", InvalidPattern::Length),
            (&"a".repeat(MAX_PATTERN_BYTES + 1), InvalidPattern::Length),
            ("orders.v*", InvalidPattern::Wildcard),
            ("orders.>>", InvalidPattern::Wildcard),
            (">.created", InvalidPattern::Rest),
            ("orders/created", InvalidPattern::Character('/')),
        ] {
            assert_eq!(text.parse::<Pattern>(), Err(reason), "{text:?}");
        }
        for text in [">", "*", "*.*", "orders.*.created", "a.b.>"] {
            assert_eq!(text.parse::<Pattern>().map(|it| it.to_string()), Ok(text.to_owned()));
        }
    }
}
