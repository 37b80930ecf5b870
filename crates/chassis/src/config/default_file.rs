//! Whether a file of default settings says what the defaults are.

use super::keys::Keys;
use super::{ServiceConfig, file};

/// What is missing or different, in words.
pub(crate) fn check_default_file<C: ServiceConfig>(toml: &str) -> Result<(), String> {
    let defaults = C::default();
    let keys = Keys::of(&defaults);
    let tree = serde_json::to_value(&defaults).map_err(|error| error.to_string())?;
    let settings = file::parse(toml, "the file", &keys).map_err(|error| error.to_string())?;
    for setting in &settings {
        let default = setting.key.split('.').try_fold(&tree, |tree, name| tree.get(name));
        if default != Some(&setting.value) {
            let default = default.map(ToString::to_string).unwrap_or_default();
            return Err(format!(
                "{}: `{}` is {}, the default is {default}",
                setting.origin, setting.key, setting.value
            ));
        }
    }
    let is_set = |key: &str| settings.iter().any(|setting| setting.key == key);
    let missing = keys.leaves().find(|key| !is_set(key) && !is_commented(toml, key));
    missing.map_or(Ok(()), |key| Err(format!("the file does not name `{key}`")))
}

/// A line such as `# advertise = "broker:7070"`, in whatever table.
fn is_commented(toml: &str, key: &str) -> bool {
    let leaf = key.rsplit('.').next().unwrap_or(key);
    toml.lines().filter_map(|line| line.trim_start().strip_prefix('#')).any(|line| {
        let name = line.split_once('=').map(|(name, _)| name.trim());
        name == Some(leaf) || name == Some(key)
    })
}
