//! Brings the entries that a snapshot's machine reads into this node's log, from another member's.
//!
//! Piece by piece, each durable before the next is asked for, no faster than allowed, and from
//! whoever of the members has them. What has come counts also when the process ends: it goes on
//! with the rest.
//!
//! A member may have dropped some of them since: then what settled them stands in its log, and so
//! in the log of whoever leads next, before anything that this copy could be asked for. So entries
//! that a member with everything committed up to the snapshot does not have are not missed.

use std::ops::RangeInclusive;
use std::sync::Arc;

use consensus::{GroupId, Index, NodeId, Ticket};
use storage::{Entry, SubmitError, Wal, Write};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Duration, Instant};

use crate::driver::Input;
use crate::transport::{RANGES_MAX, Transport};

/// Groups that are filled at a time.
const CONCURRENT_MAX: usize = 4;
/// Bytes of entries in one write.
const PIECE_BYTES: usize = 1 << 20;
/// Before nobody who had nothing to give is asked again, and before the log is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// What one group needs.
pub(crate) struct Fill {
    pub(crate) group: GroupId,
    pub(crate) ticket: Ticket,
    /// The log goes on here.
    pub(crate) next: Index,
    pub(crate) missing: Vec<RangeInclusive<Index>>,
    /// Who may have it.
    pub(crate) sources: Vec<NodeId>,
}

/// Fills logs. Cloned for each group.
#[derive(Clone)]
pub(crate) struct Filler {
    wal: Wal,
    transport: Transport,
    inputs: mpsc::WeakSender<Input>,
    permits: Arc<Semaphore>,
    bytes_per_second: u64,
}

impl Filler {
    pub(crate) fn new(
        wal: Wal,
        transport: Transport,
        inputs: mpsc::WeakSender<Input>,
        bytes_per_second: u64,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(CONCURRENT_MAX));
        Self { wal, transport, inputs, permits, bytes_per_second }
    }

    /// Fills a group, however long it takes.
    pub(crate) async fn run(&self, fill: Fill) {
        let Ok(_permit) = self.permits.acquire().await else { return };
        if self.is_reset(&fill).await.is_none() {
            return;
        }
        let mut work = Work { filler: self, pace: Instant::now(), fill };
        if work.run().await.is_none() {
            return;
        }
        let Work { fill: Fill { group, ticket, .. }, .. } = work;
        if let Some(inputs) = self.inputs.upgrade() {
            // The driver may have ended.
            let _ = inputs.send(Input::Filled { group, ticket }).await;
        }
    }

    /// Waits until the log begins behind the snapshot.
    async fn is_reset(&self, fill: &Fill) -> Option<()> {
        let mut durable = self.wal.durable();
        loop {
            let state = self.wal.group(fill.group);
            if state.is_some_and(|state| state.filling && state.first == fill.next) {
                return Some(());
            }
            durable.changed().await.ok()?;
        }
    }
}

struct Work<'a> {
    filler: &'a Filler,
    /// When the next piece may be written.
    pace: Instant,
    fill: Fill,
}

impl Work<'_> {
    /// `None` if the log does not take it any more: it was reset anew, or removed.
    async fn run(&mut self) -> Option<()> {
        let mut turn = 0;
        while !self.fill.missing.is_empty() {
            let Some(&source) = self.fill.sources.get(turn % self.fill.sources.len().max(1)) else {
                // Nobody else is a member: there is nothing to wait for.
                tracing::error!(group = %self.fill.group, "nobody has the entries of a snapshot");
                return None;
            };
            let before = self.fill.missing.len();
            let got = self.take_from(source).await?;
            if let Err(cause) = got {
                tracing::info!(group = %self.fill.group, peer = %source, %cause, "entries not fetched yet");
                turn += 1;
                if before == self.fill.missing.len() {
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        Some(())
    }

    /// Asks a member for some of what is missing, and writes it.
    async fn take_from(&mut self, source: NodeId) -> Option<Result<(), FillError>> {
        let (group, through) = (self.fill.group, Index(self.fill.next.0 - 1));
        let count = self.fill.missing.len().min(RANGES_MAX);
        let asked = &self.fill.missing[..count];
        let last = *asked[count - 1].end();
        let answer = self.filler.transport.entries(source, group, through, asked).await;
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Some(Err(error.into())),
        };
        loop {
            let mut piece: Vec<Entry> = Vec::new();
            let mut bytes = 0;
            let end = loop {
                match answer.next().await {
                    Ok(Some(entry)) => {
                        bytes += entry.cost();
                        piece.push(entry);
                        if PIECE_BYTES <= bytes {
                            break Ok(false);
                        }
                    }
                    Ok(None) => break Ok(true),
                    Err(error) => break Err(error),
                }
            };
            if let Some(newest) = piece.last().map(|entry| entry.index) {
                self.write(piece, bytes).await?;
                self.drop_through(newest);
            }
            match end {
                Ok(false) => {}
                // What has not come is settled there.
                Ok(true) => {
                    self.drop_through(last);
                    return Some(Ok(()));
                }
                Err(error) => return Some(Err(error.into())),
            }
        }
    }

    /// Durable when it returns.
    async fn write(&mut self, entries: Vec<Entry>, bytes: usize) -> Option<()> {
        tokio::time::sleep_until(self.pace).await;
        let per_second = self.filler.bytes_per_second.max(1);
        let takes = Duration::from_secs_f64(bytes as f64 / per_second as f64);
        self.pace = self.pace.max(Instant::now()) + takes;
        let (wal, group) = (&self.filler.wal, self.fill.group);
        let token = loop {
            let write = Write::Refill { group, entries: entries.clone() };
            match wal.submit_freeing(vec![write]) {
                Ok(token) => break token,
                Err(SubmitError::QueueFull | SubmitError::DiskFull) => {
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => {
                    tracing::debug!(%group, %error, "a log takes no more of what it was to be filled with");
                    return None;
                }
            }
        };
        let mut durable = wal.durable();
        let done = durable.wait_for(|now| token <= now.token || now.failed.is_some()).await;
        done.ok().filter(|now| now.failed.is_none()).map(drop)
    }

    fn drop_through(&mut self, through: Index) {
        let done = self.fill.missing.partition_point(|range| *range.end() <= through);
        self.fill.missing.drain(..done);
        if let Some(first) = self.fill.missing.first_mut()
            && *first.start() <= through
        {
            *first = through.next()..=*first.end();
        }
    }
}

/// Why a member did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct FillError(#[from] crate::transport::EntriesError);
