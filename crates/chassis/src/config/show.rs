//! The effective settings, for `check-config`.

use std::fmt::Write as _;

use serde_json::Value;

use super::Setting;

/// Parts of a key whose value nobody should see.
const SECRET_WORDS: [&str; 4] = ["secret", "token", "password", "private_key"];

/// TOML with dotted keys, the origin of each value behind it, secrets masked.
pub(crate) fn show(settings: &[Setting]) -> String {
    let lines: Vec<_> = settings.iter().map(|setting| (line(setting), &setting.origin)).collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(64);
    let mut text = String::new();
    for (line, origin) in lines {
        let _ = writeln!(text, "{line:width$}  # {origin}");
    }
    text
}

fn line(Setting { key, value, .. }: &Setting) -> String {
    // Where a secret lies is none.
    let is_secret = SECRET_WORDS.iter().any(|word| key.contains(word)) && !key.ends_with("_file");
    match value {
        Value::Null => format!("# {key} is not set"),
        Value::String(text) if is_secret && !text.is_empty() => format!("{key} = \"***\""),
        value => format!("{key} = {}", toml(value)),
    }
}

/// JSON's forms are TOML's, except for tables.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let entries: Vec<_> =
                table.iter().map(|(name, value)| format!("{name:?} = {}", toml(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(toml).collect();
            format!("[{}]", items.join(", "))
        }
        value => value.to_string(),
    }
}
