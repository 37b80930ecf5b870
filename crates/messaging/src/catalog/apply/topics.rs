//! Topics and their subscriptions.

use std::sync::Arc;

use super::{CatalogRefused, CatalogReply, Changed, change};
use crate::catalog::{Catalog, Copies, Kind, NewPush, Push, SubscriptionEntry, Topic, Touched};
use crate::catalog::{MAX_PARTITIONS, MAX_SUBSCRIPTIONS, MAX_TOPICS};
use crate::config::{Retention, Start, SubscriptionConfig};
use crate::ids::{Name, SubscriptionId};

impl Catalog {
    pub(super) fn put_topic(
        &mut self,
        name: Name,
        partitions: Option<u32>,
        retention: Retention,
        copies: Copies,
    ) -> CatalogReply {
        let known = self.state.topics.get(&name).map(Arc::clone);
        let has = known.as_ref().map_or(0, |topic| topic.partition_count());
        let wanted = partitions.unwrap_or(has.max(1));
        if !(1..=MAX_PARTITIONS).contains(&wanted) {
            return Err(CatalogRefused::Partitions);
        }
        if wanted < has {
            return Err(CatalogRefused::FewerPartitions { name, has });
        }
        if known.is_none() && MAX_TOPICS <= self.state.topics.len() {
            return Err(CatalogRefused::Limit { what: "topics", max: MAX_TOPICS });
        }
        let replicas = self.wanted(copies, known.as_ref().map(|topic| topic.replicas))?;
        self.check_groups((wanted - has) as usize)?;
        let differs = known.as_ref().is_some_and(|topic| {
            has != wanted || topic.retention != retention || topic.replicas != replicas
        });
        let changed = change(known.is_none(), differs);
        if changed == Changed::Unchanged {
            return Ok(changed);
        }
        let mut topic = known.map_or_else(|| self.new_topic(retention), Arc::unwrap_or_clone);
        if topic.replicas != replicas {
            topic.partitions.iter().for_each(|group| self.want(*group, replicas));
        }
        for number in has..wanted {
            let kind = Kind::Partition { topic: name.clone(), number };
            topic.partitions.push(self.found(kind, replicas));
        }
        topic.version += 1;
        topic.replicas = replicas;
        topic.retention = retention;
        self.state.topics.insert(name.clone(), Arc::new(topic));
        self.touch(Touched::Topic(name));
        Ok(changed)
    }

    fn new_topic(&self, retention: Retention) -> Topic {
        Topic {
            version: 0,
            partitions: Vec::new(),
            replicas: 0,
            retention,
            created_ms: self.state.now,
            subscriptions: Default::default(),
        }
    }

    pub(super) fn delete_topic(&mut self, name: Name) -> CatalogReply {
        let Some(topic) = self.state.topics.remove(&name) else {
            return Err(CatalogRefused::NoTopic(name));
        };
        topic.partitions.iter().for_each(|group| self.end_group(*group));
        self.touch(Touched::Topic(name));
        Ok(Changed::Deleted)
    }

    pub(super) fn put_subscription(
        &mut self,
        (topic_name, name): (Name, Name),
        (config, push): (SubscriptionConfig, Option<NewPush>),
        start: Start,
    ) -> CatalogReply {
        self.check_dead_letter(config.dead_letter.as_ref())?;
        let id = SubscriptionId(self.state.next_subscription);
        let created_ms = self.state.now;
        let Some(topic) = self.state.topics.get_mut(&topic_name) else {
            return Err(CatalogRefused::NoTopic(topic_name));
        };
        let known = topic.subscriptions.get(&name);
        let before = known.and_then(|entry| entry.push.as_ref());
        let push = push.map(|new| Push::following(before, new));
        let differs = known.is_some_and(|entry| entry.config != config || entry.push != push);
        let changed = change(known.is_none(), differs);
        if changed == Changed::Unchanged {
            return Ok(changed);
        }
        if known.is_none() {
            if MAX_SUBSCRIPTIONS <= topic.subscriptions.len() {
                let what = "subscriptions of one topic";
                return Err(CatalogRefused::Limit { what, max: MAX_SUBSCRIPTIONS });
            }
            self.state.next_subscription += 1;
        }
        let topic = Arc::make_mut(topic);
        let partitions = topic.partition_count();
        let entry = topic.subscriptions.entry(name).or_insert_with(|| SubscriptionEntry {
            id,
            version: 0,
            config: config.clone(),
            start,
            partitions,
            created_ms,
            push: None,
        });
        // Partitions follow the version, and where messages go is nothing to them.
        if entry.version == 0 || entry.config != config {
            entry.version += 1;
        }
        entry.config = config;
        entry.push = push;
        self.touch(Touched::Topic(topic_name));
        Ok(changed)
    }

    /// `change` says whether it has changed anything.
    pub(super) fn change_push(
        &mut self,
        topic_name: Name,
        name: Name,
        change: impl FnOnce(&mut Push) -> bool,
    ) -> CatalogReply {
        let Some(topic) = self.state.topics.get(&topic_name) else {
            return Err(CatalogRefused::NoTopic(topic_name));
        };
        let mut changed = Topic::clone(topic);
        let Some(entry) = changed.subscriptions.get_mut(&name) else {
            return Err(CatalogRefused::NoSubscription { topic: topic_name, name });
        };
        let Some(push) = &mut entry.push else {
            return Err(CatalogRefused::NoPush { topic: topic_name, name });
        };
        if !change(push) {
            return Ok(Changed::Unchanged);
        }
        self.state.topics.insert(topic_name.clone(), Arc::new(changed));
        self.touch(Touched::Topic(topic_name));
        Ok(Changed::Updated)
    }

    pub(super) fn delete_subscription(&mut self, topic: Name, name: Name) -> CatalogReply {
        let Some(entry) = self.state.topics.get_mut(&topic) else {
            return Err(CatalogRefused::NoTopic(topic));
        };
        if !entry.subscriptions.contains_key(&name) {
            return Err(CatalogRefused::NoSubscription { topic, name });
        }
        Arc::make_mut(entry).subscriptions.remove(&name);
        self.touch(Touched::Topic(topic));
        Ok(Changed::Deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, founded, name, put_topic};
    use super::*;

    #[test]
    fn partitions_grow_and_never_shrink() {
        let mut catalog = founded(1);
        assert_eq!(apply(&mut catalog, &put_topic("t", None)), Ok(Changed::Created));
        assert_eq!(apply(&mut catalog, &put_topic("t", Some(3))), Ok(Changed::Updated));
        assert_eq!(apply(&mut catalog, &put_topic("t", None)), Ok(Changed::Unchanged));
        assert_eq!(catalog.topics()["t"].partitions.len(), 3);
        let refused = apply(&mut catalog, &put_topic("t", Some(2)));
        assert_eq!(refused, Err(CatalogRefused::FewerPartitions { name: name("t"), has: 3 }));
        let refused = apply(&mut catalog, &put_topic("t", Some(65)));
        assert_eq!(refused, Err(CatalogRefused::Partitions));
        assert_eq!(apply(&mut catalog, &put_topic("t", Some(0))), Err(CatalogRefused::Partitions));
    }
}
