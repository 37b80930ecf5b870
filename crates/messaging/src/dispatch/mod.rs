//! Who holds which message, and which may be handed out next: the engine under queues and
//! subscriptions.
//!
//! All of this is the part of a machine that is *not* replicated. The leader alone hands out
//! messages, and a delivery must not wait for a disk. What later leaders must know of it, how
//! often a message was delivered and until when it is held, leaves through
//! [`Dispatcher::take_progress`] in batches that nobody waits for.
//!
//! Numbers stand for messages: ids in a queue, offsets in a subscription. Smaller ones go first.
//!
//! Most messages of a long queue just wait for their turn: no group, no time to live, never
//! delivered. Of these plain ones nothing is kept but a bit at their priority.
//!
//! **Invariant:** a message is in exactly one [`State`], and in exactly the index of that state.
//! **Invariant:** a message is in `work` exactly if it is not plain.
//! **Invariant:** of one group at most one message is ready, waiting, held or given up; the others
//! stand behind it.

mod group;
mod lease;
mod ready;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::config::Policy;
use crate::ids::{Epoch, Millis};

pub use lease::{Doomed, Held, Release, Taken, Verdict};
pub use ready::Depth;

/// Most levels of priority.
pub const LEVELS: usize = 32;
/// Longest time for which one delivery is held, however often that is extended: 7 days.
pub const MAX_HOLD_MS: Millis = 7 * 86_400_000;
/// Longest [`Release::Failed::reason`], in bytes: it is kept in memory.
pub const MAX_REASON_BYTES: usize = 256;

/// What the dispatcher must know of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// Higher goes first. Below [`LEVELS`].
    pub priority: u8,
    /// Messages of one group go one at a time.
    pub group: Option<u64>,
    /// Not before this. 0: at once.
    pub due: Millis,
    /// Not from this on. 0: never expires.
    pub expires: Millis,
}

/// What later leaders must know about the deliveries of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How often it has been delivered.
    pub attempts: u32,
    /// How many of those deliveries failed: given back as failed, or held too long.
    pub failed: u32,
    /// Which life of the leader delivered it last.
    pub epoch: Epoch,
    /// Held by a consumer until then; or, if not held, not to be delivered before then.
    pub until: Millis,
    /// Whether a consumer holds it.
    pub held: bool,
    /// When it was delivered first.
    pub first_ms: Millis,
    /// When the delivery began that holds it; 0 if none does.
    pub since_ms: Millis,
    /// What was said when it was last given back as failed.
    pub reason: Option<Box<str>>,
    /// Its group, where that is not kept elsewhere.
    pub group: Option<u64>,
}

/// Only a leader hands out messages and judges who holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node does not lead here")]
pub struct NotLeading;

/// Why a message is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Failed as often as it may.
    MaxDeliveries,
    /// Its time was over.
    Expired,
}

impl Reason {
    /// As the API spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxDeliveries => "max-deliveries",
            Self::Expired => "expired",
        }
    }
}

impl Progress {
    /// What is known when this follows on `known`. Counts never go back, whoever reports.
    #[must_use]
    pub fn following(&self, known: Option<&Self>) -> Self {
        let Some(known) = known else { return self.clone() };
        let first_ms = if known.first_ms == 0 { self.first_ms } else { known.first_ms };
        Self {
            attempts: known.attempts.max(self.attempts),
            failed: known.failed.max(self.failed),
            first_ms,
            ..self.clone()
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In `ready`, at its priority.
    Ready,
    /// In `timers` under this moment.
    Waiting { due: Millis },
    /// In `timers` under this moment, held by the consumer of the last attempt.
    Held { until: Millis, epoch: Epoch, since: Millis },
    /// Behind the first of its group.
    Behind,
    /// In `doomed`: waits for its removal to be replicated.
    Doomed(Reason),
}

#[derive(Clone, Copy, Debug)]
struct Work {
    spec: Spec,
    attempts: u32,
    failed: u32,
    first_ms: Millis,
    state: State,
}

impl Work {
    /// A message that is not in `work`, but ready at this priority.
    fn plain(priority: u8) -> Self {
        let spec = Spec { priority, ..Spec::default() };
        Self { spec, attempts: 0, failed: 0, first_ms: 0, state: State::Ready }
    }

    /// Whether all that is known of it is its priority. When it was due does not matter any more.
    fn is_plain(&self) -> bool {
        let Self { spec, attempts, state, .. } = self;
        *state == State::Ready && *attempts == 0 && spec.group.is_none() && spec.expires == 0
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Dispatcher {
    work: BTreeMap<u64, Work>,
    /// Of messages, those that are not in `work` included.
    len: usize,
    ready: ready::Ready,
    timers: BTreeSet<(Millis, u64)>,
    expiries: BTreeSet<(Millis, u64)>,
    groups: group::Groups,
    doomed: BTreeMap<u64, Reason>,
    /// What was said of messages that failed.
    reasons: BTreeMap<u64, Box<str>>,
    /// Whose progress later leaders do not know yet.
    unreported: BTreeSet<u64>,
    /// Messages that may stand elsewhere than what is replicated says: in flight here, or not yet
    /// settled after that.
    own: BTreeSet<u64>,
    now: Millis,
}

impl Dispatcher {
    /// A message that may be delivered from now on.
    pub fn add(&mut self, id: u64, spec: Spec) {
        let work = Work { spec, ..Work::plain(spec.priority) };
        if work.is_plain() && spec.due <= self.now {
            self.len += 1;
            self.ready.insert(spec.priority, id);
            self.ready.count(&work, 1);
        } else {
            self.insert(id, Work { state: State::Behind, ..work });
        }
    }

    /// A message some leader has delivered before: after a restart, or from another node's log.
    pub fn restore(&mut self, id: u64, spec: Spec, progress: &Progress) {
        self.forget(id);
        let due = if progress.held { 0 } else { progress.until };
        let spec = Spec { due: spec.due.max(due), ..spec };
        let Progress { attempts, failed, first_ms, until, epoch, .. } = *progress;
        self.insert(id, Work { spec, attempts, failed, first_ms, state: State::Behind });
        if let Some(reason) = &progress.reason {
            self.reasons.insert(id, reason.clone());
        }
        if progress.held {
            self.enter(id, State::Held { until, epoch, since: progress.since_ms });
        }
    }

    /// Leadership is lost: progress is not reported any more. Answers the messages that may stand
    /// elsewhere than what is replicated says, to be put back one by one.
    pub fn disown(&mut self) -> BTreeSet<u64> {
        self.unreported.clear();
        std::mem::take(&mut self.own)
    }

    /// Puts a message where what is replicated says.
    pub fn put(&mut self, id: u64, spec: Spec, progress: Option<&Progress>) {
        match progress {
            Some(progress) => self.restore(id, spec, progress),
            None => {
                self.forget(id);
                self.add(id, spec);
            }
        }
    }

    /// A message that is settled or removed. What stood behind it moves up.
    pub fn forget(&mut self, id: u64) {
        let Some(work) = self.look(id) else { return };
        self.leave(id, &work);
        self.work.remove(&id);
        self.len -= 1;
        self.unreported.remove(&id);
        self.own.remove(&id);
        self.reasons.remove(&id);
        if 0 < work.spec.expires {
            self.expiries.remove(&(work.spec.expires, id));
        }
        if let Some(group) = work.spec.group
            && let Some(next) = self.groups.remove(group, id)
        {
            self.offer(next);
        }
    }

    /// Forgets every message below this one.
    pub fn forget_below(&mut self, id: u64) {
        while let Some((&first, _)) = self.work.range(..id).next() {
            self.forget(first);
        }
        while let Some(first) = self.ready.below(id) {
            self.forget(first);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        let now = self.now;
        *self = Self { now, ..Self::default() };
    }

    /// Lets time pass: what waited becomes ready, what was held too long fails if it was handed out
    /// in this life, what expired is given up.
    pub fn advance(&mut self, now: Millis, policy: &Policy, own: Epoch) {
        self.now = self.now.max(now);
        while let Some(&(at, id)) = self.timers.first()
            && at <= self.now
        {
            match self.work[&id].state {
                State::Held { epoch: lease::NOBODY, .. } => self.unreserve(id),
                State::Held { epoch, .. } if epoch == own => self.fail(id, None, policy),
                // What its holder said last may have been lost with the leader that heard it.
                State::Held { .. } => {
                    let failed = self.work[&id].failed.saturating_add(1);
                    self.put_back(id, policy.backoff.after(id, failed));
                }
                _ => self.enter(id, State::Ready),
            }
        }
        while let Some(&(at, id)) = self.expiries.first()
            && at <= self.now
        {
            self.expiries.pop_first();
            // A consumer that holds it may still finish; if it does not, `fail` looks again.
            if !matches!(self.work[&id].state, State::Held { .. } | State::Doomed(_)) {
                self.enter(id, State::Doomed(Reason::Expired));
            }
        }
    }

    /// When [`Self::advance`] has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<Millis> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let expiry = self.expiries.first().map(|(at, _)| *at);
        timer.into_iter().chain(expiry).min()
    }

    /// How many messages it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it knows this one.
    #[must_use]
    pub fn knows(&self, id: u64) -> bool {
        self.look(id).is_some()
    }

    /// How often a message it knows has been delivered.
    #[must_use]
    pub fn attempts(&self, id: u64) -> u32 {
        self.work.get(&id).map_or(0, |work| work.attempts)
    }

    /// When a message it knows was delivered first. 0: not yet.
    #[must_use]
    pub fn first_ms(&self, id: u64) -> Millis {
        self.work.get(&id).map_or(0, |work| work.first_ms)
    }

    /// Progress that later leaders do not know yet, of up to `max` messages. What was settled
    /// meanwhile needs no report, so a consumer that is quick costs none.
    pub fn take_progress(&mut self, max: usize, epoch: Epoch) -> Vec<(u64, Progress)> {
        let mut batch = Vec::new();
        while batch.len() < max
            && let Some(id) = self.unreported.pop_first()
        {
            batch.push((id, self.progress(id, epoch)));
        }
        batch
    }

    /// Reports progress again that did not reach the log.
    pub fn report_again(&mut self, ids: impl Iterator<Item = u64>) {
        for id in ids {
            if self.knows(id) {
                self.report(id);
            }
        }
    }

    /// Whether there is progress to report.
    #[must_use]
    pub fn has_progress(&self) -> bool {
        !self.unreported.is_empty()
    }

    /// Later leaders must be told of this message.
    fn report(&mut self, id: u64) {
        self.unreported.insert(id);
        self.own.insert(id);
    }

    fn progress(&self, id: u64, epoch: Epoch) -> Progress {
        let work = self.look(id).expect("what is reported is known");
        let Work { attempts, failed, first_ms, .. } = work;
        let reason = self.reasons.get(&id).cloned();
        let group = work.spec.group;
        let free = Progress {
            attempts,
            failed,
            epoch,
            until: 0,
            held: false,
            first_ms,
            since_ms: 0,
            reason,
            group,
        };
        match work.state {
            State::Held { until, epoch, since } => {
                Progress { held: true, until, epoch, since_ms: since, ..free }
            }
            State::Waiting { due } => Progress { until: due, ..free },
            State::Ready | State::Behind | State::Doomed(_) => free,
        }
    }

    fn look(&self, id: u64) -> Option<Work> {
        let plain = || self.ready.priority(id).map(Work::plain);
        self.work.get(&id).copied().or_else(plain)
    }

    fn insert(&mut self, id: u64, work: Work) {
        self.len += 1;
        self.work.insert(id, work);
        self.ready.count(&work, 1);
        if 0 < work.spec.expires {
            self.expiries.insert((work.spec.expires, id));
        }
        let Some(group) = work.spec.group else { return self.offer(id) };
        let joined = self.groups.insert(group, id);
        if joined.first {
            self.offer(id);
        }
        // Only a replay brings an earlier message after a later one.
        if let Some(overtaken) = joined.overtaken
            && matches!(self.work[&overtaken].state, State::Ready | State::Waiting { .. })
        {
            self.enter(overtaken, State::Behind);
        }
    }

    /// The message may go as soon as it is due.
    fn offer(&mut self, id: u64) {
        let due = self.work[&id].spec.due;
        if self.work[&id].state == State::Behind {
            let ready = due <= self.now;
            self.enter(id, if ready { State::Ready } else { State::Waiting { due } });
        }
    }

    /// The only place where a state changes.
    fn enter(&mut self, id: u64, state: State) {
        let work = self.look(id).expect("states are entered by messages that are known");
        self.leave(id, &work);
        let work = Work { state, ..work };
        match state {
            State::Ready => self.ready.insert(work.spec.priority, id),
            State::Waiting { due: at } | State::Held { until: at, .. } => {
                self.timers.insert((at, id));
            }
            State::Doomed(reason) => {
                self.doomed.insert(id, reason);
            }
            State::Behind => (),
        }
        self.ready.count(&work, 1);
        if work.is_plain() {
            self.work.remove(&id);
        } else {
            self.work.insert(id, work);
        }
    }

    fn leave(&mut self, id: u64, work: &Work) {
        match work.state {
            State::Ready => self.ready.remove(work.spec.priority, id),
            State::Waiting { due: at } | State::Held { until: at, .. } => {
                self.timers.remove(&(at, id));
            }
            State::Doomed(_) => {
                self.doomed.remove(&id);
            }
            State::Behind => (),
        }
        self.ready.count(work, -1);
    }
}

#[cfg(test)]
mod tests;
