//! The layers, one over the other.

use std::path::PathBuf;

use config::{Config, ConfigError as Rejected, Map, Source, Value, ValueKind};
use serde::de::DeserializeOwned;

use super::keys::Keys;
use super::{ConfigError, Setting, check, file, sources};
use crate::config::ServiceConfig;

/// Where settings come from, besides the defaults; later ones win.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    pub(crate) file: Option<PathBuf>,
    pub(crate) variables: Vec<(String, String)>,
    /// Flags that stand for a key, such as (`peer_listen`, `127.0.0.1:1`, `peer-listen`).
    pub(crate) flags: Vec<(&'static str, String, &'static str)>,
    /// `--set key=value`.
    pub(crate) assignments: Vec<String>,
}

/// Checked settings, with where each of them comes from.
#[derive(Clone, Debug)]
pub(crate) struct Loaded<C> {
    pub(crate) config: C,
    /// Every leaf key with its value and origin, in the order of the keys.
    pub(crate) effective: Vec<Setting>,
}

/// Reads, layers and checks.
pub(crate) fn load<C: ServiceConfig>(sources: Sources) -> Result<Loaded<C>, ConfigError> {
    let defaults = C::default();
    let keys = Keys::of(&defaults);
    let mut given = Vec::new();
    if let Some(path) = &sources.file {
        given.extend(file::read(path, &keys)?);
    }
    given.extend(sources::variables(sources.variables, &keys)?);
    for (key, value, flag) in sources.flags {
        given.push(sources::text(key.to_owned(), &value, format!("--{flag}"), &keys)?);
    }
    for assignment in &sources.assignments {
        given.push(sources::assignment(assignment, &keys)?);
    }
    layer(&defaults, &keys, given)
}

/// As [`load`], from the text of a file alone.
pub(super) fn from_text<C: ServiceConfig>(toml: &str) -> Result<C, ConfigError> {
    let defaults = C::default();
    let keys = Keys::of(&defaults);
    let given = file::parse(toml, "toml", &keys)?;
    layer(&defaults, &keys, given).map(|loaded| loaded.config)
}

fn layer<C: ServiceConfig>(
    defaults: &C,
    keys: &Keys,
    given: Vec<Setting>,
) -> Result<Loaded<C>, ConfigError> {
    let mut settings = defaults_of(defaults, keys);
    let first_given = settings.len();
    settings.extend(given);
    let config: C = read(&settings).map_err(|error| blame::<C>(&settings, first_given, &error))?;
    check::check(&config)?;
    Ok(Loaded { config, effective: effective(settings) })
}

fn defaults_of<C: ServiceConfig>(defaults: &C, keys: &Keys) -> Vec<Setting> {
    let tree = serde_json::to_value(defaults).expect("settings are plain data");
    keys.leaves()
        .filter_map(|key| {
            let value = key.split('.').try_fold(&tree, |tree, name| tree.get(name))?;
            Some(Setting {
                key: key.to_owned(),
                value: value.clone(),
                origin: "default".to_owned(),
            })
        })
        .collect()
}

/// Layers `settings` in their order and reads the result.
fn read<C: DeserializeOwned>(settings: &[Setting]) -> Result<C, Rejected> {
    let mut builder = Config::builder();
    for setting in settings {
        builder = builder.add_source(setting.clone());
    }
    builder.build()?.try_deserialize()
}

/// Finds the setting that a value was rejected in: flattened structs forget which one it was.
fn blame<C: ServiceConfig>(
    settings: &[Setting],
    first_given: usize,
    error: &Rejected,
) -> ConfigError {
    let (defaults, given) = settings.split_at(first_given);
    for setting in given {
        let alone: Vec<_> = defaults.iter().chain([setting]).cloned().collect();
        if let Err(error) = read::<C>(&alone) {
            return ConfigError::Rejected {
                key: setting.key.clone(),
                origin: setting.origin.clone(),
                message: innermost(&error),
            };
        }
    }
    ConfigError::Invalid { message: error.to_string() }
}

/// The sentence without the library's own words about origin and key.
fn innermost(error: &Rejected) -> String {
    match error {
        Rejected::At { error, .. } => innermost(error),
        error => error.to_string(),
    }
}

/// The last setting of each key is the one that counts.
fn effective(settings: Vec<Setting>) -> Vec<Setting> {
    let mut last = std::collections::BTreeMap::new();
    for setting in settings {
        last.insert(setting.key.clone(), setting);
    }
    last.into_values().collect()
}

/// One setting is one layer.
impl Source for Setting {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, Rejected> {
        let value = layered(&self.value, &self.origin);
        Ok(Map::from_iter([(self.key.clone(), value)]))
    }
}

fn layered(value: &serde_json::Value, origin: &String) -> Value {
    let kind = match value {
        serde_json::Value::Null => ValueKind::Nil,
        serde_json::Value::Bool(flag) => (*flag).into(),
        serde_json::Value::Number(number) => {
            let unsigned = number.as_u64().map(ValueKind::from);
            let signed = || number.as_i64().map(ValueKind::from);
            unsigned.or_else(signed).unwrap_or_else(|| number.as_f64().into())
        }
        serde_json::Value::String(text) => text.as_str().into(),
        serde_json::Value::Array(items) => {
            ValueKind::Array(items.iter().map(|item| layered(item, origin)).collect())
        }
        serde_json::Value::Object(table) => ValueKind::Table(
            table.iter().map(|(name, value)| (name.clone(), layered(value, origin))).collect(),
        ),
    };
    Value::new(Some(origin), kind)
}
