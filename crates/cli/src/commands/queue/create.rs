//! The settings of a queue as flags.

use api::broker::{Capacity, Overflow, QueueSpec};

use crate::commands::retry::RetryArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    pub(super) queue: String,
    /// Most messages.
    #[arg(long, value_name = "MESSAGES")]
    capacity: Option<u64>,
    /// Most bytes.
    #[arg(long, value_name = "BYTES")]
    capacity_bytes: Option<u64>,
    /// What a full queue does: refuse messages, or drop the oldest of the lowest priority.
    #[arg(long, value_name = "reject|drop-oldest", value_parser = overflow)]
    overflow: Option<Overflow>,
    #[arg(long, value_name = "0..31")]
    max_priority: Option<u8>,
    /// How long a message may be held before it is delivered again.
    #[arg(long, value_name = "SECONDS")]
    ack_deadline_seconds: Option<f64>,
    /// Most messages that consumers hold at once.
    #[arg(long, value_name = "N")]
    max_in_flight: Option<u64>,
    /// How long a message waits that names no delay.
    #[arg(long, value_name = "MS")]
    delay_ms: Option<u64>,
    /// Messages not delivered by then expire.
    #[arg(long, value_name = "SECONDS")]
    message_ttl_seconds: Option<f64>,
    /// How long a dedup id is remembered.
    #[arg(long, value_name = "SECONDS")]
    dedup_window_seconds: Option<f64>,
    /// Afterwards it goes to the dead-letter queue.
    #[arg(long, value_name = "N")]
    max_deliveries: Option<u32>,
    #[command(flatten)]
    retry: RetryArgs,
    #[arg(long, value_name = "QUEUE")]
    dead_letter: Option<String>,
    /// Messages of one group one at a time, in order.
    #[arg(long)]
    fifo: bool,
    /// Copies of every message.
    #[arg(long, value_name = "N")]
    replicas: Option<u32>,
}

impl CreateArgs {
    pub(super) fn spec(&self) -> QueueSpec {
        QueueSpec {
            capacity: Capacity { messages: self.capacity, bytes: self.capacity_bytes },
            max_priority: self.max_priority,
            ack_deadline_seconds: self.ack_deadline_seconds,
            max_deliveries: self.max_deliveries,
            retry: self.retry.retry(),
            dead_letter: self.dead_letter.clone(),
            message_ttl_seconds: self.message_ttl_seconds,
            dedup_window_seconds: self.dedup_window_seconds,
            fifo: self.fifo,
            max_in_flight: self.max_in_flight,
            delay_ms: self.delay_ms,
            overflow: self.overflow,
            replicas: self.replicas,
        }
    }
}

fn overflow(text: &str) -> Result<Overflow, String> {
    match text {
        "reject" => Ok(Overflow::Reject),
        "drop-oldest" => Ok(Overflow::DropOldest),
        _ => Err("reject or drop-oldest".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CreateArgs,
    }

    #[test]
    fn every_setting_has_a_flag() {
        let line = "x q --capacity 10 --capacity-bytes 20 --overflow drop-oldest --max-priority 3 \
                    --ack-deadline-seconds 1.5 --max-in-flight 4 --delay-ms 5 \
                    --message-ttl-seconds 6 --dedup-window-seconds 7 --max-deliveries 8 \
                    --retry-delays-ms 1,2 --dead-letter d --fifo --replicas 1";
        let spec = Line::parse_from(line.split_whitespace()).args.spec();
        let json = serde_json::to_value(&spec).unwrap();
        let flags = line.matches("--").count();
        // Both capacities are in one field.
        assert_eq!(json.as_object().unwrap().len(), flags - 1, "{json}");
        assert_eq!(json["overflow"], "drop-oldest");
        assert_eq!(json["retry"]["delays_ms"], serde_json::json!([1, 2]));
        assert!(Line::try_parse_from("x q --overflow all".split(' ')).is_err());
    }
}
