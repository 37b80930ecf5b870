//! The owner's part as a primary: writes, and replicas that join.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use replication::ack::Confirmed;
use replication::command::{Change, Command, Record};
use replication::handshake::{Hello, Local, Refusal as JoinRefusal};
use replication::{Entry, Index, IoToken, MemberId, Position, Refused, Ticket};
use storage::SubmitError;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Core, Driver, Failure, Joined, Session};
use crate::config::Config;
use crate::log;
use crate::view::Side;
use crate::write::{Accepted, Acked, Outcome, Refusal, Write, WriteError, latest};

/// What a primary keeps besides its core.
pub(super) struct Leading {
    /// The configured replicas, by their number.
    pub(super) replicas: Vec<Arc<str>>,
    /// Bytes appended since the log was last asked.
    pub(super) unlogged_bytes: usize,
    tickets: u64,
    waiting: BTreeMap<Ticket, oneshot::Sender<Acked>>,
    /// Streams, and the oldest entry each still needs.
    pub(super) streams: BTreeMap<MemberId, Stream>,
}

pub(super) struct Stream {
    session: u64,
    pub(super) needs: Index,
    end: CancellationToken,
}

impl Leading {
    pub(super) fn new(config: &Config, node: &str) -> Self {
        let others = config.replication.others(node);
        Self {
            replicas: others.into_iter().map(|member| member.name.into()).collect(),
            unlogged_bytes: 0,
            tickets: 0,
            waiting: BTreeMap::new(),
            streams: BTreeMap::new(),
        }
    }

    fn ticket(&mut self, writer: oneshot::Sender<Acked>) -> Ticket {
        self.tickets += 1;
        self.waiting.insert(Ticket(self.tickets), writer);
        Ticket(self.tickets)
    }

    pub(super) fn answer(&mut self, ticket: Ticket, acked_by: u32) {
        self.tell(ticket, Acked::By(acked_by));
    }

    pub(super) fn lost(&mut self, ticket: Ticket) {
        self.tell(ticket, Acked::Lost);
    }

    fn tell(&mut self, ticket: Ticket, acked: Acked) {
        if let Some(writer) = self.waiting.remove(&ticket) {
            // Whoever gave up waiting has been told that the outcome is unknown.
            let _ = writer.send(acked);
        }
    }
}

impl Driver {
    pub(super) fn handle_write(
        &mut self,
        write: Write,
        reply: oneshot::Sender<Result<Accepted, WriteError>>,
    ) {
        // Nobody waits any more, and nothing has happened yet.
        if !reply.is_closed() {
            let accepted = self.write(write);
            let _ = reply.send(accepted);
        }
    }

    fn write(&mut self, write: Write) -> Result<Accepted, WriteError> {
        self.may_write()?;
        let now_ms = self.clock.unix_ms();
        if let Some(request) = &write.request
            && let Some(first) = self.current(&request.key, now_ms)?
        {
            if first.value != request.fingerprint.to_le_bytes()[..] {
                return Err(WriteError::IdempotencyMismatch);
            }
            let outcome = Outcome::Written { replayed: true };
            return Ok(self.accept(&write, first.version, outcome));
        }
        let mut seen = Index::ZERO;
        for (key, condition) in &write.compares {
            let version = self.current(key, now_ms)?.map(|record| record.version);
            seen = latest(seen, version);
            if !condition.holds(version) {
                // What the answer shows must be as safe as a write of this level. A removal has
                // no version: it is covered by the newest entry.
                let seen = version.map_or(self.core.head().index(), |_| seen);
                let position = super::visible(seen, self.core.epochs());
                let outcome = Outcome::Failed { key: key.clone(), version };
                return Ok(self.accept(&write, position, outcome));
            }
        }
        let position = self.append_write(&write, now_ms)?;
        Ok(self.accept(&write, position, Outcome::Written { replayed: false }))
    }

    fn may_write(&mut self) -> Result<(), WriteError> {
        let bytes = self.tail.bytes();
        let max = self.config.store.max_tail_bytes;
        let primary = self.core.primary().ok_or(WriteError::NoPrimary)?;
        if let Some(by) = primary.fenced_by() {
            return Err(WriteError::Fenced { by });
        }
        if !primary.is_open() {
            return Err(WriteError::NotOpen);
        }
        if max <= bytes {
            return Err(WriteError::TailFull { bytes });
        }
        Ok(())
    }

    /// What `key` holds after everything that was appended so far.
    fn current(&self, key: &[u8], now_ms: u64) -> Result<Option<Record>, WriteError> {
        let record = match self.tail.newest(key) {
            Some((_, record)) => record.clone(),
            None => self.engine.get(key)?,
        };
        Ok(record.filter(|record| record.is_live(now_ms)))
    }

    fn append_write(&mut self, write: &Write, now_ms: u64) -> Result<Position, WriteError> {
        let mut changes = write.changes.clone();
        let window_ms = self.config.store.idempotency_window_seconds * 1000;
        changes.extend(write.request.as_ref().map(|request| Change::Put {
            key: request.key.clone(),
            value: Bytes::copy_from_slice(&request.fingerprint.to_le_bytes()),
            content_type: None,
            expires_at_ms: Some(now_ms + window_ms),
        }));
        let command = Command::Write { changes };
        if self.room.is_low() && !command.is_freeing() {
            return Err(WriteError::DiskFull);
        }
        self.append_command(&command).map_err(|refused| match refused {
            Refused::Fenced { by } => WriteError::Fenced { by },
            Refused::Full => WriteError::Overloaded,
        })
    }

    /// Appends a command of our own making. The log sees it at the end of this turn.
    pub(super) fn append_command(&mut self, command: &Command) -> Result<Position, Refused> {
        let Some(primary) = self.core.primary() else { return Err(Refused::Full) };
        let encoded = command.encode();
        let bytes = encoded.len();
        let position = primary.append(encoded)?;
        let step = crate::engine::Step {
            head: primary.head(),
            mutations: command.clone().mutations(position),
            check: None,
        };
        let durable = primary.durable();
        self.tail.push(step, bytes, durable);
        self.leading.unlogged_bytes += bytes;
        self.upkeep.appended(position.index, bytes, self.clock.unix_ms());
        Ok(position)
    }

    fn accept(&mut self, write: &Write, position: Position, outcome: Outcome) -> Accepted {
        let (writer, acked) = oneshot::channel();
        let ticket = self.leading.ticket(writer);
        if let Some(primary) = self.core.primary() {
            primary.wait(ticket, position.index, write.ack);
        }
        Accepted { position, outcome, acked }
    }

    /// A primary's append: a log without room refuses the writers, not the process.
    pub(super) fn append(&mut self, token: IoToken, entries: &[Entry]) -> Result<(), Failure> {
        let wal = self.log.wal();
        let submitted = match wal.submit(vec![log::append(entries)]) {
            Err(SubmitError::DiskFull) if entries.iter().all(is_freeing) => {
                wal.submit_freeing(vec![log::append(entries)])
            }
            submitted => submitted,
        };
        let refusal = match submitted {
            Ok(theirs) => {
                self.appended((theirs, token), entries);
                return Ok(());
            }
            Err(SubmitError::QueueFull) => Refusal::QueueFull,
            Err(SubmitError::DiskFull) => Refusal::DiskFull,
            Err(error) => return Err(error.into()),
        };
        let logged = self.logged;
        let Some(primary) = self.core.primary() else { return Ok(()) };
        for ticket in primary.take_back(logged) {
            self.leading.tell(ticket, Acked::Refused(refusal));
        }
        self.tail.truncate(logged.index());
        Ok(())
    }

    /// A primary's first entry, without which there is no epoch and nobody is served: it waits for
    /// room, from the log's reserve if need be.
    pub(super) async fn begin(
        &mut self,
        token: IoToken,
        entries: &[Entry],
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        loop {
            match self.log.wal().submit_freeing(vec![log::append(entries)]) {
                Err(SubmitError::QueueFull | SubmitError::DiskFull) if !stop.is_cancelled() => {
                    self.wait_for_log().await?;
                }
                submitted => {
                    self.appended((submitted?, token), entries);
                    return Ok(());
                }
            }
        }
    }

    fn appended(&mut self, tokens: (storage::IoToken, IoToken), entries: &[Entry]) {
        self.tokens.push_back(tokens);
        self.logged = entries.last().map_or(self.logged, Entry::head);
        self.recent.push(entries);
    }

    pub(super) fn handle_join(
        &mut self,
        hello: &Hello,
        reply: oneshot::Sender<Result<Joined, JoinRefusal>>,
    ) {
        let _ = reply.send(self.join(hello));
    }

    fn join(&mut self, hello: &Hello) -> Result<Joined, JoinRefusal> {
        let group = self.config.replication.group.clone();
        let applied = self.engine.applied();
        let Core::Primary(primary) = &mut self.core else { return Err(JoinRefusal::NotPrimary) };
        if hello.group != group {
            return Err(JoinRefusal::OtherGroup { group });
        }
        let member = self.leading.replicas.iter().position(|name| **name == *hello.member);
        let Some(member) = member else {
            return Err(JoinRefusal::UnknownMember { member: hello.member.clone() });
        };
        primary.observe(hello.epoch);
        if !primary.is_open() || primary.fenced_by().is_some() {
            return Err(JoinRefusal::NotPrimary);
        }
        let first = self.tail.head_at(Index(1)).map(|head| head.hash);
        Ok(Joined {
            member: MemberId(member as u32),
            local: Local {
                group,
                epoch: primary.epoch(),
                birth: applied.birth.or(first),
                head: primary.head(),
                base: self.log.base(applied.head),
            },
            applied: applied.head,
            engine: Arc::clone(&self.engine),
        })
    }

    pub(super) fn handle_stream(
        &mut self,
        member: MemberId,
        from: Index,
        reply: oneshot::Sender<Session>,
    ) {
        let Some(primary) = self.core.primary() else { return };
        let session = primary.connected(member);
        let end = CancellationToken::new();
        let stream = Stream { session, needs: from, end: end.clone() };
        if let Some(former) = self.leading.streams.insert(member, stream) {
            former.end.cancel();
        }
        let _ = reply.send(Session { number: session, end });
    }

    pub(super) fn handle_report(
        &mut self,
        member: MemberId,
        session: u64,
        confirmed: Confirmed,
        applied: Index,
    ) {
        let Some(primary) = self.core.primary() else { return };
        let plausible = primary.report(member, session, confirmed, applied);
        let stream = self.leading.streams.get_mut(&member);
        let Some(stream) = stream.filter(|stream| stream.session == session) else { return };
        if plausible {
            stream.needs = stream.needs.max(confirmed.received);
        } else {
            tracing::warn!(%confirmed.durable, "a replica reports more than there is");
            stream.end.cancel();
        }
    }

    pub(super) fn handle_stream_ended(&mut self, member: MemberId, session: u64) {
        let Some(primary) = self.core.primary() else { return };
        primary.disconnected(member, session);
        if self.leading.streams.get(&member).is_some_and(|stream| stream.session == session) {
            self.leading.streams.remove(&member);
        }
    }

    /// Logs the end of keys whose time was over when the engine looked, unless they changed since.
    pub(super) fn expire(&mut self, expired: Vec<(Bytes, Position)>) {
        self.upkeep.looking_for_expired = false;
        let unchanged = |(key, version): &(Bytes, Position)| match self.tail.newest(key) {
            None => true,
            Some((_, record)) => record.as_ref().is_some_and(|it| it.version == *version),
        };
        let keys: Vec<_> = expired.into_iter().filter(unchanged).map(|(key, _)| key).collect();
        if !keys.is_empty() && self.may_write().is_ok() {
            // Refused: they are still there at the next look.
            let _ = self.append_command(&Command::Expire { keys });
        }
    }

    pub(super) fn side(&self) -> Side {
        match &self.core {
            Core::Primary(primary) => Side::Primary {
                open: primary.is_open(),
                fenced_by: primary.fenced_by(),
                replicas: Arc::new(primary.replicas().map(|(id, it)| (id, *it)).collect()),
                marks: self.upkeep.marks(),
            },
            Core::Replica(replica) => self.following.side(replica),
        }
    }
}

/// Deletes go on when the disk is full.
fn is_freeing(entry: &Entry) -> bool {
    Command::decode(entry.position, &entry.command).is_ok_and(|command| command.is_freeing())
}
