//! Reads: how current each has to be, and the wait until it is.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use replication::command::Record;
use replication::consistency::{Session, session};
use replication::{Epoch, Index, Position};
use tokio::time::timeout_at;

use crate::config::Role;
use crate::engine::EngineError;
use crate::replica::ReplicaHandle;
use crate::view::{Side, View};

/// How current a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    Eventual,
    Bounded { max_lag_ms: u64 },
    Session(Position),
    Strong,
}

/// This node cannot serve the read now, or nobody ever can.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(
        "this node is {} behind its primary, more than the {max_lag_ms} ms asked for; ask another node, \
         or the primary",
        lag_ms.map_or("an unknown time".to_owned(), |lag| format!("{lag} ms"))
    )]
    TooStale { lag_ms: Option<u64>, max_lag_ms: u64, position: Position },
    #[error(
        "this node has not reached {token} in time, it is at {position}; ask another node or repeat with more \
         time"
    )]
    Behind { token: Position, position: Position },
    #[error(
        "the history that {token} belongs to was given up when another primary took over; drop the session token, \
         read again, and check what became of your writes"
    )]
    HistoryLost { token: Position, position: Position },
    #[error(
        "the newest state is not confirmed by a quorum in time; check the replicas, or read with less consistency"
    )]
    Unconfirmed { position: Position, commit: Index },
    #[error("a newer primary with epoch {by} has taken over; ask another node")]
    Fenced { by: Epoch },
    #[error("this node is not the primary, and the primary is not known yet; repeat shortly")]
    NoPrimary,
    #[error("{0}")]
    Quarantined(Arc<str>),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What a read found, and in what state.
pub(crate) struct Found<T> {
    pub(crate) value: T,
    pub(crate) position: Position,
    pub(crate) lag_ms: Option<u64>,
    pub(crate) role: Role,
}

/// One page of keys.
pub(crate) struct Range {
    pub(crate) prefix: Bytes,
    pub(crate) start: Bound<Bytes>,
    pub(crate) limit: usize,
}

impl ReplicaHandle {
    /// Reads one key. An `eventual` read of what is in memory takes no lock and wakes no task.
    pub(crate) async fn get(
        &self,
        key: &[u8],
        freshness: Freshness,
        until: Instant,
    ) -> Result<Found<Option<Record>>, ReadError> {
        let view = self.fresh(freshness, until).await?;
        let (record, since) = view.get(key)?;
        if freshness == Freshness::Strong {
            self.committed(since.unwrap_or(Index::ZERO), until).await?;
        }
        let now_ms = self.now_ms();
        Ok(self.found(&view, record.filter(|record| record.is_live(now_ms))))
    }

    /// Reads a page of keys, all of one position.
    pub(crate) async fn list(
        &self,
        range: Range,
        freshness: Freshness,
        until: Instant,
    ) -> Result<Found<Vec<(Bytes, Record)>>, ReadError> {
        let view = self.fresh(freshness, until).await?;
        let (pinned, now_ms) = (Arc::clone(&view), self.now_ms());
        let list = move || pinned.list(&range.prefix, range.start, range.limit, now_ms);
        let listed = tokio::task::spawn_blocking(list).await;
        let (page, position) =
            listed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        if freshness == Freshness::Strong {
            self.committed(position.index, until).await?;
        }
        Ok(Found { position, ..self.found(&view, page) })
    }

    fn found<T>(&self, view: &View, value: T) -> Found<T> {
        let lag_ms = view.lag_ms(self.now_ms());
        Found { value, position: view.visible, lag_ms, role: view.role }
    }

    /// Waits until this node is as current as asked.
    async fn fresh(&self, freshness: Freshness, until: Instant) -> Result<Arc<View>, ReadError> {
        let view = self.view();
        if view.quarantined {
            let fault = view.fault.clone();
            return Err(ReadError::Quarantined(fault.unwrap_or_else(|| "faulty".into())));
        }
        match freshness {
            Freshness::Eventual => Ok(view),
            Freshness::Bounded { max_lag_ms } => {
                let lag_ms = view.lag_ms(self.now_ms());
                if lag_ms.is_some_and(|lag| lag <= max_lag_ms) {
                    return Ok(view);
                }
                Err(ReadError::TooStale { lag_ms, max_lag_ms, position: view.visible })
            }
            Freshness::Session(token) => self.reached(token, until).await,
            Freshness::Strong => self.leading(&view, until).await,
        }
    }

    /// Waits until `token` is visible here, or certainly never will be.
    pub(crate) async fn reached(
        &self,
        token: Position,
        until: Instant,
    ) -> Result<Arc<View>, ReadError> {
        let judge = |view: &View| session(&view.epochs, view.visible, token);
        let mut views = self.shared.view.clone();
        let decided = views.wait_for(|view| judge(view) != Session::Wait);
        let decided = timeout_at(until.into(), decided).await;
        let view = match decided {
            Ok(Ok(view)) => Arc::clone(&view),
            Ok(Err(_)) | Err(_) => self.view(),
        };
        let position = view.visible;
        match judge(&view) {
            Session::Satisfied => Ok(view),
            Session::Wait => Err(ReadError::Behind { token, position }),
            Session::Lost => Err(ReadError::HistoryLost { token, position }),
        }
    }

    /// Waits until the engine has carried out the entry at `index`. Whether it has in time.
    pub(crate) async fn carried_out(&self, index: Index, until: Instant) -> bool {
        let digests = &self.shared.digests;
        let mut views = self.shared.view.clone();
        // The owner publishes whenever the engine has answered.
        let done =
            views.wait_for(|_| digests.last().is_some_and(|(head, _)| index <= head.index()));
        timeout_at(until.into(), done).await.is_ok_and(|done| done.is_ok())
    }

    /// A primary may read strongly once an entry of its own epoch is committed: only then does it
    /// know that everything before it is.
    async fn leading(&self, view: &Arc<View>, until: Instant) -> Result<Arc<View>, ReadError> {
        let Side::Primary { fenced_by, .. } = view.side else { return Err(ReadError::NoPrimary) };
        if let Some(by) = fenced_by {
            return Err(ReadError::Fenced { by });
        }
        if view.epochs.at(view.commit) != Some(view.epoch) {
            let epoch = view.epoch;
            let mut views = self.shared.view.clone();
            let begun = views.wait_for(|view| view.epochs.at(view.commit) == Some(epoch));
            let begun = timeout_at(until.into(), begun).await;
            return match begun {
                Ok(Ok(view)) => Ok(Arc::clone(&view)),
                Ok(Err(_)) | Err(_) => Err(self.unconfirmed()),
            };
        }
        Ok(Arc::clone(view))
    }

    /// Waits until `index` is committed, so that what was read cannot be lost.
    async fn committed(&self, index: Index, until: Instant) -> Result<(), ReadError> {
        let mut views = self.shared.view.clone();
        let is_fenced = |view: &View| matches!(view.side, Side::Primary { fenced_by: Some(_), .. });
        let done = views.wait_for(|view| index <= view.commit || is_fenced(view));
        match timeout_at(until.into(), done).await {
            Ok(Ok(view)) if index <= view.commit => Ok(()),
            _ => Err(self.unconfirmed()),
        }
    }

    fn unconfirmed(&self) -> ReadError {
        let view = self.view();
        ReadError::Unconfirmed { position: view.visible, commit: view.commit }
    }
}
