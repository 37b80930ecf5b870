//! System attributes: what the queue says of a message it hands out.

use std::collections::{BTreeMap, BTreeSet};

use messaging::ids::Millis;

use super::error::{Code, Fault};

/// Those there are.
const NAMES: [&str; 9] = [
    "SenderId",
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "SequenceNumber",
    "MessageDeduplicationId",
    "MessageGroupId",
    "AWSTraceHeader",
    "DeadLetterQueueSourceArn",
];

/// Which a consumer asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SystemNames(BTreeSet<&'static str>);

impl SystemNames {
    /// By name, or `All`. Both the old and the new parameter name them.
    pub(crate) fn new<'a>(asked: impl IntoIterator<Item = &'a String>) -> Result<Self, Fault> {
        let mut names = BTreeSet::new();
        for name in asked {
            if name == "All" {
                names.extend(NAMES);
                continue;
            }
            let known = NAMES.iter().find(|known| *known == name);
            names.insert(*known.ok_or_else(|| {
                let name: String = name.chars().take(100).collect();
                Fault::new(Code::InvalidAttributeName, format!("Unknown Attribute {name}."))
            })?);
        }
        Ok(Self(names))
    }
}

/// What there is to say.
#[derive(Clone, Debug, Default)]
pub(crate) struct System {
    pub(crate) sender: String,
    pub(crate) sent_ms: Millis,
    pub(crate) received: u32,
    pub(crate) first_ms: Millis,
    /// Of a FIFO queue.
    pub(crate) sequence: Option<String>,
    pub(crate) dedup_id: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) trace: Option<String>,
    pub(crate) dead_letter_source: Option<String>,
}

impl System {
    /// What is kept of them as attributes of the message. No user's attribute is called so.
    pub(crate) const TRACE: &str = "sqs..AWSTraceHeader";
    /// The dedup id of a message of a FIFO queue.
    pub(crate) const DEDUP_ID: &str = "sqs..MessageDeduplicationId";
    /// The group of a message of a standard queue, where it blocks nothing.
    pub(crate) const GROUP: &str = "sqs..MessageGroupId";

    /// What is asked for of it.
    pub(crate) fn show(self, names: &SystemNames) -> BTreeMap<&'static str, String> {
        let all = [
            Some(self.sender),
            Some(self.sent_ms.to_string()),
            Some(self.received.to_string()),
            Some(self.first_ms.to_string()),
            self.sequence,
            self.dedup_id,
            self.group,
            self.trace,
            self.dead_letter_source,
        ];
        let known = NAMES.into_iter().zip(all).filter(|(name, _)| names.0.contains(name));
        known.filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_gets_what_it_asks_for_and_what_there_is() {
        let system = System { received: 3, sent_ms: 5, ..System::default() };
        let ask = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            SystemNames::new(&names).map(|names| system.clone().show(&names))
        };
        assert_eq!(ask(&[]), Ok(BTreeMap::new()));
        let count = BTreeMap::from([("ApproximateReceiveCount", "3".to_owned())]);
        assert_eq!(ask(&["ApproximateReceiveCount", "AWSTraceHeader"]), Ok(count));
        assert_eq!(ask(&["All"]).unwrap().len(), 4);
        assert_eq!(ask(&["Colour"]).unwrap_err().code, Code::InvalidAttributeName);
    }
}
