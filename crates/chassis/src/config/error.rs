//! What is wrong with the settings, where, and what to write instead.

use std::path::PathBuf;

use super::keys::Keys;

/// The settings cannot be used. The text is for the person who wrote them.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or not readable.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// As given with `--config`.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: {message}")]
    Malformed {
        /// File and line.
        origin: String,
        /// What the parser said.
        message: String,
    },
    /// No setting has this name.
    #[error("{origin}: there is no setting `{key}`{}", did_you_mean(meant.as_deref(), origin))]
    Unknown {
        /// Dotted.
        key: String,
        /// File and line, variable or flag.
        origin: String,
        /// The known key that is spelled most alike.
        meant: Option<String>,
    },
    /// The value is of another type.
    #[error("{origin}: `{key}` must be {wanted}, not {text}")]
    WrongKind {
        /// Dotted.
        key: String,
        /// File and line, variable or flag.
        origin: String,
        /// For people.
        wanted: &'static str,
        /// As written.
        text: String,
    },
    /// A table was given a value.
    #[error("{origin}: `{key}` is a table; set the keys in it")]
    NotATable {
        /// Dotted.
        key: String,
        /// File and line.
        origin: String,
    },
    /// A variable or flag names a table.
    #[error("{origin}: `{key}` is a table; name a key in it, such as {key}.NAME")]
    NotALeaf {
        /// Dotted.
        key: String,
        /// Variable or flag.
        origin: String,
    },
    /// `--set` without `=`.
    #[error("--set {text}: write --set key=value")]
    NoAssignment {
        /// As given.
        text: String,
    },
    /// The value is of the right type but not one that the setting takes.
    #[error("{origin}: `{key}`: {message}")]
    Rejected {
        /// Dotted.
        key: String,
        /// File and line, variable or flag.
        origin: String,
        /// What its type said.
        message: String,
    },
    /// Settings that do not go together.
    #[error("{message}")]
    Invalid {
        /// Says which, and what to do.
        message: String,
    },
}

impl ConfigError {
    pub(super) fn unknown(key: String, origin: String, keys: &Keys) -> Self {
        let meant = keys.nearest(&key).map(ToOwned::to_owned);
        Self::Unknown { key, origin, meant }
    }
}

/// In the spelling of the place where the mistake was made.
fn did_you_mean(meant: Option<&str>, origin: &str) -> String {
    let Some(meant) = meant else { return "; check-config lists all of them".to_owned() };
    if origin.starts_with(super::sources::PREFIX) {
        let variable = meant.to_uppercase().replace('.', "__");
        return format!("; did you mean `{}{variable}`?", super::sources::PREFIX);
    }
    format!("; did you mean `{meant}`?")
}
