//! The owner task: the one place where the replication core meets log, engine, peers and writers.
//!
//! **Invariant:** everything here is owned by one task; others send [`Input`]s and read the
//! [`View`] that it publishes.
//! **Invariant:** what is visible in a view is durable in the log.

mod core;
mod follow;
mod lead;
mod upkeep;

use std::collections::VecDeque;
use std::sync::Arc;

use chassis::clock::Clock;
use replication::ack::Confirmed;
use replication::command::{Command, UnknownCommand};
use replication::handshake::{Hello, Local, Refusal};
use replication::wire::{FromPrimary, FromReplica};
use replication::{Effect, Entry, Epochs, Head, Index, IoToken, MemberId, Position};
use storage::{Durable, SubmitError, WriteError as LogWriteError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::apply::{Apply, BATCH_MAX, Digests, Done, Task};
use crate::config::Config;
use crate::engine::generations::Generations;
use crate::engine::{Applied, Engine, EngineError, Step};
use crate::log::{self, GROUP, Log};
use crate::overlay::Tail;
use crate::recent::Recent;
use crate::room::Room;
use crate::view::{Side, View};
use crate::write::{Accepted, Write, WriteError};

pub(crate) use self::core::Core;
use self::follow::Following;
use self::lead::Leading;
use self::upkeep::Upkeep;

/// Inputs that may wait for the owner before callers are told to back off.
pub(crate) const INBOX_MAX: usize = 4096;
/// Inputs taken at once: their entries become one write to the log.
const BURST_MAX: usize = 512;
/// Bytes of entries after which a burst goes to the log. Well below what the log queues.
const BURST_BYTES: usize = 2 * 1024 * 1024;

/// What others ask of the owner.
pub(crate) enum Input {
    Write {
        write: Write,
        reply: oneshot::Sender<Result<Accepted, WriteError>>,
    },
    /// A replica said hello.
    Join {
        hello: Hello,
        reply: oneshot::Sender<Result<Joined, Refusal>>,
    },
    /// The handshake is done, entries from `from` on will be streamed: keep them.
    Stream {
        member: MemberId,
        from: Index,
        reply: oneshot::Sender<Session>,
    },
    Report {
        member: MemberId,
        session: u64,
        confirmed: Confirmed,
        applied: Index,
    },
    StreamEnded {
        member: MemberId,
        session: u64,
    },
    /// A connection to a member that may be the primary: what is there to say?
    Connect {
        connection: Connection,
        reply: oneshot::Sender<Option<Hello>>,
    },
    FromPrimary {
        connection: u64,
        message: FromPrimary,
    },
    Installed {
        connection: u64,
        installed: Box<Installed>,
    },
    Disconnected {
        connection: u64,
    },
}

/// What a primary tells the task that serves a replica.
pub(crate) struct Joined {
    pub(crate) member: MemberId,
    pub(crate) local: Local,
    pub(crate) applied: Head,
    pub(crate) engine: Arc<dyn Engine>,
}

/// A replica's stream, by its number. It ends when `end` is cancelled.
pub(crate) struct Session {
    pub(crate) number: u64,
    pub(crate) end: CancellationToken,
}

/// A connection to the primary, as its task hands it to the owner.
pub(crate) struct Connection {
    pub(crate) number: u64,
    pub(crate) member: Arc<str>,
    pub(crate) outbound: mpsc::Sender<Outbound>,
    pub(crate) end: CancellationToken,
}

/// What the owner tells the connection's task.
pub(crate) enum Outbound {
    Send(FromReplica),
    /// The snapshot that follows is wanted.
    Install(Head),
}

/// A complete, durable state next to the present one.
pub(crate) struct Installed {
    pub(crate) name: String,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) applied: Applied,
}

/// Why the process must end. A restart recovers everything acknowledged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the log failed")]
    Log(#[source] Arc<LogWriteError>),
    #[error("the log did not take an entry")]
    Submit(#[from] SubmitError),
    #[error("the storage engine failed")]
    Engine(#[from] EngineError),
    #[error("an entry of the log cannot be carried out")]
    Command(#[from] UnknownCommand),
    #[error("the engine's thread has ended")]
    EngineGone,
}

/// What the owner begins with.
pub(crate) struct Parts {
    pub(crate) config: Arc<Config>,
    pub(crate) node: String,
    pub(crate) clock: Clock,
    pub(crate) core: Core,
    pub(crate) log: Log,
    pub(crate) tail: Tail,
    pub(crate) recent: Recent,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) generations: Generations,
    pub(crate) done: mpsc::Receiver<Done>,
    pub(crate) apply: Apply,
    pub(crate) digests: Digests,
    pub(crate) room: Room,
}

/// The owner.
pub(crate) struct Driver {
    config: Arc<Config>,
    clock: Clock,
    core: Core,
    log: Log,
    durable: watch::Receiver<Durable>,
    inbox: mpsc::Receiver<Input>,
    tail: Tail,
    recent: Recent,
    engine: Arc<dyn Engine>,
    generations: Generations,
    /// Before `apply`, whose end waits for a thread that may wait for this one's.
    done: mpsc::Receiver<Done>,
    apply: Apply,
    digests: Digests,
    room: Room,
    /// Writes to the log on their way: its token, the core's.
    tokens: VecDeque<(storage::IoToken, IoToken)>,
    /// The last entry the log has taken.
    logged: Head,
    /// Handed to the engine; carried out by it.
    sent: Index,
    applied: Index,
    leading: Leading,
    following: Following,
    upkeep: Upkeep,
    epochs: Arc<Epochs>,
    fault: Option<Arc<str>>,
    quarantined: bool,
    resyncs: api::replica::Resyncs,
    published: watch::Sender<Arc<View>>,
}

impl Driver {
    /// An owner, the way to it and what it publishes.
    pub(crate) fn new(parts: Parts) -> (Self, mpsc::Sender<Input>, watch::Receiver<Arc<View>>) {
        let (to_inbox, inbox) = mpsc::channel(INBOX_MAX);
        let applied = parts.engine.applied().head.index();
        let epochs = Arc::new(parts.core.epochs().clone());
        let view = first_view(&parts, Arc::clone(&epochs));
        let (published, view) = watch::channel(Arc::new(view));
        let mut driver = Self {
            durable: parts.log.wal().durable(),
            inbox,
            tokens: VecDeque::new(),
            logged: parts.core.head(),
            sent: applied,
            applied,
            leading: Leading::new(&parts.config, &parts.node),
            following: Following::default(),
            upkeep: Upkeep::new(parts.core.head().index(), &parts.log),
            epochs,
            fault: None,
            quarantined: false,
            resyncs: api::replica::Resyncs::default(),
            published,
            config: parts.config,
            clock: parts.clock,
            core: parts.core,
            log: parts.log,
            tail: parts.tail,
            recent: parts.recent,
            engine: parts.engine,
            generations: parts.generations,
            apply: parts.apply,
            done: parts.done,
            digests: parts.digests,
            room: parts.room,
        };
        driver.publish();
        (driver, to_inbox, view)
    }

    /// Runs until told to stop, or until the log or the engine fails.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Failure> {
        let mut ticks = tokio::time::interval(upkeep::TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut burst = Vec::with_capacity(BURST_MAX);
        // A primary begins its epoch before anything else.
        self.carry_out(&stop).await?;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = self.durable.changed() => self.on_durable()?,
                received = self.inbox.recv_many(&mut burst, BURST_MAX) => {
                    if received == 0 {
                        return Ok(());
                    }
                }
                done = self.done.recv() => self.on_done(done.ok_or(Failure::EngineGone)?)?,
                _ = ticks.tick() => self.tick()?,
            }
            for input in burst.drain(..) {
                self.handle(input)?;
                if BURST_BYTES <= self.leading.unlogged_bytes {
                    self.carry_out(&stop).await?;
                }
            }
            self.carry_out(&stop).await?;
            self.feed_engine();
            self.send_report();
            self.publish();
        }
    }

    fn handle(&mut self, input: Input) -> Result<(), Failure> {
        match input {
            Input::Write { write, reply } => self.handle_write(write, reply),
            Input::Join { hello, reply } => self.handle_join(&hello, reply),
            Input::Stream { member, from, reply } => self.handle_stream(member, from, reply),
            Input::Report { member, session, confirmed, applied } => {
                self.handle_report(member, session, confirmed, applied);
            }
            Input::StreamEnded { member, session } => self.handle_stream_ended(member, session),
            Input::Connect { connection, reply } => self.handle_connect(connection, reply),
            Input::FromPrimary { connection, message } => {
                self.handle_from_primary(connection, message);
            }
            Input::Installed { connection, installed } => {
                return self.handle_installed(connection, *installed);
            }
            Input::Disconnected { connection } => self.following.disconnected(connection),
        }
        Ok(())
    }

    fn on_durable(&mut self) -> Result<(), Failure> {
        let Durable { token, failed } = self.durable.borrow_and_update().clone();
        if let Some(error) = failed {
            return Err(Failure::Log(error));
        }
        while let Some((_, ours)) = self.tokens.pop_front_if(|(theirs, _)| *theirs <= token) {
            self.core.persisted(ours);
        }
        Ok(())
    }

    /// Carries out what the core asks for, until it asks for nothing.
    async fn carry_out(&mut self, stop: &CancellationToken) -> Result<(), Failure> {
        loop {
            let effects = self.core.take_effects();
            if effects.is_empty() {
                self.leading.unlogged_bytes = 0;
                return Ok(());
            }
            for effect in effects {
                self.perform(effect, stop).await?;
            }
        }
    }

    async fn perform(&mut self, effect: Effect, stop: &CancellationToken) -> Result<(), Failure> {
        match effect {
            Effect::KeepEpoch { token, epoch } => {
                let write = log::hard_state(epoch, self.core.commit());
                let theirs = self.submit_patiently(vec![write], stop).await?;
                self.tokens.push_back((theirs, token));
            }
            Effect::Append { token, entries } if self.core.is_primary() => {
                match self.core.primary().is_some_and(|primary| primary.is_open()) {
                    true => self.append(token, &entries)?,
                    false => self.begin(token, &entries, stop).await?,
                }
            }
            Effect::Append { token, entries } => {
                let theirs = self.submit_patiently(vec![log::append(&entries)], stop).await?;
                self.tokens.push_back((theirs, token));
                for entry in entries {
                    self.logged = entry.head();
                    self.push_entry(&entry)?;
                }
            }
            Effect::Truncate { token, last } => {
                let write = storage::Write::Truncate { group: GROUP, from: last.index().next() };
                let theirs = self.submit_patiently(vec![write], stop).await?;
                self.tokens.push_back((theirs, token));
                self.logged = last;
                self.tail.truncate(last.index());
            }
            // The engine is fed from the core's commit index after every turn.
            Effect::Commit { .. } => (),
            Effect::Acked { ticket, acked_by } => self.leading.answer(ticket, acked_by),
            Effect::Lost { ticket } => self.leading.lost(ticket),
            Effect::Report => self.following.report_due = true,
            Effect::Install { at } => self.following.tell(Outbound::Install(at)),
            Effect::Leave => self.following.leave(),
            Effect::Halt(fault) => self.on_halt(&fault),
        }
        Ok(())
    }

    fn on_halt(&mut self, fault: &replication::Fault) {
        tracing::error!(%fault, "this replica has stopped following");
        self.quarantined |= matches!(fault, replication::Fault::DigestMismatch { .. });
        self.fault = Some(fault.to_string().into());
        self.following.leave();
    }

    /// Decodes a logged entry and keeps its effect until the engine has it.
    fn push_entry(&mut self, entry: &Entry) -> Result<(), Failure> {
        let visible = self.core.durable();
        self.tail.push(decode(entry)?, entry.command.len(), visible);
        self.upkeep.appended(entry.position.index, entry.command.len(), self.clock.unix_ms());
        Ok(())
    }

    fn feed_engine(&mut self) {
        let through = self.core.commit().min(self.core.durable());
        while self.sent < through {
            let steps = self.tail.between(self.sent, through, BATCH_MAX);
            let Some(last) = steps.last().map(|step| step.head.index()) else { return };
            // Full: go on when the engine has answered.
            if self.apply.try_send(Task::Apply(steps)).is_err() {
                return;
            }
            self.sent = last;
        }
    }

    fn on_done(&mut self, done: Done) -> Result<(), Failure> {
        match done {
            Done::Applied { through, mismatch } => {
                self.applied = self.applied.max(through);
                self.tail.applied(through);
                self.following.report_due = true;
                if let Some(at) = mismatch {
                    self.core.halt(replication::Fault::DigestMismatch { at });
                }
            }
            Done::Persisted { through } => self.upkeep.persisted = through,
            Done::Expired(keys) => self.expire(keys),
            Done::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn publish(&mut self) {
        self.following.visible(self.core.durable());
        if *self.epochs != *self.core.epochs() {
            self.epochs = Arc::new(self.core.epochs().clone());
        }
        let view = View {
            role: self.config.replication.role,
            epoch: self.core.epoch(),
            head: self.core.head(),
            first: self.upkeep.first,
            visible: visible(self.core.durable(), &self.epochs),
            commit: self.core.commit(),
            epochs: Arc::clone(&self.epochs),
            engine: Arc::clone(&self.engine),
            overlay: self.tail.overlay(),
            fault: self.fault.clone(),
            quarantined: self.quarantined,
            side: self.side(),
            resyncs: self.resyncs,
        };
        self.published.send_replace(Arc::new(view));
    }

    /// Waits for room: a replica takes what its primary sends, as fast as its disk goes.
    async fn submit_patiently(
        &mut self,
        writes: Vec<storage::Write>,
        stop: &CancellationToken,
    ) -> Result<storage::IoToken, Failure> {
        loop {
            match self.log.wal().submit(writes.clone()) {
                Err(SubmitError::QueueFull | SubmitError::DiskFull) if !stop.is_cancelled() => {
                    self.wait_for_log().await?;
                }
                submitted => return Ok(submitted?),
            }
        }
    }

    async fn wait_for_log(&mut self) -> Result<(), Failure> {
        /// Nobody tells when a disk has room again.
        const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(200);
        let _ = tokio::time::timeout(LOOK_AGAIN, self.durable.changed()).await;
        self.on_durable()
    }
}

/// What an entry does, decoded.
pub(crate) fn decode(entry: &Entry) -> Result<Step, UnknownCommand> {
    let command = Command::decode(entry.position, &entry.command)?;
    let check = match command {
        Command::Digest { at, root } => Some((at, root)),
        _ => None,
    };
    Ok(Step { head: entry.head(), mutations: command.mutations(entry.position), check })
}

/// The position of `index` in a history with these epochs.
pub(crate) fn visible(index: Index, epochs: &Epochs) -> Position {
    Position { epoch: epochs.at(index).unwrap_or_default(), index }
}

/// What is published before the owner's first turn.
fn first_view(parts: &Parts, epochs: Arc<Epochs>) -> View {
    View {
        role: parts.config.replication.role,
        epoch: parts.core.epoch(),
        head: parts.core.head(),
        first: Index::ZERO,
        visible: visible(parts.core.durable(), &epochs),
        commit: parts.core.commit(),
        epochs,
        engine: Arc::clone(&parts.engine),
        overlay: parts.tail.overlay(),
        fault: None,
        quarantined: false,
        side: Side::Replica {
            primary: None,
            connected: false,
            freshness: None,
            primary_last: None,
        },
        resyncs: api::replica::Resyncs::default(),
    }
}
