//! The owner's part as a replica: the connection to the primary.

use std::sync::Arc;

use replication::consistency::LagClock;
use replication::handshake::{Hello, Plan};
use replication::wire::{FromPrimary, FromReplica};
use replication::{Index, Replica};
use tokio::sync::oneshot;

use super::{Connection, Driver, Failure, Installed, Outbound};
use crate::apply::Task;
use crate::log::GROUP;
use crate::view::Side;

/// What a replica keeps besides its core.
#[derive(Default)]
pub(super) struct Following {
    connection: Option<Connection>,
    /// The last member that welcomed us. Kept while it is away: writes still belong there.
    primary: Option<Arc<str>>,
    lag: LagClock,
    primary_last: Option<Index>,
    pub(super) report_due: bool,
}

impl Following {
    fn is(&self, connection: u64) -> bool {
        self.connection.as_ref().is_some_and(|it| it.number == connection)
    }

    /// Ends the connection; its task looks for the primary anew.
    pub(super) fn leave(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.end.cancel();
        }
    }

    pub(super) fn disconnected(&mut self, connection: u64) {
        if self.is(connection) {
            self.leave();
        }
    }

    /// This node shows everything up to here by now.
    pub(super) fn visible(&mut self, index: Index) {
        self.lag.visible(index);
    }

    pub(super) fn tell(&mut self, outbound: Outbound) {
        let Some(connection) = &self.connection else { return };
        if connection.outbound.try_send(outbound).is_err() {
            // It takes one message a turn; one that does not is stuck.
            self.leave();
        }
    }

    pub(super) fn side(&self, replica: &Replica) -> Side {
        Side::Replica {
            primary: self.primary.clone(),
            connected: self.connection.is_some() && replica.confirmed().is_some(),
            freshness: self.lag.freshness(),
            primary_last: self.primary_last,
        }
    }
}

impl Driver {
    pub(super) fn handle_connect(
        &mut self,
        connection: Connection,
        reply: oneshot::Sender<Option<Hello>>,
    ) {
        self.following.leave();
        let hello = self.core.replica().filter(|replica| replica.halted().is_none());
        let hello = hello.map(Replica::hello);
        if hello.is_some() {
            self.following.connection = Some(connection);
            self.following.report_due = false;
        }
        let _ = reply.send(hello);
    }

    pub(super) fn handle_from_primary(&mut self, connection: u64, message: FromPrimary) {
        if !self.following.is(connection) {
            return;
        }
        let Some(replica) = self.core.replica() else { return };
        if let FromPrimary::Entries { stamp, .. } | FromPrimary::Heartbeat { stamp, .. } = &message
        {
            self.following.lag.stamped(stamp.last, stamp.now_ms, self.clock.unix_ms());
            self.following.primary_last = Some(stamp.last);
        }
        if let FromPrimary::Welcome { plan, epoch, .. } = &message {
            let member = self.following.connection.as_ref().map(|it| Arc::clone(&it.member));
            tracing::info!(primary = ?member, %epoch, ?plan, "joined");
            self.following.primary = member;
            match plan {
                Plan::Log => self.resyncs.log += 1,
                Plan::TruncateTo(_) => self.resyncs.truncate += 1,
                Plan::Snapshot => self.resyncs.snapshot += 1,
            }
            if replica.epoch() < *epoch {
                // Another clock stamps from now on.
                self.following.lag = LagClock::default();
                self.following.primary_last = None;
            }
        }
        replica.handle(message);
    }

    /// Switches to a snapshot: first the engine, then the log. A crash in between leaves a log
    /// that does not reach the engine's state, which `open` repairs in the same way.
    pub(super) fn handle_installed(
        &mut self,
        connection: u64,
        installed: Installed,
    ) -> Result<(), Failure> {
        let Installed { name, engine, applied } = installed;
        // A promise that is not durable yet (the epoch) must not be overtaken by a report.
        let settled = self.tokens.is_empty();
        if !self.following.is(connection) || !settled {
            self.following.disconnected(connection);
            self.upkeep.discard(&self.generations, &name, engine);
            return Ok(());
        }
        let at = applied.head;
        let former_name = self.generations.current()?;
        self.generations.choose(&name)?;
        let epoch = consensus::Term(at.position.epoch.0);
        let reset = storage::Write::reset(GROUP, at.index().next(), epoch);
        let _ = self.log.wal().submit(vec![reset])?;
        self.tokens.clear();
        self.tail.truncate(Index::ZERO);
        let former = std::mem::replace(&mut self.engine, Arc::clone(&engine));
        self.upkeep.replaced(former_name, former, at.index());
        self.switch_engine(engine)?;
        (self.logged, self.sent, self.applied) = (at, at.index(), at.index());
        if let Some(replica) = self.core.replica() {
            replica.installed(at, applied.birth, applied.epochs);
        }
        Ok(())
    }

    fn switch_engine(&self, engine: Arc<dyn crate::engine::Engine>) -> Result<(), Failure> {
        let mut task = Task::Switch(engine);
        // Its queue is bounded and it works on it: this waits for one batch at most.
        for _ in 0..10_000 {
            let Err(back) = self.apply.try_send(task) else { return Ok(()) };
            task = back;
            std::thread::yield_now();
        }
        Err(Failure::EngineGone)
    }

    /// Tells the primary how far we are, once a turn and only if that changed.
    pub(super) fn send_report(&mut self) {
        if !std::mem::take(&mut self.following.report_due) {
            return;
        }
        let applied = self.applied;
        let Some(confirmed) = self.core.replica().and_then(|replica| replica.confirmed()) else {
            return;
        };
        let Some(connection) = &self.following.connection else { return };
        let report = Outbound::Send(FromReplica::report(confirmed, applied));
        // A full channel holds reports that say less; the next turn says more.
        self.following.report_due = connection.outbound.try_send(report).is_err();
    }
}
