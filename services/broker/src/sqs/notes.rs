//! What SQS keeps with a queue and the engine does not know: attributes, tags.

use std::collections::BTreeMap;

use messaging::ids::Millis;
use serde::{Deserialize, Serialize};

use super::error::{Code, Fault};

/// Most tags of a queue.
pub(crate) const MAX_TAGS: usize = 50;
/// Longest key and value of a tag, in characters.
const MAX_TAG: (usize, usize) = (128, 256);

/// The catalog's notes on a queue, as this face writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Notes {
    /// Attributes in their canonical form. Those at their default are not here.
    pub(super) attributes: BTreeMap<String, String>,
    /// Tags.
    pub(crate) tags: BTreeMap<String, String>,
    /// When an attribute was changed last.
    pub(crate) modified_ms: Option<Millis>,
    /// When the queue was purged last, if purges have to be some time apart.
    pub(crate) purged_ms: Option<Millis>,
}

impl Notes {
    /// Notes of the catalog. A queue that this face never touched has none.
    pub(crate) fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// For the catalog.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("maps of texts always encode")
    }

    /// Adds tags, or replaces them.
    pub(crate) fn tag(&mut self, tags: BTreeMap<String, String>) -> Result<(), Fault> {
        let invalid = |message: &str| Err(Fault::new(Code::InvalidParameterValue, message));
        for (key, value) in &tags {
            if !(1..=MAX_TAG.0).contains(&key.chars().count()) || MAX_TAG.1 < value.chars().count()
            {
                return invalid("A tag has a key of 1 to 128 and a value of 0 to 256 characters.");
            }
            if key.to_ascii_lowercase().starts_with("aws:") {
                return invalid("The keys of tags cannot begin with aws:.");
            }
        }
        self.tags.extend(tags);
        if MAX_TAGS < self.tags.len() {
            return invalid("Too many tags for the queue: it can have 50.");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_as_they_were_written() {
        let mut notes = Notes { modified_ms: Some(7), ..Notes::default() };
        notes.tag(BTreeMap::from([("k".to_owned(), String::new())])).unwrap();
        assert_eq!(Notes::read(&notes.text()), notes);
        assert_eq!(Notes::read(""), Notes::default());
    }

    #[test]
    fn tags_have_bounds() {
        let tags = |count: usize| (0..count).map(|n| (format!("k{n}"), "v".to_owned())).collect();
        let mut notes = Notes::default();
        assert_eq!(notes.tag(tags(50)), Ok(()));
        assert_eq!(notes.tag(tags(50)), Ok(()), "the same ones again");
        assert!(notes.tag(tags(51)).is_err());
        for key in ["", "aws:x", "AWS:x", &"k".repeat(129)] {
            let tag = BTreeMap::from([(key.to_owned(), "v".to_owned())]);
            assert!(Notes::default().tag(tag).is_err(), "{key}");
        }
    }
}
