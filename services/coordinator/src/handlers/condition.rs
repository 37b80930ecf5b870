//! `If-Match` and `If-None-Match` as comparisons.

use axum::http::{HeaderMap, HeaderName, header};
use bytes::Bytes;
use chassis::problem::Problem;

use super::params::invalid;
use crate::store::{Compare, KeyRange, Operand, Relation, Revision};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    None,
    /// `If-Match: *`
    Exists,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match: "7"`
    At(Revision),
    /// `If-None-Match: "7"`
    NotAt(Revision),
}

impl Condition {
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, Problem> {
        let matches = tag(headers, header::IF_MATCH)?;
        let differs = tag(headers, header::IF_NONE_MATCH)?;
        match (matches, differs) {
            (None, None) => Ok(Self::None),
            (Some(Tag::Any), None) => Ok(Self::Exists),
            (Some(Tag::Revision(revision)), None) => Ok(Self::At(revision)),
            (None, Some(Tag::Any)) => Ok(Self::Absent),
            (None, Some(Tag::Revision(revision))) => Ok(Self::NotAt(revision)),
            (Some(_), Some(_)) => Err(invalid("send If-Match or If-None-Match, not both")),
        }
    }

    /// Whether a reader says that it has this revision already.
    pub(super) fn is_unchanged(headers: &HeaderMap, current: Revision) -> bool {
        match tag(headers, header::IF_NONE_MATCH) {
            Ok(Some(Tag::Revision(revision))) => revision == current,
            Ok(Some(Tag::Any) | None) | Err(_) => false,
        }
    }

    pub(super) fn compares(self, key: &Bytes) -> Vec<Compare> {
        let compare = |relation, revision: u64| Compare {
            range: KeyRange::One(key.clone()),
            relation,
            operand: Operand::Mod(revision.cast_signed()),
        };
        match self {
            Self::None => vec![],
            Self::Exists => vec![compare(Relation::NotEqual, 0)],
            Self::Absent => vec![compare(Relation::Equal, 0)],
            Self::At(revision) => vec![compare(Relation::Equal, revision.0)],
            Self::NotAt(revision) => vec![compare(Relation::NotEqual, revision.0)],
        }
    }
}

enum Tag {
    Any,
    Revision(Revision),
}

/// One mod revision, with or without quotes, or `*`.
fn tag(headers: &HeaderMap, name: HeaderName) -> Result<Option<Tag>, Problem> {
    let Some(value) = headers.get(&name) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(Some(Tag::Any));
    }
    let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    match unquoted.parse() {
        Ok(revision) if 0 < revision => Ok(Some(Tag::Revision(Revision(revision)))),
        _ => Err(invalid(format!("{name} must be one mod revision such as \"7\", or *"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: HeaderName, value: &str, expected: Option<Condition>) {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        assert_eq!(Condition::from_headers(&headers).ok(), expected, "{value}");
    }

    #[test]
    fn conditions_are_revisions_or_stars() {
        check(header::IF_MATCH, "\"7\"", Some(Condition::At(Revision(7))));
        check(header::IF_MATCH, "7", Some(Condition::At(Revision(7))));
        check(header::IF_MATCH, "*", Some(Condition::Exists));
        check(header::IF_NONE_MATCH, "*", Some(Condition::Absent));
        for bad in ["", "\"\"", "0", "-1", "W/\"7\"", "\"7\", \"8\"", "x"] {
            check(header::IF_MATCH, bad, None);
        }
    }
}
