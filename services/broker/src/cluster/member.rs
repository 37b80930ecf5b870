//! This broker as a member of the catalog's group: alone, a founder, or one that was added.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chassis::health::Check;
use chassis::{Context, StartError};
use consensus::Membership;
use messaging::catalog::{CATALOG, MAX_BROKERS};
use messaging::frame;
use raft_node::{Adopt, Beginning, Group, Groups, Host, Joining, MemberInfo, Removed};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::catalog;
use crate::broker::Broker;
use crate::config::{Cluster, Config, InitialState};
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
    pub(crate) info: MemberInfo,
    /// It is the only voter: it leads as soon as it has started.
    pub(crate) is_alone: bool,
    /// Fails until this broker has everything that was acknowledged before.
    check: Check,
    /// Peer URLs of others, as configured.
    known: BTreeSet<String>,
    links: CancellationToken,
}

impl Member {
    /// Opens the data directory, meets the other brokers if there are any, and starts the catalog.
    /// Calls of other brokers are answered once `late` has its broker.
    pub(crate) async fn open(context: &Context<Config>, late: &Late) -> Result<Self, StartError> {
        let config = &context.config;
        let check = context.health.check("catalog", "the log is being opened");
        let info = info(context);
        let known = others(&config.cluster.initial_peers, &info.name);
        if config.cluster.initial_state == InitialState::Existing {
            join(context, &info, &known, &check).await?;
        }
        let links = CancellationToken::new();
        let host = Host {
            tasks: context.tasks.clone(),
            stop: context.stop.clone(),
            links: links.clone(),
            metrics: context.metrics.clone(),
        };
        let groups = Groups::open(settings(context), host).map_err(StartError::from_error)?;
        groups.introduce(info.clone(), None).await;
        context.peers.open(crate::handlers::peers::router(late, groups.peer_service()));
        let founders = founders(&groups, &info, &config.cluster, &check).await?;
        let catalog = catalog::start(&groups, founders, (context, &check)).await?;
        let status = catalog.status().await.map_err(StartError::from_error)?;
        let is_alone = status.membership.members().into_iter().eq([groups.node()])
            && !status.membership.is_joint();
        if is_alone {
            catalog::lead_alone(&groups, &catalog, (context, &check)).await?;
        }
        Ok(Self { groups, catalog, info, is_alone, check, known, links })
    }

    /// Looks after this broker's membership. What is returned resolves if it is removed.
    pub(crate) fn keep(&self, context: &Context<Config>) -> oneshot::Receiver<Removed> {
        let (gone, removed) = oneshot::channel();
        let members = self.groups.members(CATALOG);
        let keep = members.keep(self.info.clone(), self.known.clone());
        let stop = context.stop.clone();
        context.tasks.spawn(async move {
            if let Some(removed) = stop.run_until_cancelled(keep).await {
                tracing::error!(%removed, "this broker stops");
                // The process may be ending already.
                let _ = gone.send(removed);
            }
        });
        removed
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
    settings.cluster_id = config.cluster.id();
    settings.heartbeat_ms = config.cluster.heartbeat_ms;
    settings.election_ms = config.cluster.election_ms;
    settings.max_learners = MAX_BROKERS;
    let clock = context.clock.clone();
    settings.adopt = Adopt::new(move |command| frame::restamp(command, clock.unix_ms()));
    settings
}

fn info(context: &Context<Config>) -> MemberInfo {
    let config = &context.config;
    let advertise = &config.base.advertise;
    let client = if advertise.is_empty() { context.listen.to_string() } else { advertise.clone() };
    let peer_url = config.cluster.initial_peers.get(&context.node).cloned();
    MemberInfo {
        name: context.node.clone(),
        peer_url: peer_url.unwrap_or_else(|| format!("http://{}", context.peer_listen)),
        client_urls: vec![format!("http://{client}")],
        ..MemberInfo::default()
    }
}

fn others(peers: &BTreeMap<String, String>, name: &str) -> BTreeSet<String> {
    let others = peers.iter().filter(|(other, _)| *other != name);
    others.map(|(_, url)| url.clone()).collect()
}

/// Waits for the place that somebody makes for this broker in a running cluster.
async fn join(
    context: &Context<Config>,
    info: &MemberInfo,
    known: &BTreeSet<String>,
    check: &Check,
) -> Result<(), StartError> {
    let joining = Joining {
        data_dir: context.config.base.data_dir.clone(),
        cluster_id: context.config.cluster.id(),
        group: CATALOG,
        own: info.clone(),
        peers: known.clone(),
    };
    let joined = raft_node::join(&joining, &context.tasks, |reason| {
        tracing::info!(reason, "waiting to be let into the cluster");
        check.fail(format!("waiting to be let into the cluster: {reason}"));
    });
    joined.await.map_err(StartError::from_error)
}

/// Who begins the catalog, if it does not exist here yet.
async fn founders(
    groups: &Groups,
    info: &MemberInfo,
    cluster: &Cluster,
    check: &Check,
) -> Result<Beginning, StartError> {
    if groups.has(CATALOG) || groups.was_added() {
        return Ok(Beginning::Member);
    }
    if cluster.initial_state == InitialState::Existing {
        return Err(StartError::new(
            "the data directory was used before and holds no catalog; name an empty one to join a \
             running cluster",
        ));
    }
    if cluster.initial_peers.len() < 2 {
        return Ok(Membership::of([(groups.node(), info.encode())]).into());
    }
    tracing::info!(brokers = cluster.initial_peers.len(), "waiting for all founders");
    check.fail("waiting for all founders of the cluster");
    let met = groups.meet_founders(CATALOG, (info, None), &cluster.initial_peers).await;
    Ok(met.map_err(StartError::from_error)?.into())
}
