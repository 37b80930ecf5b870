//! A replica's side: finds the primary among the members and stays connected to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use replication::Head;
use replication::handshake::{Plan, Refusal};
use replication::wire::{self, FromPrimary, FromReplica};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::install::Install;
use super::{Frames, HANDSHAKE_TIMEOUT, OUTBOUND_MAX, PeerError, connect};
use crate::chain;
use crate::config::Member;
use crate::driver::{Connection, Input, Outbound};
use crate::engine::generations::Generations;
use crate::log::Log;
use crate::view::View;

/// Messages of the owner that may wait for the connection.
const COMMANDS_MAX: usize = 64;
/// Between two signs of life while a snapshot is being installed.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// What following takes.
pub(crate) struct Follower {
    pub(crate) group: String,
    pub(crate) others: Vec<Member>,
    pub(crate) log: Log,
    pub(crate) generations: Generations,
    pub(crate) inbox: mpsc::Sender<Input>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) tasks: TaskTracker,
}

/// How a connection ended, for the choice of the next.
enum End {
    /// It streamed.
    Streamed(PeerError),
    /// It never did.
    Failed(PeerError),
    Refused(Refusal),
    /// This node follows nobody any more.
    Halted,
}

impl Follower {
    /// Runs until told to stop. Members are asked in turn; the one that streamed last is asked
    /// first.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (mut turn, mut backoff, mut number) = (0, BACKOFF_MIN, 0);
        while !self.others.is_empty() {
            let member = &self.others[turn % self.others.len()];
            number += 1;
            let end = tokio::select! {
                () = stop.cancelled() => return,
                end = self.connection(number, member) => end,
            };
            let _ = self.inbox.send(Input::Disconnected { connection: number }).await;
            match end {
                End::Halted => return stop.cancelled().await,
                End::Streamed(error) => {
                    tracing::warn!(primary = %member.name, error = %chain(&error), "stream ended");
                    backoff = BACKOFF_MIN;
                }
                End::Failed(error) => {
                    tracing::debug!(member = %member.name, error = %chain(&error), "not reached");
                    turn += 1;
                }
                End::Refused(refusal) => {
                    log_refusal(member, &refusal);
                    turn += 1;
                }
            }
            // A whole round without success doubles the pause. Its jitter keeps replicas that
            // lost one primary from coming back as one.
            let pause = backoff.mul_f64(rand::random_range(0.5..1.0));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => (),
            }
            if turn.is_multiple_of(self.others.len()) {
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
        stop.cancelled().await;
    }

    async fn connection(&self, number: u64, member: &Member) -> End {
        let (outbound, body) = mpsc::channel(OUTBOUND_MAX);
        let body = match connect::open(&member.peer_url, body, &self.tasks).await {
            Ok(body) => body,
            Err(error) => return End::Failed(error),
        };
        let (commands, from_owner) = mpsc::channel(COMMANDS_MAX);
        let end = CancellationToken::new();
        let connection = Connection {
            number,
            member: member.name.as_str().into(),
            outbound: commands,
            end: end.clone(),
        };
        let (reply, hello) = oneshot::channel();
        let connect = Input::Connect { connection, reply };
        if self.inbox.send(connect).await.is_err() {
            return End::Halted;
        }
        let Ok(Some(hello)) = hello.await else { return End::Halted };
        let hello = wire::encode(&FromReplica::Hello(hello));
        if outbound.send(hello).await.is_err() {
            return End::Failed(PeerError::Ended);
        }
        let mut stream = Streaming {
            follower: self,
            number,
            frames: Frames::new(body),
            outbound,
            from_owner,
            welcomed: false,
        };
        let result = tokio::select! {
            () = end.cancelled() => Err(PeerError::Ended),
            result = stream.run() => result,
        };
        match result {
            Ok(refusal) => End::Refused(refusal),
            Err(error) if stream.welcomed => End::Streamed(error),
            Err(error) => End::Failed(error),
        }
    }
}

/// One connection, once it is open.
struct Streaming<'a, S> {
    follower: &'a Follower,
    number: u64,
    frames: Frames<S>,
    outbound: mpsc::Sender<Bytes>,
    from_owner: mpsc::Receiver<Outbound>,
    welcomed: bool,
}

impl<S: Stream<Item = Result<Bytes, hyper::Error>> + Unpin> Streaming<'_, S> {
    /// Passes messages both ways until the connection ends, or the primary refuses.
    async fn run(&mut self) -> Result<Refusal, PeerError> {
        loop {
            tokio::select! {
                command = self.from_owner.recv() => match command {
                    Some(Outbound::Send(message)) => self.send(&message).await?,
                    // Only expected right after a welcome.
                    Some(Outbound::Install(_)) | None => return Err(PeerError::Stopped),
                },
                message = self.frames.next() => match message? {
                    FromPrimary::Compare { index } => self.compare(index).await?,
                    FromPrimary::Refused(refusal) => {
                        self.pass(FromPrimary::Refused(refusal.clone())).await?;
                        return Ok(refusal);
                    }
                    message => self.take(message).await?,
                },
            }
        }
    }

    async fn take(&mut self, message: FromPrimary) -> Result<(), PeerError> {
        let plan = match &message {
            FromPrimary::Welcome { plan, .. } => Some(*plan),
            _ => None,
        };
        self.welcomed |= plan.is_some();
        self.pass(message).await?;
        if plan == Some(Plan::Snapshot) {
            let at = self.permission().await?;
            self.install(at).await?;
        }
        Ok(())
    }

    async fn pass(&self, message: FromPrimary) -> Result<(), PeerError> {
        let input = Input::FromPrimary { connection: self.number, message };
        self.follower.inbox.send(input).await.map_err(|_| PeerError::Stopped)
    }

    async fn send(&self, message: &FromReplica) -> Result<(), PeerError> {
        self.outbound.send(wire::encode(message)).await.map_err(|_| PeerError::Ended)
    }

    async fn compare(&self, index: replication::Index) -> Result<(), PeerError> {
        let applied = self.follower.view.borrow().engine.applied().head;
        let hash = self.follower.log.hash_at(index, applied).await?;
        self.send(&FromReplica::Compared { hash }).await
    }

    /// Waits until the owner agrees to give up its state for the primary's.
    async fn permission(&mut self) -> Result<Head, PeerError> {
        let wait = async {
            loop {
                match self.from_owner.recv().await {
                    Some(Outbound::Install(at)) => return Ok(at),
                    Some(Outbound::Send(_)) => (),
                    None => return Err(PeerError::Stopped),
                }
            }
        };
        tokio::time::timeout(HANDSHAKE_TIMEOUT, wait).await.map_err(|_| PeerError::Stopped)?
    }

    async fn install(&mut self, at: Head) -> Result<(), PeerError> {
        let install =
            Install::begin(self.follower.generations.clone(), self.follower.group.clone()).await?;
        loop {
            match self.frames.next().await? {
                FromPrimary::Records { records } => {
                    self.alive_during(install.add(records)).await?;
                }
                FromPrimary::SnapshotEnd { root, birth, epochs } => {
                    let finish = install.finish(at, root, birth, epochs);
                    let installed = Box::new(self.alive_during(finish).await?);
                    let input = Input::Installed { connection: self.number, installed };
                    let sent = self.follower.inbox.send(input).await;
                    return sent.map_err(|_| PeerError::Stopped);
                }
                _ => return Err(PeerError::Unexpected),
            }
        }
    }

    /// Lets the primary know that we are still here while the disk is busy for long.
    async fn alive_during<T>(
        &self,
        work: impl Future<Output = Result<T, PeerError>>,
    ) -> Result<T, PeerError> {
        tokio::pin!(work);
        loop {
            match tokio::time::timeout(ALIVE_EVERY, &mut work).await {
                Ok(done) => return done,
                Err(_elapsed) => self.send(&FromReplica::Compared { hash: None }).await?,
            }
        }
    }
}

fn log_refusal(member: &Member, refusal: &Refusal) {
    match refusal {
        Refusal::NotPrimary => tracing::debug!(member = %member.name, "not the primary"),
        refusal => {
            tracing::error!(member = %member.name, %refusal, "the primary refuses this node")
        }
    }
}
