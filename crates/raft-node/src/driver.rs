//! The owner of the groups' logs: gives every command its term and index, hands it to the
//! write-ahead log, and passes it on to the apply task once it is durable.
//!
//! There is no timer and no batch size to tune: whatever waits in the inbox when the driver looks
//! becomes one submission, and whatever is submitted during an fsync shares the next one.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use consensus::{GroupId, HardState, Index, NodeId, Term};
use storage::{Durable, Entry, GroupState, IoToken, SubmitError, Wal, Write};
use telemetry::trace::ActiveSpan;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::apply::{AnyApplied, ApplyInput};
use crate::error::{ProposeError, RemoveError, StartError};

/// The one voter of every group, until consensus names more.
const SELF: NodeId = NodeId(1);
/// Inputs taken from the inbox for one submission.
const BATCH_MAX: usize = 1024;

/// Whoever waits for a command.
pub(crate) type ReplySender = oneshot::Sender<Result<AnyApplied, ProposeError>>;

pub(crate) enum Input {
    Propose(Proposal),
    /// Take the lead in a new term.
    Lead {
        group: GroupId,
        done: oneshot::Sender<Result<Term, StartError>>,
    },
    /// Give the lead back: the group did not start.
    Resign {
        group: GroupId,
    },
    Remove {
        group: GroupId,
        done: oneshot::Sender<Result<(), RemoveError>>,
    },
}

/// A command on its way into the log.
pub(crate) struct Proposal {
    pub(crate) group: GroupId,
    pub(crate) command: Bytes,
    pub(crate) reply: ReplySender,
    /// It lets others go: it may use the reserve of a full disk.
    pub(crate) freeing: bool,
    /// The proposer's span, if anybody will see it: it travels along and notes what it waited for.
    pub(crate) span: Option<Box<ActiveSpan>>,
}

/// An entry on its way to the apply task.
pub(crate) struct Proposed {
    pub(crate) group: GroupId,
    pub(crate) entry: Entry,
    pub(crate) reply: ReplySender,
    pub(crate) freeing: bool,
    pub(crate) span: Option<Box<ActiveSpan>>,
}

/// What happens when a token is durable.
enum InFlight {
    Entries(Vec<Proposed>),
    Led { term: Term, done: oneshot::Sender<Result<Term, StartError>> },
    Removed { done: oneshot::Sender<Result<(), RemoveError>> },
}

pub(crate) struct Driver {
    wal: Wal,
    inbox: mpsc::Receiver<Input>,
    apply: mpsc::Sender<ApplyInput>,
    led: BTreeMap<GroupId, Led>,
    in_flight: VecDeque<(IoToken, InFlight)>,
}

/// The tail of a group this node leads.
#[derive(Clone, Copy)]
struct Led {
    term: Term,
    last: Index,
}

impl Driver {
    pub(crate) fn new(
        wal: Wal,
        inbox: mpsc::Receiver<Input>,
        apply: mpsc::Sender<ApplyInput>,
    ) -> Self {
        Self { wal, inbox, apply, led: BTreeMap::new(), in_flight: VecDeque::new() }
    }

    /// Runs until told to stop, or until the log fails: then nothing more can be promised, and
    /// whoever waits learns that the outcome is unknown.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut durable = self.wal.durable();
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = durable.changed() => {
                    let Durable { token, failed } = durable.borrow_and_update().clone();
                    if changed.is_err() || failed.is_some() {
                        return;
                    }
                    if self.on_durable(token).await.is_err() {
                        return;
                    }
                }
                taken = self.inbox.recv_many(&mut batch, BATCH_MAX) => {
                    if taken == 0 {
                        return;
                    }
                    self.handle_batch(batch.drain(..));
                }
            }
        }
    }

    fn handle_batch(&mut self, inputs: impl Iterator<Item = Input>) {
        let mut proposed = Vec::new();
        for input in inputs {
            match input {
                Input::Propose(proposal) => proposed.extend(self.place(proposal)),
                Input::Lead { group, done } => self.handle_lead(group, done),
                Input::Resign { group } => drop(self.led.remove(&group)),
                Input::Remove { group, done } => {
                    // In order: what was proposed before the removal goes to the log before it.
                    self.submit_proposed(std::mem::take(&mut proposed));
                    self.handle_remove(group, done);
                }
            }
        }
        self.submit_proposed(proposed);
    }

    /// Gives a command its place in its group's log, if this node leads the group.
    fn place(&mut self, proposal: Proposal) -> Option<Proposed> {
        let Proposal { group, command, reply, freeing, mut span } = proposal;
        let Some(led) = self.led.get_mut(&group) else {
            // The proposer may have left; here and below, then nobody is told.
            let _ = reply.send(Err(ProposeError::Stopped));
            return None;
        };
        led.last = led.last.next();
        let entry = Entry::command(led.term, led.last, command);
        if let Some(span) = &mut span {
            span.set("quartet.term", entry.term.0.to_string());
            span.set("quartet.index", entry.index.0.to_string());
        }
        Some(Proposed { group, entry, reply, freeing, span })
    }

    fn submit_proposed(&mut self, proposed: Vec<Proposed>) {
        if proposed.is_empty() {
            return;
        }
        match self.wal.submit(appends(&proposed)) {
            Ok(token) => self.in_flight.push_back((token, InFlight::Entries(proposed))),
            Err(SubmitError::DiskFull) => self.submit_freeing(proposed),
            Err(error) => self.refuse(proposed, &error),
        }
    }

    /// On a full disk only what lets others go has room, in the reserve.
    fn submit_freeing(&mut self, proposed: Vec<Proposed>) {
        self.take_back(&proposed);
        let mut freeing = Vec::new();
        for mut proposed in proposed {
            match self.led.get_mut(&proposed.group) {
                Some(led) if proposed.freeing => {
                    led.last = led.last.next();
                    proposed.entry.index = led.last;
                    freeing.push(proposed);
                }
                _ => drop(proposed.reply.send(Err(ProposeError::DiskFull))),
            }
        }
        if freeing.is_empty() {
            return;
        }
        match self.wal.submit_freeing(appends(&freeing)) {
            Ok(token) => self.in_flight.push_back((token, InFlight::Entries(freeing))),
            Err(error) => self.refuse(freeing, &error),
        }
    }

    fn refuse(&mut self, proposed: Vec<Proposed>, error: &SubmitError) {
        self.take_back(&proposed);
        for Proposed { reply, .. } in proposed {
            let _ = reply.send(Err(refusal(error)));
        }
    }

    /// Nothing of this submission is in the log: its indexes are free again.
    fn take_back(&mut self, proposed: &[Proposed]) {
        for Proposed { group, entry, .. } in proposed.iter().rev() {
            if let Some(led) = self.led.get_mut(group) {
                led.last = Index(entry.index.0 - 1);
            }
        }
    }

    fn handle_lead(&mut self, group: GroupId, done: oneshot::Sender<Result<Term, StartError>>) {
        match self.try_lead(group) {
            Ok((token, term)) => self.in_flight.push_back((token, InFlight::Led { term, done })),
            Err(error) => drop(done.send(Err(error))),
        }
    }

    /// §5.2, with one voter: a new term and a vote for itself, durable before it acts.
    fn try_lead(&mut self, group: GroupId) -> Result<(IoToken, Term), StartError> {
        if self.led.contains_key(&group) {
            return Err(StartError::Running { group });
        }
        let (newest, last) = match self.wal.group(group) {
            Some(GroupState { faulty: Some(fault), .. }) => {
                return Err(StartError::Damaged { group, detail: fault.to_string() });
            }
            Some(state) => (state.hard_state.term.max(state.last_term), state.last),
            None => (Term(0), Index::ZERO),
        };
        let term = Term(newest.0 + 1);
        let hard_state = HardState { term, voted_for: Some(SELF), commit: last };
        let write = Write::HardState { group, hard_state };
        let token = self.wal.submit(vec![write]).map_err(|error| match error {
            SubmitError::DiskFull => StartError::DiskFull,
            _ => StartError::Stopped,
        })?;
        self.led.insert(group, Led { term, last });
        Ok((token, term))
    }

    fn handle_remove(&mut self, group: GroupId, done: oneshot::Sender<Result<(), RemoveError>>) {
        match self.wal.submit(vec![Write::Remove { group }]) {
            Ok(token) => {
                self.led.remove(&group);
                self.in_flight.push_back((token, InFlight::Removed { done }));
            }
            Err(SubmitError::Failed) => drop(done.send(Err(RemoveError::Stopped))),
            Err(_) => drop(done.send(Err(RemoveError::Overloaded))),
        }
    }

    /// Tokens are durable in order, so this one stands for all before it.
    async fn on_durable(&mut self, token: IoToken) -> Result<(), Stopped> {
        while let Some((_, done)) = self.in_flight.pop_front_if(|(waits, _)| *waits <= token) {
            match done {
                InFlight::Entries(mut proposed) => {
                    for span in proposed.iter_mut().filter_map(|proposed| proposed.span.as_mut()) {
                        span.event("durable", []);
                    }
                    let input = ApplyInput::Committed(proposed);
                    self.apply.send(input).await.map_err(|_| Stopped)?;
                }
                InFlight::Led { term, done } => drop(done.send(Ok(term))),
                InFlight::Removed { done } => drop(done.send(Ok(()))),
            }
        }
        Ok(())
    }
}

/// The apply task has ended.
struct Stopped;

/// One append per group, in the order of first mention; entries keep their order.
fn appends(proposed: &[Proposed]) -> Vec<Write> {
    let mut by_group: BTreeMap<GroupId, Vec<Entry>> = BTreeMap::new();
    for Proposed { group, entry, .. } in proposed {
        by_group.entry(*group).or_default().push(entry.clone());
    }
    by_group.into_iter().map(|(group, entries)| Write::Append { group, entries }).collect()
}

fn refusal(error: &SubmitError) -> ProposeError {
    match error {
        SubmitError::QueueFull => ProposeError::Overloaded,
        SubmitError::DiskFull => ProposeError::DiskFull,
        _ => ProposeError::Stopped,
    }
}
