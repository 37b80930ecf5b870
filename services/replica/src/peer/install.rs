//! A snapshot on its way into an engine of its own.

use std::sync::Arc;

use bytes::Bytes;
use replication::command::Record;
use replication::digest::Sum;
use replication::{Epochs, Hash, Head};

use super::PeerError;
use crate::driver::Installed;
use crate::engine::fjall::Store;
use crate::engine::generations::Generations;
use crate::engine::{Applied, Engine as _, EngineError};

/// An unfinished copy. Dropped, it leaves nothing behind.
pub(super) struct Install {
    generations: Generations,
    name: String,
    store: Option<Arc<Store>>,
}

impl Install {
    pub(super) async fn begin(generations: Generations, group: String) -> Result<Self, PeerError> {
        let beside = generations.clone();
        let (name, store) = blocking(move || beside.create(&group)).await?;
        Ok(Self { generations, name, store: Some(Arc::new(store)) })
    }

    fn store(&self) -> Arc<Store> {
        Arc::clone(self.store.as_ref().expect("taken only by `finish` and `drop`"))
    }

    pub(super) async fn add(&self, records: Vec<(Bytes, Record)>) -> Result<(), PeerError> {
        let store = self.store();
        Ok(blocking(move || store.load(records)).await?)
    }

    /// Compares the digest and makes the copy durable.
    pub(super) async fn finish(
        mut self,
        at: Head,
        root: Sum,
        birth: Option<Hash>,
        epochs: Epochs,
    ) -> Result<Installed, PeerError> {
        let store = self.store();
        if store.root() != root {
            return Err(PeerError::Digest);
        }
        let applied = Applied { head: at, birth, epochs };
        let state = applied.clone();
        blocking(move || store.loaded(state)).await?;
        let engine = self.store.take().expect("taken only here and by `drop`");
        Ok(Installed { name: std::mem::take(&mut self.name), engine, applied })
    }
}

impl Drop for Install {
    fn drop(&mut self) {
        if self.store.take().is_some()
            && let Err(error) = self.generations.remove(&self.name)
        {
            tracing::warn!(%error, "an unfinished copy stays until the next start");
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
