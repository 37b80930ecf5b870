//! Handing out, holding, giving back, giving up.

use serde::{Deserialize, Serialize};

use super::{Depth, Dispatcher, MAX_HOLD_MS, MAX_REASON_BYTES, Reason, State};
use crate::config::Policy;
use crate::ids::{Epoch, Millis};

/// The holder of a reservation: no ack id names it.
pub(super) const NOBODY: Epoch = Epoch(u64::MAX);

/// A message handed to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Its number.
    pub id: u64,
    /// Which delivery this is; the first is 1.
    pub delivery: u32,
    /// Until when it is the consumer's.
    pub until: Millis,
}

/// Whether a consumer still holds what it says it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It does.
    Held,
    /// Not any more: its time was over, or the message was delivered again.
    Late,
    /// There is no such message (any more).
    Unknown,
}

/// Who holds a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// When this delivery began.
    pub since: Millis,
    /// When it ends.
    pub until: Millis,
    /// Which delivery.
    pub delivery: u32,
}

/// How a consumer gives a message back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Release {
    /// It could not be done: the failure counts. It waits this long, or as the policy says.
    Failed {
        /// Milliseconds.
        delay_ms: Option<u64>,
        /// Why, for people: up to [`MAX_REASON_BYTES`](super::MAX_REASON_BYTES), what is longer
        /// is cut off. It goes into the dead letter.
        reason: Option<String>,
    },
    /// It was not tried: nothing counts against it. It waits this long.
    Free {
        /// Milliseconds.
        delay_ms: u64,
    },
}

/// A message that is given up and waits to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// Its number.
    pub id: u64,
    /// Why.
    pub reason: Reason,
    /// How often it was delivered.
    pub attempts: u32,
    /// What was said when it was last given back as failed.
    pub failure: Option<Box<str>>,
}

impl Dispatcher {
    /// Hands out up to `max` messages, to be held until then. Call [`Self::advance`] first.
    pub fn take(&mut self, max: usize, until: Millis, epoch: Epoch) -> Vec<Taken> {
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(id) = self.ready.first()
        {
            taken.push(self.hand_out(id, until, epoch));
        }
        taken
    }

    /// Hands out one message that is ready.
    pub(crate) fn hand_out(&mut self, id: u64, until: Millis, epoch: Epoch) -> Taken {
        self.enter(id, State::Held { until, epoch, since: self.now });
        let work = self.work.get_mut(&id).expect("it has just entered a state");
        work.attempts = work.attempts.saturating_add(1);
        if work.first_ms == 0 {
            work.first_ms = self.now;
        }
        let delivery = work.attempts;
        self.report(id);
        Taken { id, delivery, until }
    }

    /// Takes back what did not reach its consumer: the delivery does not count.
    pub fn untake(&mut self, taken: &[Taken]) {
        for Taken { id, delivery, .. } in taken {
            let Some(work) = self.work.get_mut(id) else { continue };
            if work.attempts == *delivery && matches!(work.state, State::Held { .. }) {
                work.attempts -= 1;
                if work.attempts == 0 {
                    work.first_ms = 0;
                }
                self.enter(*id, State::Ready);
                self.report(*id);
            }
        }
    }

    /// Whether this delivery is still the consumer's.
    #[must_use]
    pub fn verdict(&self, id: u64, delivery: u32, epoch: Epoch) -> Verdict {
        let Some(work) = self.look(id) else { return Verdict::Unknown };
        match work.state {
            State::Held { until, epoch: holder, .. }
                if work.attempts == delivery && holder == epoch && self.now < until =>
            {
                Verdict::Held
            }
            _ => Verdict::Late,
        }
    }

    /// Holds a message, that a consumer holds, until then; not beyond [`MAX_HOLD_MS`] from the
    /// begin of the delivery.
    pub fn extend(&mut self, id: u64, until: Millis) {
        if let Some(State::Held { epoch, since, .. }) = self.work.get(&id).map(|work| work.state) {
            let until = until.min(since.saturating_add(MAX_HOLD_MS));
            self.enter(id, State::Held { until, epoch, since });
            self.report(id);
        }
    }

    /// Who holds a message, if somebody does.
    #[must_use]
    pub fn held(&self, id: u64) -> Option<Held> {
        let work = self.work.get(&id)?;
        match work.state {
            State::Held { until, since, epoch } if epoch != NOBODY => {
                Some(Held { since, until, delivery: work.attempts })
            }
            _ => None,
        }
    }

    /// Keeps a message at least until then, while its ack is on its way to the disk.
    pub fn hold_for_ack(&mut self, id: u64, at_least: Millis) {
        if let Some(State::Held { until, epoch, since }) = self.work.get(&id).map(|work| work.state)
            && until < at_least
        {
            self.enter(id, State::Held { until: at_least, epoch, since });
            self.own.insert(id);
        }
    }

    /// A consumer gives a message back.
    pub fn release(&mut self, id: u64, how: Release, policy: &Policy) {
        if !matches!(self.work.get(&id).map(|work| work.state), Some(State::Held { .. })) {
            return;
        }
        match how {
            Release::Failed { delay_ms, reason } => {
                if let Some(mut reason) = reason {
                    reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
                    self.reasons.insert(id, reason.into());
                }
                self.fail(id, delay_ms, policy);
            }
            Release::Free { delay_ms } => self.put_back(id, delay_ms),
        }
    }

    /// Keeps a message from consumers without counting a delivery: it is being moved elsewhere.
    /// False if a consumer holds it or it is given up.
    pub fn reserve(&mut self, id: u64, until: Millis) -> bool {
        let free = self.look(id).is_some_and(|work| {
            matches!(work.state, State::Ready | State::Waiting { .. } | State::Behind)
        });
        if free {
            self.enter(id, State::Held { until, epoch: NOBODY, since: self.now });
            self.own.insert(id);
        }
        free
    }

    /// Gives up a reservation.
    pub fn unreserve(&mut self, id: u64) {
        let Some(work) = self.work.get(&id).copied() else { return };
        if matches!(work.state, State::Held { epoch: NOBODY, .. }) {
            self.enter(id, State::Behind);
            if work.spec.group.is_none_or(|group| self.groups.is_first(group, id)) {
                self.offer(id);
            }
        }
    }

    /// Messages that are given up, oldest first.
    pub fn doomed(&self, max: usize) -> Vec<Doomed> {
        let doomed = self.doomed.iter().take(max).map(|(&id, &reason)| Doomed {
            id,
            reason,
            attempts: self.work[&id].attempts,
            failure: self.reasons.get(&id).cloned(),
        });
        doomed.collect()
    }

    /// Messages in the order they would go.
    pub fn upcoming(&self) -> impl Iterator<Item = u64> + '_ {
        self.ready.iter()
    }

    /// How many stand where, for each of the [`LEVELS`](super::LEVELS) of priority from 0 on.
    pub fn depths(&self) -> impl Iterator<Item = Depth> + '_ {
        self.ready.depths()
    }

    /// How many stand where, over all priorities.
    #[must_use]
    pub fn depth(&self) -> Depth {
        self.depths().fold(Depth::default(), |sum, depth| Depth {
            ready: sum.ready + depth.ready,
            in_flight: sum.in_flight + depth.in_flight,
            delayed: sum.delayed + depth.delayed,
            doomed: sum.doomed + depth.doomed,
        })
    }

    /// A delivery that came to nothing.
    pub(super) fn fail(&mut self, id: u64, delay: Option<u64>, policy: &Policy) {
        let work = self.work.get_mut(&id).expect("what fails was held");
        work.failed = work.failed.saturating_add(1);
        let failed = work.failed;
        if policy.is_exhausted(failed) {
            self.enter(id, State::Doomed(Reason::MaxDeliveries));
            self.report(id);
        } else {
            self.put_back(id, delay.unwrap_or_else(|| policy.backoff.after(id, failed)));
        }
    }

    pub(super) fn put_back(&mut self, id: u64, wait: u64) {
        let expires = self.work[&id].spec.expires;
        let state = if 0 < expires && expires <= self.now {
            State::Doomed(Reason::Expired)
        } else if wait == 0 {
            State::Ready
        } else {
            State::Waiting { due: self.now.saturating_add(wait) }
        };
        self.enter(id, state);
        self.report(id);
    }
}
