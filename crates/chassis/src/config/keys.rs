//! The keys that a service knows, taken from its default settings.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// Every leaf key, dotted, with what its default looks like.
#[derive(Clone, Debug)]
pub(super) struct Keys(BTreeMap<String, Kind>);

/// The form of a value. Values are never guessed: `123` for a text is the text `123`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Integer,
    Float,
    Text,
    List,
    /// A table with keys that the user chooses, or a value that is absent by default.
    Open,
}

/// From here on (of 1) two keys count as the same one with a word left out.
const ALIKE: f64 = 0.88;

/// What a dotted path means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Leaf(Kind),
    Table,
    Unknown,
}

impl Keys {
    pub(super) fn of(defaults: &impl Serialize) -> Self {
        let mut keys = BTreeMap::new();
        let tree = serde_json::to_value(defaults).expect("settings are plain data");
        collect("", &tree, &mut keys);
        Self(keys)
    }

    pub(super) fn leaves(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn find(&self, path: &str) -> Found {
        if let Some(kind) = self.0.get(path) {
            return Found::Leaf(*kind);
        }
        let below = format!("{path}.");
        let is_table = self.0.keys().any(|key| key.starts_with(&below));
        if is_table { Found::Table } else { Found::Unknown }
    }

    /// The known key (or table) that is spelled most alike.
    pub(super) fn nearest(&self, path: &str) -> Option<&str> {
        let tables = self.0.keys().filter_map(|key| key.rsplit_once('.').map(|(table, _)| table));
        let candidates = self.0.keys().map(String::as_str).chain(tables);
        let distance = |key: &str| {
            // A key at the wrong level, or cut short, is as likely as a typo.
            let leaf = key.rsplit('.').next().unwrap_or(key);
            let wanted = path.rsplit('.').next().unwrap_or(path);
            match leaf.strip_prefix(wanted) {
                Some("") => 1,
                Some(_) if 3 < wanted.len() => 2,
                _ => strsim::damerau_levenshtein(key, path),
            }
        };
        let nearest = candidates.clone().min_by_key(|key| distance(key))?;
        if distance(nearest) <= 2 + path.len() / 4 {
            return Some(nearest);
        }
        // Far in letters, but alike from the start: a word was left out.
        let likeness = |key: &str| strsim::jaro_winkler(key, path);
        let alike = candidates.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
        (ALIKE < likeness(alike)).then_some(alike)
    }
}

fn collect(prefix: &str, value: &Value, keys: &mut BTreeMap<String, Kind>) {
    let kind = match value {
        Value::Object(table) if !table.is_empty() => {
            for (name, value) in table {
                let path =
                    if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                collect(&path, value, keys);
            }
            return;
        }
        Value::Object(_) | Value::Null => Kind::Open,
        Value::Bool(_) => Kind::Bool,
        Value::Number(number) if number.is_f64() => Kind::Float,
        Value::Number(_) => Kind::Integer,
        Value::String(_) => Kind::Text,
        Value::Array(_) => Kind::List,
    };
    if !prefix.is_empty() {
        keys.insert(prefix.to_owned(), kind);
    }
}

impl Kind {
    /// Whether a value from a file fits. Where it does not, [`Kind::wanted`] says what would.
    pub(super) fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Open, _)
            | (Self::Bool, Value::Bool(_))
            | (Self::Text, Value::String(_))
            | (Self::List, Value::Array(_))
            | (Self::Float, Value::Number(_)) => true,
            (Self::Integer, Value::Number(number)) => !number.is_f64(),
            _ => false,
        }
    }

    /// Reads a value that is text because variables and flags are.
    pub(super) fn parse(self, text: &str) -> Option<Value> {
        match self {
            Self::Bool => text.parse().ok().map(Value::Bool),
            Self::Integer => {
                let signed = || text.parse::<i64>().map(Value::from).ok();
                text.parse::<u64>().map(Value::from).ok().or_else(signed)
            }
            Self::Float => text.parse::<f64>().ok().filter(|x| x.is_finite()).map(Value::from),
            Self::List if text.trim_start().starts_with('[') => serde_json::from_str(text).ok(),
            Self::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Some(items.map(Value::from).collect::<Vec<_>>().into())
            }
            Self::Open if text.trim_start().starts_with(['{', '[']) => {
                serde_json::from_str(text).ok()
            }
            Self::Text | Self::Open => Some(text.into()),
        }
    }

    /// For people.
    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Integer => "a whole number",
            Self::Float => "a number",
            Self::Text => "a text",
            Self::List => "a list",
            Self::Open => "a value",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys() -> Keys {
        Keys::of(&json!({ "listen": "127.0.0.1:1", "limits": { "max_body_bytes": 8 },
                          "routes": {}, "ratio": 1.0, "peers": [], "secret": null }))
    }

    #[test]
    fn a_key_is_a_leaf_a_table_or_unknown() {
        let keys = keys();
        assert_eq!(keys.find("limits.max_body_bytes"), Found::Leaf(Kind::Integer));
        assert_eq!(keys.find("limits"), Found::Table);
        assert_eq!(keys.find("routes"), Found::Leaf(Kind::Open));
        assert_eq!(keys.find("limit"), Found::Unknown);
    }

    #[test]
    fn a_typo_and_a_wrong_level_find_the_key_that_was_meant() {
        let keys = keys();
        assert_eq!(keys.nearest("limits.max_body_byte"), Some("limits.max_body_bytes"));
        assert_eq!(keys.nearest("max_body_bytes"), Some("limits.max_body_bytes"));
        assert_eq!(keys.nearest("limits.max_bdy"), Some("limits.max_body_bytes"));
        assert_eq!(keys.nearest("lissten"), Some("listen"));
        assert_eq!(keys.nearest("colour_of_the_sky"), None);
    }

    #[test]
    fn text_becomes_what_the_key_wants_and_nothing_else() {
        assert_eq!(Kind::Text.parse("123"), Some(json!("123")));
        assert_eq!(Kind::Integer.parse("123"), Some(json!(123)));
        assert_eq!(Kind::Integer.parse("1e3"), None);
        assert_eq!(Kind::Bool.parse("yes"), None);
        assert_eq!(Kind::List.parse("a, b"), Some(json!(["a", "b"])));
        assert_eq!(Kind::List.parse(r#"["a,b"]"#), Some(json!(["a,b"])));
        assert_eq!(Kind::Open.parse(r#"{"a":1}"#), Some(json!({ "a": 1 })));
    }
}
