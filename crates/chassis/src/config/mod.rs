//! Configuration: defaults < TOML file < `QUARTET_*` variables < flags.
//!
//! A service's settings are one struct that flattens [`Base`] and explains and defaults every field
//! of its own, so an empty file is a working node.
//!
//! **Invariant:** a key or variable that no setting has is an error, never ignored.

mod base;

pub use base::{Base, Coordinator, Drain, Limits, Log, LogFormat, Telemetry};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A service's settings.
pub trait ServiceConfig:
    Default + Clone + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// `coordinator`, `broker`, `replica` or `gateway`.
    const SERVICE: &'static str;

    /// The settings that all services share.
    fn base(&self) -> &Base;

    /// What types cannot say. The error names the key and what to write instead.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }
}
