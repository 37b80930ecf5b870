//! What a member does about its membership by itself: it says what it is called and where users
//! reach it, the leader makes voters of those that are to vote, and whoever was removed notices.

use std::collections::BTreeSet;

use consensus::{NodeId, RoleName, Status};
use tokio::time::{Duration, Instant};

use super::ask::Envelope;
use super::{Changed, MemberError, MemberRequest, Members, info_of, others};
use crate::member::MemberInfo;

/// Between two looks at the membership.
const LOOK: Duration = Duration::from_millis(500);
/// What was refused is tried again after this time.
const AGAIN: Duration = Duration::from_secs(5);
/// Between the end of a membership and the end of the node.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long another node may take to say who the members are.
const ASK: Duration = Duration::from_secs(2);

/// This node is no member any more. It cannot come back with its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this node was removed from the cluster as member {node}; to bring it back, empty its data \
     directory, add it again, and start it with cluster.initial_state = \"existing\""
)]
pub struct Removed {
    /// What it was.
    pub node: NodeId,
}

struct Keeper {
    members: Members,
    own: MemberInfo,
    /// Other nodes of the cluster, besides those that the membership names.
    known: BTreeSet<String>,
    announce_at: Instant,
    /// Looks in a row that saw no leader.
    leaderless: u32,
}

impl Members {
    /// Looks after the membership of this node, which is called `own`, until it is removed. `known`
    /// are peer URLs of other nodes that may tell.
    pub async fn keep(self, own: MemberInfo, known: BTreeSet<String>) -> Removed {
        let announce_at = Instant::now();
        let mut keeper = Keeper { members: self, own, known, announce_at, leaderless: 0 };
        loop {
            match keeper.look().await {
                Ok(None) => {}
                Ok(Some(removed)) => {
                    // Whoever has asked for it is still to be answered.
                    tokio::time::sleep(FAREWELL).await;
                    return removed;
                }
                Err(error) => tracing::debug!(%error, "the membership was not looked after"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Keeper {
    fn node(&self) -> NodeId {
        self.members.shared.node
    }

    async fn look(&mut self) -> Result<Option<Removed>, MemberError> {
        let status = self.members.status().await?;
        let node = self.node();
        let (_, settled) = &status.settled;
        if !settled.members().is_empty()
            && !settled.is_member(node)
            && !status.membership.is_member(node)
            && self.members.shared.joined < Some(status.settled.0)
        {
            return Ok(Some(Removed { node }));
        }
        if status.leader.is_none() {
            self.leaderless += 1;
            // Elections are short; who is not heard of any more asks.
            return Ok(match self.leaderless.is_multiple_of(2) {
                true => self.was_removed(&status).await.then_some(Removed { node }),
                false => None,
            });
        }
        self.leaderless = 0;
        if settled.is_member(node) && self.announce_at <= Instant::now() {
            self.announce(&status).await;
        }
        if status.role == RoleName::Leader {
            self.promote(&status).await;
        }
        Ok(None)
    }

    async fn announce(&mut self, status: &Status) {
        let (node, info) = (self.node(), self.own.clone());
        let request = MemberRequest::Announce { node, info };
        if request.is_done(status, &status.settled.1) {
            return;
        }
        if let Err(error) = self.members.ask(&request).await {
            tracing::warn!(%error, "name and addresses of this node are not announced yet");
            self.announce_at = Instant::now() + AGAIN;
        }
    }

    /// Whoever was added as a voter becomes one when it has caught up.
    async fn promote(&self, status: &Status) {
        for node in status.settled.1.learners.iter().copied() {
            if !info_of(&status.settled.1, node).is_to_vote {
                continue;
            }
            let peer = status.peers.iter().find(|peer| peer.node == node);
            let is_close = peer
                .is_some_and(|peer| peer.reachable && status.commit.0 / 10 * 9 <= peer.matched.0);
            if !is_close {
                continue;
            }
            match self.members.ask(&MemberRequest::Promote { node }).await {
                Ok(_) => tracing::info!(member = %node, "the new member votes from now on"),
                Err(error) => tracing::info!(member = %node, %error, "not a voter yet"),
            }
        }
    }

    /// Asks the others. One that has committed a later membership than any that names this node
    /// knows: an id is never added twice. It has to be of the same cluster: at an old address there
    /// may be another one by now, and ids are drawn for one place in one cluster.
    async fn was_removed(&self, status: &Status) -> bool {
        let node = self.node();
        let since = self.members.shared.joined.unwrap_or_default().max(status.settled.0);
        let urls = others(&status.membership, node).into_iter().chain(self.known.iter().cloned());
        let envelope = Envelope { group: self.members.group.0, request: None, pass_on: false };
        let known = status.membership.members();
        for url in urls.collect::<BTreeSet<_>>() {
            let told = self.members.shared.transport.ask(&url, None, &envelope, ASK).await;
            let Ok(Ok(Changed { list, .. })) = told else { continue };
            let is_ours =
                known.is_empty() || known.iter().any(|other| list.member(*other).is_some());
            if is_ours && since < list.since && list.member(node).is_none() {
                return true;
            }
        }
        false
    }
}
