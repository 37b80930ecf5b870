//! Settings from variables and flags: text that becomes what its key wants.

use super::keys::{Found, Keys};
use super::{ConfigError, Setting};

/// All variables of ours begin with this.
pub(super) const PREFIX: &str = "QUARTET_";

/// Variables of ours that are no settings: tests and the command line read them.
const NOT_SETTINGS: &[&str] = &[
    "QUARTET_CONFIG",
    "QUARTET_PROFILE",
    "QUARTET_SIM_SEED",
    "QUARTET_SIM_SEEDS",
    "QUARTET_SIM_STATES",
];

/// `QUARTET_LIMITS__MAX_BODY_BYTES` sets `limits.max_body_bytes`. An empty variable sets nothing.
pub(super) fn variables(
    variables: impl IntoIterator<Item = (String, String)>,
    keys: &Keys,
) -> Result<Vec<Setting>, ConfigError> {
    let ours = variables.into_iter().filter(|(name, value)| {
        name.starts_with(PREFIX) && !NOT_SETTINGS.contains(&name.as_str()) && !value.is_empty()
    });
    let setting = |(name, value): (String, String)| {
        let key = name[PREFIX.len()..].to_lowercase().replace("__", ".");
        text(key, &value, name, keys)
    };
    ours.map(setting).collect()
}

/// `--set key=value`.
pub(super) fn assignment(assignment: &str, keys: &Keys) -> Result<Setting, ConfigError> {
    let Some((key, value)) = assignment.split_once('=') else {
        return Err(ConfigError::NoAssignment { text: assignment.to_owned() });
    };
    let key = key.trim().to_owned();
    text(key, value, "--set".to_owned(), keys)
}

/// A setting from text.
pub(super) fn text(
    key: String,
    value: &str,
    origin: String,
    keys: &Keys,
) -> Result<Setting, ConfigError> {
    match keys.find(&key) {
        Found::Leaf(kind) => match kind.parse(value) {
            Some(value) => Ok(Setting { key, value, origin }),
            None => {
                let text = format!("`{value}`");
                Err(ConfigError::WrongKind { key, origin, wanted: kind.wanted(), text })
            }
        },
        Found::Table => Err(ConfigError::NotALeaf { key, origin }),
        Found::Unknown => Err(ConfigError::unknown(key, origin, keys)),
    }
}
