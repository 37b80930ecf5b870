//! What the broker counts, by the names of the OpenTelemetry conventions for messaging.

use std::sync::Arc;
use std::time::Duration;

use messaging::ids::Name;
use telemetry::metrics::{Counter, Family, Histogram, Registry, SECONDS};

/// The metric families. Handles of a destination are taken once and kept with it.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    sent: Family<Counter>,
    consumed: Family<Counter>,
    settled: Family<Counter>,
    dead_lettered: Family<Counter>,
    duration: Family<Histogram>,
    pushed: Family<Counter>,
    push_duration: Family<Histogram>,
}

/// The handles of one topic, subscription or queue.
#[derive(Clone, Debug)]
pub(crate) struct Destination(Arc<Handles>);

#[derive(Debug)]
struct Handles {
    sent: Counter,
    consumed: Counter,
    settled: Counter,
    dead_lettered: Counter,
    send: Histogram,
    receive: Histogram,
    settle: Histogram,
}

const DESTINATION: &[&str] =
    &["messaging_destination_name", "messaging_destination_subscription_name"];
const PUSH: &[&str] =
    &["messaging_destination_name", "messaging_destination_subscription_name", "outcome"];
const OPERATION: &[&str] = &["messaging_operation_name", "messaging_destination_name"];

impl Metrics {
    /// Registers the families.
    pub(crate) fn new(registry: &Registry) -> Self {
        let counters = |name, help| registry.counters(name, help, DESTINATION);
        Self {
            sent: counters("messaging_client_sent_messages", "Messages stored in a topic or queue"),
            consumed: counters("messaging_client_consumed_messages", "Messages delivered"),
            settled: counters("messaging_quartet_settled_messages", "Messages acknowledged"),
            dead_lettered: counters(
                "messaging_quartet_dead_lettered_messages",
                "Messages moved to a dead-letter queue",
            ),
            duration: registry.histograms(
                "messaging_client_operation_duration_seconds",
                "Time to publish, receive or settle, waiting for messages left out",
                OPERATION,
                SECONDS,
            ),
            pushed: registry.counters(
                "messaging_quartet_push_calls",
                "Calls of webhooks: delivered, failed, away or stopped",
                PUSH,
            ),
            push_duration: registry.histograms(
                "messaging_quartet_push_duration_seconds",
                "Time until a webhook has answered",
                DESTINATION,
                SECONDS,
            ),
        }
    }

    /// A webhook was called.
    pub(crate) fn pushed(
        &self,
        (topic, subscription): (&Name, &Name),
        outcome: &str,
        took: Duration,
    ) {
        let (topic, subscription) = (topic.as_str(), subscription.as_str());
        self.pushed.with(&[topic, subscription, outcome]).add(1);
        self.push_duration.with(&[topic, subscription]).observe(took.as_secs_f64());
    }

    /// The handles of a topic or queue, or of a subscription of a topic.
    pub(crate) fn destination(&self, name: &str, subscription: &str) -> Destination {
        let labels = [name, subscription];
        let duration = |operation: &str| self.duration.with(&[operation, name]);
        Destination(Arc::new(Handles {
            sent: self.sent.with(&labels),
            consumed: self.consumed.with(&labels),
            settled: self.settled.with(&labels),
            dead_lettered: self.dead_lettered.with(&labels),
            send: duration("publish"),
            receive: duration("receive"),
            settle: duration("ack"),
        }))
    }
}

impl Destination {
    /// Messages are stored.
    pub(crate) fn sent(&self, count: u64, took: Duration) {
        self.0.sent.add(count);
        self.0.send.observe(took.as_secs_f64());
    }

    /// Messages are handed to a consumer.
    pub(crate) fn consumed(&self, count: u64, took: Duration) {
        self.0.consumed.add(count);
        self.0.receive.observe(took.as_secs_f64());
    }

    /// Messages are acknowledged.
    pub(crate) fn settled(&self, count: u64, took: Duration) {
        self.0.settled.add(count);
        self.0.settle.observe(took.as_secs_f64());
    }

    /// Messages are moved to the dead-letter queue.
    pub(crate) fn dead_lettered(&self, count: u64) {
        self.0.dead_lettered.add(count);
    }
}
