//! This node as a member of its cluster: alone, a founder, or one that was added.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chassis::health::Check;
use chassis::{Context, ServiceConfig as _, StartError};
use consensus::{GroupId, Membership};
use raft_node::{Group, Groups, Host, Joining, MemberInfo, Removed, Seed};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::config::{Cluster, Config, InitialState};
use crate::handlers;
use crate::state_machine::{Machine, Newest};
use crate::time::Time;

/// The one group of this service.
pub(crate) const GROUP: GroupId = GroupId(1);
/// How long a leader that stops waits for its successor.
const HAND_OVER: Duration = Duration::from_secs(1);
/// Between two tries to see all that the cluster had acknowledged before this node started.
const CATCH_UP: Duration = Duration::from_millis(50);

#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) groups: Groups,
    pub(crate) group: Group<Machine>,
    pub(crate) newest: Newest,
    pub(crate) info: MemberInfo,
    /// It is the only voter: it leads as soon as it has started.
    pub(crate) is_alone: bool,
    /// Peer URLs of others, as configured.
    known: BTreeSet<String>,
    links: CancellationToken,
}

impl Member {
    /// Opens the data directory, meets the other members if there are any, and starts the group.
    pub(crate) async fn open(context: &Context<Config>, time: &Time) -> Result<Self, StartError> {
        let config = &context.config;
        let check = context.health.check("member", "the log is being opened");
        let mut info = info(context);
        let seed = seed(config, &mut info)?;
        let first = seed.as_ref().map_or(&config.cluster.initial_peers, |seed| &seed.founders);
        let known = others(first, &info.name);
        if seed.is_none() && config.cluster.initial_state == InitialState::Existing {
            join(context, &info, &known, &check).await?;
        }
        let links = CancellationToken::new();
        let host = Host {
            tasks: context.tasks.clone(),
            stop: context.stop.clone(),
            links: links.clone(),
            metrics: context.metrics.clone(),
        };
        let groups = Groups::open(settings(config, time), host).map_err(StartError::from_error)?;
        groups.introduce(info.clone(), seed.as_ref().map(|seed| seed.digest.clone())).await;
        context.peers.open(handlers::peers::router(groups.peer_service()));
        let founders = match &seed {
            Some(seed) => sow(&groups, &info, seed, &check).await?,
            None => founders(&groups, &info, &config.cluster, &check).await?,
        };
        let newest = Newest::default();
        let machine = Machine::new(&newest);
        let group = groups.start_with(GROUP, machine, founders.into()).await;
        let group = group.map_err(StartError::from_error)?;
        let status = group.status().await.map_err(StartError::from_error)?;
        let voters = &status.membership.voters;
        let is_alone =
            voters.len() == 1 && voters.contains(&groups.node()) && !status.membership.is_joint();
        if is_alone {
            let led = group.barrier().await;
            led.map_err(|error| StartError::with_source("the store did not start", error))?;
            check.pass();
        } else {
            context.tasks.spawn(catch_up(
                group.clone(),
                newest.clone(),
                check,
                context.stop.clone(),
            ));
        }
        Ok(Self { groups, group, newest, info, is_alone, known, links })
    }

    /// Looks after this node's membership. What is returned resolves if it is removed.
    pub(crate) fn keep(&self, context: &Context<Config>) -> oneshot::Receiver<Removed> {
        let (gone, removed) = oneshot::channel();
        let members = self.groups.members(GROUP);
        let keep = members.keep(self.info.clone(), self.known.clone());
        let stop = context.stop.clone();
        context.tasks.spawn(async move {
            if let Some(removed) = stop.run_until_cancelled(keep).await {
                tracing::error!(%removed, "this node stops");
                // The process may be ending already.
                let _ = gone.send(removed);
            }
        });
        removed
    }

    /// Hands leadership over when the drain begins, then leaves its peers.
    pub(crate) async fn leave(self, draining: CancellationToken) {
        draining.cancelled().await;
        let me = self.groups.node();
        let has_others = self
            .group
            .status()
            .await
            .is_ok_and(|status| status.membership.voters.iter().any(|voter| *voter != me));
        if has_others {
            let mut leadership = self.group.leadership();
            self.group.resign().await;
            let handed_over = leadership.wait_for(|now| !now.is_here);
            // Without a successor the others find one when this node is gone.
            let _ = tokio::time::timeout(HAND_OVER, handed_over).await;
        }
        self.links.cancel();
    }
}

fn settings(config: &Config, time: &Time) -> raft_node::Config {
    let mut settings = raft_node::Config::new(config.base().data_dir.clone());
    settings.max_command_bytes = config.max_request_bytes + (64 << 10);
    settings.cluster_id = token_id(&config.cluster.token);
    settings.heartbeat_ms = config.cluster.heartbeat_ms;
    settings.election_ms = config.cluster.election_ms;
    settings.snapshot_entries = config.cluster.snapshot_entries;
    settings.max_learners = config.cluster.max_learners;
    settings.adopt = time.adopt();
    settings
}

/// FNV-1a. Only keeps clusters apart that reach each other by mistake.
fn token_id(token: &str) -> u64 {
    token.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn info(context: &Context<Config>) -> MemberInfo {
    let config = &context.config;
    let cluster = &config.cluster;
    let name = if cluster.name.is_empty() { &context.node } else { &cluster.name };
    let advertise = &config.base().advertise;
    let client = if advertise.is_empty() { context.listen.to_string() } else { advertise.clone() };
    let peer_url = cluster.initial_peers.get(name).cloned();
    MemberInfo {
        name: name.clone(),
        peer_url: peer_url.unwrap_or_else(|| format!("http://{}", context.peer_listen)),
        client_urls: vec![format!("http://{client}")],
        ..MemberInfo::default()
    }
}

/// What `restore` has put here for this node, which is then where the others look for it.
fn seed(config: &Config, info: &mut MemberInfo) -> Result<Option<Seed>, StartError> {
    let seed = Seed::of(&config.base().data_dir).map_err(StartError::from_error)?;
    if let Some(seed) = &seed {
        if seed.name != info.name {
            return Err(StartError::new(format!(
                "the data directory was restored for the member {}, and this node is {}; start it \
                 under that name",
                seed.name, info.name
            )));
        }
        info.peer_url = seed.founders.get(&seed.name).cloned().unwrap_or_default();
    }
    Ok(seed)
}

fn others(peers: &BTreeMap<String, String>, name: &str) -> BTreeSet<String> {
    let others = peers.iter().filter(|(other, _)| *other != name);
    others.map(|(_, url)| url.clone()).collect()
}

/// Waits for the place that somebody makes for this node in a running cluster.
async fn join(
    context: &Context<Config>,
    info: &MemberInfo,
    known: &BTreeSet<String>,
    check: &Check,
) -> Result<(), StartError> {
    let joining = Joining {
        data_dir: context.config.base().data_dir.clone(),
        cluster_id: token_id(&context.config.cluster.token),
        group: GROUP,
        own: info.clone(),
        peers: known.clone(),
    };
    let joined = raft_node::join(&joining, &context.tasks, |reason| {
        tracing::info!(reason, "waiting to be let into the cluster");
        check.fail(format!("waiting to be let into the cluster: {reason}"));
    });
    joined.await.map_err(StartError::from_error)
}

/// Who begins the group, if it does not exist here yet.
async fn founders(
    groups: &Groups,
    info: &MemberInfo,
    cluster: &Cluster,
    check: &Check,
) -> Result<Membership, StartError> {
    if groups.has(GROUP) || groups.was_added() {
        return Ok(Membership::default());
    }
    if cluster.initial_state == InitialState::Existing {
        return Err(StartError::new(
            "the data directory was used before and holds no store; name an empty one to join a \
             running cluster",
        ));
    }
    if cluster.initial_peers.len() < 2 {
        return Ok(Membership::of([(groups.node(), info.encode())]));
    }
    meet(groups, (info, None), &cluster.initial_peers, check).await
}

async fn meet(
    groups: &Groups,
    own: (&MemberInfo, Option<&str>),
    founders: &BTreeMap<String, String>,
    check: &Check,
) -> Result<Membership, StartError> {
    tracing::info!(members = founders.len(), "waiting for all founders of the cluster");
    check.fail("waiting for all founders of the cluster");
    let met = groups.meet_founders(GROUP, own, founders).await;
    met.map_err(StartError::from_error)
}

/// Begins with what was restored, when all are there who begin with it.
async fn sow(
    groups: &Groups,
    info: &MemberInfo,
    seed: &Seed,
    check: &Check,
) -> Result<Membership, StartError> {
    let members = match groups.has(GROUP) {
        // The process ended just before it had forgotten the seed.
        true => Membership::default(),
        false => meet(groups, (info, Some(&seed.digest)), &seed.founders, check).await?,
    };
    groups.sow(GROUP, members).await.map_err(StartError::from_error)?;
    Ok(Membership::default())
}

/// Ready is who has everything that was acknowledged when it started, or when it was added.
async fn catch_up(group: Group<Machine>, newest: Newest, check: Check, stop: CancellationToken) {
    check.fail("it does not have all that the cluster holds yet");
    let seen = async {
        // A cluster without an id has just been founded: its leader is about to give it one.
        while group.barrier().await.is_err() || newest.cluster_id() == 0 {
            tokio::time::sleep(CATCH_UP).await;
        }
    };
    if stop.run_until_cancelled(seen).await.is_some() {
        check.pass();
    }
}
