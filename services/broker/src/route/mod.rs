//! Which broker carries out an operation, and the way there.
//!
//! ```text
//! handlers ─▶ on_leader, on_member ─┬─ here: Op::run
//!                                   └─ else: peer call ─▶ serve ─▶ Op::run there
//! ```
//!
//! **Invariant:** a call between brokers is answered or refused, never passed on.
//! **Invariant:** an operation is tried again only where the answer says that nothing was done.

mod answered;
mod late;
mod op;
mod peer;
mod port;
mod propose;
mod serve;
mod wire;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use answered::who_answers;
pub(crate) use late::Late;
pub(crate) use op::{At, By, Handle, Kind, Op};
pub(crate) use peer::Peers;
pub(crate) use port::{Here, Led, Moment, Port, Route, Unserved};
pub(crate) use propose::propose_leading;
pub(crate) use serve::serve;
pub(crate) use wire::{MAX_BYTES, MEDIA_TYPE, PATH};

use crate::broker::Broker;
use crate::error::{LogError, MessageError};

/// How long somebody who can carry out an operation is looked for.
const PATIENCE: Duration = Duration::from_secs(5);

impl Broker {
    /// Carries an operation out on the group's leader, or on a member, whichever it needs.
    pub(crate) async fn run<O: Op>(
        &self,
        on: &Arc<O::On>,
        op: O,
    ) -> Result<O::Answer, MessageError> {
        let until = self.shared.clock.now() + PATIENCE;
        let mut tries = 0;
        loop {
            let outcome = self.try_once(on, &op, tries).await;
            let port = on.port();
            match outcome {
                Err(error) if error.may_pass() && !port.gone.is_cancelled() => {
                    if until <= self.shared.clock.now() || self.shared.stop.is_cancelled() {
                        return Err(error);
                    }
                    tries += 1;
                    port.settle().await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_once<O: Op>(
        &self,
        on: &Arc<O::On>,
        op: &O,
        tries: usize,
    ) -> Result<O::Answer, MessageError> {
        let port = on.port();
        let me = self.node();
        let to = match port.route()? {
            Route::Leading { group, led } => {
                let at = At { broker: self.clone(), handle: on.clone(), group, led: Some(led) };
                answered::note(&self.shared.name);
                return op.clone().run(at).await;
            }
            Route::Member { group, .. } if O::BY == By::AnyMember => {
                let at = At { broker: self.clone(), handle: on.clone(), group, led: None };
                answered::note(&self.shared.name);
                return op.clone().run(at).await;
            }
            Route::Member { leader: Some(leader), .. } if leader != me => leader,
            Route::Member { .. } => return Err(LogError::NoLeader { hint: None }.into()),
            Route::Elsewhere => {
                let others = port.others(me);
                let Some(one) = others.get(tries % others.len().max(1)) else {
                    return Err(LogError::NotHere.into());
                };
                *one
            }
        };
        let outcome = self.shared.peers.call(self, to, (port.id, op)).await;
        match &outcome {
            Ok(_) => port.hint(Some(to)),
            Err(MessageError::Log(LogError::NoLeader { hint })) => port.hint(*hint),
            Err(_) => (),
        }
        outcome
    }
}
