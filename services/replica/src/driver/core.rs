//! The primary's or the replica's state machine, whichever this node is.

use replication::{Effect, Epoch, Epochs, Fault, Head, Index, IoToken, Primary, Replica};

/// Which of the two this node runs.
pub(crate) enum Core {
    Primary(Primary),
    Replica(Replica),
}

macro_rules! either {
    ($self:ident, $core:ident => $call:expr) => {
        match $self {
            Self::Primary($core) => $call,
            Self::Replica($core) => $call,
        }
    };
}

impl Core {
    pub(crate) const fn is_primary(&self) -> bool {
        matches!(self, Self::Primary(_))
    }

    pub(crate) const fn primary(&mut self) -> Option<&mut Primary> {
        match self {
            Self::Primary(primary) => Some(primary),
            Self::Replica(_) => None,
        }
    }

    pub(crate) const fn replica(&mut self) -> Option<&mut Replica> {
        match self {
            Self::Primary(_) => None,
            Self::Replica(replica) => Some(replica),
        }
    }

    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        either!(self, core => core.take_effects())
    }

    pub(crate) fn persisted(&mut self, token: IoToken) {
        either!(self, core => core.persisted(token));
    }

    pub(crate) fn epoch(&self) -> Epoch {
        either!(self, core => core.epoch())
    }

    pub(crate) fn head(&self) -> Head {
        either!(self, core => core.head())
    }

    pub(crate) fn durable(&self) -> Index {
        either!(self, core => core.durable())
    }

    pub(crate) fn commit(&self) -> Index {
        either!(self, core => core.commit())
    }

    pub(crate) fn epochs(&self) -> &Epochs {
        either!(self, core => core.epochs())
    }

    /// Our state is not the primary's. A primary's own is what replicas are compared with.
    pub(crate) fn halt(&mut self, fault: Fault) {
        if let Self::Replica(replica) = self {
            replica.halt(fault);
        }
    }
}
