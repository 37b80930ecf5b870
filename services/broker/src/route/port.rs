//! A group as this node reaches it: whether it has a copy, whether it leads, who else may.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use consensus::{GroupId, Index, NodeId, Term};
use messaging::catalog::Placement;
use raft_node::{Group, StateMachine};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::LogError;

/// One group. It lives as long as what is in the group, wherever that moves.
pub(crate) struct Port<M> {
    pub(crate) id: GroupId,
    here: watch::Sender<Here<M>>,
    led: watch::Sender<Option<Led>>,
    placement: watch::Sender<Arc<Placement>>,
    /// Who leads, as another broker said. 0: nobody said.
    hint: AtomicU64,
    /// Wakes the keeper: there is progress to report or something to give up.
    pub(crate) keeper: Notify,
    /// Counts what brings messages besides log entries.
    changes: watch::Sender<u64>,
    /// Cancelled when the group is deleted.
    pub(crate) gone: CancellationToken,
}

/// What this node has of a group.
pub(crate) enum Here<M> {
    /// Nothing.
    Elsewhere,
    /// A copy.
    Member {
        group: Group<M>,
        /// Cancelled when the copy goes.
        end: CancellationToken,
    },
    /// A copy that is not served.
    Unserved(Unserved),
}

/// Why a copy is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unserved {
    /// Its log or snapshot cannot be used: that stays so.
    Damaged(String),
    /// There was no room to start it: that is tried again.
    NotYet(String),
}

/// This node leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Led {
    /// What it leads in; also names what it hands out.
    pub(crate) term: Term,
    pub(crate) since: Instant,
    /// Nobody else belongs to the group, so nobody else can lead it.
    pub(crate) is_alone: bool,
}

/// Where a request for a group goes.
pub(crate) enum Route<M> {
    /// It is led here.
    Leading { group: Group<M>, led: Led },
    /// A copy is here, and may be led elsewhere.
    Member { group: Group<M>, leader: Option<NodeId> },
    /// Nothing is here.
    Elsewhere,
}

/// A moment of a group: when it is another, there may be more than before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moment {
    term: Term,
    applied: Index,
    changes: u64,
}

impl<M> std::fmt::Debug for Port<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Port").field(&self.id).finish()
    }
}

impl<M> Port<M> {
    pub(crate) fn new(id: GroupId, placement: Arc<Placement>) -> Self {
        Self {
            id,
            here: watch::Sender::new(Here::Elsewhere),
            led: watch::Sender::new(None),
            placement: watch::Sender::new(placement),
            hint: AtomicU64::new(0),
            keeper: Notify::new(),
            changes: watch::Sender::new(0),
            gone: CancellationToken::new(),
        }
    }

    /// Where it lives, as the catalog said last.
    pub(crate) fn placement(&self) -> Arc<Placement> {
        self.placement.borrow().clone()
    }

    pub(crate) fn place(&self, placement: Arc<Placement>) {
        self.placement.send_replace(placement);
    }

    /// What this node has of it from now on.
    pub(crate) fn be(&self, here: Here<M>) {
        let before = self.here.send_replace(here);
        if let Here::Member { end, .. } = before {
            end.cancel();
        }
    }

    /// This node leads, or does so no more.
    pub(crate) fn lead(&self, led: Option<Led>) {
        self.led.send_replace(led);
        self.wake();
    }

    /// Others are about to belong to the group.
    pub(crate) fn is_joined(&self) {
        self.led.send_modify(|led| {
            if let Some(led) = led {
                led.is_alone = false;
            }
        });
    }

    pub(crate) fn led(&self) -> Option<Led> {
        *self.led.borrow()
    }

    /// It is deleted: whoever waits looks and finds it gone.
    pub(crate) fn end(&self) {
        self.gone.cancel();
        self.wake();
    }

    /// Whoever waits for messages looks again.
    pub(crate) fn wake(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Why it is not served, if it should be.
    pub(crate) fn unserved(&self) -> Option<LogError> {
        match &*self.here.borrow() {
            Here::Unserved(unserved) => Some(unserved.error()),
            _ => None,
        }
    }

    /// It may start at the next attempt.
    pub(crate) fn is_to_start(&self) -> bool {
        matches!(&*self.here.borrow(), Here::Unserved(Unserved::NotYet(_)))
    }

    /// There is a copy, served or not.
    pub(crate) fn is_here(&self) -> bool {
        !matches!(&*self.here.borrow(), Here::Elsewhere)
    }

    /// The copy that is served here.
    pub(crate) fn group(&self) -> Option<Group<M>> {
        match &*self.here.borrow() {
            Here::Member { group, .. } => Some(group.clone()),
            _ => None,
        }
    }

    /// Another broker has said who leads.
    pub(crate) fn hint(&self, leader: Option<NodeId>) {
        self.hint.store(leader.map_or(0, |leader| leader.0), Ordering::Relaxed);
    }

    /// Whom to ask, the most likely leader first.
    pub(crate) fn others(&self, me: NodeId) -> Vec<NodeId> {
        let placement = self.placement.borrow().clone();
        let hint = Some(NodeId(self.hint.load(Ordering::Relaxed))).filter(|hint| hint.0 != 0);
        let preferred = Some(placement.preferred).filter(|node| placement.replica(*node).is_some());
        let mut nodes: Vec<NodeId> = Vec::new();
        for node in hint.into_iter().chain(preferred).chain(placement.nodes()) {
            if node != me && !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        nodes
    }
}

impl<M: StateMachine> Port<M> {
    /// Where a request goes now.
    pub(crate) fn route(&self) -> Result<Route<M>, LogError> {
        let group = match &*self.here.borrow() {
            Here::Member { group, .. } => group.clone(),
            Here::Elsewhere => return Ok(Route::Elsewhere),
            // The others may have what this one has not.
            Here::Unserved(_) if 1 < self.placement.borrow().replicas.len() => {
                return Ok(Route::Elsewhere);
            }
            Here::Unserved(unserved) => return Err(unserved.error()),
        };
        let now = *group.leadership().borrow();
        Ok(match self.led() {
            Some(led) if now.is_here && now.term == led.term => Route::Leading { group, led },
            _ => Route::Member { group, leader: now.leader },
        })
    }

    /// The term of the copy that is served here.
    pub(crate) fn term(&self) -> Option<Term> {
        match &*self.here.borrow() {
            Here::Member { group, .. } => Some(group.leadership().borrow().term),
            _ => None,
        }
    }

    /// Now, as this copy has it.
    pub(crate) fn moment(&self, group: &Group<M>) -> Moment {
        Moment {
            term: self.led().map_or(Term(0), |led| led.term),
            applied: *group.applied().borrow(),
            changes: *self.changes.borrow(),
        }
    }

    /// Resolves when it is another moment. Not when the group has ended and nothing can come.
    pub(crate) async fn after(&self, group: &Group<M>, seen: Moment) {
        let (mut applied, mut changes) = (group.applied(), self.changes.subscribe());
        while self.moment(group) == seen {
            tokio::select! {
                Ok(()) = applied.changed() => (),
                Ok(()) = changes.changed() => (),
                else => std::future::pending::<()>().await,
            }
        }
    }

    /// Who leads, as far as is known on this node.
    pub(crate) fn leader(&self, me: NodeId) -> Option<NodeId> {
        match self.route() {
            Ok(Route::Leading { .. }) => Some(me),
            Ok(Route::Member { leader, .. }) => leader,
            _ => Some(NodeId(self.hint.load(Ordering::Relaxed))).filter(|hint| hint.0 != 0),
        }
    }

    /// A moment in which who leads may have become clear.
    pub(crate) async fn settle(&self) {
        /// The next try comes at the latest then.
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(25);
        let mut led = self.led.subscribe();
        let _ = tokio::time::timeout(PAUSE, led.changed()).await;
    }
}

impl Unserved {
    fn error(&self) -> LogError {
        match self.clone() {
            Self::Damaged(reason) => LogError::Damaged { reason },
            Self::NotYet(reason) => LogError::NotYet { reason },
        }
    }
}
