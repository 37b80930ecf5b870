//! Methods and routes: documents in the coordinator, so that every gateway has the same ones.
//!
//! A document is acknowledged when the coordinator has it on disk; this gateway then waits until
//! it sees the change itself, so that a caller's next request finds it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::gateway::Name;
use client::Outcome;
use client::etcd::{DeleteRequest, Etcd, Mirror, PutRequest, Snapshot};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a writer waits to see its own write.
const VISIBLE_WITHIN: Duration = Duration::from_secs(2);
/// How long a first reader waits for the coordinator's first answer.
const FIRST_WITHIN: Duration = Duration::from_secs(2);
/// Most documents of one kind.
pub(crate) const MAX_DOCUMENTS: usize = 10_000;

/// The documents under one prefix, as of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Documents<T> {
    /// Zero until the coordinator answered.
    pub revision: i64,
    /// Whether this is up to date.
    pub connected: bool,
    pub entries: BTreeMap<String, T>,
}

impl<T> Default for Documents<T> {
    fn default() -> Self {
        Self { revision: 0, connected: false, entries: BTreeMap::new() }
    }
}

/// Reads and writes the documents of one kind. Clones share them.
pub(crate) struct Registry<T> {
    prefix: &'static str,
    etcd: Option<Etcd>,
    documents: watch::Receiver<Arc<Documents<T>>>,
}

impl<T> Clone for Registry<T> {
    fn clone(&self) -> Self {
        Self { prefix: self.prefix, etcd: self.etcd.clone(), documents: self.documents.clone() }
    }
}

/// Why a document was not read, written or deleted.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(
        "methods and routes are kept in the coordinator, and this gateway has none: set \
         coordinator.endpoints (QUARTET_COORDINATOR__ENDPOINTS) and start it again"
    )]
    NoCoordinator,
    #[error("the coordinator cannot be reached, nothing was changed; repeat shortly")]
    Unreachable(#[source] client::Error),
    #[error("the coordinator has not answered yet; repeat shortly")]
    NotYetKnown,
    #[error("the coordinator may or may not have stored this; repeat it")]
    Indeterminate(#[source] client::Error),
    #[error("there are {MAX_DOCUMENTS} of these already; delete some first")]
    TooMany,
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Created,
    Replaced,
}

/// What a document can be.
pub(crate) trait Document:
    Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync + 'static
{
}

impl<T> Document for T where
    T: Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync + 'static
{
}

impl<T: Document> Registry<T> {
    /// Follows the documents under `prefix`. Without a coordinator there are none.
    pub(crate) fn start(
        etcd: Option<Etcd>,
        prefix: &'static str,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let (publish, documents) = watch::channel(Arc::default());
        if let Some(etcd) = etcd.clone() {
            let mirror = Mirror::start(etcd, prefix, tasks, stop.clone());
            let stop = stop.clone();
            tasks.spawn(async move {
                stop.run_until_cancelled(follow(mirror.watch(), prefix, publish)).await;
            });
        }
        Self { prefix, etcd, documents }
    }

    /// The newest state, and every one after it.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Documents<T>>> {
        self.documents.clone()
    }

    /// The newest state.
    pub(crate) fn now(&self) -> Arc<Documents<T>> {
        self.documents.borrow().clone()
    }

    /// The documents, once the coordinator has answered for the first time.
    ///
    /// # Errors
    ///
    /// When it has not, and nobody can say whether there are any.
    pub(crate) async fn known(&self) -> Result<Arc<Documents<T>>, RegistryError> {
        if self.etcd.is_none() {
            return Ok(self.now());
        }
        let mut documents = self.documents.clone();
        let known = documents.wait_for(|documents| documents.revision > 0);
        match tokio::time::timeout(FIRST_WITHIN, known).await {
            Ok(Ok(known)) => Ok(known.clone()),
            _ => Err(RegistryError::NotYetKnown),
        }
    }

    /// Stores a document. It is durable, and visible here, when this returns.
    ///
    /// # Errors
    ///
    /// See [`RegistryError`].
    pub(crate) async fn put(&self, name: &Name, document: &T) -> Result<Written, RegistryError> {
        let etcd = self.etcd.as_ref().ok_or(RegistryError::NoCoordinator)?;
        let known = self.known().await?;
        let existed = known.entries.contains_key(name.as_str());
        if !existed && MAX_DOCUMENTS <= known.entries.len() {
            return Err(RegistryError::TooMany);
        }
        let text = serde_json::to_vec(document).expect("names, texts and numbers always encode");
        let request = PutRequest::new(self.key(name), text);
        let header = etcd.put(&request).await.map_err(failed)?;
        self.visible(header.revision).await;
        Ok(if existed { Written::Replaced } else { Written::Created })
    }

    /// Deletes a document. `false`: there was none.
    ///
    /// # Errors
    ///
    /// See [`RegistryError`].
    pub(crate) async fn delete(&self, name: &str) -> Result<bool, RegistryError> {
        let etcd = self.etcd.as_ref().ok_or(RegistryError::NoCoordinator)?;
        let existed = self.now().entries.contains_key(name);
        let request = DeleteRequest::key(format!("{}{name}", self.prefix));
        let reply = etcd.delete(&request).await.map_err(failed)?;
        if reply.deleted > 0 {
            self.visible(reply.header.revision).await;
        }
        // When its first answer was lost and it was sent again, it deleted nothing.
        Ok(reply.deleted > 0 || existed)
    }

    fn key(&self, name: &Name) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Waits until this gateway sees `revision`. If its watch is broken, the others may already.
    async fn visible(&self, revision: i64) {
        let mut documents = self.documents.clone();
        let seen = documents.wait_for(|documents| revision <= documents.revision);
        if tokio::time::timeout(VISIBLE_WITHIN, seen).await.is_err() {
            tracing::warn!(revision, "a change was stored but is not visible here yet");
        }
    }
}

fn failed(error: client::Error) -> RegistryError {
    match error.outcome {
        Outcome::NotDone => RegistryError::Unreachable(error),
        Outcome::Unknown => RegistryError::Indeterminate(error),
    }
}

async fn follow<T: DeserializeOwned + PartialEq>(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    prefix: &'static str,
    publish: watch::Sender<Arc<Documents<T>>>,
) {
    loop {
        let documents = read(&snapshots.borrow_and_update(), prefix);
        publish.send_if_modified(|current| {
            let changed = **current != documents;
            *current = Arc::new(documents);
            changed
        });
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

fn read<T: DeserializeOwned>(snapshot: &Snapshot, prefix: &str) -> Documents<T> {
    let mut entries = BTreeMap::new();
    for kv in snapshot.entries.values() {
        let name = std::str::from_utf8(&kv.key).ok().and_then(|key| key.strip_prefix(prefix));
        let document = serde_json::from_slice(&kv.value);
        match (name, document) {
            (Some(name), Ok(document)) => {
                entries.insert(name.to_owned(), document);
            }
            (_, Err(error)) => {
                tracing::warn!(key = ?kv.key, %error, "a document cannot be read, ignored");
            }
            (None, Ok(_)) => (),
        }
    }
    Documents { revision: snapshot.revision, connected: snapshot.connected, entries }
}
