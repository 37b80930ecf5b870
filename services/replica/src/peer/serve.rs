//! The primary's side of one replica's connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chassis::clock::Clock;
use futures_util::Stream;
use replication::ack::Confirmed;
use replication::handshake::{Hello, Join, Plan, Refusal, Step};
use replication::wire::{self, FromPrimary, FromReplica, Stamp};
use replication::{Entry, Hash, Head, Index, MemberId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{Frames, HANDSHAKE_TIMEOUT, PeerError};
use crate::driver::{Input, Joined, Session};
use crate::engine::Snapshot;
use crate::log::Log;
use crate::recent::Recent;
use crate::view::{Side, View};

/// Payload bytes of one frame of entries; a larger entry travels alone.
const FRAME_BYTES: usize = 512 * 1024;
/// Records of one frame of a snapshot.
const RECORDS_MAX: usize = 1000;
/// How long a drain waits for replicas to confirm what is on its way.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// What serving takes. Clones serve other replicas.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) recent: Recent,
    pub(crate) log: Log,
    pub(crate) inbox: mpsc::Sender<Input>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) clock: Clock,
    pub(crate) heartbeat: Duration,
    pub(crate) draining: CancellationToken,
}

impl Server {
    /// Serves one replica until the connection ends. `outbound` becomes the response's body.
    pub(crate) async fn serve<S, E>(self, inbound: S, outbound: mpsc::Sender<Bytes>)
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin + Send,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let draining = self.draining.clone();
        let mut frames = Frames::new(inbound);
        let mut exchange = Exchange { server: self, outbound };
        match exchange.run(&mut frames, &draining).await {
            Ok(()) | Err(PeerError::Ended) => (),
            Err(error) => tracing::info!(%error, "a replica's connection ended"),
        }
    }
}

struct Exchange {
    server: Server,
    outbound: mpsc::Sender<Bytes>,
}

impl Exchange {
    async fn run<S, E>(
        &mut self,
        frames: &mut Frames<S>,
        draining: &CancellationToken,
    ) -> Result<(), PeerError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin + Send,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let FromReplica::Hello(hello) = frames.next().await? else {
            return Err(PeerError::Unexpected);
        };
        let joined = match self.join(hello.clone()).await? {
            Ok(joined) => joined,
            Err(refusal) => return self.send(&FromPrimary::Refused(refusal)).await,
        };
        let started = Join::start(&hello, &joined.local);
        let (join, step) = match started {
            Ok(started) => started,
            Err(refusal) => return self.send(&FromPrimary::Refused(refusal)).await,
        };
        let handshake = self.agree(frames, join, step, joined.applied);
        let plan = tokio::time::timeout(4 * HANDSHAKE_TIMEOUT, handshake);
        let plan = plan.await.map_err(|_elapsed| PeerError::Silent)??;
        tracing::info!(replica = hello.member, head = %hello.head.position, ?plan, "replica joins");
        let (next, session) = self.welcome(&hello, &joined, plan).await?;
        let member = joined.member;
        let result = tokio::select! {
            result = self.pump(next) => result,
            result = read_reports(frames, self.server.inbox.clone(), member, session.number) => result,
            () = session.end.cancelled() => Ok(()),
            () = settled(draining, self.server.view.clone()) => Ok(()),
        };
        let ended = Input::StreamEnded { member, session: session.number };
        let _ = self.server.inbox.send(ended).await;
        result
    }

    async fn join(&self, hello: Hello) -> Result<Result<Joined, Refusal>, PeerError> {
        let (reply, joined) = oneshot::channel();
        let join = Input::Join { hello, reply };
        self.server.inbox.send(join).await.map_err(|_| PeerError::Stopped)?;
        joined.await.map_err(|_| PeerError::Stopped)
    }

    async fn agree<S, E>(
        &self,
        frames: &mut Frames<S>,
        mut join: Join,
        mut step: Step,
        applied: Head,
    ) -> Result<Plan, PeerError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        loop {
            let index = match step {
                Step::Done(plan) => return Ok(plan),
                Step::Compare(index) => index,
            };
            let ours = match join.own(index) {
                Some(ours) => Some(ours),
                None => self.server.log.hash_at(index, applied).await?,
            };
            let theirs: Option<Hash> = match join.told(index) {
                Some(theirs) => Some(theirs),
                None => {
                    self.send(&FromPrimary::Compare { index }).await?;
                    match frames.next().await? {
                        FromReplica::Compared { hash } => hash,
                        _ => return Err(PeerError::Unexpected),
                    }
                }
            };
            step = join.compared(ours, theirs);
        }
    }

    /// Says how it goes on, and sends the snapshot if that is how. Returns the first entry to
    /// stream, which the owner keeps from now on.
    async fn welcome(
        &self,
        hello: &Hello,
        joined: &Joined,
        plan: Plan,
    ) -> Result<(Index, Session), PeerError> {
        let epoch = joined.local.epoch;
        let snapshot = match plan {
            Plan::Snapshot => {
                let engine = Arc::clone(&joined.engine);
                let pin = tokio::task::spawn_blocking(move || engine.snapshot()).await;
                Some(pin.unwrap_or_else(|it| std::panic::resume_unwind(it.into_panic()))?)
            }
            Plan::Log | Plan::TruncateTo(_) => None,
        };
        let at = match (&snapshot, plan) {
            (Some(snapshot), _) => snapshot.applied().head,
            (None, Plan::TruncateTo(common)) => self.head_at(common, joined).await?,
            (None, _) => hello.head,
        };
        let session = self.stream(joined.member, at.index()).await?;
        self.send(&FromPrimary::Welcome { epoch, plan, at }).await?;
        if let Some(snapshot) = snapshot {
            self.send_snapshot(snapshot).await?;
        }
        Ok((at.index().next(), session))
    }

    async fn stream(&self, member: MemberId, from: Index) -> Result<Session, PeerError> {
        let (reply, session) = oneshot::channel();
        let stream = Input::Stream { member, from, reply };
        self.server.inbox.send(stream).await.map_err(|_| PeerError::Stopped)?;
        session.await.map_err(|_| PeerError::Stopped)
    }

    async fn head_at(&self, index: Index, joined: &Joined) -> Result<Head, PeerError> {
        if index == joined.local.head.index() {
            return Ok(joined.local.head);
        }
        if index == joined.applied.index() {
            return Ok(joined.applied);
        }
        if index == Index::ZERO {
            return Ok(Head::genesis(&joined.local.group));
        }
        let entries = self.server.log.fetch(index, 1).await?;
        // It was there when it was compared; a compaction in between is answered by a new try.
        entries.first().map(Entry::head).ok_or(PeerError::Ended)
    }

    async fn send_snapshot(&self, snapshot: Arc<dyn Snapshot>) -> Result<(), PeerError> {
        let outbound = self.outbound.clone();
        let send = move || {
            let mut records = snapshot.records(std::ops::Bound::Unbounded);
            loop {
                let mut chunk = Vec::new();
                let mut bytes = 0;
                while chunk.len() < RECORDS_MAX && bytes < FRAME_BYTES {
                    let Some(record) = records.next() else { break };
                    let (key, record) = record?;
                    bytes += key.len() + record.value.len();
                    chunk.push((key, record));
                }
                let message = if chunk.is_empty() {
                    let applied = snapshot.applied();
                    FromPrimary::SnapshotEnd {
                        root: snapshot.root(),
                        birth: applied.birth,
                        epochs: applied.epochs.clone(),
                    }
                } else {
                    FromPrimary::Records { records: chunk }
                };
                let end = matches!(message, FromPrimary::SnapshotEnd { .. });
                if outbound.blocking_send(wire::encode(&message)).is_err() {
                    return Err(PeerError::Ended);
                }
                if end {
                    return Ok(());
                }
            }
        };
        let sent = tokio::task::spawn_blocking(send).await;
        sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// Streams entries from `next` on, and heartbeats into every silence.
    async fn pump(&self, mut next: Index) -> Result<(), PeerError> {
        let mut view = self.server.view.clone();
        let mut told = None;
        // Not a timeout of the wait below: views change all the time without anything to say.
        let mut beats = tokio::time::interval(self.server.heartbeat);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let (head, epoch, commit, first) = {
                let view = view.borrow_and_update();
                if matches!(view.side, Side::Primary { fenced_by: Some(_), .. }) {
                    return Ok(());
                }
                (view.head.index(), view.epoch, view.commit, view.first)
            };
            let stamp = Stamp { last: head, now_ms: self.server.clock.unix_ms() };
            let entries = match next <= head {
                true => self.entries(next).await?,
                false => Vec::new(),
            };
            if let Some(last) = entries.last() {
                next = last.position.index.next();
                told = Some(commit);
                self.send(&FromPrimary::Entries { epoch, entries, commit, stamp }).await?;
                continue;
            }
            if next < first {
                // Compacted under our feet: joining anew ends in a snapshot.
                return Ok(());
            }
            if told != Some(commit) {
                told = Some(commit);
                self.send(&FromPrimary::Heartbeat { epoch, commit, stamp }).await?;
            }
            tokio::select! {
                changed = view.changed() => changed.map_err(|_closed| PeerError::Stopped)?,
                _ = beats.tick() => told = None,
            }
        }
    }

    async fn entries(&self, from: Index) -> Result<Vec<Entry>, PeerError> {
        let recent = self.server.recent.read(from, FRAME_BYTES);
        if !recent.is_empty() {
            return Ok(recent);
        }
        Ok(self.server.log.fetch(from, FRAME_BYTES).await?)
    }

    async fn send(&self, message: &FromPrimary) -> Result<(), PeerError> {
        self.outbound.send(wire::encode(message)).await.map_err(|_| PeerError::Ended)
    }
}

async fn read_reports<S, E>(
    frames: &mut Frames<S>,
    inbox: mpsc::Sender<Input>,
    member: MemberId,
    session: u64,
) -> Result<(), PeerError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    loop {
        let (received, durable, applied) = match frames.next().await? {
            FromReplica::Report { received, durable, applied } => (received, durable, applied),
            // A sign of life while it installs a snapshot.
            FromReplica::Compared { .. } => continue,
            FromReplica::Hello(_) => return Err(PeerError::Unexpected),
        };
        let confirmed = Confirmed { received, durable };
        let report = Input::Report { member, session, confirmed, applied };
        inbox.send(report).await.map_err(|_| PeerError::Stopped)?;
    }
}

/// Resolves in a drain, once what was written is confirmed: writers still wait for that.
async fn settled(draining: &CancellationToken, mut view: watch::Receiver<Arc<View>>) {
    draining.cancelled().await;
    let confirmed = view.wait_for(|view| view.head.index() <= view.commit);
    let _ = tokio::time::timeout(DRAIN_MAX, confirmed).await;
}
