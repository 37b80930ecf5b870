//! Idempotent producers: who numbers its publishes can repeat them for as long as it likes, and an
//! older instance of it is kept out by its epoch.
//!
//! The rules are those of Durable Streams, <https://github.com/durable-streams/durable-streams>
//! (`PROTOCOL.md`, idempotent producers): numbers count requests, from 0 in each epoch; a new epoch
//! begins at 0; a number that was taken is a repeat, whatever it carries; one may not be left out.
//! State and messages are one log entry, so neither is there without the other.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use super::Published;
use crate::ids::Millis;

/// Most producers of one partition that are remembered.
pub const MAX_PRODUCERS: usize = 10_000;
/// A producer is remembered for so long after its last publish; later only while there is room.
pub const PRODUCER_WINDOW_MS: u64 = 3_600_000;
/// Largest epoch and number: what a JSON number holds exactly.
pub const MAX_PRODUCER_NUMBER: u64 = (1 << 53) - 1;
/// Results of one producer that are remembered: so many requests may be under way at once.
const RESULTS: usize = 5;

/// Who publishes, and which of its publishes it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    /// Its name, chosen by itself.
    pub id: String,
    /// Which instance of it: a newer one has a higher epoch and keeps older ones out.
    pub epoch: u64,
    /// Which request of this epoch, from 0.
    pub seq: u64,
}

/// Why a publish of a producer was not taken. Nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Fenced {
    /// A newer instance has published.
    #[error(
        "a newer instance of this producer publishes under epoch {known}; if this is the newest, go on with epoch {} and sequence 0",
        known + 1
    )]
    Stale {
        /// Its epoch.
        known: u64,
    },
    /// Something is missing in between, or an epoch does not begin at 0.
    #[error("sequence {expected} is expected; send it first")]
    Gap {
        /// The next one that is taken.
        expected: u64,
    },
    /// Too many have published within [`PRODUCER_WINDOW_MS`].
    #[error("{MAX_PRODUCERS} producers have published here within an hour; use fewer producer ids")]
    TooMany,
}

/// What may be done with a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is the next one.
    Append,
    /// It was appended before. Its result, unless that was long ago, and the newest number taken.
    Repeat { result: Option<Published>, highest: u64 },
    /// It may not be appended.
    Fenced(Fenced),
}

/// What is known of one producer.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    epoch: u64,
    /// The newest number taken.
    seq: u64,
    /// Of the newest ones, oldest first.
    results: Vec<Published>,
    used: Millis,
}

/// The producers of a partition. A clone costs the same however many there are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Producers {
    known: OrdMap<Arc<str>, Known>,
    /// By the time of their last publish.
    used: OrdSet<(Millis, Arc<str>)>,
}

impl Producers {
    /// What is to be done with a publish at this time.
    pub(super) fn judge(&self, producer: &Producer, now: Millis) -> Judgement {
        let Producer { id, epoch, seq } = producer;
        let Some(known) = self.known.get(id.as_str()) else {
            return match (self.has_room(now), seq) {
                (false, _) => Judgement::Fenced(Fenced::TooMany),
                (true, 0) => Judgement::Append,
                (true, _) => Judgement::Fenced(Fenced::Gap { expected: 0 }),
            };
        };
        if *epoch < known.epoch {
            return Judgement::Fenced(Fenced::Stale { known: known.epoch });
        }
        let expected = if *epoch == known.epoch { known.seq + 1 } else { 0 };
        match seq.cmp(&expected) {
            std::cmp::Ordering::Equal => Judgement::Append,
            std::cmp::Ordering::Greater => Judgement::Fenced(Fenced::Gap { expected }),
            std::cmp::Ordering::Less => {
                let age = usize::try_from(known.seq - seq).unwrap_or(usize::MAX);
                let at = known.results.len().checked_sub(1).and_then(|last| last.checked_sub(age));
                let result = at.map(|at| known.results[at]);
                Judgement::Repeat { result, highest: known.seq }
            }
        }
    }

    /// A publish that was judged to be appended is.
    pub(super) fn note(&mut self, producer: &Producer, published: Published, now: Millis) {
        let id: Arc<str> = producer.id.as_str().into();
        let before = self.known.get(&id).cloned();
        let mut results = Vec::with_capacity(RESULTS);
        if let Some(before) = before {
            self.used.remove(&(before.used, Arc::clone(&id)));
            if before.epoch == producer.epoch {
                let surplus = (before.results.len() + 1).saturating_sub(RESULTS);
                results.extend_from_slice(&before.results[surplus..]);
            }
        }
        results.push(published);
        let known = Known { epoch: producer.epoch, seq: producer.seq, results, used: now };
        self.used.insert((now, Arc::clone(&id)));
        self.known.insert(id, known);
        while MAX_PRODUCERS < self.known.len()
            && let Some((_, oldest)) = self.used.remove_min()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether one more finds its place.
    fn has_room(&self, now: Millis) -> bool {
        let is_over =
            |(used, _): &(Millis, Arc<str>)| used.saturating_add(PRODUCER_WINDOW_MS) <= now;
        self.known.len() < MAX_PRODUCERS || self.used.get_min().is_some_and(is_over)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::Offset;

    fn producer(id: &str, epoch: u64, seq: u64) -> Producer {
        Producer { id: id.to_owned(), epoch, seq }
    }

    /// Publishes as a partition does, one message each.
    fn publish(producers: &mut Producers, by: &Producer, next: &mut u64, now: Millis) -> Judgement {
        let judgement = producers.judge(by, now);
        if judgement == Judgement::Append {
            producers.note(by, Published { first: Offset(*next), count: 1 }, now);
            *next += 1;
        }
        judgement
    }

    proptest! {
        /// The naive model keeps every accepted (epoch, seq) of a producer with its offset.
        #[test]
        fn every_number_is_taken_once_and_in_order(
            steps in proptest::collection::vec((0_u64..3, 0_u64..4, 0_u64..9), 1..200)
        ) {
            let (mut producers, mut next) = (Producers::default(), 0);
            let mut taken: Vec<(u64, u64, u64, u64)> = Vec::new();
            for (id, epoch, seq) in steps {
                let of = |epoch| {
                    let own = taken.iter().filter(|(of, at, ..)| (*of, *at) == (id, epoch));
                    own.map(|(_, _, seq, offset)| (*seq, *offset)).collect::<Vec<_>>()
                };
                let newest = taken.iter().filter(|(of, ..)| *of == id).map(|(_, at, ..)| *at).max();
                let (mine, offset) = (of(epoch), next);
                let judged = publish(&mut producers, &producer(&id.to_string(), epoch, seq), &mut next, 0);
                let expected = match newest {
                    Some(known) if epoch < known => Judgement::Fenced(Fenced::Stale { known }),
                    _ if seq == mine.len() as u64 => Judgement::Append,
                    _ if (mine.len() as u64) < seq => {
                        Judgement::Fenced(Fenced::Gap { expected: mine.len() as u64 })
                    }
                    _ => {
                        let kept = mine.iter().rev().take(RESULTS).find(|(at, _)| *at == seq);
                        let result = kept.map(|(_, at)| Published { first: Offset(*at), count: 1 });
                        Judgement::Repeat { result, highest: mine.len() as u64 - 1 }
                    }
                };
                prop_assert_eq!(judged, expected);
                if judged == Judgement::Append {
                    taken.push((id, epoch, seq, offset));
                }
            }
        }
    }

    #[test]
    fn whoever_published_last_is_forgotten_last_and_nobody_within_the_hour() {
        let (mut producers, mut next) = (Producers::default(), 0);
        for n in 0..MAX_PRODUCERS {
            let by = producer(&n.to_string(), 0, 0);
            assert_eq!(publish(&mut producers, &by, &mut next, n as u64), Judgement::Append);
        }
        let late = producer("late", 0, 0);
        let refused = publish(&mut producers, &late, &mut next, PRODUCER_WINDOW_MS - 1);
        assert_eq!(refused, Judgement::Fenced(Fenced::TooMany));
        // The first comes back, so that the second is the oldest.
        let back = publish(&mut producers, &producer("0", 0, 1), &mut next, PRODUCER_WINDOW_MS);
        assert_eq!(back, Judgement::Append);
        let now = PRODUCER_WINDOW_MS + 1;
        assert_eq!(publish(&mut producers, &late, &mut next, now), Judgement::Append);
        assert_eq!(producers.known.len(), MAX_PRODUCERS);
        assert!(producers.known.get("1").is_none() && producers.known.get("0").is_some());
    }
}
