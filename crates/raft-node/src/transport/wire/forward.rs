//! Forwards and their answers, to the wire and back.

use consensus::{GroupId, Index, NodeId, Term};

use super::schema;
use crate::transport::frame::{Forward, ForwardOutcome, ForwardReply, Mark};

/// Numbers of the outcomes. 0 is none: an answer that left it out says nothing.
pub(super) mod code {
    pub(crate) const PLACED: u32 = 1;
    pub(crate) const NOT_LEADER: u32 = 2;
    pub(crate) const OVERLOADED: u32 = 3;
    pub(crate) const DISK_FULL: u32 = 4;
    pub(crate) const TOO_LARGE: u32 = 5;
    pub(crate) const STOPPED: u32 = 6;
    pub(crate) const INDETERMINATE: u32 = 7;
}

impl From<&Mark> for schema::Mark {
    fn from(mark: &Mark) -> Self {
        Self { group: mark.group.0, index: mark.index.0, trace: mark.trace.to_string() }
    }
}

impl schema::Mark {
    /// `None`: the trace is not written as this release knows it.
    pub(crate) fn read(&self) -> Option<Mark> {
        let trace = self.trace.parse().ok()?;
        Some(Mark { group: GroupId(self.group), index: Index(self.index), trace })
    }
}

impl From<&Forward> for schema::Forward {
    fn from(forward: &Forward) -> Self {
        Self {
            id: forward.id,
            group: forward.group.0,
            command: forward.command.clone(),
            freeing: forward.freeing,
            trace: forward.trace.clone(),
        }
    }
}

impl From<schema::Forward> for Forward {
    fn from(forward: schema::Forward) -> Self {
        let schema::Forward { id, group, command, freeing, trace } = forward;
        Self { id, group: GroupId(group), command, freeing, trace }
    }
}

impl From<ForwardReply> for schema::ForwardReply {
    fn from(reply: ForwardReply) -> Self {
        let with = |code| Self { id: reply.id, code, ..Self::default() };
        match reply.outcome {
            ForwardOutcome::Placed { term, index } => {
                Self { term: term.0, index: index.0, ..with(code::PLACED) }
            }
            ForwardOutcome::NotLeader { leader } => {
                Self { leader: leader.map(|node| node.0), ..with(code::NOT_LEADER) }
            }
            ForwardOutcome::Overloaded => with(code::OVERLOADED),
            ForwardOutcome::DiskFull => with(code::DISK_FULL),
            ForwardOutcome::TooLarge { max } => Self { max, ..with(code::TOO_LARGE) },
            ForwardOutcome::Stopped => with(code::STOPPED),
            ForwardOutcome::Indeterminate => with(code::INDETERMINATE),
        }
    }
}

impl From<schema::ForwardReply> for ForwardReply {
    fn from(reply: schema::ForwardReply) -> Self {
        let outcome = match reply.code {
            code::PLACED => {
                ForwardOutcome::Placed { term: Term(reply.term), index: Index(reply.index) }
            }
            code::NOT_LEADER => ForwardOutcome::NotLeader { leader: reply.leader.map(NodeId) },
            code::OVERLOADED => ForwardOutcome::Overloaded,
            code::DISK_FULL => ForwardOutcome::DiskFull,
            code::TOO_LARGE => ForwardOutcome::TooLarge { max: reply.max },
            code::STOPPED => ForwardOutcome::Stopped,
            // Something was decided that this release has no word for.
            _ => ForwardOutcome::Indeterminate,
        };
        Self { id: reply.id, outcome }
    }
}
