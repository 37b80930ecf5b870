//! Which messages a subscription wants: conditions on attributes, all of which must hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::frame::Envelope;

/// Conditions by attribute name. Empty takes everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter(pub BTreeMap<String, Condition>);

/// What an attribute must be. An attribute that is absent meets no condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Exactly this.
    Equals(String),
    /// Begins with this.
    Prefix(String),
}

impl Filter {
    /// Whether it takes everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a message with this envelope is wanted.
    #[must_use]
    pub fn matches(&self, envelope: &Envelope) -> bool {
        self.0.iter().all(|(name, condition)| {
            envelope.attribute(name).is_some_and(|value| match condition {
                Condition::Equals(text) => value == text,
                Condition::Prefix(prefix) => value.starts_with(prefix.as_str()),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_must_hold() {
        let filter = Filter(BTreeMap::from([
            ("carrier".to_owned(), Condition::Equals("UA".to_owned())),
            ("to".to_owned(), Condition::Prefix("SF".to_owned())),
        ]));
        let with = |attributes: &[(&str, &str)]| Envelope {
            attributes: attributes.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            ..Envelope::default()
        };
        assert!(filter.matches(&with(&[("to", "SFO"), ("carrier", "UA")])));
        assert!(!filter.matches(&with(&[("to", "JFK"), ("carrier", "UA")])));
        assert!(!filter.matches(&with(&[("carrier", "UA")])));
        assert!(Filter::default().matches(&with(&[])));
    }
}
