//! What each command does to the catalog.

mod brokers;
mod leaving;
mod moves;
mod places;
mod queues;
mod refused;
mod streams;
mod topics;

use bytes::Bytes;
use consensus::GroupId;

use super::{Catalog, CatalogCommand};
use crate::frame::{self, Decoded};
use crate::ids::Name;

pub use refused::CatalogRefused;

/// What a command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is new.
    Created,
    /// It existed and has other settings now.
    Updated,
    /// It existed with these settings, or the command came too late to do anything.
    Unchanged,
    /// It is gone.
    Deleted,
}

/// What a command answers.
pub type CatalogReply = Result<Changed, CatalogRefused>;

impl Catalog {
    /// Applies one log entry. The same entries in the same order always make the same state.
    pub fn apply(&mut self, payload: &Bytes) -> CatalogReply {
        let Ok(Decoded { stamp, command, .. }) = frame::decode(payload) else {
            return Err(CatalogRefused::NotUnderstood);
        };
        self.state.now = self.state.now.max(stamp);
        match command {
            CatalogCommand::PutTopic { name, partitions, retention, copies } => {
                self.put_topic(name, partitions, retention, copies)
            }
            CatalogCommand::DeleteTopic { name } => self.delete_topic(name),
            CatalogCommand::PutSubscription { topic, name, config, start, push } => {
                self.put_subscription((topic, name), (config, push), start)
            }
            CatalogCommand::SetPaused { topic, name, url, reason } => {
                let now = self.state.now;
                self.change_push(topic, name, |push| push.url == url && push.pause(reason, now))
            }
            CatalogCommand::RotateSecret { topic, name, secret, keep_ms } => {
                let until = self.state.now.saturating_add(keep_ms);
                self.change_push(topic, name, |push| push.rotate(secret, until))
            }
            CatalogCommand::DeleteSubscription { topic, name } => {
                self.delete_subscription(topic, name)
            }
            CatalogCommand::PutQueue { name, config, copies } => {
                self.put_queue(name, config, copies)
            }
            CatalogCommand::PutQueueAs { name, seen, config, notes, copies } => {
                self.put_queue_as(name, seen, (config, notes), copies)
            }
            CatalogCommand::DeleteQueue { name } => self.delete_queue(name),
            CatalogCommand::FoundStreams { groups, copies } => self.found_streams(groups, copies),
            CatalogCommand::Announce { node, announced } => self.announce(node, announced),
            CatalogCommand::SetUp { node, up } => self.set_up(node, up),
            CatalogCommand::SetDraining { node, on } => self.set_draining(node, on),
            CatalogCommand::Forget { node } => self.forget(node),
            CatalogCommand::BeginMove { group, expect, add, remove } => {
                self.begin_move((group, expect), add, remove)
            }
            CatalogCommand::EndMove { group, generation, done } => {
                self.end_move((group, generation), done)
            }
            CatalogCommand::CancelMove { group, generation } => {
                self.cancel_move((group, generation))
            }
            CatalogCommand::SetPreferred { moves } => self.set_preferred(&moves),
            CatalogCommand::Left { node, copies } => Ok(self.left(node, &copies)),
            CatalogCommand::ReportDamaged { node, group, since } => {
                Ok(self.report_damaged(node, group, since))
            }
        }
    }

    fn check_dead_letter(&self, name: Option<&Name>) -> Result<(), CatalogRefused> {
        match name {
            Some(name) if !self.state.queues.contains_key(name) => {
                Err(CatalogRefused::NoDeadLetterQueue(name.clone()))
            }
            _ => Ok(()),
        }
    }

    fn new_group(&mut self) -> GroupId {
        let group = GroupId(self.state.next_group);
        self.state.next_group += 1;
        group
    }
}

const fn change(is_new: bool, differs: bool) -> Changed {
    match (is_new, differs) {
        (true, _) => Changed::Created,
        (false, true) => Changed::Updated,
        (false, false) => Changed::Unchanged,
    }
}

#[cfg(test)]
pub(super) mod testing;
