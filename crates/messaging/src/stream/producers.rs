//! Idempotent producers of one stream. What is known of them lives as long as its data.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::StreamRefused;
use crate::partition::Producer;

/// Most producers of one stream.
pub const MAX_PRODUCERS: usize = 1_000;

/// The newest request of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    epoch: u64,
    seq: u64,
}

/// The producers of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Producers(OrdMap<Arc<str>, Known>);

/// What may be done with an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is the next one.
    Append,
    /// It was appended before. The newest request that was taken.
    Repeat { seq: u64 },
}

impl Producers {
    /// The epoch of the newest instance, if this one is older.
    pub(super) fn newer_than(&self, producer: &Producer) -> Option<u64> {
        let known = self.0.get(producer.id.as_str())?;
        (producer.epoch < known.epoch).then_some(known.epoch)
    }

    /// What is to be done with an append.
    pub(super) fn judge(&self, producer: &Producer) -> Result<Judgement, StreamRefused> {
        let Producer { id, epoch, seq } = producer;
        let received = *seq;
        let Some(known) = self.0.get(id.as_str()) else {
            return match received {
                _ if MAX_PRODUCERS <= self.0.len() => Err(StreamRefused::Producers),
                0 => Ok(Judgement::Append),
                _ => Err(StreamRefused::Gap { expected: 0, received }),
            };
        };
        if *epoch < known.epoch {
            return Err(StreamRefused::Stale { known: known.epoch });
        }
        if known.epoch < *epoch {
            return if received == 0 { Ok(Judgement::Append) } else { Err(StreamRefused::Epoch) };
        }
        let expected = known.seq + 1;
        match received.cmp(&expected) {
            std::cmp::Ordering::Equal => Ok(Judgement::Append),
            std::cmp::Ordering::Less => Ok(Judgement::Repeat { seq: known.seq }),
            std::cmp::Ordering::Greater => Err(StreamRefused::Gap { expected, received }),
        }
    }

    /// An append that was judged so is done.
    pub(super) fn note(&mut self, producer: &Producer) {
        let Producer { id, epoch, seq } = producer;
        self.0.insert(id.as_str().into(), Known { epoch: *epoch, seq: *seq });
    }
}
