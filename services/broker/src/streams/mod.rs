//! Streams: created, appended to, closed, deleted and read, on whichever broker.
//!
//! ```text
//! command ─▶ group of the path ─▶ log ─▶ apply: decided there, and only there
//! look ────▶ any member, behind a barrier ─▶ pieces ─▶ bodies from the log
//! grown ───▶ the same member: a bell that the stream's next entry rings
//! ```
//!
//! Streams do not have groups of their own: a fixed number of groups, made with the first stream,
//! shares them by the hash of their path. So a stream costs one log entry, and a hundred thousand
//! of them no more timers, elections and files than sixteen do.
//!
//! **Invariant:** whoever was answered finds what it was told, on any broker.

mod bells;
pub(crate) mod json;
mod keep;
mod live;
mod look;

use std::sync::Arc;

use bytes::Bytes;
use messaging::catalog::{CatalogCommand, Copies};
use messaging::frame;
use messaging::ids::stable_hash;
use messaging::stream::{Lifetime, StreamCommand, StreamDone, StreamPath, StreamRefused};

use crate::broker::Broker;
use crate::directory::StreamsHandle;
use crate::error::{AdminError, LogError, MessageError};
use crate::state_machine::CatalogMachine;

pub(crate) use bells::Bells;
pub(crate) use keep::Used;
pub(crate) use live::{Live, Waiting};
pub(crate) use look::{Grown, Look, Start, View};

/// Groups that share the streams. Fixed by the first stream of a cluster.
const GROUPS: u32 = 16;
/// How long somebody is looked for who takes a command.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Why a stream was not created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateStreamError {
    /// The groups for streams could not be made.
    #[error(transparent)]
    Found(#[from] AdminError),
    /// It was refused, or its group did not take it.
    #[error(transparent)]
    Stream(#[from] MessageError),
}

impl Broker {
    /// Where a stream of this path lives, if there are streams at all.
    pub(crate) async fn stream_home(
        &self,
        path: &StreamPath,
    ) -> Result<Option<Arc<StreamsHandle>>, LogError> {
        if self.directory().streams.is_empty() {
            // A broker that has just started does not know yet what there is.
            let look = |machine: &CatalogMachine| {
                machine.0.streams().is_some().then(|| machine.0.revision())
            };
            let Some(revision) = self.shared.catalog.query(look).await? else { return Ok(None) };
            self.reach(revision).await?;
        }
        let streams = self.directory().streams.clone();
        let number = stable_hash(path.as_str().as_bytes()) % (streams.len().max(1) as u64);
        Ok(usize::try_from(number).ok().and_then(|number| streams.get(number).cloned()))
    }

    /// Creates a stream with its first content, unless it is there.
    pub(crate) async fn create_stream(
        &self,
        command: StreamCommand,
        content: &[u8],
    ) -> Result<StreamDone, CreateStreamError> {
        let StreamCommand::Create { path, config, .. } = &command else {
            return Err(MessageError::from(LogError::Misunderstood).into());
        };
        let home = match self.stream_home(path).await.map_err(MessageError::from)? {
            Some(home) => home,
            None => {
                let default = self.limits().default_replicas;
                let copies = Copies { asked: None, default };
                self.change(CatalogCommand::FoundStreams { groups: GROUPS, copies }).await?;
                let home = self.stream_home(path).await.map_err(MessageError::from)?;
                home.ok_or(MessageError::from(LogError::NotHere))?
            }
        };
        let (path, lifetime) = (path.clone(), config.lifetime);
        let payload = frame::encode_with(self.now_ms(), &command, content);
        let done = self.command(&home, payload, false).await?;
        if lifetime != Lifetime::Unbounded {
            // Its leader has to know when it is due, but is none the wiser for being told twice.
            let _ = self.run(&home, Used { path, is_new: true }).await;
        }
        Ok(done)
    }

    /// Appends to a stream, closes or deletes it.
    pub(crate) async fn change_stream(
        &self,
        path: &StreamPath,
        command: &StreamCommand,
        content: &[u8],
    ) -> Result<StreamDone, MessageError> {
        let home = self.stream_home(path).await?.ok_or(StreamRefused::NoStream)?;
        let payload = frame::encode_with(self.now_ms(), command, content);
        self.command(&home, payload, matches!(command, StreamCommand::Delete { .. })).await
    }

    /// Repeats what was certainly not done.
    async fn command(
        &self,
        home: &Arc<StreamsHandle>,
        payload: Bytes,
        freeing: bool,
    ) -> Result<StreamDone, MessageError> {
        let until = self.shared.clock.now() + PATIENCE;
        loop {
            match self.propose(home, payload.clone(), freeing).await {
                Err(error) if error.may_pass() && self.shared.clock.now() < until => {
                    home.port.settle().await;
                }
                reply => return Ok(reply??),
            }
        }
    }
}
