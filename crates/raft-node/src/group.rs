//! One group, as its service holds it.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use consensus::{Change, ChangeRefused, GroupId, Index, NodeId, Status, Term, TransferRefused};
use storage::{Entry, EntryKind, ReadError};
use telemetry::trace::Span;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Duration, Instant};

use crate::apply::{ApplyInput, Visit};
use crate::driver::{Control, Input, PendingRead, Proposal};
use crate::error::{ControlError, Failure, ProposeError, QueryError};
use crate::groups::Shared;
use crate::machine::StateMachine;
use crate::needs::below;

/// How long a call waits for somebody to lead.
const LEADER_WAIT: Duration = Duration::from_secs(5);

/// One group. `M` is the machine it was started with.
pub struct Group<M> {
    id: GroupId,
    applied: watch::Receiver<Index>,
    leadership: watch::Receiver<Leadership>,
    shared: Arc<Shared>,
    machine: PhantomData<fn() -> M>,
}

/// A command that is durable and applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied<R> {
    /// Where it stands in the group's log.
    pub index: Index,
    /// What the machine answered.
    pub reply: R,
}

/// Commands read back from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBack {
    /// The commands, in order.
    pub entries: Vec<Entry>,
    /// Where to go on. Behind the last command there may have been others than commands.
    pub next: Index,
    /// The first index before `next` whose entry is gone: it has been compacted away.
    pub gap: Option<Index>,
}

/// Who leads a group, as far as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The current term.
    pub term: Term,
    /// Nobody, or nobody known.
    pub leader: Option<NodeId>,
    /// This node.
    pub is_here: bool,
}

impl<M> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self {
            id: self.id,
            applied: self.applied.clone(),
            leadership: self.leadership.clone(),
            shared: self.shared.clone(),
            machine: PhantomData,
        }
    }
}

impl<M: StateMachine> Group<M> {
    pub(crate) fn new(
        id: GroupId,
        applied: watch::Receiver<Index>,
        leadership: watch::Receiver<Leadership>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { id, applied, leadership, shared, machine: PhantomData }
    }

    /// Which group this is.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// The newest term that this node knows: higher after every restart of a leader.
    #[must_use]
    pub fn term(&self) -> Term {
        self.leadership.borrow().term
    }

    /// Who leads, now and on every change.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Answers once the command is durable on a majority and applied here. Any member takes it;
    /// while nobody leads, it waits a while.
    ///
    /// # Errors
    ///
    /// [`ProposeError::Indeterminate`] when it may have been applied; every other error means
    /// that nothing was done.
    pub async fn propose(&self, command: Bytes) -> Result<Applied<M::Reply>, ProposeError> {
        self.propose_as(command, false).await
    }

    /// Like [`propose`](Self::propose), for a small command that lets others go, such as an
    /// acknowledgement or a delete: on a full disk it is taken as long as the log's reserve lasts.
    ///
    /// # Errors
    ///
    /// As [`propose`](Self::propose).
    pub async fn propose_freeing(&self, command: Bytes) -> Result<Applied<M::Reply>, ProposeError> {
        self.propose_as(command, true).await
    }

    async fn propose_as(
        &self,
        command: Bytes,
        freeing: bool,
    ) -> Result<Applied<M::Reply>, ProposeError> {
        self.check_len(&command)?;
        let deadline = Instant::now() + LEADER_WAIT;
        loop {
            match self.propose_once(command.clone(), freeing, None).await {
                // Nothing was done: it may be tried again when somebody leads.
                Err(ProposeError::NotLeader { leader }) => {
                    let refused = ProposeError::NotLeader { leader };
                    self.wait_for_leader(deadline).await.ok_or(refused)?;
                }
                outcome => return outcome,
            }
        }
    }

    fn check_len(&self, command: &Bytes) -> Result<(), ProposeError> {
        let (len, max) = (command.len(), self.shared.config.max_command_bytes);
        if max < len { Err(ProposeError::TooLarge { len, max }) } else { Ok(()) }
    }

    /// Like [`propose`](Self::propose), but only while this node leads in this term: never passed
    /// on to another leader, and waits for none. For commands that say what only the leader of that
    /// term knows, such as who holds what: an entry of a term stands before every entry of a later
    /// one, so what a deposed leader still knows cannot follow what its successor has written.
    /// `freeing` as in [`propose_freeing`](Self::propose_freeing).
    ///
    /// # Errors
    ///
    /// [`ProposeError::NotLeader`] also when this node leads in another term by now, and when its
    /// entry was replaced by its successor's; then nothing was done. Else as
    /// [`propose`](Self::propose).
    pub async fn propose_leading(
        &self,
        term: Term,
        command: Bytes,
        freeing: bool,
    ) -> Result<Applied<M::Reply>, ProposeError> {
        self.check_len(&command)?;
        self.propose_once(command, freeing, Some(term)).await
    }

    /// The term in which this node leads, once it has applied everything that was committed before
    /// that term and knows that nobody leads after it: from here on it may hand things out. `None`
    /// if another node leads, or nobody, or if the lead was lost while this was found out. Costs
    /// what a [`barrier`](Self::barrier) costs: one round of confirmations, no disk. Waits up to
    /// 5 s for a majority.
    ///
    /// It may be lost right after: what depends on it goes by
    /// [`propose_leading`](Self::propose_leading).
    pub async fn leading(&self) -> Option<Term> {
        let before = *self.leadership.borrow();
        if !before.is_here {
            return None;
        }
        self.barrier_once(Instant::now() + LEADER_WAIT).await.ok()?;
        (*self.leadership.borrow() == before).then_some(before.term)
    }

    async fn propose_once(
        &self,
        command: Bytes,
        freeing: bool,
        leading: Option<Term>,
    ) -> Result<Applied<M::Reply>, ProposeError> {
        let (reply, outcome) = oneshot::channel();
        let span = Span::internal("append").attr("quartet.group", self.id.0.to_string()).start();
        let span = span.is_recorded().then(|| Box::new(span));
        let input = Input::Propose(Proposal {
            group: self.id,
            command,
            reply,
            since: Instant::now(),
            freeing,
            leading,
            span,
        });
        self.shared.driver.try_send(input).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ProposeError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => ProposeError::Stopped,
        })?;
        // Before the hand-over a failure is certain; after it, silence means unknown.
        let applied = outcome.await.map_err(|_| ProposeError::Indeterminate)??;
        let reply = applied.reply.downcast::<M::Reply>();
        Ok(Applied { index: applied.index, reply: *reply.expect("the group was started with M") })
    }

    /// Waits until somebody leads, a moment at least: who is known may just have gone. `None` when
    /// the time is over.
    async fn wait_for_leader(&self, deadline: Instant) -> Option<()> {
        /// Between two tries with the same leader.
        const PAUSE: Duration = Duration::from_millis(20);
        let mut leadership = self.leadership.clone();
        tokio::time::sleep(PAUSE).await;
        // One who is known and cannot be reached is no reason to try for ever.
        if deadline <= Instant::now() {
            return None;
        }
        let known = leadership.wait_for(|now| now.leader.is_some());
        tokio::time::timeout_at(deadline, known).await.ok()?.ok()?;
        Some(())
    }

    /// Waits until this node has applied whatever was answered, anywhere, before the call: what is
    /// read of its machine from then on is linearizable, on every member.
    ///
    /// # Errors
    ///
    /// When nobody leads for a while, or the group does not run here.
    pub async fn barrier(&self) -> Result<(), QueryError> {
        let deadline = Instant::now() + LEADER_WAIT;
        loop {
            match self.barrier_once(deadline).await {
                Err(QueryError::NotLeader { leader }) => {
                    let error = QueryError::NotLeader { leader };
                    self.wait_for_leader(deadline).await.ok_or(error)?;
                }
                outcome => return outcome,
            }
        }
    }

    async fn barrier_once(&self, deadline: Instant) -> Result<(), QueryError> {
        let (done, outcome) = oneshot::channel();
        let input = Input::Read(PendingRead { group: self.id, done });
        self.shared.driver.send(input).await.map_err(|_| QueryError::Stopped)?;
        let unanswered = || Ok(Err(QueryError::NotLeader { leader: None }));
        let outcome = tokio::time::timeout_at(deadline, outcome).await;
        outcome.unwrap_or_else(|_| unanswered()).map_err(|_| QueryError::Stopped)?
    }

    /// Reads the state on the apply task, behind a [`barrier`](Self::barrier). That task runs
    /// nothing else meanwhile: keep it short, clone what is big.
    ///
    /// # Errors
    ///
    /// As [`barrier`](Self::barrier).
    pub async fn query<R: Send + 'static>(
        &self,
        read: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, QueryError> {
        self.barrier().await?;
        self.local(|machine| read(machine)).await
    }

    /// Changes the part of the machine that is not replicated, on the apply task, with whatever is
    /// applied here.
    ///
    /// # Errors
    ///
    /// When the group does not run here.
    pub async fn local<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut M) -> R + Send + 'static,
    ) -> Result<R, QueryError> {
        let (reply, answer) = oneshot::channel();
        let visit: Visit = Box::new(move |machine: &mut dyn Any| {
            let machine = machine.downcast_mut().expect("the group was started with M");
            // The caller may have left; then nobody is told.
            let _ = reply.send(change(machine));
        });
        let input = ApplyInput::Visit { group: self.id, from: Index::ZERO, visits: vec![visit] };
        self.shared.apply.send(input).await.map_err(|_| QueryError::Stopped)?;
        answer.await.map_err(|_| QueryError::Stopped)
    }

    /// Resolves when the group takes part no more on this node: it was removed, or it cannot go on
    /// because its log or its machine is of no use. Never while the process stops on purpose.
    pub fn ended(&self) -> impl Future<Output = Failure> + Send + 'static {
        let (id, mut leadership) = (self.id, self.leadership.clone());
        let driver = self.shared.driver.downgrade();
        async move {
            while leadership.changed().await.is_ok() {}
            // Else all groups end with the driver, which is another matter.
            if driver.upgrade().is_none_or(|driver| driver.is_closed()) {
                std::future::pending::<()>().await;
            }
            Failure::Group(id)
        }
    }

    /// A moment in the life of the group.
    ///
    /// # Errors
    ///
    /// When the group does not run here.
    pub async fn status(&self) -> Result<Status, ControlError> {
        self.control(Control::Status).await
    }

    /// Changes the membership, but only while this node leads in this term: whoever decides on a
    /// change looks at the group first, and what it saw may be wrong in any later term, also if
    /// this node leads again. The answer says that the leader has begun; the change is through when
    /// [`status`](Self::status) shows it committed and not joint.
    ///
    /// # Errors
    ///
    /// When this node does not lead in this term, or the change makes no sense.
    pub async fn change(
        &self,
        term: Term,
        changes: Vec<Change>,
    ) -> Result<Result<Index, ChangeRefused>, ControlError> {
        self.control(|done| Control::Change(term, changes, done)).await
    }

    /// Hands leadership over.
    ///
    /// # Errors
    ///
    /// When this node does not lead, or the other one cannot.
    pub async fn transfer(&self, to: NodeId) -> Result<Result<(), TransferRefused>, ControlError> {
        self.control(|done| Control::Transfer(to, done)).await
    }

    /// Hands leadership to whoever is best, if this node leads: before it stops.
    pub async fn resign(&self) {
        let input = Input::Control(self.id, Control::Resign);
        // A driver that has ended leads nothing.
        let _ = self.shared.driver.send(input).await;
    }

    async fn control<T>(
        &self,
        control: impl FnOnce(oneshot::Sender<T>) -> Control,
    ) -> Result<T, ControlError> {
        let (done, answer) = oneshot::channel();
        let input = Input::Control(self.id, control(done));
        self.shared.driver.send(input).await.map_err(|_| ControlError::Stopped)?;
        answer.await.map_err(|_| ControlError::Stopped)
    }

    /// Reads commands back from `from` on, up to `max_bytes` but at least one if there is one:
    /// from memory if they are recent, else from the disk on a thread of its own.
    ///
    /// # Errors
    ///
    /// When the log is damaged there, by file and offset.
    pub async fn read(&self, from: Index, max_bytes: usize) -> Result<ReadBack, ReadError> {
        let mut back = ReadBack { entries: Vec::new(), next: from, gap: None };
        loop {
            let found = self.read_all(back.next, max_bytes).await?;
            if found.is_empty() {
                return Ok(back);
            }
            for entry in found {
                if entry.index != back.next {
                    back.gap.get_or_insert(back.next);
                }
                back.next = entry.index.next();
                // Blanks and memberships stand in between and are nobody's business.
                if entry.kind == EntryKind::Command {
                    back.entries.push(entry);
                }
            }
            if !back.entries.is_empty() {
                return Ok(back);
            }
        }
    }

    /// Reads the commands at these indexes back, in ascending order whatever theirs, on a thread of
    /// its own where they are not in memory. What has been compacted away, or is no command, is left
    /// out. All of them are held in memory: ask for as many as that allows.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub async fn read_at(&self, indexes: &[Index]) -> Result<Vec<Entry>, ReadError> {
        let mut sorted = indexes.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let mut ranges: Vec<RangeInclusive<Index>> = Vec::new();
        for index in sorted {
            match ranges.last_mut() {
                Some(last) if last.end().next() == index => *last = *last.start()..=index,
                _ => ranges.push(index..=index),
            }
        }
        let (wal, group) = (self.shared.wal.clone(), self.id);
        let read = move || wal.read_ranges(group, &ranges, usize::MAX);
        let mut entries = tokio::task::spawn_blocking(read)
            .await
            .expect("reading does not panic, and the runtime outlives its tasks")?;
        entries.retain(|entry| entry.kind == EntryKind::Command);
        Ok(entries)
    }

    /// The entries that the machine reads ([`StateMachine::retained`]) and this node does not have:
    /// none, where everything is as it should be. For who begins to lead, behind
    /// [`leading`](Self::leading): if there are some, the copy is damaged. Takes as long as
    /// `retained` does, on the apply task.
    ///
    /// # Errors
    ///
    /// When the group does not run here.
    pub async fn missing(&self) -> Result<Vec<RangeInclusive<Index>>, QueryError> {
        // As far as everything is here for sure: the machine may be further by then.
        let applied = *self.applied().borrow();
        let retained = self.local(|machine| machine.retained()).await?;
        Ok(self.shared.wal.missing(self.id, &below(retained, applied)))
    }

    async fn read_all(&self, from: Index, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        if let Some(entries) = self.shared.wal.cached(self.id, from, max_bytes) {
            return Ok(entries);
        }
        let (wal, group) = (self.shared.wal.clone(), self.id);
        tokio::task::spawn_blocking(move || wal.read(group, from, max_bytes))
            .await
            .expect("reading does not panic, and the runtime outlives its tasks")
    }

    /// The highest applied index; wakes whoever waits for something new.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Index> {
        self.applied.clone()
    }
}
