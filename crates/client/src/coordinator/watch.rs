//! Watches: changes as they happen, and those since a revision.

use api::coordinator::{BookmarkEvent, CompactedEvent, WATCH, WatchEvent};
use api::problem::Code;
use http::Method;
use serde::de::DeserializeOwned;

use super::Coordinator;
use crate::http::{Event, Events, Query};
use crate::{Error, Outcome};

/// One thing a watch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    Put(WatchEvent),
    Delete(WatchEvent),
    /// Everything up to this revision has been said.
    Bookmark {
        revision: u64,
    },
}

/// A watch that goes on behind the last revision it saw when its connection breaks.
#[derive(Debug)]
pub struct Watch(Events);

impl Watch {
    /// The next change. Waits through broken connections.
    ///
    /// # Errors
    ///
    /// `compacted` when the watch fell so far behind that its revisions are gone: read the keys
    /// again, then watch from the revision of that read.
    pub async fn next(&mut self) -> Result<WatchItem, Error> {
        loop {
            let event = self.0.next().await?;
            match &*event.event {
                "put" => return Ok(WatchItem::Put(read(&event)?)),
                "delete" => return Ok(WatchItem::Delete(read(&event)?)),
                "bookmark" => {
                    let BookmarkEvent { revision } = read(&event)?;
                    return Ok(WatchItem::Bookmark { revision });
                }
                "compacted" => return Err(compacted(&read(&event)?)),
                // A newer coordinator may say more.
                _ => (),
            }
        }
    }

    /// The events below, for their ids and settings.
    pub const fn events(&mut self) -> &mut Events {
        &mut self.0
    }
}

fn read<T: DeserializeOwned>(event: &Event) -> Result<T, Error> {
    serde_json::from_str(&event.data)
        .map_err(|error| Error::bad_answer("an event of the watch cannot be read").because(error))
}

/// The same error as for a watch that is refused from the start.
fn compacted(event: &CompactedEvent) -> Error {
    let oldest = event.oldest_revision;
    let detail = format!(
        "these revisions are compacted; read the keys again, then watch from \
         their revision (the oldest is {oldest})"
    );
    let mut error = Error::local(Code::Compacted, Outcome::NotDone, detail);
    let extensions = [("oldest_revision".to_owned(), oldest.into())];
    error.extensions = Some(Box::new(extensions.into()));
    error
}

impl Coordinator {
    /// Follows the changes of one key.
    ///
    /// # Errors
    ///
    /// `compacted` when that revision is gone.
    pub async fn watch(&self, key: &[u8], from_revision: Option<u64>) -> Result<Watch, Error> {
        self.watch_by(Query::new().bytes("key", key), from_revision).await
    }

    /// Follows the changes of all keys that begin with `prefix`.
    ///
    /// # Errors
    ///
    /// As [`Coordinator::watch`].
    pub async fn watch_prefix(
        &self,
        prefix: &[u8],
        from_revision: Option<u64>,
    ) -> Result<Watch, Error> {
        self.watch_by(Query::new().bytes("prefix", prefix), from_revision).await
    }

    async fn watch_by(&self, query: Query, from_revision: Option<u64>) -> Result<Watch, Error> {
        let query = query.maybe("from_revision", from_revision);
        Events::open(self.http.call(Method::GET, WATCH).query(query)).await.map(Watch)
    }
}
