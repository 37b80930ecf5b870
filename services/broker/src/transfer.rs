//! Leadership handed over because an operator asks for it.
//!
//! The leader judges: it knows what the other copies have. Nothing is begun that would leave the
//! group without a leader for long.

use std::marker::PhantomData;
use std::time::Duration;

use consensus::{GroupId, Index, NodeId, RoleName, Status, Term};
use futures_util::{StreamExt as _, stream};
use messaging::catalog::CatalogCommand;
use serde::{Deserialize, Serialize};

use crate::broker::Broker;
use crate::directory::{Home, PartitionHandle, QueueHandle, StreamsHandle};
use crate::error::{AdminError, LogError, MessageError};
use crate::host::{HasWhole, Whole};
use crate::route::{At, By, Kind, Op};

/// A copy that lacks more entries than this is not waited for: nothing is written meanwhile.
const MAX_LAG: u64 = 1_000;
/// How long the successor may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Groups that are handed over at a time.
const HANDING: usize = 16;

/// Who leads now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handed {
    pub(crate) leader: NodeId,
    pub(crate) term: Term,
    /// Another led before.
    pub(crate) is_new: bool,
}

/// Why a group is led by whom it was led before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum Stays {
    #[error("it has no copy; GET /v1/cluster/groups shows who has")]
    NoCopy,
    #[error("its copy does not vote yet; repeat when the group does not move any more")]
    NotVoter,
    #[error("it does not answer the leader")]
    Silent,
    #[error("its copy lags by {entries} entries; repeat when it has caught up")]
    Behind { entries: u64 },
    #[error("its copy does not have all messages yet; repeat when it has caught up")]
    Incomplete,
    #[error("it did not take over in time; look who leads, and repeat")]
    NotTaken,
    #[error("nobody else has a copy that could lead")]
    Nobody,
}

/// What was done for all groups that one broker led.
#[derive(Debug, Default)]
pub(crate) struct Handovers {
    pub(crate) moved: u64,
    pub(crate) stayed: Vec<(GroupId, String)>,
}

impl Broker {
    /// Lets this broker lead the group, and prefers it from now on.
    pub(crate) async fn transfer(
        &self,
        home: &Home,
        to: NodeId,
    ) -> Result<Result<Handed, Stays>, AdminError> {
        let handed = self.hand_over(home, None, Some(to)).await?;
        if handed.is_ok() {
            let moves = vec![(home.id(), to)];
            let prefer = self.payload(&CatalogCommand::SetPreferred { moves });
            self.shared.catalog.propose_freeing(prefer).await?.reply?;
        }
        Ok(handed)
    }

    /// Lets others lead what `from` leads: `to`, where it has a copy, or whoever has most.
    pub(crate) async fn transfer_all(&self, from: NodeId, to: Option<NodeId>) -> Handovers {
        let directory = self.directory();
        let mut homes: Vec<Home> = directory.groups.values().cloned().collect();
        homes.retain(|home| home.is_on(from));
        let handing = homes.into_iter().map(|home| {
            let broker = self.clone();
            async move { (home.id(), broker.hand_over(&home, Some(from), to).await) }
        });
        let mut handing = stream::iter(handing).buffer_unordered(HANDING);
        let mut all = Handovers::default();
        while let Some((group, handed)) = handing.next().await {
            match handed {
                Ok(Ok(handed)) => all.moved += u64::from(handed.is_new),
                Ok(Err(stays)) => all.stayed.push((group, stays.to_string())),
                Err(error) => all.stayed.push((group, error.to_string())),
            }
        }
        all.stayed.sort_unstable();
        all
    }

    async fn hand_over(
        &self,
        home: &Home,
        from: Option<NodeId>,
        to: Option<NodeId>,
    ) -> Result<Result<Handed, Stays>, MessageError> {
        match home {
            Home::Queue(queue) => self.run(queue, HandOver::new(from, to)).await,
            Home::Partition(partition) => self.run(partition, HandOver::new(from, to)).await,
            Home::Streams(streams) => self.run(streams, HandOver::new(from, to)).await,
        }
    }
}

/// Asks the leader of a group to let another lead.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct HandOver<H> {
    /// Only if this one leads.
    from: Option<NodeId>,
    /// None: whoever has most.
    to: Option<NodeId>,
    #[serde(skip)]
    on: PhantomData<fn() -> H>,
}

impl<H> HandOver<H> {
    fn new(from: Option<NodeId>, to: Option<NodeId>) -> Self {
        Self { from, to, on: PhantomData }
    }
}

impl<H> Clone for HandOver<H> {
    fn clone(&self) -> Self {
        Self::new(self.from, self.to)
    }
}

/// What can be handed over.
pub(crate) trait HandsOver: HasWhole {
    const HAND_OVER: Kind;
}

impl HandsOver for QueueHandle {
    const HAND_OVER: Kind = Kind::HandOverQueue;
}

impl HandsOver for PartitionHandle {
    const HAND_OVER: Kind = Kind::HandOverPartition;
}

impl HandsOver for StreamsHandle {
    const HAND_OVER: Kind = Kind::HandOverStreams;
}

impl<H: HandsOver> Op for HandOver<H> {
    const KIND: Kind = H::HAND_OVER;
    const BY: By = By::Leader;
    type On = H;
    type Answer = Result<Handed, Stays>;

    async fn run(self, at: At<H>) -> Result<Result<Handed, Stays>, MessageError> {
        let (me, term) = (at.broker.node(), at.term()?);
        if self.from.is_some_and(|from| from != me) || self.to == Some(me) {
            return Ok(Ok(Handed { leader: me, term, is_new: false }));
        }
        let status = at.group.status().await.map_err(|_| LogError::Stopped)?;
        if status.role != RoleName::Leader || status.term != term {
            return Err(LogError::NoLeader { hint: status.leader }.into());
        }
        let to = match (self.to, best(&status)) {
            (Some(to), _) if at.handle.port().placement().planned().all(|node| node != to) => {
                return Ok(Err(Stays::NoCopy));
            }
            (Some(to), _) | (None, Some(to)) => to,
            (None, None) => return Ok(Err(Stays::Nobody)),
        };
        if let Err(stays) = fits(&status, to) {
            return Ok(Err(stays));
        }
        let whole = Whole::<H>::default();
        match at.broker.shared.peers.call(&at.broker, to, (at.group.id(), &whole)).await {
            Ok(true) => {}
            Ok(false) => return Ok(Err(Stays::Incomplete)),
            Err(_) => return Ok(Err(Stays::Silent)),
        }
        if at.group.transfer(to).await.map_err(|_| LogError::Stopped)?.is_err() {
            return Ok(Err(Stays::Silent));
        }
        let mut leadership = at.group.leadership();
        let taken = leadership.wait_for(|now| term < now.term && now.leader.is_some());
        let taken = tokio::time::timeout(PATIENCE, taken).await;
        Ok(match taken.ok().and_then(Result::ok).map(|now| *now) {
            Some(now) if now.leader == Some(to) => {
                Ok(Handed { leader: to, term: now.term, is_new: true })
            }
            _ => Err(Stays::NotTaken),
        })
    }
}

/// Whether this member would lead at once.
fn fits(status: &Status, to: NodeId) -> Result<(), Stays> {
    if !status.membership.voters.contains(&to) {
        return Err(Stays::NotVoter);
    }
    let peer = status.peers.iter().find(|peer| peer.node == to && peer.reachable);
    let Index(matched) = peer.ok_or(Stays::Silent)?.matched;
    match status.last.0.saturating_sub(matched) {
        entries if MAX_LAG < entries => Err(Stays::Behind { entries }),
        _ => Ok(()),
    }
}

/// The other voter that has most.
fn best(status: &Status) -> Option<NodeId> {
    let fitting = status.peers.iter().filter(|peer| fits(status, peer.node).is_ok());
    fitting.max_by_key(|peer| peer.matched).map(|peer| peer.node)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use consensus::{Membership, PeerStatus};

    use super::*;

    /// Led by 1, with 2,000 entries; what the others have, and whether they are heard.
    fn status(peers: &[(u64, u64, bool)]) -> Status {
        let membership = Arc::new(Membership::of((1..=3).map(|node| (NodeId(node), Bytes::new()))));
        let peer = |&(node, matched, reachable): &(u64, u64, bool)| PeerStatus {
            node: NodeId(node),
            matched: Index(matched),
            reachable,
            snapshot: None,
        };
        Status {
            role: RoleName::Leader,
            term: Term(3),
            leader: Some(NodeId(1)),
            commit: Index(2_000),
            last: Index(2_000),
            durable: Index(2_000),
            base: Index(0),
            membership: membership.clone(),
            membership_index: Index(1),
            settled: (Index(1), membership),
            peers: peers.iter().map(peer).collect(),
            poisoned: false,
        }
    }

    #[test]
    fn only_a_voter_that_answers_and_is_close_behind_takes_over() {
        let status = status(&[(2, 1_000, true), (3, 999, true), (4, 2_000, true)]);
        assert_eq!(fits(&status, NodeId(2)), Ok(()));
        assert_eq!(fits(&status, NodeId(3)), Err(Stays::Behind { entries: 1_001 }));
        assert_eq!(fits(&status, NodeId(4)), Err(Stays::NotVoter));
        assert_eq!(best(&status), Some(NodeId(2)));
    }

    #[test]
    fn one_that_is_silent_is_not_chosen() {
        let status = status(&[(2, 2_000, false), (3, 1_500, true)]);
        assert_eq!(fits(&status, NodeId(2)), Err(Stays::Silent));
        assert_eq!(best(&status), Some(NodeId(3)));
    }

    #[test]
    fn where_nobody_fits_nobody_is_chosen() {
        assert_eq!(best(&status(&[(2, 2_000, false), (3, 10, true)])), None);
    }
}
