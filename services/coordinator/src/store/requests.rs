//! Requests that carry an idempotency key: each is carried out once, and answered alike when it
//! comes again.
//!
//! What a request was answered is part of the store: it is decided when its command is applied,
//! so that duplicates in flight, restarts and a new leader change nothing. Only what was carried
//! out is remembered. A refusal changed nothing, so its repetition may be carried out.
//!
//! **Invariant:** within its window a key stands for one request, unless more keys or bytes came
//! than [`MAX_REQUESTS`] and [`MAX_REQUEST_BYTES`] allow: then the oldest are forgotten early.

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::compaction::Compacted;
use super::ids::Revision;
use super::lease::Lease;
use super::line::Place;
use super::mvcc::{Record, record_cost};
use super::registration::{Deregistered, Registered};
use super::txn::{OpResult, TxnResult};
use super::{Reply, Revoked};

/// How long the answer to a request is remembered, in milliseconds.
pub const REQUEST_WINDOW_MS: u64 = 300_000;
/// Most requests that are remembered at once.
pub const MAX_REQUESTS: usize = 100_000;
/// What remembered requests may take in memory together.
pub const MAX_REQUEST_BYTES: u64 = 32 << 20;
/// An answer that takes more is not kept, only that it was given.
pub(super) const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// What an entry costs besides its key and the records of its answer.
const REQUEST_OVERHEAD_BYTES: u64 = 256;

/// Names a request that may come again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the caller.
    pub key: Bytes,
    /// A hash of what was asked, to tell a repetition from a mistake.
    pub fingerprint: u128,
}

/// A request with a known key that cannot be answered as the first one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepeatError {
    #[error("this Idempotency-Key was used for another request; choose a new key for each request")]
    OtherRequest,
    #[error(
        "this request was carried out before, at revision {revision}, and its answer was too large \
         to be kept; read what you need"
    )]
    AnswerTooLarge { revision: Revision },
}

/// What was answered, without what a repetition does not show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    Txn(TxnResult),
    Compact(Compacted),
    Grant(Lease),
    Revoke(Revoked),
    Register(Registered),
    Deregister(Deregistered),
    TooLarge { revision: Revision },
    Enqueue(Place),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    request: Request,
    until_ms: u64,
    answer: Answer,
}

#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// With their number in the order they came.
    by_key: OrdMap<Bytes, (u64, Arc<Remembered>)>,
    by_number: OrdMap<u64, Bytes>,
    bytes: u64,
}

impl Requests {
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// What they take, in bytes, as [`MAX_REQUEST_BYTES`] counts it.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first answer, if the key is known.
    pub(super) fn repeat(&self, request: &Request) -> Option<Reply> {
        let (_, first) = self.by_key.get(&request.key)?;
        Some(if first.request.fingerprint == request.fingerprint {
            first.answer.reply()
        } else {
            Reply::NotRepeated(RepeatError::OtherRequest)
        })
    }

    /// Keeps what was carried out.
    pub(super) fn remember(&mut self, request: Request, reply: &Reply, now: Now) {
        let Some(answer) = Answer::of(reply, now.revision) else { return };
        self.push(Remembered { request, until_ms: now.ms + REQUEST_WINDOW_MS, answer });
        while MAX_REQUESTS < self.len() || MAX_REQUEST_BYTES < self.bytes {
            self.forget_oldest();
        }
    }

    /// Forgets those whose window is over.
    pub(super) fn expire(&mut self, now_ms: u64) {
        while self.oldest().is_some_and(|oldest| oldest.until_ms <= now_ms) {
            self.forget_oldest();
        }
    }

    /// Oldest first.
    pub(super) fn image(&self) -> Vec<Arc<Remembered>> {
        self.by_number
            .values()
            .filter_map(|key| self.by_key.get(key).map(|(_, one)| Arc::clone(one)))
            .collect()
    }

    pub(super) fn from_image(image: Vec<Remembered>) -> Self {
        let mut this = Self::default();
        image.into_iter().for_each(|remembered| this.push(remembered));
        this
    }

    fn push(&mut self, remembered: Remembered) {
        let key = remembered.request.key.clone();
        let number = self.by_number.get_max().map_or(0, |(number, _)| number + 1);
        self.bytes += remembered.cost();
        self.by_number.insert(number, key.clone());
        self.by_key.insert(key, (number, Arc::new(remembered)));
    }

    /// Forgets the request that asked for a place which is given up.
    pub(super) fn forget_place(&mut self, key: &Bytes, token: Revision) {
        let is_place =
            |answer: &Answer| matches!(answer, Answer::Enqueue(place) if place.token == token);
        if self.by_key.get(key).is_some_and(|(_, one)| is_place(&one.answer)) {
            self.forget(key);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.by_number.get_min() {
            let key = key.clone();
            self.forget(&key);
        }
    }

    fn forget(&mut self, key: &Bytes) {
        if let Some((number, forgotten)) = self.by_key.remove(key) {
            self.by_number.remove(&number);
            self.bytes -= forgotten.cost();
        }
    }

    fn oldest(&self) -> Option<&Arc<Remembered>> {
        let (_, key) = self.by_number.get_min()?;
        self.by_key.get(key).map(|(_, oldest)| oldest)
    }
}

/// Where the store was when a request had been carried out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) ms: u64,
    pub(super) revision: Revision,
}

impl Remembered {
    fn cost(&self) -> u64 {
        REQUEST_OVERHEAD_BYTES + self.request.key.len() as u64 + self.answer.cost()
    }
}

impl Answer {
    /// `None` for what was not carried out, and for commands that no caller repeats.
    fn of(reply: &Reply, revision: Revision) -> Option<Self> {
        let answer = match reply {
            Reply::Txn(Ok(result)) => Self::Txn(slim(result)),
            Reply::Compact(Ok(compacted)) => Self::Compact(*compacted),
            Reply::Grant(Ok(lease)) => Self::Grant(lease.clone()),
            Reply::Revoke(Ok(revoked)) => Self::Revoke(*revoked),
            Reply::Register(Ok(registered)) => Self::Register(*registered),
            Reply::Deregister(deregistered) => Self::Deregister(*deregistered),
            Reply::Enqueue(Ok(place)) => Self::Enqueue(place.clone()),
            Reply::Txn(Err(_))
            | Reply::Compact(Err(_))
            | Reply::Grant(Err(_))
            | Reply::Revoke(Err(_))
            | Reply::Register(Err(_))
            | Reply::Enqueue(Err(_))
            | Reply::KeepAlive(_)
            | Reply::Expire(_)
            | Reply::Alarm(_)
            | Reply::Auth(_)
            | Reply::Denied(_)
            | Reply::NotRepeated(_)
            | Reply::Done => return None,
        };
        let is_small = answer.cost() <= MAX_ANSWER_BYTES;
        Some(if is_small { answer } else { Self::TooLarge { revision } })
    }

    fn reply(&self) -> Reply {
        match self {
            Self::Txn(result) => Reply::Txn(Ok(result.clone())),
            Self::Compact(compacted) => Reply::Compact(Ok(*compacted)),
            Self::Grant(lease) => Reply::Grant(Ok(lease.clone())),
            Self::Revoke(revoked) => Reply::Revoke(Ok(*revoked)),
            Self::Register(registered) => Reply::Register(Ok(*registered)),
            Self::Deregister(deregistered) => Reply::Deregister(*deregistered),
            Self::Enqueue(place) => Reply::Enqueue(Ok(place.clone())),
            Self::TooLarge { revision } => {
                Reply::NotRepeated(RepeatError::AnswerTooLarge { revision: *revision })
            }
        }
    }

    fn cost(&self) -> u64 {
        match self {
            Self::Txn(result) => txn_cost(result),
            _ => 0,
        }
    }
}

fn txn_cost(result: &TxnResult) -> u64 {
    let record = |record: &Arc<Record>| record_cost(record.key.len(), record.value.len());
    let cost = |result: &OpResult| match result {
        OpResult::Range(range) => range.records.iter().map(record).sum(),
        OpResult::Put { record: put, previous, .. } => {
            record(put) + previous.as_ref().map_or(0, record)
        }
        OpResult::Delete { previous, .. } => previous.iter().map(record).sum(),
        OpResult::Txn(result) => txn_cost(result),
    };
    result.results.iter().map(cost).sum()
}

/// Without the values that the caller sent itself: no answer shows them.
fn slim(result: &TxnResult) -> TxnResult {
    let slim_op = |result: &OpResult| match result {
        OpResult::Put { revision, record, previous } => OpResult::Put {
            revision: *revision,
            record: Arc::new(Record { value: Bytes::new(), ..Record::clone(record) }),
            previous: previous.clone(),
        },
        OpResult::Txn(result) => OpResult::Txn(slim(result)),
        OpResult::Range(_) | OpResult::Delete { .. } => result.clone(),
    };
    TxnResult { results: result.results.iter().map(slim_op).collect(), ..*result }
}

#[cfg(test)]
mod tests {
    use super::super::ids::LeaseId;
    use super::super::range::RangeResult;
    use super::*;

    const NOW: Now = Now { ms: 1_000, revision: Revision(7) };

    fn request(key: impl ToString, fingerprint: u128) -> Request {
        Request { key: key.to_string().into(), fingerprint }
    }

    fn revoked(revision: u64) -> Reply {
        Reply::Revoke(Ok(Revoked { revision: Revision(revision), deleted: 0 }))
    }

    fn read(bytes: usize) -> Reply {
        let record = Record {
            key: "k".into(),
            value: vec![0; bytes].into(),
            create_revision: Revision(2),
            mod_revision: Revision(2),
            version: 1,
            lease: LeaseId::NONE,
            order: 0,
        };
        let range = RangeResult {
            revision: Revision(2),
            records: vec![Arc::new(record)],
            keys_only: false,
            more: false,
            count: 1,
        };
        let results = vec![OpResult::Range(range)];
        Reply::Txn(Ok(TxnResult { succeeded: true, revision: Revision(2), results }))
    }

    #[test]
    fn a_key_stands_for_one_request_until_its_window_is_over() {
        let mut requests = Requests::default();
        requests.remember(request("a", 1), &revoked(5), NOW);
        assert_eq!(requests.repeat(&request("a", 1)), Some(revoked(5)));
        let other = Some(Reply::NotRepeated(RepeatError::OtherRequest));
        assert_eq!(requests.repeat(&request("a", 2)), other);
        requests.expire(NOW.ms + REQUEST_WINDOW_MS - 1);
        assert_eq!(requests.len(), 1);
        requests.expire(NOW.ms + REQUEST_WINDOW_MS);
        assert_eq!((requests.repeat(&request("a", 1)), requests.bytes()), (None, 0));
    }

    #[test]
    fn a_refusal_is_not_remembered() {
        let mut requests = Requests::default();
        let refused = Reply::Revoke(Err(super::super::LeaseNotFound(LeaseId(1))));
        requests.remember(request("a", 1), &refused, NOW);
        assert!(requests.is_empty());
    }

    #[test]
    fn the_number_is_bounded() {
        let mut requests = Requests::default();
        for key in 0..MAX_REQUESTS + 10 {
            requests.remember(request(key, 1), &revoked(5), NOW);
        }
        assert_eq!(requests.len(), MAX_REQUESTS);
        assert_eq!(requests.repeat(&request(9, 1)), None);
        assert!(requests.repeat(&request(10, 1)).is_some());
    }

    #[test]
    fn the_bytes_are_bounded_and_the_oldest_goes_first() {
        let mut requests = Requests::default();
        for key in 0..100 {
            requests.remember(request(key, 1), &read(900 << 10), NOW);
        }
        assert!(requests.bytes() <= MAX_REQUEST_BYTES);
        assert!((30..40).contains(&requests.len()), "{}", requests.len());
        assert!(requests.repeat(&request(99, 1)).is_some());
    }

    #[test]
    fn an_answer_that_is_too_large_is_given_once() {
        let mut requests = Requests::default();
        requests.remember(request("a", 1), &read(1 << 20), NOW);
        let repeated = Reply::NotRepeated(RepeatError::AnswerTooLarge { revision: Revision(7) });
        assert_eq!(requests.repeat(&request("a", 1)), Some(repeated));
        assert!(requests.bytes() < 1000);
    }

    #[test]
    fn a_place_that_is_given_up_is_forgotten_with_its_request() {
        let mut requests = Requests::default();
        let place = Place {
            key: "l/1".into(),
            lease: LeaseId(1),
            token: Revision(5),
            revision: Revision(5),
            first: true,
        };
        requests.remember(request("a", 1), &Reply::Enqueue(Ok(place)), NOW);
        requests.forget_place(&"a".into(), Revision(4));
        assert_eq!(requests.len(), 1, "another place");
        requests.forget_place(&"a".into(), Revision(5));
        assert_eq!((requests.len(), requests.bytes()), (0, 0));
        requests.remember(request("b", 1), &revoked(5), NOW);
        requests.forget_place(&"b".into(), Revision(5));
        assert_eq!(requests.len(), 1, "no place at all");
    }

    #[test]
    fn an_image_keeps_order_and_size() {
        let mut requests = Requests::default();
        for key in ["b", "a", "c"] {
            requests.remember(request(key, 1), &read(10), NOW);
        }
        let image = requests.image().iter().map(|one| Remembered::clone(one)).collect();
        let restored = Requests::from_image(image);
        assert_eq!(restored.image(), requests.image());
        assert_eq!(restored.bytes(), requests.bytes());
    }
}
