//! What the leader of the catalog does for the whole cluster: it sees who is up, plans where
//! copies go, and who votes on the catalog.
//!
//! All of this is proposed in the term in which it was seen, and every command of a plan names the
//! state it was made for.

use std::collections::BTreeMap;
use std::time::Duration;

use consensus::{NodeId, Status, Term};
use messaging::catalog::{CATALOG, Catalog, CatalogCommand};
use messaging::ids::Millis;
use messaging::placement::{PlanLimits, Seen, plan};
use raft_node::MemberRequest;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::error::AdminError;

/// Between two looks.
const TICK: Duration = Duration::from_millis(500);
/// Without a change, a plan is made anew only so often.
const REPLAN: Duration = Duration::from_secs(2);
/// A broker that is not heard for so long is down.
const SILENCE: Duration = Duration::from_secs(10);
/// Most brokers that vote on the catalog.
const MAX_VOTERS: usize = 5;

/// See the module.
pub(crate) struct Planner {
    broker: Broker,
    leading: Option<Leading>,
}

/// What this broker has seen since it leads the catalog.
struct Leading {
    term: Term,
    since_ms: Millis,
    /// When each broker was heard last.
    heard: BTreeMap<NodeId, Instant>,
    /// The revision that was planned for last, and when.
    planned: Option<(u64, Instant)>,
}

impl Planner {
    pub(crate) fn new(broker: &Broker) -> Self {
        Self { broker: broker.clone(), leading: None }
    }

    /// Looks for as long as the process lives.
    pub(crate) async fn run(mut self) {
        let shared = self.broker.shared.clone();
        let mut leadership = shared.catalog.leadership();
        loop {
            let here = *leadership.borrow_and_update();
            if here.is_here {
                if let Err(error) = self.look(here.term).await {
                    tracing::debug!(%error, "planning is put off");
                }
            } else {
                self.leading = None;
            }
            let tick = tokio::time::sleep(TICK);
            tokio::select! {
                () = shared.stop.cancelled() => return,
                changed = leadership.changed() => if changed.is_err() { return },
                () = tick, if here.is_here => (),
            }
        }
    }

    async fn look(&mut self, term: Term) -> Result<(), AdminError> {
        let catalog = &self.broker.shared.catalog;
        if self.leading.as_ref().is_none_or(|leading| leading.term != term) {
            if catalog.leading().await != Some(term) {
                return Ok(());
            }
            let (since_ms, heard) = (self.broker.now_ms(), BTreeMap::new());
            self.leading = Some(Leading { term, since_ms, heard, planned: None });
        }
        let status = catalog.status().await.map_err(|_| crate::error::LogError::Stopped)?;
        let state = catalog.local(|machine| machine.0.clone()).await?;
        self.mark(&state, &status).await?;
        self.plan(&state).await?;
        self.let_vote(&state, &status).await;
        Ok(())
    }

    async fn propose(&self, command: &CatalogCommand) -> Result<(), AdminError> {
        let Some(Leading { term, .. }) = self.leading else { return Ok(()) };
        let payload = self.broker.payload(command);
        let proposed = self.broker.shared.catalog.propose_leading(term, payload, true).await?;
        if let Err(refused) = proposed.reply {
            tracing::debug!(%refused, "a plan has been overtaken");
        }
        Ok(())
    }

    /// Says who is up and who is not.
    async fn mark(&mut self, state: &Catalog, status: &Status) -> Result<(), AdminError> {
        let (me, now) = (self.broker.node(), Instant::now());
        let Some(leading) = &mut self.leading else { return Ok(()) };
        let mut marks = Vec::new();
        for (node, broker) in state.brokers() {
            let peer = status.peers.iter().find(|peer| peer.node == *node);
            let hears = *node == me || peer.is_some_and(|peer| peer.reachable);
            let heard = leading.heard.entry(*node).or_insert(now);
            if hears {
                *heard = now;
            }
            let up = now.saturating_duration_since(*heard) < SILENCE;
            if up != broker.up && (hears || !up) {
                marks.push(CatalogCommand::SetUp { node: *node, up });
            }
        }
        for mark in &marks {
            self.propose(mark).await?;
        }
        Ok(())
    }

    async fn plan(&mut self, state: &Catalog) -> Result<(), AdminError> {
        let Some(leading) = &mut self.leading else { return Ok(()) };
        let (revision, now) = (state.revision(), Instant::now());
        let is_planned = |(of, at): (u64, Instant)| of == revision && now < at + REPLAN;
        if state.brokers().len() < 2 || leading.planned.is_some_and(is_planned) {
            return Ok(());
        }
        leading.planned = Some((revision, now));
        let cluster = &self.broker.shared.cluster;
        let limits = PlanLimits {
            replace_after_ms: cluster.replace_after_seconds * 1_000,
            settle_ms: cluster.settle_seconds * 1_000,
            ..PlanLimits::default()
        };
        let seen = Seen { now_ms: self.broker.now_ms(), leading_since_ms: leading.since_ms };
        let state = state.clone();
        // It looks at every group.
        let planned = tokio::task::spawn_blocking(move || plan(&state, &seen, limits)).await;
        for command in planned.unwrap_or_default() {
            tracing::info!(?command, "planned");
            self.propose(&command).await?;
        }
        Ok(())
    }

    /// Lets a broker that has the whole catalog vote on it, as long as more should.
    async fn let_vote(&self, state: &Catalog, status: &Status) {
        let members = &status.membership;
        let up = state.brokers().values().filter(|broker| broker.up).count();
        let wanted = up.saturating_sub(1 - up % 2).min(MAX_VOTERS);
        if members.is_joint() || wanted <= members.voters.len() {
            return;
        }
        let has_all = |node: &&NodeId| {
            let peer = status.peers.iter().find(|peer| peer.node == **node);
            let is_up = state.brokers().get(*node).is_some_and(|broker| broker.up);
            is_up && peer.is_some_and(|peer| peer.reachable && status.commit <= peer.matched)
        };
        if let Some(node) = members.learners.iter().find(has_all) {
            let members = self.broker.shared.groups.members(CATALOG);
            match members.ask(&MemberRequest::Promote { node: *node }).await {
                Ok(_) => tracing::info!(broker = node.0, "votes on the catalog from now on"),
                Err(error) => tracing::debug!(%error, "a broker does not vote yet"),
            }
        }
    }
}
