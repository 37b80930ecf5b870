//! Receives that are repeated under the same id: the first answer again, as long as nothing
//! happened to what was in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use messaging::ack::AckId;
use messaging::ids::Millis;
use serde_json::Value;

/// How long an id is remembered.
const WINDOW_MS: u64 = 300_000;
/// Most ids remembered at once; then the oldest go early.
const MAX_ATTEMPTS: usize = 10_000;
/// Most bytes of answers remembered at once.
const MAX_BYTES: usize = 64 << 20;

/// An answer that may be asked for again.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    /// The deliveries in it.
    pub(crate) acks: Vec<AckId>,
    /// The answer.
    pub(crate) answer: Arc<Value>,
    /// About how large it is.
    pub(crate) bytes: usize,
}

/// The answers that are remembered, by group and attempt id.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    known: BTreeMap<(u64, String), (u64, Remembered)>,
    /// By age.
    order: BTreeMap<u64, (Millis, (u64, String))>,
    next: u64,
    bytes: usize,
}

impl Attempts {
    /// What was answered under this id within the last five minutes.
    pub(crate) fn get(&mut self, now: Millis, key: &(u64, String)) -> Option<Remembered> {
        self.expire(now);
        self.known.get(key).map(|(_, remembered)| remembered.clone())
    }

    /// Remembers an answer.
    pub(crate) fn put(&mut self, now: Millis, key: (u64, String), remembered: Remembered) {
        self.expire(now);
        self.remove(&key);
        self.bytes += remembered.bytes;
        self.known.insert(key.clone(), (self.next, remembered));
        self.order.insert(self.next, (now.saturating_add(WINDOW_MS), key));
        self.next += 1;
        while MAX_ATTEMPTS < self.known.len() || MAX_BYTES < self.bytes {
            let Some((_, (_, key))) = self.order.pop_first() else { return };
            self.remove(&key);
        }
    }

    /// Something happened to these deliveries: what they were answered in is not repeated.
    pub(crate) fn forget(&mut self, acks: &[AckId]) {
        let touched =
            |remembered: &Remembered| acks.iter().any(|ack| remembered.acks.contains(ack));
        let stale = self.known.iter().filter(|(_, (_, remembered))| touched(remembered));
        let stale: Vec<_> = stale.map(|(key, _)| key.clone()).collect();
        stale.iter().for_each(|key| self.remove(key));
    }

    fn expire(&mut self, now: Millis) {
        while let Some(entry) = self.order.first_entry()
            && entry.get().0 <= now
        {
            let (_, key) = entry.remove();
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &(u64, String)) {
        if let Some((at, remembered)) = self.known.remove(key) {
            self.order.remove(&at);
            self.bytes -= remembered.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use messaging::ids::Epoch;

    use super::*;

    fn ack(message: u64) -> AckId {
        let (group, subscription, generation, delivery) = (1, 0, 0, 1);
        AckId { group, subscription, generation, message, delivery, epoch: Epoch(1) }
    }

    fn answer(message: u64, bytes: usize) -> Remembered {
        Remembered { acks: vec![ack(message)], answer: Arc::new(message.into()), bytes }
    }

    #[test]
    fn an_answer_is_remembered_for_five_minutes() {
        let mut attempts = Attempts::default();
        let key = (1, "a".to_owned());
        attempts.put(0, key.clone(), answer(1, 10));
        assert!(attempts.get(WINDOW_MS - 1, &key).is_some());
        assert!(attempts.get(WINDOW_MS - 1, &(2, "a".to_owned())).is_none());
        assert!(attempts.get(WINDOW_MS, &key).is_none());
        assert_eq!((attempts.bytes, attempts.order.len()), (0, 0));
    }

    #[test]
    fn an_answer_ends_when_something_happens_to_a_message_in_it() {
        let mut attempts = Attempts::default();
        attempts.put(0, (1, "a".to_owned()), answer(1, 10));
        attempts.put(0, (1, "b".to_owned()), answer(2, 10));
        attempts.forget(&[ack(2)]);
        assert!(attempts.get(1, &(1, "a".to_owned())).is_some());
        assert!(attempts.get(1, &(1, "b".to_owned())).is_none());
    }

    #[test]
    fn the_oldest_answers_make_room() {
        let mut attempts = Attempts::default();
        for message in 0..5 {
            attempts.put(message, (1, message.to_string()), answer(message, MAX_BYTES / 3));
        }
        assert!(attempts.get(5, &(1, "0".to_owned())).is_none());
        assert!(attempts.get(5, &(1, "4".to_owned())).is_some());
        assert!(attempts.bytes <= MAX_BYTES);
    }
}
