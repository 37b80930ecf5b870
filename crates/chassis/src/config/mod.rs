//! Configuration: defaults < TOML file < `QUARTET_*` variables < flags.
//!
//! A service's settings are one struct that flattens [`Base`] and explains and defaults every field
//! of its own, so an empty file is a working node. Its default value is also the list of known
//! keys: `deny_unknown_fields` does not work with flattened structs.
//!
//! **Invariant:** a key or variable that no setting has is an error, never ignored.
//! **Invariant:** a value is read as what its key wants; nothing is guessed from how it looks.

mod base;
mod check;
mod default_file;
mod duration;
mod error;
mod file;
mod keys;
mod load;
mod show;
mod sources;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use base::{
    Base, Coordinator, Correlation, Drain, Limits, Log, LogFormat, Messaging, Secret, Telemetry,
};
pub(crate) use default_file::check_default_file;
pub use duration::{milliseconds, seconds};
pub use error::ConfigError;
pub(crate) use load::{Loaded, Sources, load};
pub(crate) use show::show;

/// A service's settings.
pub trait ServiceConfig:
    Default + Clone + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// `coordinator`, `broker`, `replica` or `gateway`.
    const SERVICE: &'static str;

    /// What `--help` says about this service besides, if anything.
    const HELP: &'static str = "";

    /// A line for the log once it serves, for those who wait for one.
    const READY: &'static str = "";

    /// The settings that all services share.
    fn base(&self) -> &Base;

    /// What is registered in the coordinator besides the address, such as a node's role.
    fn meta(&self) -> std::collections::BTreeMap<String, String> {
        std::collections::BTreeMap::new()
    }

    /// What types cannot say. The error names the key and what to write instead.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }
}

/// One key with its value and where it was set: `file:line`, a variable, a flag or `default`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) value: serde_json::Value,
    pub(crate) origin: String,
}

/// Reads settings from TOML text as a file would be read, for tests of a service's own settings.
pub fn parse<C: ServiceConfig>(toml: &str) -> Result<C, ConfigError> {
    load::from_text(toml)
}

#[cfg(test)]
mod tests;
