//! Queues.

use std::sync::Arc;

use consensus::GroupId;

use super::{CatalogRefused, CatalogReply, Changed, change};
use crate::catalog::{Catalog, Copies, Kind, MAX_NOTES, MAX_QUEUES, QueueEntry, Touched};
use crate::config::QueueConfig;
use crate::ids::Name;

impl Catalog {
    pub(super) fn put_queue(
        &mut self,
        name: Name,
        config: QueueConfig,
        copies: Copies,
    ) -> CatalogReply {
        let notes = self.state.queues.get(&name).map(|known| known.notes.clone());
        self.write_queue(name, (config, notes.unwrap_or_default()), copies)
    }

    pub(super) fn put_queue_as(
        &mut self,
        name: Name,
        seen: Option<(GroupId, u64)>,
        (config, notes): (QueueConfig, String),
        copies: Copies,
    ) -> CatalogReply {
        let known = self.state.queues.get(&name).map(|known| (known.group, known.version));
        if known != seen {
            return Err(CatalogRefused::QueueChanged(name));
        }
        if MAX_NOTES < notes.len() {
            return Err(CatalogRefused::Notes);
        }
        self.write_queue(name, (config, notes.into()), copies)
    }

    fn write_queue(
        &mut self,
        name: Name,
        (config, notes): (QueueConfig, Arc<str>),
        copies: Copies,
    ) -> CatalogReply {
        if config.dead_letter.as_ref() == Some(&name) {
            return Err(CatalogRefused::OwnDeadLetterQueue(name));
        }
        self.check_dead_letter(config.dead_letter.as_ref())?;
        let known = self.state.queues.get(&name).map(Arc::clone);
        let replicas = self.wanted(copies, known.as_ref().map(|queue| queue.replicas))?;
        let Some(known) = known else {
            if MAX_QUEUES <= self.state.queues.len() {
                return Err(CatalogRefused::Limit { what: "queues", max: MAX_QUEUES });
            }
            self.check_groups(1)?;
            let group = self.found(Kind::Queue { name: name.clone() }, replicas);
            let created_ms = self.state.now;
            let queue = QueueEntry { group, version: 1, replicas, config, notes, created_ms };
            self.state.queues.insert(name.clone(), Arc::new(queue));
            self.touch(Touched::Queue(name));
            return Ok(Changed::Created);
        };
        let changed = change(
            false,
            known.config != config || known.replicas != replicas || known.notes != notes,
        );
        if changed == Changed::Updated {
            if known.replicas != replicas {
                self.want(known.group, replicas);
            }
            let version = known.version + 1;
            let queue = QueueEntry { version, replicas, config, notes, ..*known };
            self.state.queues.insert(name.clone(), Arc::new(queue));
            self.touch(Touched::Queue(name));
        }
        Ok(changed)
    }

    pub(super) fn delete_queue(&mut self, name: Name) -> CatalogReply {
        let Some(queue) = self.state.queues.get(&name).map(Arc::clone) else {
            return Err(CatalogRefused::NoQueue(name));
        };
        let users = self.dead_letter_users(&name);
        if !users.is_empty() {
            return Err(CatalogRefused::InUse { name, users: users.join(", ") });
        }
        self.state.queues.remove(&name);
        self.end_group(queue.group);
        self.touch(Touched::Queue(name));
        Ok(Changed::Deleted)
    }

    /// Who sends its dead letters to this queue, apart from the queue itself.
    fn dead_letter_users(&self, queue: &Name) -> Vec<String> {
        let queues = self.state.queues.iter().filter(|(name, entry)| {
            *name != queue && entry.config.dead_letter.as_ref() == Some(queue)
        });
        let subscriptions = self.state.topics.iter().flat_map(|(topic, entry)| {
            entry.subscriptions.iter().map(move |(name, subscription)| (topic, name, subscription))
        });
        let subscriptions = subscriptions
            .filter(|(.., entry)| entry.config.dead_letter.as_ref() == Some(queue))
            .map(|(topic, name, _)| format!("topic/{topic}/subscription/{name}"));
        queues.map(|(name, _)| format!("queue/{name}")).chain(subscriptions).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, founded, leave_all, name, put_queue};
    use super::*;
    use crate::catalog::{CATALOG, CatalogCommand};

    #[test]
    fn a_deleted_queue_never_lends_its_group_to_another() {
        let mut catalog = founded(1);
        apply(&mut catalog, &put_queue("q", None)).unwrap();
        let first = catalog.queues()["q"].group;
        apply(&mut catalog, &CatalogCommand::DeleteQueue { name: name("q") }).unwrap();
        assert!(catalog.leaving().contains_key(&first) && !catalog.groups().contains_key(&first));
        leave_all(&mut catalog);
        assert!(catalog.leaving().is_empty());
        apply(&mut catalog, &put_queue("q", None)).unwrap();
        let second = catalog.queues()["q"].group;
        assert!(CATALOG < first && first < second);
    }

    #[test]
    fn a_queue_is_only_changed_as_it_was_seen() {
        let mut catalog = founded(1);
        let put = |seen, notes: &str| CatalogCommand::PutQueueAs {
            name: name("q"),
            seen,
            config: QueueConfig::default(),
            notes: notes.to_owned(),
            copies: Copies::default(),
        };
        assert_eq!(apply(&mut catalog, &put(None, "a")), Ok(Changed::Created));
        let refused = Err(CatalogRefused::QueueChanged(name("q")));
        assert_eq!(apply(&mut catalog, &put(None, "b")), refused);
        let seen = Some((catalog.queues()["q"].group, 1));
        assert_eq!(apply(&mut catalog, &put(seen, "b")), Ok(Changed::Updated));
        assert_eq!(apply(&mut catalog, &put(seen, "c")), refused);
        assert_eq!(&*catalog.queues()["q"].notes, "b");
        apply(&mut catalog, &put_queue("q", None)).unwrap();
        assert_eq!(&*catalog.queues()["q"].notes, "b", "others leave the notes alone");
        let long = "x".repeat(MAX_NOTES + 1);
        let seen = Some((catalog.queues()["q"].group, catalog.queues()["q"].version));
        assert_eq!(apply(&mut catalog, &put(seen, &long)), Err(CatalogRefused::Notes));
    }

    #[test]
    fn a_dead_letter_queue_exists_and_stays_while_it_is_named() {
        let mut catalog = founded(1);
        let refused = apply(&mut catalog, &put_queue("q", Some("dead")));
        assert_eq!(refused, Err(CatalogRefused::NoDeadLetterQueue(name("dead"))));
        let refused = apply(&mut catalog, &put_queue("q", Some("q")));
        assert_eq!(refused, Err(CatalogRefused::OwnDeadLetterQueue(name("q"))));
        apply(&mut catalog, &put_queue("dead", None)).unwrap();
        apply(&mut catalog, &put_queue("q", Some("dead"))).unwrap();
        let refused = apply(&mut catalog, &CatalogCommand::DeleteQueue { name: name("dead") });
        assert!(matches!(refused, Err(CatalogRefused::InUse { users, .. }) if users == "queue/q"));
    }
}
