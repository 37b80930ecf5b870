//! Live reading of every topic whose name matches a pattern, also of those that are made later.
//!
//! What is published is read once for all who listen: see [`hub`](crate::hub). No topic is asked for
//! more before what it brought is sent on.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, SelectAll};
use futures_util::{StreamExt as _, TryStreamExt as _};
use messaging::config::Start;
use messaging::ids::Name;
use messaging::subject::Pattern;
use tokio::sync::watch;

use crate::broker::Broker;
use crate::directory::Directory;
use crate::error::MessageError;
use crate::hub::{Live, Part};
use crate::read::From;

/// Most topics that one stream follows.
pub(crate) const MAX_TOPICS: usize = 1_000;
/// Readers opened at a time.
const OPENING: usize = 32;

/// Where a stream is in each partition of a topic.
pub(crate) type Positions = BTreeMap<u32, u64>;

/// Messages with the topic they are of.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) topic: Name,
    pub(crate) part: Part,
}

/// See the module.
pub(crate) struct Listener {
    broker: Broker,
    pattern: Pattern,
    directory: watch::Receiver<Arc<Directory>>,
    topics: SelectAll<BoxStream<'static, Heard>>,
    /// By topic, as far as was noted.
    positions: BTreeMap<Name, Positions>,
    partitions: usize,
}

impl Broker {
    /// Follows what matches. Topics that are `known` go on from there; others begin at `from`, and
    /// those made later at their first message.
    pub(crate) async fn listen(
        &self,
        pattern: Pattern,
        known: &BTreeMap<Name, Positions>,
        from: Start,
    ) -> Result<Listener, MessageError> {
        let mut directory = self.shared.directory.subscribe();
        let now = directory.borrow_and_update().clone();
        // What is seen later counts as made later, and begins at its first message.
        now.check_whole()?;
        let mut listener = Listener {
            broker: self.clone(),
            pattern,
            directory,
            topics: SelectAll::new(),
            positions: BTreeMap::new(),
            partitions: 0,
        };
        let place = |name: &Name| match known.get(name) {
            Some(known) => From::Offsets(known.clone().into_iter().collect()),
            // What is not in it was made since.
            None if !known.is_empty() => From::Start(Start::Earliest),
            None => From::Start(from),
        };
        listener.follow(&now, place).await?;
        Ok(listener)
    }
}

impl Listener {
    /// The next messages of some topic. An error ends it.
    pub(crate) async fn next(&mut self) -> Result<Heard, MessageError> {
        loop {
            tokio::select! {
                Some(heard) = self.topics.next() => return Ok(heard),
                changed = self.directory.changed() => {
                    if changed.is_err() {
                        return Err(crate::error::LogError::Stopped.into());
                    }
                    let now = self.directory.borrow_and_update().clone();
                    self.positions.retain(|name, _| now.topics.contains_key(name));
                    self.follow(&now, |_| From::Start(Start::Earliest)).await?;
                }
            }
        }
    }

    /// A message was sent on, and this one comes next.
    pub(crate) fn note(&mut self, topic: &Name, partition: u32, next: u64) {
        // A topic may be deleted while its last messages are sent.
        if let Some(at) = self.positions.get_mut(topic) {
            at.insert(partition, next);
        }
    }

    /// Where it is, as far as was [noted](Self::note).
    pub(crate) fn positions(&self) -> &BTreeMap<Name, Positions> {
        &self.positions
    }

    /// How many partitions it follows.
    pub(crate) fn partitions(&self) -> usize {
        self.partitions
    }

    async fn follow(
        &mut self,
        directory: &Directory,
        place: impl Fn(&Name) -> From,
    ) -> Result<(), MessageError> {
        let is_new =
            |name: &Name| !self.positions.contains_key(name) && self.pattern.matches(name.as_str());
        let names: Vec<Name> =
            directory.topics.keys().filter(|name| is_new(name)).cloned().collect();
        if MAX_TOPICS < self.positions.len() + names.len() {
            return Err(MessageError::TooManyTopics { max: MAX_TOPICS });
        }
        let broker = self.broker.clone();
        let open = |name: Name| {
            let (broker, from) = (broker.clone(), place(&name));
            async move { broker.reader(&name, None, &from, 1).await.map(|it| (name, it)) }
        };
        let opened = stream::iter(names).map(open).buffer_unordered(OPENING);
        // A topic that was deleted meanwhile matches nothing.
        let there = opened.filter_map(async |opened| match opened {
            Err(MessageError::NotFound(_)) => None,
            opened => Some(opened),
        });
        for (name, reader) in there.try_collect::<Vec<_>>().await? {
            self.positions.insert(name.clone(), reader.positions().collect());
            self.topics.push(parts(name, reader.live()?));
        }
        self.partitions = self.positions.values().map(BTreeMap::len).sum();
        Ok(())
    }
}

/// Until the topic is deleted.
fn parts(name: Name, live: Live) -> BoxStream<'static, Heard> {
    let next = async |(topic, mut live): (Name, Live)| match live.next().await {
        Ok(part) => Some((Heard { topic: topic.clone(), part }, (topic, live))),
        Err(error) => {
            tracing::debug!(%topic, %error, "a topic is followed no more");
            None
        }
    };
    stream::unfold((name, live), next).boxed()
}
