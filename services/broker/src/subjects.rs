//! Live reading of every topic whose name matches a pattern, also of those that are made later.
//!
//! Each topic has a reader of its own; none is asked for more before what it brought is sent on, so
//! a slow client holds at most one page of each.

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
use crate::read::{From, ReadMessage, Reader};

/// Most topics that one stream follows.
pub(crate) const MAX_TOPICS: usize = 1_000;
/// Messages of a topic that are read at a time.
const PAGE: usize = 100;
/// Readers opened at a time.
const OPENING: usize = 32;

/// Where a reader is in each partition of a topic.
pub(crate) type Positions = BTreeMap<u32, u64>;

/// A message with the topic it is of.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) topic: Name,
    pub(crate) message: ReadMessage,
}

/// See the module.
pub(crate) struct Listener {
    broker: Broker,
    pattern: Pattern,
    directory: watch::Receiver<Arc<Directory>>,
    readers: SelectAll<BoxStream<'static, (Name, Vec<ReadMessage>)>>,
    /// By topic, as far as was read.
    positions: BTreeMap<Name, Positions>,
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
        let (readers, positions) = (SelectAll::new(), BTreeMap::new());
        let broker = self.clone();
        let mut listener = Listener { broker, pattern, directory, readers, positions };
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
    pub(crate) async fn next(&mut self) -> Result<Vec<Heard>, MessageError> {
        loop {
            tokio::select! {
                Some((topic, messages)) = self.readers.next() => {
                    let at = self.positions.entry(topic.clone()).or_default();
                    at.extend(messages.iter().map(|it| (it.partition, it.message.offset + 1)));
                    let heard = |message| Heard { topic: topic.clone(), message };
                    return Ok(messages.into_iter().map(heard).collect());
                }
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

    /// Where it is before the messages that [`next`](Self::next) brought last, and in all others.
    pub(crate) fn positions(&self) -> &BTreeMap<Name, Positions> {
        &self.positions
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
            async move { broker.reader(&name, None, &from, PAGE).await.map(|it| (name, it)) }
        };
        let opened = stream::iter(names).map(open).buffer_unordered(OPENING);
        // A topic that was deleted meanwhile matches nothing.
        let there = opened.filter_map(async |opened| match opened {
            Err(MessageError::NotFound(_)) => None,
            opened => Some(opened),
        });
        for (name, reader) in there.try_collect::<Vec<_>>().await? {
            self.positions.insert(name.clone(), reader.positions().collect());
            self.readers.push(messages(name, reader));
        }
        Ok(())
    }
}

/// Until the topic is deleted.
fn messages(name: Name, reader: Reader) -> BoxStream<'static, (Name, Vec<ReadMessage>)> {
    let next = async |(name, mut reader): (Name, Reader)| match reader.next().await {
        Ok(messages) => Some(((name.clone(), messages), (name, reader))),
        Err(error) => {
            tracing::debug!(topic = %name, %error, "a topic is followed no more");
            None
        }
    };
    stream::unfold((name, reader), next).boxed()
}
