//! A queue's attributes: names and texts outside, settings of the engine and notes inside.

use std::collections::BTreeMap;

use messaging::config::{Overflow, QueueConfig};
use messaging::dispatch::LEVELS;
use messaging::ids::Name;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{Code, Fault};
use super::names::{Home, new_name};
use super::notes::Notes;

const CONTENT_BASED: &str = "ContentBasedDeduplication";
const DATA_KEY_REUSE: &str = "KmsDataKeyReusePeriodSeconds";
const DEDUP_SCOPE: &str = "DeduplicationScope";
const MAX_SIZE: &str = "MaximumMessageSize";
const POLICY: &str = "Policy";
const REDRIVE_ALLOW: &str = "RedriveAllowPolicy";
const SSE: &str = "SqsManagedSseEnabled";
const THROUGHPUT_LIMIT: &str = "FifoThroughputLimit";
const WAIT: &str = "ReceiveMessageWaitTimeSeconds";

/// What every queue tells, then what FIFO queues tell besides, then what is told where it is set.
const TOLD: [&str; 7] = [
    "VisibilityTimeout",
    MAX_SIZE,
    "MessageRetentionPeriod",
    "DelaySeconds",
    WAIT,
    SSE,
    "QueueArn",
];
const FIFO_TOLD: [&str; 4] = ["FifoQueue", CONTENT_BASED, DEDUP_SCOPE, THROUGHPUT_LIMIT];
const TOLD_IF_SET: [&str; 10] = [
    "RedrivePolicy",
    REDRIVE_ALLOW,
    POLICY,
    "KmsMasterKeyId",
    DATA_KEY_REUSE,
    "MaxPriority",
    "MaxMessages",
    "MaxBytes",
    "MaxInFlight",
    "OverflowPolicy",
];

/// Attributes that follow from what is in the queue.
pub(crate) const COUNTS: [&str; 3] = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
];
/// Attributes that tell times.
pub(crate) const TIMES: [&str; 2] = ["CreatedTimestamp", "LastModifiedTimestamp"];

/// Deliveries before a message is a dead letter, where a policy does not say.
const DEFAULT_RECEIVES: u32 = 10;
/// Most sources that a queue may name.
const MAX_SOURCES: usize = 10;
/// How long a message without an end is said to be kept: the longest there is.
const LONGEST_S: u64 = 1_209_600;

/// A queue as SQS sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) config: QueueConfig,
    pub(crate) notes: Notes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RedrivePolicy {
    dead_letter_target_arn: Option<String>,
    max_receive_count: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RedriveAllowPolicy {
    redrive_permission: Option<String>,
    #[serde(default)]
    source_queue_arns: Vec<String>,
}

impl Settings {
    /// A new queue, with what SQS has where nothing is said.
    pub(crate) fn new(
        name: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<(Name, Self), Fault> {
        let fifo = match attributes.get("FifoQueue").map(String::as_str) {
            None => false,
            Some(value) => boolean("FifoQueue", value)?,
        };
        let name = new_name(name, fifo)?;
        let ttl_ms = Some(345_600_000);
        let config = QueueConfig { fifo, ttl_ms, drop_expired: true, ..QueueConfig::default() };
        Ok((name, Self { config, notes: Notes::default() }))
    }

    /// Sets several attributes. Some only make sense together.
    pub(crate) fn set_all(
        &mut self,
        attributes: &BTreeMap<String, String>,
        home: &Home,
    ) -> Result<(), Fault> {
        for (name, value) in attributes {
            self.set(name, value, home)?;
        }
        let per_group = self.note(THROUGHPUT_LIMIT) == Some("perMessageGroupId");
        if per_group && self.note(DEDUP_SCOPE) != Some("messageGroup") {
            let reason = "perMessageGroupId needs DeduplicationScope messageGroup.";
            return Err(Fault::attribute(THROUGHPUT_LIMIT, reason));
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str, home: &Home) -> Result<(), Fault> {
        let config = &mut self.config;
        match name {
            "VisibilityTimeout" => {
                config.policy.ack_timeout_ms = number(name, value, (0, 43_200))? * 1_000;
            }
            "MessageRetentionPeriod" => {
                config.ttl_ms = Some(number(name, value, (60, LONGEST_S))? * 1_000);
            }
            "DelaySeconds" => config.delay_ms = number(name, value, (0, 900))? * 1_000,
            MAX_SIZE => self.keep_number(name, value, (1_024, 1_048_576), 1_048_576)?,
            WAIT => self.keep_number(name, value, (0, 20), 0)?,
            DATA_KEY_REUSE => self.keep_number(name, value, (60, 86_400), 300)?,
            "RedrivePolicy" => self.set_redrive_policy(value, home)?,
            REDRIVE_ALLOW => {
                check_allow(value)?;
                self.keep(name, value, "");
            }
            POLICY => {
                if !value.is_empty() && !is_object(value) {
                    return Err(Fault::attribute(name, "It is no JSON object."));
                }
                self.keep(name, value, "");
            }
            "KmsMasterKeyId" => self.keep(name, value, ""),
            SSE => self.keep_choice(name, value, ["false", "true"])?,
            "FifoQueue" if boolean(name, value)? == config.fifo => (),
            CONTENT_BASED if config.fifo => self.keep_choice(name, value, ["false", "true"])?,
            DEDUP_SCOPE if config.fifo => {
                self.keep_choice(name, value, ["queue", "messageGroup"])?
            }
            THROUGHPUT_LIMIT if config.fifo => {
                self.keep_choice(name, value, ["perQueue", "perMessageGroupId"])?;
            }
            "MaxPriority" => {
                let max = number(name, value, (0, LEVELS as u64 - 1))?;
                config.max_priority = u8::try_from(max).expect("it is below 32");
            }
            "MaxMessages" => config.max_messages = number(name, value, (1, u64::MAX))?,
            "MaxBytes" => config.max_bytes = number(name, value, (1, u64::MAX))?,
            "MaxInFlight" => {
                let max = number(name, value, (0, u64::MAX))?;
                config.max_in_flight = (0 < max).then_some(max);
            }
            "OverflowPolicy" => {
                config.overflow = match value {
                    "reject" => Overflow::Reject,
                    "drop-oldest" => Overflow::DropOldest,
                    _ => return Err(Fault::attribute(name, "It is reject or drop-oldest.")),
                };
            }
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    fn set_redrive_policy(&mut self, value: &str, home: &Home) -> Result<(), Fault> {
        if value.is_empty() || value == "{}" {
            self.config.dead_letter = None;
            self.config.policy.max_deliveries = None;
            return Ok(());
        }
        let invalid = |reason: &str| Fault::attribute("RedrivePolicy", reason);
        let policy: RedrivePolicy = serde_json::from_str(value)
            .map_err(|_| invalid("Redrive policy is not a valid JSON map."))?;
        let arn = policy.dead_letter_target_arn;
        let arn = arn.ok_or_else(|| invalid("It does not contain deadLetterTargetArn."))?;
        let target = home.queue_of_arn(&arn);
        let target =
            target.ok_or_else(|| invalid("Dead letter target is no ARN of a queue here."))?;
        let max = match policy.max_receive_count {
            None => Some(u64::from(DEFAULT_RECEIVES)),
            Some(Value::String(text)) => text.parse().ok(),
            Some(other) => other.as_u64(),
        };
        let max = max.filter(|max| (1..=1_000).contains(max));
        let max = max.ok_or_else(|| {
            invalid("Invalid value for maxReceiveCount, valid values are from 1 to 1000 both inclusive.")
        })?;
        self.config.dead_letter = Some(target);
        self.config.policy.max_deliveries = u32::try_from(max).ok();
        Ok(())
    }

    /// Whether a queue may name this one as its dead-letter queue.
    pub(crate) fn allows(&self, source_arn: &str) -> bool {
        let policy = self.note(REDRIVE_ALLOW).unwrap_or_default();
        let Ok(policy) = serde_json::from_str::<RedriveAllowPolicy>(policy) else { return true };
        match policy.redrive_permission.as_deref() {
            Some("denyAll") => false,
            Some("byQueue") => policy.source_queue_arns.iter().any(|arn| arn == source_arn),
            _ => true,
        }
    }

    /// The policy, which permissions are statements of.
    pub(crate) fn policy(&self) -> &str {
        self.note(POLICY).unwrap_or_default()
    }

    /// See [`policy`](Self::policy).
    pub(crate) fn set_policy(&mut self, policy: &str) {
        self.keep(POLICY, policy, "");
    }

    /// How long a receive waits that does not say so, in seconds.
    pub(crate) fn wait_seconds(&self) -> u64 {
        self.noted_number(WAIT, 0)
    }

    /// Longest message, with its attributes, in bytes.
    pub(crate) fn max_message_bytes(&self) -> u64 {
        self.noted_number(MAX_SIZE, 1_048_576)
    }

    /// Messages without a dedup id get one from their body.
    pub(crate) fn deduplicates_content(&self) -> bool {
        self.note(CONTENT_BASED) == Some("true")
    }

    /// Dedup ids count within a group.
    pub(crate) fn deduplicates_by_group(&self) -> bool {
        self.note(DEDUP_SCOPE) == Some("messageGroup")
    }

    /// The attributes that are asked for, apart from [`COUNTS`] and [`TIMES`].
    pub(crate) fn show(
        &self,
        asked: &[String],
        (queue, home): (&Name, &Home),
    ) -> Result<BTreeMap<String, String>, Fault> {
        let mut shown = BTreeMap::new();
        for name in asked {
            if name == "All" {
                let fifo = FIFO_TOLD.iter().filter(|_| self.config.fifo);
                let told = TOLD.iter().chain(fifo).map(|name| (*name).to_owned());
                shown.extend(told.filter_map(|name| {
                    Some((self.get(&name, queue, home)?, name)).map(|(value, name)| (name, value))
                }));
                let plain = Self { config: QueueConfig::default(), notes: Notes::default() };
                for name in TOLD_IF_SET {
                    let value = self.get(name, queue, home);
                    if let Some(value) =
                        value.filter(|value| plain.get(name, queue, home).as_ref() != Some(value))
                    {
                        shown.insert(name.to_owned(), value);
                    }
                }
                continue;
            }
            let is_known =
                TOLD.iter().chain(&FIFO_TOLD).chain(&TOLD_IF_SET).chain(&COUNTS).chain(&TIMES);
            if !is_known.clone().any(|known| known == name) {
                return Err(unknown(name));
            }
            if let Some(value) = self.get(name, queue, home) {
                shown.insert(name.clone(), value);
            }
        }
        Ok(shown)
    }

    fn get(&self, name: &str, queue: &Name, home: &Home) -> Option<String> {
        let config = &self.config;
        let or = |default: &str| Some(self.note(name).unwrap_or(default).to_owned());
        let in_fifo = |default: &str| config.fifo.then(|| or(default)).flatten();
        match name {
            "VisibilityTimeout" => Some((config.policy.ack_timeout_ms / 1_000).to_string()),
            "MessageRetentionPeriod" => {
                Some(config.ttl_ms.map_or(LONGEST_S, |ms| ms / 1_000).to_string())
            }
            "DelaySeconds" => Some((config.delay_ms / 1_000).to_string()),
            WAIT => or("0"),
            MAX_SIZE => or("1048576"),
            SSE => or("false"),
            DATA_KEY_REUSE | "KmsMasterKeyId" | REDRIVE_ALLOW | POLICY => {
                self.note(name).map(str::to_owned)
            }
            "QueueArn" => Some(home.arn(queue)),
            "FifoQueue" => config.fifo.then(|| "true".to_owned()),
            CONTENT_BASED => in_fifo("false"),
            DEDUP_SCOPE => in_fifo("queue"),
            THROUGHPUT_LIMIT => in_fifo("perQueue"),
            "RedrivePolicy" => {
                let (target, max) = (config.dead_letter.as_ref()?, config.policy.max_deliveries?);
                let policy =
                    json!({ "deadLetterTargetArn": home.arn(target), "maxReceiveCount": max });
                Some(policy.to_string())
            }
            "MaxPriority" => Some(config.max_priority.to_string()),
            "MaxMessages" => Some(config.max_messages.to_string()),
            "MaxBytes" => Some(config.max_bytes.to_string()),
            "MaxInFlight" => Some(config.max_in_flight.unwrap_or(0).to_string()),
            "OverflowPolicy" => Some(match config.overflow {
                Overflow::Reject => "reject".to_owned(),
                Overflow::DropOldest => "drop-oldest".to_owned(),
            }),
            _ => None,
        }
    }

    fn note(&self, name: &str) -> Option<&str> {
        self.notes.attributes.get(name).map(String::as_str)
    }

    fn noted_number(&self, name: &str, default: u64) -> u64 {
        self.note(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    fn keep(&mut self, name: &str, value: &str, default: &str) {
        if value == default {
            self.notes.attributes.remove(name);
        } else {
            self.notes.attributes.insert(name.to_owned(), value.to_owned());
        }
    }

    fn keep_number(
        &mut self,
        name: &str,
        value: &str,
        bounds: (u64, u64),
        default: u64,
    ) -> Result<(), Fault> {
        let value = number(name, value, bounds)?;
        self.keep(name, &value.to_string(), &default.to_string());
        Ok(())
    }

    fn keep_choice(&mut self, name: &str, value: &str, choices: [&str; 2]) -> Result<(), Fault> {
        let chosen = choices.iter().find(|choice| choice.eq_ignore_ascii_case(value));
        let chosen = chosen.ok_or_else(|| {
            Fault::attribute(name, &format!("It is {} or {}.", choices[0], choices[1]))
        })?;
        self.keep(name, chosen, choices[0]);
        Ok(())
    }
}

fn check_allow(value: &str) -> Result<(), Fault> {
    let invalid = |reason: &str| Err(Fault::attribute(REDRIVE_ALLOW, reason));
    if value.is_empty() {
        return Ok(());
    }
    let Ok(policy) = serde_json::from_str::<RedriveAllowPolicy>(value) else {
        return invalid("Redrive allow policy is not a valid JSON map.");
    };
    let sources = policy.source_queue_arns.len();
    match policy.redrive_permission.as_deref() {
        Some("allowAll" | "denyAll") if sources == 0 => Ok(()),
        Some("byQueue") if (1..=MAX_SOURCES).contains(&sources) => Ok(()),
        Some("byQueue") => invalid("byQueue needs 1 to 10 sourceQueueArns."),
        Some("allowAll" | "denyAll") => invalid("sourceQueueArns are only for byQueue."),
        _ => invalid("redrivePermission is allowAll, denyAll or byQueue."),
    }
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object())
}

fn number(name: &str, value: &str, (min, max): (u64, u64)) -> Result<u64, Fault> {
    let number = value.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| Fault::attribute(name, &format!("It is a number from {min} to {max}.")))
}

fn boolean(name: &str, value: &str) -> Result<bool, Fault> {
    let value = value.to_ascii_lowercase().parse();
    value.map_err(|_| Fault::attribute(name, "It is true or false."))
}

fn unknown(name: &str) -> Fault {
    let name: String = name.chars().take(100).collect();
    Fault::new(Code::InvalidAttributeName, format!("Unknown Attribute {name}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> Home {
        let text = str::to_owned;
        Home { base: text("http://h"), account: text("000000000000"), region: text("r") }
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn queue(attributes: &[(&str, &str)]) -> Result<(Name, Settings), Fault> {
        let attributes = map(attributes);
        let name = if attributes.contains_key("FifoQueue") { "q.fifo" } else { "q" };
        let (name, mut settings) = Settings::new(name, &attributes)?;
        settings.set_all(&attributes, &home())?;
        Ok((name, settings))
    }

    fn shown(attributes: &[(&str, &str)], asked: &[&str]) -> BTreeMap<String, String> {
        let (name, settings) = queue(attributes).unwrap();
        let asked: Vec<_> = asked.iter().map(|name| (*name).to_owned()).collect();
        settings.show(&asked, (&name, &home())).unwrap()
    }

    #[test]
    fn attributes_come_back_as_they_were_set() {
        let dead =
            "{\"deadLetterTargetArn\":\"arn:aws:sqs:r:000000000000:d\",\"maxReceiveCount\":3}";
        let allow = "{\"redrivePermission\":\"denyAll\"}";
        for (name, value) in [
            ("VisibilityTimeout", "0"),
            ("VisibilityTimeout", "43200"),
            ("DelaySeconds", "900"),
            ("MessageRetentionPeriod", "60"),
            ("MaximumMessageSize", "1024"),
            ("ReceiveMessageWaitTimeSeconds", "20"),
            ("RedrivePolicy", dead),
            ("RedriveAllowPolicy", allow),
            ("Policy", "{\"Statement\":[]}"),
            ("KmsMasterKeyId", "alias/aws/sqs"),
            ("KmsDataKeyReusePeriodSeconds", "60"),
            ("SqsManagedSseEnabled", "true"),
            ("MaxPriority", "31"),
            ("MaxMessages", "7"),
            ("MaxBytes", "7000"),
            ("MaxInFlight", "12"),
            ("OverflowPolicy", "drop-oldest"),
        ] {
            let expected = map(&[(name, value)]);
            assert_eq!(shown(&[(name, value)], &[name]), expected, "{name}");
            assert_eq!(shown(&[(name, value)], &["All"]).get(name), expected.get(name), "{name}");
        }
    }

    #[test]
    fn a_new_queue_has_the_defaults_of_sqs() {
        let told = shown(&[], &["All"]);
        let expected = map(&[
            ("DelaySeconds", "0"),
            ("MaximumMessageSize", "1048576"),
            ("MessageRetentionPeriod", "345600"),
            ("QueueArn", "arn:aws:sqs:r:000000000000:q"),
            ("ReceiveMessageWaitTimeSeconds", "0"),
            ("SqsManagedSseEnabled", "false"),
            ("VisibilityTimeout", "30"),
        ]);
        assert_eq!(told, expected);
        let told = shown(&[("FifoQueue", "true")], &["All"]);
        assert_eq!(told["FifoQueue"], "true");
        assert_eq!(told["ContentBasedDeduplication"], "false");
        assert_eq!(told["DeduplicationScope"], "queue");
        assert_eq!(told["FifoThroughputLimit"], "perQueue");
        assert_eq!(shown(&[], &[]), BTreeMap::new());
    }

    #[test]
    fn attributes_that_make_no_sense_are_refused() {
        for (name, value) in [
            ("VisibilityTimeout", "-1"),
            ("VisibilityTimeout", "43201"),
            ("DelaySeconds", "901"),
            ("DelaySeconds", "soon"),
            ("MessageRetentionPeriod", "59"),
            ("MaximumMessageSize", "1048577"),
            ("ReceiveMessageWaitTimeSeconds", "21"),
            ("RedrivePolicy", "x"),
            ("RedrivePolicy", "{\"maxReceiveCount\":3}"),
            ("RedrivePolicy", "{\"deadLetterTargetArn\":\"d\",\"maxReceiveCount\":3}"),
            (
                "RedrivePolicy",
                "{\"deadLetterTargetArn\":\"arn:aws:sqs:r:000000000000:d\",\"maxReceiveCount\":0}",
            ),
            ("RedriveAllowPolicy", "{\"redrivePermission\":\"byQueue\"}"),
            ("RedriveAllowPolicy", "{\"redrivePermission\":\"some\"}"),
            ("Policy", "x"),
            ("SqsManagedSseEnabled", "maybe"),
            ("MaxPriority", "32"),
            ("MaxMessages", "0"),
            ("OverflowPolicy", "explode"),
        ] {
            assert_eq!(
                queue(&[(name, value)]).unwrap_err().code,
                Code::InvalidAttributeValue,
                "{name} {value}"
            );
        }
        for name in ["Colour", "QueueArn", "ApproximateNumberOfMessages", "DeduplicationScope"] {
            assert_eq!(
                queue(&[(name, "1")]).unwrap_err().code,
                Code::InvalidAttributeName,
                "{name}"
            );
        }
        let limit = [("FifoQueue", "true"), ("FifoThroughputLimit", "perMessageGroupId")];
        assert_eq!(queue(&limit).unwrap_err().code, Code::InvalidAttributeValue);
    }

    #[test]
    fn the_count_of_a_redrive_policy_may_be_a_text_and_the_policy_may_go() {
        let arn = "arn:aws:sqs:elsewhere:000000000000:d";
        let policy = format!("{{\"deadLetterTargetArn\":\"{arn}\",\"maxReceiveCount\":\"4\"}}");
        let (_, mut settings) = queue(&[("RedrivePolicy", &policy)]).unwrap();
        assert_eq!(settings.config.policy.max_deliveries, Some(4));
        assert_eq!(settings.config.dead_letter.as_ref().map(Name::as_str), Some("d"));
        settings.set_all(&map(&[("RedrivePolicy", "")]), &home()).unwrap();
        assert_eq!(
            (settings.config.policy.max_deliveries, settings.config.dead_letter),
            (None, None)
        );
    }

    #[test]
    fn a_queue_says_whose_dead_letters_it_takes() {
        let mut allow = queue(&[]).unwrap().1;
        assert!(allow.allows("a"));
        for (policy, a, b) in [
            ("{\"redrivePermission\":\"allowAll\"}", true, true),
            ("{\"redrivePermission\":\"denyAll\"}", false, false),
            ("{\"redrivePermission\":\"byQueue\",\"sourceQueueArns\":[\"a\"]}", true, false),
        ] {
            allow.set_all(&map(&[("RedriveAllowPolicy", policy)]), &home()).unwrap();
            assert_eq!((allow.allows("a"), allow.allows("b")), (a, b), "{policy}");
        }
    }
}
