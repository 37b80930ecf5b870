//! This node as a member of its cluster: alone, a founder, or one that was added.

use std::time::Duration;

use chassis::health::Check;
use chassis::{Context, ServiceConfig as _, StartError};
use consensus::GroupId;
use raft_node::{Entrance, EntranceError, Group, Groups, Host, Removed};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
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
    pub(crate) entrance: Entrance,
    /// It is the only voter: it leads as soon as it has started.
    pub(crate) is_alone: bool,
    links: CancellationToken,
}

impl Member {
    /// Opens the data directory, meets the other members if there are any, and starts the group.
    pub(crate) async fn open(context: &Context<Config>, time: &Time) -> Result<Self, StartError> {
        let config = &context.config;
        let check = context.health.check("member", "the log is being opened");
        let waits = |what: &str| {
            tracing::info!(what, "waiting");
            check.fail(format!("waiting for {what}"));
        };
        let entrance = entrance(context).map_err(StartError::from_error)?;
        let joined = entrance.join(&config.base().data_dir, &context.tasks, waits).await;
        joined.map_err(StartError::from_error)?;
        let links = CancellationToken::new();
        let host = Host {
            tasks: context.tasks.clone(),
            stop: context.stop.clone(),
            links: links.clone(),
            metrics: context.metrics.clone(),
        };
        let groups = Groups::open(settings(config, time), host).map_err(StartError::from_error)?;
        entrance.introduce(&groups).await;
        context.peers.open(handlers::peers::router(groups.peer_service()));
        let beginning = entrance.beginning(&groups, waits).await.map_err(StartError::from_error)?;
        let newest = Newest::default();
        let group = groups.start_with(GROUP, Machine::new(&newest), beginning).await;
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
        Ok(Self { groups, group, newest, entrance, is_alone, links })
    }

    /// Looks after this node's membership. What is returned resolves if it is removed.
    pub(crate) fn keep(&self, context: &Context<Config>) -> oneshot::Receiver<Removed> {
        self.entrance.keep(&self.groups, (&context.tasks, context.stop.clone()))
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
    settings.join(&config.cluster.members);
    settings.snapshot_entries = config.cluster.snapshot_entries;
    settings.max_learners = config.cluster.max_learners;
    settings.adopt = time.adopt();
    settings
}

fn entrance(context: &Context<Config>) -> Result<Entrance, EntranceError> {
    let base = context.config.base();
    let advertise = &base.advertise;
    let client = if advertise.is_empty() { context.listen.to_string() } else { advertise.clone() };
    Entrance::at(
        &base.data_dir,
        (GROUP, &context.config.cluster.members),
        &context.node,
        (&context.peer_listen.to_string(), &client),
    )
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
