//! This broker as a member of the catalog's group: alone, a founder, or one that was added.

use std::time::Duration;

use chassis::health::Check;
use chassis::{Context, StartError};
use messaging::catalog::{CATALOG, MAX_BROKERS};
use messaging::frame;
use raft_node::{Adopt, Entrance, EntranceError, Group, Groups, Host, Removed};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::catalog;
use crate::broker::Broker;
use crate::config::Config;
use crate::route::Late;
use crate::state_machine::CatalogMachine;

/// How long a broker that stops waits for its successors.
const HAND_OVER: Duration = Duration::from_secs(1);
/// Between two looks whether they have taken over.
const LOOK: Duration = Duration::from_millis(50);
/// Between two tries to see all that the cluster had acknowledged before this broker started.
const CATCH_UP: Duration = Duration::from_millis(50);

/// See the module.
pub(crate) struct Member {
    pub(crate) groups: Groups,
    pub(crate) catalog: Group<CatalogMachine>,
    pub(crate) entrance: Entrance,
    /// It is the only voter: it leads as soon as it has started.
    pub(crate) is_alone: bool,
    /// Fails until this broker has everything that was acknowledged before.
    check: Check,
    links: CancellationToken,
}

impl Member {
    /// Opens the data directory, meets the other brokers if there are any, and starts the catalog.
    /// Calls of other brokers are answered once `late` has its broker.
    pub(crate) async fn open(context: &Context<Config>, late: &Late) -> Result<Self, StartError> {
        let config = &context.config;
        let check = context.health.check("catalog", "the log is being opened");
        let waits = |what: &str| {
            tracing::info!(what, "waiting");
            check.fail(format!("waiting for {what}"));
        };
        let entrance = entrance(context).map_err(StartError::from_error)?;
        let joined = entrance.join(&config.base.data_dir, &context.tasks, waits).await;
        joined.map_err(StartError::from_error)?;
        let links = CancellationToken::new();
        let host = Host {
            tasks: context.tasks.clone(),
            stop: context.stop.clone(),
            links: links.clone(),
            metrics: context.metrics.clone(),
        };
        let groups = Groups::open(settings(context), host).map_err(StartError::from_error)?;
        entrance.introduce(&groups).await;
        context.peers.open(crate::handlers::peers::router(late, groups.peer_service()));
        let founders = entrance.beginning(&groups, waits).await.map_err(StartError::from_error)?;
        let catalog = catalog::start(&groups, founders, (context, &check)).await?;
        let status = catalog.status().await.map_err(StartError::from_error)?;
        let is_alone = status.membership.members().into_iter().eq([groups.node()])
            && !status.membership.is_joint();
        if is_alone {
            catalog::lead_alone(&groups, &catalog, (context, &check)).await?;
        }
        Ok(Self { groups, catalog, entrance, is_alone, check, links })
    }

    /// Looks after this broker's membership. What is returned resolves if it is removed.
    pub(crate) fn keep(&self, context: &Context<Config>) -> oneshot::Receiver<Removed> {
        self.entrance.keep(&self.groups, (&context.tasks, context.stop.clone()))
    }

    /// Ready is who has everything that was acknowledged when it started, and is known to all.
    pub(crate) fn catch_up(&self, broker: &Broker) {
        let (broker, check) = (broker.clone(), self.check.clone());
        let tasks = broker.shared.tasks.clone();
        check.fail("it does not have all of the catalog yet, or the catalog has no leader");
        tasks.spawn(async move {
            let seen = async {
                loop {
                    let me = broker.node();
                    let known = move |machine: &CatalogMachine| {
                        let is_known = machine.0.brokers().contains_key(&me);
                        is_known.then(|| machine.0.revision())
                    };
                    if let Ok(Some(revision)) = broker.shared.catalog.query(known).await
                        && revision <= broker.directory().revision
                    {
                        return;
                    }
                    tokio::time::sleep(CATCH_UP).await;
                }
            };
            if broker.shared.stop.clone().run_until_cancelled(seen).await.is_some() {
                broker.directory().whole.set();
                check.pass();
            }
        });
    }

    /// Hands over what is led here when the drain begins, then leaves its peers.
    pub(crate) async fn leave(self, broker: Broker) {
        broker.draining().cancelled().await;
        let me = self.groups.node();
        let status = self.catalog.status().await;
        let has_others =
            status.is_ok_and(|status| status.membership.members().into_iter().any(|m| m != me));
        if has_others {
            let handing_over = async {
                loop {
                    self.groups.resign_all().await;
                    if !broker.directory().leads() && !self.catalog.leadership().borrow().is_here {
                        return;
                    }
                    tokio::time::sleep(LOOK).await;
                }
            };
            // Without successors the others find some when this broker is gone.
            let _ = tokio::time::timeout(HAND_OVER, handing_over).await;
        }
        self.links.cancel();
    }
}

fn settings(context: &Context<Config>) -> raft_node::Config {
    let config = &context.config;
    let mut settings = raft_node::Config::new(config.base.data_dir.clone());
    settings.join(&config.cluster.members);
    settings.max_learners = MAX_BROKERS;
    let clock = context.clock.clone();
    settings.adopt = Adopt::new(move |command| frame::restamp(command, clock.unix_ms()));
    settings
}

fn entrance(context: &Context<Config>) -> Result<Entrance, EntranceError> {
    let base = &context.config.base;
    let advertise = &base.advertise;
    let client = if advertise.is_empty() { context.listen.to_string() } else { advertise.clone() };
    Entrance::at(
        &base.data_dir,
        (CATALOG, &context.config.cluster.members),
        &context.node,
        (&context.peer_listen.to_string(), &client),
    )
}
