//! What each command does to the catalog.

use bytes::Bytes;
use consensus::GroupId;

use super::{Catalog, CatalogCommand, QueueEntry, SubscriptionEntry, Topic};
use super::{MAX_GROUPS, MAX_PARTITIONS, MAX_QUEUES, MAX_SUBSCRIPTIONS, MAX_TOPICS};
use crate::config::{QueueConfig, Retention, Start, SubscriptionConfig};
use crate::frame::{self, Decoded};
use crate::ids::{Name, SubscriptionId};

/// What a command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is new.
    Created,
    /// It existed and has other settings now.
    Updated,
    /// It existed with these settings.
    Unchanged,
    /// It is gone.
    Deleted,
}

/// What a command answers.
pub type CatalogReply = Result<Changed, CatalogRefused>;

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogRefused {
    /// No such topic.
    #[error("topic `{0}` does not exist; create it with PUT /v1/topics/{0}")]
    NoTopic(Name),
    /// No such subscription.
    #[error("topic `{topic}` has no subscription `{name}`")]
    NoSubscription {
        /// The topic, which exists.
        topic: Name,
        /// The name.
        name: Name,
    },
    /// No such queue.
    #[error("queue `{0}` does not exist; create it with PUT /v1/queues/{0}")]
    NoQueue(Name),
    /// The dead-letter queue must exist.
    #[error("the dead-letter queue `{0}` does not exist; create it first")]
    NoDeadLetterQueue(Name),
    /// A queue cannot be its own dead-letter queue.
    #[error("queue `{0}` cannot be its own dead-letter queue")]
    OwnDeadLetterQueue(Name),
    /// Others send their dead letters to the queue.
    #[error("queue `{name}` takes the dead letters of {users}; change those first")]
    InUse {
        /// The queue.
        name: Name,
        /// Who, as text.
        users: String,
    },
    /// Partitions hold messages, so there are never fewer.
    #[error("topic `{name}` has {has} partitions; there cannot be fewer")]
    FewerPartitions {
        /// The topic.
        name: Name,
        /// How many it has.
        has: u32,
    },
    /// Zero or too many.
    #[error("a topic has 1 to {MAX_PARTITIONS} partitions")]
    Partitions,
    /// Too many of something.
    #[error("there can be at most {max} {what}; delete some first")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        max: usize,
    },
    /// The entry is not a command of this version.
    #[error("the command was not understood")]
    NotUnderstood,
}

impl Catalog {
    /// Applies one log entry. The same entries in the same order always make the same state.
    pub fn apply(&mut self, payload: &Bytes) -> CatalogReply {
        let Ok(Decoded { stamp, command, .. }) = frame::decode(payload) else {
            return Err(CatalogRefused::NotUnderstood);
        };
        self.now = self.now.max(stamp);
        match command {
            CatalogCommand::PutTopic { name, partitions, retention } => {
                self.put_topic(name, partitions, retention)
            }
            CatalogCommand::DeleteTopic { name } => {
                let topic = self.topics.remove(&name).ok_or(CatalogRefused::NoTopic(name))?;
                self.removing.extend(topic.partitions);
                Ok(Changed::Deleted)
            }
            CatalogCommand::PutSubscription { topic, name, config, start } => {
                self.put_subscription((topic, name), config, start)
            }
            CatalogCommand::DeleteSubscription { topic, name } => {
                let entry = self.topics.get_mut(&topic);
                let entry = entry.ok_or_else(|| CatalogRefused::NoTopic(topic.clone()))?;
                match entry.subscriptions.remove(&name) {
                    Some(_) => Ok(Changed::Deleted),
                    None => Err(CatalogRefused::NoSubscription { topic, name }),
                }
            }
            CatalogCommand::PutQueue { name, config } => self.put_queue(name, config),
            CatalogCommand::DeleteQueue { name } => self.delete_queue(name),
            CatalogCommand::Removed { group } => {
                self.removing.remove(&group);
                Ok(Changed::Deleted)
            }
        }
    }

    fn put_topic(
        &mut self,
        name: Name,
        partitions: Option<u32>,
        retention: Retention,
    ) -> CatalogReply {
        let has = self.topics.get(&name).map_or(0, Topic::partition_count);
        let wanted = partitions.unwrap_or(has.max(1));
        if !(1..=MAX_PARTITIONS).contains(&wanted) {
            return Err(CatalogRefused::Partitions);
        }
        if wanted < has {
            return Err(CatalogRefused::FewerPartitions { name, has });
        }
        self.check_groups((wanted - has) as usize)?;
        if has == 0 && MAX_TOPICS <= self.topics.len() {
            return Err(CatalogRefused::Limit { what: "topics", max: MAX_TOPICS });
        }
        let groups: Vec<_> = (has..wanted).map(|_| self.new_group()).collect();
        let topic = self.topics.entry(name).or_insert_with(|| Topic {
            version: 0,
            partitions: Vec::new(),
            retention,
            created_ms: self.now,
            subscriptions: Default::default(),
        });
        let changed = change(has == 0, !groups.is_empty() || topic.retention != retention);
        if changed != Changed::Unchanged {
            topic.version += 1;
            topic.partitions.extend(groups);
            topic.retention = retention;
        }
        Ok(changed)
    }

    fn put_subscription(
        &mut self,
        (topic_name, name): (Name, Name),
        config: SubscriptionConfig,
        start: Start,
    ) -> CatalogReply {
        self.check_dead_letter(config.dead_letter.as_ref())?;
        let id = SubscriptionId(self.next_subscription);
        let topic = self.topics.get_mut(&topic_name);
        let topic = topic.ok_or(CatalogRefused::NoTopic(topic_name))?;
        let partitions = topic.partition_count();
        let is_new = !topic.subscriptions.contains_key(&name);
        if is_new {
            if MAX_SUBSCRIPTIONS <= topic.subscriptions.len() {
                let what = "subscriptions of one topic";
                return Err(CatalogRefused::Limit { what, max: MAX_SUBSCRIPTIONS });
            }
            self.next_subscription += 1;
        }
        let entry = topic.subscriptions.entry(name).or_insert_with(|| SubscriptionEntry {
            id,
            version: 0,
            config: config.clone(),
            start,
            partitions,
            created_ms: self.now,
        });
        let changed = change(is_new, entry.config != config);
        if changed != Changed::Unchanged {
            entry.version += 1;
            entry.config = config;
        }
        Ok(changed)
    }

    fn put_queue(&mut self, name: Name, config: QueueConfig) -> CatalogReply {
        if config.dead_letter.as_ref() == Some(&name) {
            return Err(CatalogRefused::OwnDeadLetterQueue(name));
        }
        self.check_dead_letter(config.dead_letter.as_ref())?;
        if let Some(queue) = self.queues.get_mut(&name) {
            let changed = change(false, queue.config != config);
            if changed == Changed::Updated {
                queue.version += 1;
                queue.config = config;
            }
            return Ok(changed);
        }
        if MAX_QUEUES <= self.queues.len() {
            return Err(CatalogRefused::Limit { what: "queues", max: MAX_QUEUES });
        }
        self.check_groups(1)?;
        let group = self.new_group();
        let queue = QueueEntry { group, version: 1, config, created_ms: self.now };
        self.queues.insert(name, queue);
        Ok(Changed::Created)
    }

    fn delete_queue(&mut self, name: Name) -> CatalogReply {
        if !self.queues.contains_key(&name) {
            return Err(CatalogRefused::NoQueue(name));
        }
        let users = self.dead_letter_users(&name);
        if !users.is_empty() {
            return Err(CatalogRefused::InUse { name, users: users.join(", ") });
        }
        let queue = self.queues.remove(&name);
        self.removing.extend(queue.map(|queue| queue.group));
        Ok(Changed::Deleted)
    }

    fn check_dead_letter(&self, name: Option<&Name>) -> Result<(), CatalogRefused> {
        match name {
            Some(name) if !self.queues.contains_key(name) => {
                Err(CatalogRefused::NoDeadLetterQueue(name.clone()))
            }
            _ => Ok(()),
        }
    }

    fn check_groups(&self, more: usize) -> Result<(), CatalogRefused> {
        let partitions: usize = self.topics.values().map(|topic| topic.partitions.len()).sum();
        if MAX_GROUPS < partitions + self.queues.len() + more {
            let what = "partitions and queues together";
            return Err(CatalogRefused::Limit { what, max: MAX_GROUPS });
        }
        Ok(())
    }

    fn new_group(&mut self) -> GroupId {
        let group = GroupId(self.next_group);
        self.next_group += 1;
        group
    }
}

impl Topic {
    /// How many partitions it has.
    #[must_use]
    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.partitions.len()).expect("at most 64")
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
mod tests {
    use super::*;
    use crate::catalog::CATALOG;
    use crate::frame::{Records, encode};

    fn apply(catalog: &mut Catalog, command: &CatalogCommand) -> CatalogReply {
        catalog.apply(&encode(1, command, &Records::default()))
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn put_queue(text: &str, dead_letter: Option<&str>) -> CatalogCommand {
        let config = QueueConfig { dead_letter: dead_letter.map(name), ..QueueConfig::default() };
        CatalogCommand::PutQueue { name: name(text), config }
    }

    fn put_topic(partitions: Option<u32>) -> CatalogCommand {
        let retention = Retention::default();
        CatalogCommand::PutTopic { name: name("t"), partitions, retention }
    }

    #[test]
    fn a_deleted_queue_never_lends_its_group_to_another() {
        let mut catalog = Catalog::default();
        apply(&mut catalog, &put_queue("q", None)).unwrap();
        let first = catalog.queues()["q"].group;
        apply(&mut catalog, &CatalogCommand::DeleteQueue { name: name("q") }).unwrap();
        assert!(catalog.removing().contains(&first));
        apply(&mut catalog, &CatalogCommand::Removed { group: first }).unwrap();
        apply(&mut catalog, &put_queue("q", None)).unwrap();
        let second = catalog.queues()["q"].group;
        assert!(CATALOG < first && first < second);
    }

    #[test]
    fn partitions_grow_and_never_shrink() {
        let mut catalog = Catalog::default();
        assert_eq!(apply(&mut catalog, &put_topic(None)), Ok(Changed::Created));
        assert_eq!(apply(&mut catalog, &put_topic(Some(3))), Ok(Changed::Updated));
        assert_eq!(apply(&mut catalog, &put_topic(None)), Ok(Changed::Unchanged));
        assert_eq!(catalog.topics()["t"].partitions.len(), 3);
        let refused = apply(&mut catalog, &put_topic(Some(2)));
        assert!(matches!(refused, Err(CatalogRefused::FewerPartitions { has: 3, .. })));
        assert_eq!(apply(&mut catalog, &put_topic(Some(65))), Err(CatalogRefused::Partitions));
        assert_eq!(apply(&mut catalog, &put_topic(Some(0))), Err(CatalogRefused::Partitions));
    }

    #[test]
    fn a_dead_letter_queue_exists_and_stays_while_it_is_named() {
        let mut catalog = Catalog::default();
        let refused = apply(&mut catalog, &put_queue("q", Some("dead")));
        assert_eq!(refused, Err(CatalogRefused::NoDeadLetterQueue(name("dead"))));
        let refused = apply(&mut catalog, &put_queue("q", Some("q")));
        assert_eq!(refused, Err(CatalogRefused::OwnDeadLetterQueue(name("q"))));
        apply(&mut catalog, &put_queue("dead", None)).unwrap();
        apply(&mut catalog, &put_queue("q", Some("dead"))).unwrap();
        let refused = apply(&mut catalog, &CatalogCommand::DeleteQueue { name: name("dead") });
        assert!(matches!(refused, Err(CatalogRefused::InUse { users, .. }) if users == "queue/q"));
    }

    #[test]
    fn a_snapshot_holds_everything() {
        let mut catalog = Catalog::default();
        apply(&mut catalog, &put_topic(Some(2))).unwrap();
        apply(&mut catalog, &put_queue("q", None)).unwrap();
        let mut restored = Catalog::default();
        restored.restore(&catalog.snapshot()()).unwrap();
        assert_eq!(restored, catalog);
    }
}
