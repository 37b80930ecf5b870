//! The TOML file, with the line of every key.

use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Found, Keys};
use super::{ConfigError, Setting};

/// Reads a file into settings, one for each leaf key.
pub(super) fn read(path: &Path, keys: &Keys) -> Result<Vec<Setting>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse(&text, &path.display().to_string(), keys)
}

pub(super) fn parse(text: &str, name: &str, keys: &Keys) -> Result<Vec<Setting>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| ConfigError::Malformed {
        origin: origin(name, text, error.span().unwrap_or_default()),
        message: error.message().to_owned(),
    })?;
    let mut reader = Reader { text, name, keys, settings: Vec::new() };
    reader.table("", table.get_ref())?;
    Ok(reader.settings)
}

struct Reader<'a> {
    text: &'a str,
    name: &'a str,
    keys: &'a Keys,
    settings: Vec<Setting>,
}

impl Reader<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = match prefix {
                "" => name.get_ref().to_string(),
                prefix => format!("{prefix}.{}", name.get_ref()),
            };
            let origin = origin(self.name, self.text, name.span());
            self.entry(key, value, origin)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        key: String,
        value: &Spanned<DeValue<'_>>,
        origin: String,
    ) -> Result<(), ConfigError> {
        match (self.keys.find(&key), value.get_ref()) {
            (Found::Table, DeValue::Table(table)) => self.table(&key, table),
            (Found::Table, _) => Err(ConfigError::NotATable { key, origin }),
            (Found::Unknown, _) => Err(ConfigError::unknown(key, origin, self.keys)),
            (Found::Leaf(kind), value) => {
                let value = plain(value);
                if !kind.fits(&value) {
                    let text = value.to_string();
                    return Err(ConfigError::WrongKind {
                        key,
                        origin,
                        wanted: kind.wanted(),
                        text,
                    });
                }
                self.settings.push(Setting { key, value, origin });
                Ok(())
            }
        }
    }
}

/// `file:line`, counted from one.
fn origin(name: &str, text: &str, span: Range<usize>) -> String {
    let before = text.get(..span.start).unwrap_or(text);
    format!("{name}:{}", before.matches('\n').count() + 1)
}

/// A TOML value as JSON. Dates become text.
fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(integer) => {
            let digits = integer.as_str().replace('_', "");
            let number = i64::from_str_radix(&digits, integer.radix()).ok();
            number.map_or(Value::Null, Value::from)
        }
        DeValue::Float(float) => {
            let number = float.as_str().replace('_', "").parse().ok().and_then(Number::from_f64);
            number.map_or(Value::Null, Value::Number)
        }
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(datetime) => Value::from(datetime.to_string()),
        DeValue::Array(items) => items.iter().map(|item| plain(item.get_ref())).collect(),
        DeValue::Table(table) => {
            let entry = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                let name: &std::borrow::Cow<'_, str> = name.get_ref();
                (name.to_string(), plain(value.get_ref()))
            };
            Value::Object(table.iter().map(entry).collect::<Map<_, _>>())
        }
    }
}
