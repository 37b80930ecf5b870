//! This node as a member of its cluster: alone, a founder, or one that waits to be added.

use std::time::Duration;

use chassis::{Context, ServiceConfig as _, StartError};
use consensus::{GroupId, Membership};
use raft_node::{Group, Groups, Host, MemberInfo};
use tokio_util::sync::CancellationToken;

use crate::config::{Cluster, Config, InitialState};
use crate::handlers;
use crate::state_machine::Machine;

/// The one group of this service.
pub(crate) const GROUP: GroupId = GroupId(1);
/// How long a leader that stops waits for its successor.
const HAND_OVER: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) groups: Groups,
    pub(crate) group: Group<Machine>,
    pub(crate) info: MemberInfo,
    /// It has no other members, and none were named.
    pub(crate) is_alone: bool,
    links: CancellationToken,
}

impl Member {
    /// Opens the data directory, meets the other members if there are any, and starts the group.
    pub(crate) async fn open(context: &Context<Config>) -> Result<Self, StartError> {
        let config = &context.config;
        let links = CancellationToken::new();
        let host = Host {
            tasks: context.tasks.clone(),
            stop: context.stop.clone(),
            links: links.clone(),
            metrics: context.metrics.clone(),
        };
        let groups = Groups::open(settings(config), host).map_err(StartError::from_error)?;
        let info = info(context);
        groups.introduce(info.clone()).await;
        let cluster = &config.cluster;
        let is_alone =
            cluster.initial_peers.len() < 2 && cluster.initial_state == InitialState::New;
        if !is_alone {
            context.peers.open(handlers::peers::router(groups.peer_service()));
        }
        let founders = founders(&groups, &info, cluster, is_alone).await?;
        let machine = Machine::default();
        let group = groups.start_with(GROUP, machine, founders).await;
        let group = group.map_err(StartError::from_error)?;
        if is_alone {
            let led = group.query(|_| ()).await;
            led.map_err(|error| StartError::with_source("the store did not start", error))?;
        }
        Ok(Self { groups, group, info, is_alone, links })
    }

    /// Hands leadership over when the drain begins, then leaves its peers.
    pub(crate) async fn leave(self, draining: CancellationToken) {
        draining.cancelled().await;
        if !self.is_alone {
            let mut leadership = self.group.leadership();
            self.group.resign().await;
            let handed_over = leadership.wait_for(|now| !now.is_here);
            // Without a successor the others find one when this node is gone.
            let _ = tokio::time::timeout(HAND_OVER, handed_over).await;
        }
        self.links.cancel();
    }
}

fn settings(config: &Config) -> raft_node::Config {
    let mut settings = raft_node::Config::new(config.base().data_dir.clone());
    settings.max_command_bytes = config.max_request_bytes + (64 << 10);
    settings.cluster_id = token_id(&config.cluster.token);
    settings.heartbeat_ms = config.cluster.heartbeat_ms;
    settings.election_ms = config.cluster.election_ms;
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

/// Who begins the group, if it does not exist here yet.
async fn founders(
    groups: &Groups,
    info: &MemberInfo,
    cluster: &Cluster,
    is_alone: bool,
) -> Result<Membership, StartError> {
    if groups.has(GROUP) || cluster.initial_state == InitialState::Existing {
        return Ok(Membership::default());
    }
    if is_alone {
        return Ok(Membership::of([(groups.node(), info.encode())]));
    }
    tracing::info!(
        members = cluster.initial_peers.len(),
        "waiting for all founders of the cluster"
    );
    let met = groups.meet_founders(GROUP, info, &cluster.initial_peers).await;
    met.map_err(StartError::from_error)
}
