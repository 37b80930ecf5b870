//! How a node comes to the cluster that its settings name: alone, as a founder, as one that was
//! added, or with what was planted in its directory.
//!
//! In this order: [`Entrance::at`], [`Entrance::join`], [`Groups::open`], [`Entrance::introduce`],
//! peers are let in, [`Entrance::beginning`], [`Groups::start_with`]. A node that waits for its
//! place has no log yet; one that waits for the other founders must be there for them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use consensus::{GroupId, Membership};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::beginning::Beginning;
use crate::cluster::{Cluster, InitialState, others};
use crate::founding::FoundingError;
use crate::groups::Groups;
use crate::join::{JoinError, Joining, join};
use crate::member::MemberInfo;
use crate::members::Removed;
use crate::seed::{Seed, SeedError};

/// Why a node does not come to its cluster. Waiting would not help.
#[derive(Debug, thiserror::Error)]
pub enum EntranceError {
    /// It was not let in.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The founders do not agree.
    #[error(transparent)]
    Founding(#[from] FoundingError),
    /// What was planted here cannot be used.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// It was planted for another member.
    #[error(
        "the data directory was restored for the member {planted}, and this node is {own}; start \
         it under that name"
    )]
    OtherName {
        /// Whose it is.
        planted: String,
        /// As configured.
        own: String,
    },
    /// The directory holds something, but not what all members have.
    #[error(
        "the data directory was used before and holds nothing of the cluster; name an empty one to \
         join a running cluster"
    )]
    Used,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Entrance {
    group: GroupId,
    cluster: Cluster,
    own: MemberInfo,
    seed: Option<Seed>,
}

impl Entrance {
    /// To the cluster whose members all have `group`. `peer` is where this node listens for others,
    /// `client` where users reach it, each as `host:port`; what the settings say of the former
    /// goes before.
    ///
    /// # Errors
    ///
    /// When what was planted in `data_dir` cannot be read, or is for another member.
    pub fn at(
        data_dir: &Path,
        (group, cluster): (GroupId, &Cluster),
        name: &str,
        (peer, client): (&str, &str),
    ) -> Result<Self, EntranceError> {
        let name = cluster.name_or(name).to_owned();
        let seed = Seed::of(data_dir)?;
        if let Some(planted) = seed.as_ref().map(|seed| &seed.name)
            && *planted != name
        {
            return Err(EntranceError::OtherName { planted: planted.clone(), own: name });
        }
        let first = seed.as_ref().map_or(&cluster.initial_peers, |seed| &seed.founders);
        let peer_url = first.get(&name).cloned().unwrap_or_else(|| format!("http://{peer}"));
        let client_urls = vec![format!("http://{client}")];
        let own = MemberInfo { name, peer_url, client_urls, ..MemberInfo::default() };
        Ok(Self { group, cluster: cluster.clone(), own, seed })
    }

    /// This node, as it tells others about itself.
    #[must_use]
    pub fn own(&self) -> &MemberInfo {
        &self.own
    }

    /// Waits for the place that somebody makes for this node in a running cluster, if it is to join
    /// one. `waits` is told what it waits for.
    ///
    /// # Errors
    ///
    /// When waiting would not help.
    pub async fn join(
        &self,
        data_dir: &Path,
        tasks: &TaskTracker,
        mut waits: impl FnMut(&str),
    ) -> Result<(), EntranceError> {
        if self.seed.is_some() || self.cluster.initial_state == InitialState::New {
            return Ok(());
        }
        let joining = Joining {
            data_dir: data_dir.to_owned(),
            cluster_id: self.cluster.id(),
            group: self.group,
            own: self.own.clone(),
            peers: self.others(),
        };
        let waits = |reason: &str| waits(&format!("its place in the cluster: {reason}"));
        Ok(join(&joining, tasks, waits).await?)
    }

    /// Lets others know who this is, before they are let in.
    pub async fn introduce(&self, groups: &Groups) {
        let digest = self.seed.as_ref().map(|seed| seed.digest.clone());
        groups.introduce(self.own.clone(), digest).await;
    }

    /// How the group begins here, if it does not exist here yet. Founders wait until all are there;
    /// `waits` is told so.
    ///
    /// # Errors
    ///
    /// When waiting would not help.
    pub async fn beginning(
        &self,
        groups: &Groups,
        waits: impl FnOnce(&str),
    ) -> Result<Beginning, EntranceError> {
        if let Some(seed) = &self.seed {
            return self.sow(groups, seed, waits).await;
        }
        if groups.has(self.group) || groups.was_added() {
            return Ok(Beginning::Member);
        }
        if self.cluster.initial_state == InitialState::Existing {
            return Err(EntranceError::Used);
        }
        if self.cluster.initial_peers.len() < 2 {
            return Ok(Membership::of([(groups.node(), self.own.encode())]).into());
        }
        Ok(self.meet(groups, &self.cluster.initial_peers, waits).await?.into())
    }

    /// Begins with what was planted, when all are there who begin with it.
    async fn sow(
        &self,
        groups: &Groups,
        seed: &Seed,
        waits: impl FnOnce(&str),
    ) -> Result<Beginning, EntranceError> {
        let members = match groups.has(self.group) {
            // The process ended just before it had forgotten the seed.
            true => Membership::default(),
            false => self.meet(groups, &seed.founders, waits).await?,
        };
        groups.sow(self.group, members).await?;
        Ok(Beginning::Member)
    }

    async fn meet(
        &self,
        groups: &Groups,
        founders: &BTreeMap<String, String>,
        waits: impl FnOnce(&str),
    ) -> Result<Membership, FoundingError> {
        waits("all founders of the cluster");
        let digest = self.seed.as_ref().map(|seed| seed.digest.as_str());
        groups.meet_founders(self.group, (&self.own, digest), founders).await
    }

    /// Looks after this node's membership. What is returned resolves if it is removed.
    #[must_use]
    pub fn keep(
        &self,
        groups: &Groups,
        (tasks, stop): (&TaskTracker, CancellationToken),
    ) -> oneshot::Receiver<Removed> {
        let (gone, removed) = oneshot::channel();
        let keep = groups.members(self.group).keep(self.own.clone(), self.others());
        tasks.spawn(async move {
            if let Some(removed) = stop.run_until_cancelled(keep).await {
                tracing::error!(%removed, "this node stops");
                // The process may be ending already.
                let _ = gone.send(removed);
            }
        });
        removed
    }

    /// Peer URLs of the other first members.
    fn others(&self) -> BTreeSet<String> {
        let seed = self.seed.as_ref().map(|seed| &seed.founders);
        others(seed.unwrap_or(&self.cluster.initial_peers), &self.own.name)
    }
}
