//! Settings as the API spells them, checked and turned into what the machines keep, and back.

use std::time::Duration;

use api::broker::{
    Capacity, Condition, DEFAULT_MAX_PRIORITY, MAX_PRIORITY, MAX_WAIT_SECONDS, Overflow, QueueSpec,
    Retention, Retry, SubscriptionSpec,
};
use api::problem::Code;
use chassis::problem::Problem;
use messaging::catalog::{MAX_REPLICAS, SubscriptionEntry};
use messaging::config::{self, Backoff, Delays, Policy, QueueConfig, SubscriptionConfig};
use messaging::filter::{self, Filter};
use messaging::ids::Name;

use super::push;

/// Longest ack deadline: 7 days.
const MAX_ACK_SECONDS: f64 = 7.0 * 86_400.0;
/// Longest retention, time to live and window: 10 years.
const MAX_SECONDS: f64 = 3_650.0 * 86_400.0;
/// Longest dedup window: 7 days.
const MAX_DEDUP_SECONDS: f64 = 7.0 * 86_400.0;
/// Furthest that a message is put off: 365 days.
pub(super) const MAX_AHEAD_MS: u64 = 365 * 86_400_000;
/// Longest backoff: 24 hours.
const MAX_BACKOFF_MS: u64 = 86_400_000;
/// Most deliveries that may be asked for.
const MAX_DELIVERIES: u32 = 1_000_000;
/// Deliveries before a message goes to the dead-letter queue, if nothing is said.
const DEFAULT_DELIVERIES: u32 = 5;
/// Most conditions of a filter.
const MAX_CONDITIONS: usize = 32;

/// A number of seconds within bounds, in milliseconds.
pub(super) fn milliseconds(
    name: &str,
    seconds: Option<f64>,
    (min, max): (f64, f64),
) -> Result<Option<u64>, Problem> {
    match seconds {
        None => Ok(None),
        Some(seconds) if (min..=max).contains(&seconds) => {
            Ok(Some((seconds * 1_000.0).round() as u64))
        }
        Some(seconds) => {
            Err(invalid(format!("{name} must be {min} to {max} seconds, not {seconds}")))
        }
    }
}

/// The ack deadline of a request or a setting.
pub(super) fn ack_timeout(seconds: Option<f64>) -> Result<Option<u64>, Problem> {
    milliseconds("ack_deadline_seconds", seconds, (0.001, MAX_ACK_SECONDS))
}

/// How long a request waits.
pub(super) fn wait(seconds: Option<f64>) -> Result<Duration, Problem> {
    let wait = milliseconds("wait_seconds", seconds, (0.0, MAX_WAIT_SECONDS))?;
    Ok(Duration::from_millis(wait.unwrap_or(0)))
}

/// A count within bounds.
pub(super) fn count(
    name: &str,
    given: Option<u32>,
    (default, max): (u32, u32),
) -> Result<usize, Problem> {
    let count = given.unwrap_or(default);
    if (1..=max).contains(&count) {
        Ok(count as usize)
    } else {
        Err(invalid(format!("{name} must be 1 to {max}, not {count}")))
    }
}

/// The name of a new topic or subscription.
pub(super) fn plain(name: &Name) -> Result<(), Problem> {
    if name.is_plain() {
        return Ok(());
    }
    Err(invalid(format!(
        "`{name}` is not a name for this: use 1 to 64 of a-z, 0-9, dot, underscore and dash"
    )))
}

/// How many copies. Whether there are as many brokers is for the catalog to say.
pub(super) fn replicas(replicas: Option<u32>) -> Result<Option<u8>, Problem> {
    let Some(asked) = replicas else { return Ok(None) };
    match u8::try_from(asked) {
        Ok(asked) if (1..=MAX_REPLICAS).contains(&asked) => Ok(Some(asked)),
        _ => Err(invalid(format!("replicas must be 1 to {MAX_REPLICAS}, not {asked}"))),
    }
}

/// When old messages go.
pub(super) fn retention(spec: Retention) -> Result<config::Retention, Problem> {
    let seconds = spec.seconds.map(|seconds| seconds as f64);
    let age_ms = milliseconds("retention.seconds", seconds, (1.0, MAX_SECONDS))?;
    if spec.bytes == Some(0) {
        return Err(invalid("retention.bytes must be at least 1; leave it out for no limit"));
    }
    Ok(config::Retention { age_ms, bytes: spec.bytes })
}

/// The same, as the API spells it.
pub(super) fn shown_retention(retention: config::Retention) -> Retention {
    Retention { seconds: retention.age_ms.map(|ms| ms / 1_000), bytes: retention.bytes }
}

/// A subscription.
pub(super) fn subscription(spec: SubscriptionSpec) -> Result<SubscriptionConfig, Problem> {
    let dead_letter = dead_letter(spec.dead_letter)?;
    let policy = policy(
        ack_timeout(spec.ack_deadline_seconds)?,
        spec.max_deliveries,
        spec.retry,
        dead_letter.is_some(),
    )?;
    if MAX_CONDITIONS < spec.filter.len() {
        return Err(invalid(format!("a filter has at most {MAX_CONDITIONS} conditions")));
    }
    let condition = |condition| match condition {
        Condition::Equals(text) => filter::Condition::Equals(text),
        Condition::Prefix { prefix } => filter::Condition::Prefix(prefix),
    };
    let filter = spec.filter.into_iter().map(|(name, wanted)| (name, condition(wanted)));
    Ok(SubscriptionConfig {
        policy,
        filter: Filter(filter.collect()),
        ordered_by_key: spec.ordered_by_key,
        dead_letter,
    })
}

/// The same, as the API spells it.
pub(super) fn shown_subscription(entry: &SubscriptionEntry) -> SubscriptionSpec {
    let config = &entry.config;
    let condition = |condition: &filter::Condition| match condition {
        filter::Condition::Equals(text) => Condition::Equals(text.clone()),
        filter::Condition::Prefix(prefix) => Condition::Prefix { prefix: prefix.clone() },
    };
    let filter = config.filter.0.iter().map(|(name, wanted)| (name.clone(), condition(wanted)));
    SubscriptionSpec {
        start: None,
        ack_deadline_seconds: Some(seconds(config.policy.ack_timeout_ms)),
        max_deliveries: config.policy.max_deliveries,
        retry: Some(shown_retry(config.policy.backoff)),
        dead_letter: config.dead_letter.as_ref().map(|name| format!("queue/{name}")),
        filter: filter.collect(),
        ordered_by_key: config.ordered_by_key,
        push: entry.push.as_ref().map(push::shown),
    }
}

/// A queue.
pub(super) fn queue(spec: QueueSpec) -> Result<QueueConfig, Problem> {
    let defaults = QueueConfig::default();
    let max_priority = spec.max_priority.unwrap_or(DEFAULT_MAX_PRIORITY);
    if MAX_PRIORITY < max_priority {
        return Err(invalid(format!("max_priority must be 0 to {MAX_PRIORITY}")));
    }
    let Capacity { messages, bytes } = spec.capacity;
    if messages == Some(0) || bytes == Some(0) {
        return Err(invalid("a capacity must be at least 1"));
    }
    let dead_letter = dead_letter(spec.dead_letter)?;
    let policy = policy(
        ack_timeout(spec.ack_deadline_seconds)?,
        spec.max_deliveries,
        spec.retry,
        dead_letter.is_some(),
    )?;
    let ttl = milliseconds("message_ttl_seconds", spec.message_ttl_seconds, (0.001, MAX_SECONDS));
    let window = (0.0, MAX_DEDUP_SECONDS);
    let window = milliseconds("dedup_window_seconds", spec.dedup_window_seconds, window)?;
    if spec.max_in_flight == Some(0) {
        return Err(invalid("max_in_flight must be at least 1; leave it out for no limit"));
    }
    if spec.delay_ms.is_some_and(|delay| MAX_AHEAD_MS < delay) {
        return Err(invalid(format!("delay_ms is at most {MAX_AHEAD_MS}, 365 days")));
    }
    Ok(QueueConfig {
        max_messages: messages.unwrap_or(defaults.max_messages),
        max_bytes: bytes.unwrap_or(defaults.max_bytes),
        max_priority,
        policy,
        dead_letter,
        ttl_ms: ttl?,
        dedup_window_ms: window.unwrap_or(defaults.dedup_window_ms),
        fifo: spec.fifo,
        max_in_flight: spec.max_in_flight,
        delay_ms: spec.delay_ms.unwrap_or(defaults.delay_ms),
        overflow: match spec.overflow.unwrap_or_default() {
            Overflow::Reject => config::Overflow::Reject,
            Overflow::DropOldest => config::Overflow::DropOldest,
        },
        drop_expired: defaults.drop_expired,
    })
}

/// The same, as the API spells it.
pub(super) fn shown_queue(config: &QueueConfig) -> QueueSpec {
    QueueSpec {
        capacity: Capacity { messages: Some(config.max_messages), bytes: Some(config.max_bytes) },
        max_priority: Some(config.max_priority),
        ack_deadline_seconds: Some(seconds(config.policy.ack_timeout_ms)),
        max_deliveries: config.policy.max_deliveries,
        retry: Some(shown_retry(config.policy.backoff)),
        dead_letter: config.dead_letter.as_ref().map(Name::to_string),
        message_ttl_seconds: config.ttl_ms.map(seconds),
        dedup_window_seconds: Some(seconds(config.dedup_window_ms)),
        fifo: config.fifo,
        max_in_flight: config.max_in_flight,
        delay_ms: Some(config.delay_ms),
        overflow: Some(match config.overflow {
            config::Overflow::Reject => Overflow::Reject,
            config::Overflow::DropOldest => Overflow::DropOldest,
        }),
        replicas: Some(1),
    }
}

fn policy(
    ack_timeout_ms: Option<u64>,
    max_deliveries: Option<u32>,
    retry: Option<Retry>,
    has_dead_letter: bool,
) -> Result<Policy, Problem> {
    let defaults = Policy::default();
    if max_deliveries.is_some_and(|max| !(1..=MAX_DELIVERIES).contains(&max)) {
        return Err(invalid(format!("max_deliveries must be 1 to {MAX_DELIVERIES}")));
    }
    let backoff = retry.map_or(Ok(defaults.backoff), backoff)?;
    Ok(Policy {
        ack_timeout_ms: ack_timeout_ms.unwrap_or(defaults.ack_timeout_ms),
        max_deliveries: max_deliveries.or(has_dead_letter.then_some(DEFAULT_DELIVERIES)),
        backoff,
    })
}

fn backoff(retry: Retry) -> Result<Backoff, Problem> {
    let Retry { initial_ms, max_ms, delays_ms } = retry;
    if !delays_ms.is_empty() {
        return listed(&delays_ms, initial_ms == 0 && max_ms == 0);
    }
    let max_ms = if max_ms == 0 { Backoff::DEFAULT_MAX_MS.max(initial_ms) } else { max_ms };
    if MAX_BACKOFF_MS < max_ms {
        return Err(invalid(format!("retry.max_ms is at most {MAX_BACKOFF_MS}, 24 hours")));
    }
    if max_ms < initial_ms {
        return Err(invalid("retry.initial_ms is above retry.max_ms"));
    }
    Ok(Backoff::Doubling { initial_ms, max_ms })
}

fn listed(delays_ms: &[u64], alone: bool) -> Result<Backoff, Problem> {
    if !alone {
        return Err(invalid("retry takes either delays_ms or initial_ms with max_ms, not both"));
    }
    if delays_ms.iter().any(|delay| MAX_BACKOFF_MS < *delay) {
        return Err(invalid(format!("retry.delays_ms are at most {MAX_BACKOFF_MS}, 24 hours")));
    }
    let delays = Delays::new(delays_ms);
    let too_many = || invalid(format!("retry.delays_ms has at most {} entries", Delays::MAX));
    delays.map(Backoff::Listed).ok_or_else(too_many)
}

fn shown_retry(backoff: Backoff) -> Retry {
    match backoff {
        Backoff::Doubling { initial_ms, max_ms } => {
            Retry { initial_ms, max_ms, delays_ms: Vec::new() }
        }
        Backoff::Listed(delays) => Retry { delays_ms: delays.iter().collect(), ..Retry::default() },
    }
}

/// `queue/NAME` or just the name.
fn dead_letter(text: Option<String>) -> Result<Option<Name>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let name = text.strip_prefix("queue/").unwrap_or(&text);
    match name.parse() {
        Ok(name) => Ok(Some(name)),
        Err(error) => Err(invalid(format!("dead_letter: {error}"))),
    }
}

pub(super) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

pub(super) fn invalid(detail: impl std::fmt::Display) -> Problem {
    Problem::new(Code::InvalidRequest, detail)
}
