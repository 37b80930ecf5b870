//! What must hold of everything that senders and consumers of a queue were told.
//!
//! These remember the whole run: a promise is about what happened before.

use std::collections::{BTreeMap, BTreeSet};

/// One delivery as a consumer saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) body: u64,
    pub(crate) id: u64,
    pub(crate) delivery: u32,
    pub(crate) group: Option<u64>,
}

/// The history of one queue.
#[derive(Default)]
pub(crate) struct History {
    /// Bodies of sends that were answered, with their ids.
    sent: BTreeMap<u64, u64>,
    /// Ids whose ack was answered `ok`, and ids that were given up.
    settled: BTreeSet<u64>,
    /// The highest delivery of each id that reached the log.
    reported: BTreeMap<u64, u32>,
    /// Deliveries of each id that may have failed: handed out, and not given back untried.
    tried: BTreeMap<u64, u32>,
    /// Ids of each group that were sent, in order.
    groups: BTreeMap<u64, BTreeSet<u64>>,
}

impl History {
    pub(crate) fn sent(&mut self, body: u64, id: u64, group: Option<u64>) -> Result<(), String> {
        if let Some(group) = group {
            self.groups.entry(group).or_default().insert(id);
        }
        match self.sent.values().any(|other| *other == id) {
            true => Err(format!("id {id} was given out twice")),
            false => {
                self.sent.insert(body, id);
                Ok(())
            }
        }
    }

    pub(crate) fn delivered(&mut self, seen: Seen) -> Result<(), String> {
        let Seen { body, id, delivery, group } = seen;
        if self.sent.get(&body) != Some(&id) {
            return Err(format!("message {id} with body {body} was never sent"));
        }
        if self.settled.contains(&id) {
            return Err(format!("message {id} was delivered after it was settled"));
        }
        let reported = self.reported.get(&id).copied().unwrap_or(0);
        if delivery <= reported {
            return Err(format!("delivery {delivery} of message {id} after {reported} were known"));
        }
        *self.tried.entry(id).or_default() += 1;
        let earlier = group.and_then(|group| self.groups.get(&group));
        let earlier = earlier.into_iter().flat_map(|ids| ids.range(..id));
        match earlier.copied().find(|other| !self.settled.contains(other)) {
            Some(other) => Err(format!("message {id} overtook {other} of its group")),
            None => Ok(()),
        }
    }

    pub(crate) fn settled(&mut self, id: u64) -> Result<(), String> {
        match self.settled.insert(id) {
            true => Ok(()),
            false => Err(format!("message {id} was settled twice")),
        }
    }

    /// A consumer gave it back without having tried.
    pub(crate) fn untried(&mut self, id: u64) {
        *self.tried.entry(id).or_default() -= 1;
    }

    /// It was given up, as if it had failed so often.
    pub(crate) fn given_up(&self, id: u64, failures: u32) -> Result<(), String> {
        match self.tried.get(&id) {
            Some(tried) if failures <= *tried => Ok(()),
            tried => Err(format!("message {id} was given up after {tried:?} tries")),
        }
    }

    pub(crate) fn reported(&mut self, id: u64, attempts: u32) {
        let known = self.reported.entry(id).or_default();
        *known = attempts.max(*known);
    }

    pub(crate) fn is_in(&self, group: u64, id: u64) -> bool {
        self.groups.get(&group).is_some_and(|ids| ids.contains(&id))
    }

    /// After a time in which everything was consumed.
    pub(crate) fn drained(&self) -> Result<(), String> {
        match self.sent.values().find(|id| !self.settled.contains(id)) {
            Some(id) => Err(format!("message {id} was sent and never came")),
            None => Ok(()),
        }
    }
}
