//! What a request means for the membership as it is, and whether it may be. Everything in here
//! happens in one step of the driver, so nothing changes in between.

use consensus::{
    Change, ChangeError, ChangeRefused, Index, Membership, NodeId, NodeSet, Raft, RoleName, Status,
    TransferRefused, majority,
};
use http::Uri;

use super::{MemberError, MemberRequest, info_of};
use crate::member::MemberInfo;

/// What the operator has set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Learners that are to stay learners.
    pub(crate) max_learners: usize,
}

/// A change on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    /// Whom it is about.
    pub(crate) node: NodeId,
    /// To be committed.
    pub(crate) index: Index,
}

/// Begins what is asked for, on the leader. `asked` was the commit index when it was first asked.
pub(crate) fn begin(
    raft: &mut Raft,
    request: &MemberRequest,
    asked: Index,
    rules: Rules,
) -> Result<Begun, MemberError> {
    let status = raft.status();
    if status.role != RoleName::Leader {
        return Err(MemberError::NoLeader);
    }
    let plan = Plan { status: &status, now: &status.membership };
    let (node, changes) = match request {
        MemberRequest::Add { node, name, peer_urls, votes } => {
            (*node, plan.add(*node, (name, peer_urls), *votes, rules)?)
        }
        MemberRequest::Promote { node } => (*node, plan.promote(*node)?),
        MemberRequest::Remove { node, force } => (*node, plan.remove(*node, *force)?),
        MemberRequest::Move { node, peer_urls } => (*node, plan.relocate(*node, peer_urls)?),
        MemberRequest::Transfer { to } => {
            raft.transfer(*to)?;
            (*to, Vec::new())
        }
        MemberRequest::Claim { life, info } => plan.claim(*life, info)?,
        MemberRequest::Announce { node, info } => (*node, plan.announce(*node, info)?),
    };
    let index = match changes.is_empty() {
        // It is so already, or about to be.
        true => status.membership_index,
        false => raft.change_since(&changes, asked)?,
    };
    Ok(Begun { node, index })
}

struct Plan<'a> {
    status: &'a Status,
    now: &'a Membership,
}

impl Plan<'_> {
    fn add(
        &self,
        node: NodeId,
        (name, urls): (&str, &[String]),
        votes: bool,
        rules: Rules,
    ) -> Result<Vec<Change>, MemberError> {
        if self.now.is_member(node) {
            return Ok(Vec::new());
        }
        self.check_urls(node, urls)?;
        self.check_name(node, name)?;
        if votes {
            self.check_started()?;
        } else {
            let stays = |node: &&NodeId| !self.info(**node).is_to_vote;
            let max = rules.max_learners;
            if max <= self.now.learners.iter().filter(stays).count() {
                return Err(MemberError::TooManyLearners { max });
            }
        }
        let mut info = MemberInfo {
            name: name.to_owned(),
            is_awaited: true,
            is_to_vote: votes,
            ..MemberInfo::default()
        };
        info.set_peer_urls(urls);
        Ok(vec![Change::AddLearner { node, info: info.encode() }])
    }

    fn promote(&self, node: NodeId) -> Result<Vec<Change>, MemberError> {
        let mut info = self.known(node)?;
        if !self.now.learners.contains(&node) {
            return Err(MemberError::NotLearner { node });
        }
        let mut voters = self.now.voters.clone();
        voters.insert(node);
        if self.answers(node) {
            self.check_healthy(&voters)?;
        }
        info.is_to_vote = false;
        let info = info.encode();
        Ok(vec![Change::Update { node, info }, Change::Promote { node }])
    }

    fn remove(&self, node: NodeId, force: bool) -> Result<Vec<Change>, MemberError> {
        self.known(node)?;
        let mut voters = self.now.voters.clone();
        if voters.remove(&node) {
            if voters.is_empty() {
                return Err(MemberError::LastVoter { node });
            }
            if !force {
                self.check_healthy(&voters)?;
            }
        }
        Ok(vec![Change::Remove { node }])
    }

    fn relocate(&self, node: NodeId, urls: &[String]) -> Result<Vec<Change>, MemberError> {
        let mut info = self.known(node)?;
        self.check_urls(node, urls)?;
        info.set_peer_urls(urls);
        Ok(self.update(node, &info))
    }

    fn claim(&self, life: NodeId, told: &MemberInfo) -> Result<(NodeId, Vec<Change>), MemberError> {
        let url = told.peer_url.clone();
        let place = address(&url)?;
        let is_place = |node: &NodeId| {
            let urls = self.info(*node).peer_urls();
            urls.iter().any(|url| address(url).is_ok_and(|address| address == place))
        };
        let node = self.now.members().into_iter().find(is_place);
        let node = node.ok_or_else(|| MemberError::NotAdded { url: url.clone() })?;
        let known = self.info(node);
        if known.life == Some(life) {
            return Ok((node, Vec::new()));
        }
        if !known.is_awaited {
            return Err(MemberError::Claimed { node, url });
        }
        if !known.name.is_empty() && known.name != told.name {
            let (expected, found) = (known.name, told.name.clone());
            return Err(MemberError::OtherName { url, expected, found });
        }
        self.check_name(node, &told.name)?;
        let mut info = known.announced(told, false);
        info.life = Some(life);
        Ok((node, self.update(node, &info)))
    }

    fn announce(&self, node: NodeId, told: &MemberInfo) -> Result<Vec<Change>, MemberError> {
        let known = self.known(node)?;
        self.check_name(node, &told.name)?;
        let is_alone = self.now.members().len() == 1;
        Ok(self.update(node, &known.announced(told, is_alone)))
    }

    fn update(&self, node: NodeId, info: &MemberInfo) -> Vec<Change> {
        match self.info(node) == *info {
            true => Vec::new(),
            false => vec![Change::Update { node, info: info.encode() }],
        }
    }

    fn info(&self, node: NodeId) -> MemberInfo {
        info_of(self.now, node)
    }

    fn known(&self, node: NodeId) -> Result<MemberInfo, MemberError> {
        match self.now.is_member(node) {
            true => Ok(self.info(node)),
            false => Err(MemberError::Unknown { node }),
        }
    }

    fn answers(&self, node: NodeId) -> bool {
        let peer = self.status.peers.iter().find(|peer| peer.node == node);
        // It leads, so it answers itself.
        peer.map_or(self.status.leader == Some(node), |peer| peer.reachable)
    }

    /// Whoever is to decide must be able to.
    fn check_healthy(&self, voters: &NodeSet) -> Result<(), MemberError> {
        let healthy = voters.iter().filter(|voter| self.answers(**voter)).count();
        let (voters, needed) = (voters.len(), majority(voters.len()));
        match needed <= healthy {
            true => Ok(()),
            false => Err(MemberError::Unhealthy { healthy, voters, needed }),
        }
    }

    /// As etcd counts before it takes another voter, so that nobody adds one place after another
    /// that nobody fills.
    fn check_started(&self) -> Result<(), MemberError> {
        let is_to_vote = |node: &NodeId| self.info(*node).is_to_vote;
        let to_vote = self.now.learners.iter().copied().filter(is_to_vote);
        let all: Vec<NodeId> = self.now.voters.iter().copied().chain(to_vote).collect();
        let started = all.iter().filter(|node| !self.info(**node).is_awaited).count();
        let voters = all.len() + 1;
        let needed = majority(voters);
        match needed <= started || started == 1 && voters == 2 {
            true => Ok(()),
            false => Err(MemberError::NotStarted { started, voters, needed }),
        }
    }

    fn check_urls(&self, node: NodeId, urls: &[String]) -> Result<(), MemberError> {
        if urls.is_empty() {
            return Err(MemberError::BadUrl { url: String::new() });
        }
        for url in urls {
            let wanted = address(url)?;
            for other in self.now.members().into_iter().filter(|other| *other != node) {
                let info = self.info(other);
                let has = |url: &String| address(url).is_ok_and(|address| address == wanted);
                if info.peer_urls().iter().any(has) {
                    let owner = match info.name.is_empty() {
                        true => other.to_string(),
                        false => info.name,
                    };
                    return Err(MemberError::UrlTaken { url: url.clone(), owner });
                }
            }
        }
        Ok(())
    }

    fn check_name(&self, node: NodeId, name: &str) -> Result<(), MemberError> {
        let is_taken = |other: &NodeId| *other != node && self.info(*other).name == name;
        match self.now.members().into_iter().find(is_taken).filter(|_| !name.is_empty()) {
            Some(owner) => Err(MemberError::NameTaken { name: name.to_owned(), owner }),
            None => Ok(()),
        }
    }
}

/// Host and port of a peer URL.
fn address(url: &str) -> Result<(String, u16), MemberError> {
    let bad = || MemberError::BadUrl { url: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let is_http = uri.scheme_str() == Some("http");
    let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(0));
    if !is_http || !is_bare || host.is_empty() || port == 0 {
        return Err(bad());
    }
    Ok((host.to_ascii_lowercase(), port))
}

impl From<ChangeRefused> for MemberError {
    fn from(refused: ChangeRefused) -> Self {
        match refused {
            // A new leader is ready when it has committed something, which it is about to.
            ChangeRefused::NotLeader { .. } | ChangeRefused::NotReady => Self::NoLeader,
            ChangeRefused::Behind { node, matched, needed } => {
                Self::Behind { node, matched, needed, reachable: matched != Index::ZERO }
            }
            ChangeRefused::Invalid(invalid) => match invalid {
                ChangeError::InFlight => Self::InFlight,
                ChangeError::Exists(node) => Self::Exists { node },
                ChangeError::Unknown(node) => Self::Unknown { node },
                ChangeError::NotLearner(node) => Self::NotLearner { node },
                ChangeError::LastVoter(node) => Self::LastVoter { node },
            },
        }
    }
}

impl From<TransferRefused> for MemberError {
    fn from(refused: TransferRefused) -> Self {
        match refused {
            TransferRefused::NotLeader { .. } => Self::NoLeader,
            TransferRefused::NotVoter(node) => Self::NotVoter { node },
            TransferRefused::Unreachable(node) => Self::NotTaken { node },
        }
    }
}

#[cfg(test)]
mod tests {
    use consensus::{PeerStatus, Term};
    use std::sync::Arc;

    use super::*;

    const RULES: Rules = Rules { max_learners: 1 };

    /// Voters 1 to `voters`, led by 1; those in `silent` do not answer.
    fn status(voters: u64, silent: &[u64]) -> Status {
        let info = |node: u64| {
            let (name, peer_url) = (format!("n{node}"), format!("http://10.0.0.{node}:2380"));
            MemberInfo { name, peer_url, ..MemberInfo::default() }.encode()
        };
        let members = Membership::of((1..=voters).map(|node| (NodeId(node), info(node))));
        let peers = (2..=voters).map(|node| PeerStatus {
            node: NodeId(node),
            matched: Index(5),
            reachable: !silent.contains(&node),
            snapshot: None,
        });
        let membership = Arc::new(members);
        Status {
            role: RoleName::Leader,
            term: Term(1),
            leader: Some(NodeId(1)),
            commit: Index(5),
            last: Index(5),
            durable: Index(5),
            base: Index::ZERO,
            settled: (Index(1), membership.clone()),
            membership,
            membership_index: Index(1),
            peers: peers.collect(),
            poisoned: false,
        }
    }

    /// With the change made.
    fn after(status: &Status, changes: &[Change]) -> Status {
        let membership = Arc::new(status.membership.change(changes).unwrap().leave_joint());
        Status { membership, ..status.clone() }
    }

    fn plan(status: &Status) -> Plan<'_> {
        Plan { status, now: &status.membership }
    }

    fn add(status: &Status, node: u64, votes: bool) -> Result<Vec<Change>, MemberError> {
        let url = format!("http://10.0.0.{node}:2380");
        plan(status).add(NodeId(node), ("", &[url]), votes, RULES)
    }

    fn told(node: u64, name: &str) -> MemberInfo {
        let peer_url = format!("http://10.0.0.{node}:2380/");
        MemberInfo { name: name.to_owned(), peer_url, ..MemberInfo::default() }
    }

    #[test]
    fn whoever_is_left_must_be_able_to_decide() {
        let refusal = |voters, silent: &[u64], node| {
            plan(&status(voters, silent)).remove(NodeId(node), false).err()
        };
        let unhealthy =
            |healthy, voters, needed| Some(MemberError::Unhealthy { healthy, voters, needed });
        assert_eq!(refusal(3, &[], 3), None);
        assert_eq!(refusal(3, &[3], 3), None, "the dead one may go");
        assert_eq!(refusal(3, &[3], 2), unhealthy(1, 2, 2));
        assert_eq!(refusal(3, &[3], 1), unhealthy(1, 2, 2), "the leader itself");
        assert_eq!(refusal(5, &[4, 5], 3), unhealthy(2, 4, 3));
        assert_eq!(refusal(5, &[4, 5], 4), None);
        assert!(plan(&status(3, &[3])).remove(NodeId(2), true).is_ok(), "if it has to be");
        let last = Some(MemberError::LastVoter { node: NodeId(1) });
        assert_eq!(plan(&status(1, &[])).remove(NodeId(1), true).err(), last);
    }

    #[test]
    fn a_place_is_for_one_life() {
        let one = status(1, &[]);
        let unknown = plan(&one).claim(NodeId(70), &told(7, "seven")).unwrap_err();
        assert!(matches!(unknown, MemberError::NotAdded { .. }), "{unknown}");
        let added = after(&one, &add(&one, 7, false).unwrap());
        let (node, changes) = plan(&added).claim(NodeId(70), &told(7, "seven")).unwrap();
        assert_eq!(node, NodeId(7));
        let claimed = after(&added, &changes);
        let info = info_of(&claimed.membership, node);
        assert_eq!((info.life, info.is_awaited), (Some(NodeId(70)), false));
        let again = plan(&claimed).claim(NodeId(70), &told(7, "seven")).unwrap();
        assert_eq!(again, (node, Vec::new()));
        let wiped = plan(&claimed).claim(NodeId(71), &told(7, "seven")).unwrap_err();
        assert!(matches!(wiped, MemberError::Claimed { .. }), "{wiped}");
        // A founder's place was never free.
        let founder = plan(&claimed).claim(NodeId(72), &told(1, "n1")).unwrap_err();
        assert!(matches!(founder, MemberError::Claimed { .. }), "{founder}");
        let named = plan(&added).claim(NodeId(70), &told(7, "n1")).unwrap_err();
        assert!(matches!(named, MemberError::NameTaken { .. }), "{named}");
    }

    #[test]
    fn places_that_nobody_fills_are_not_piled_up() {
        let one = status(1, &[]);
        let voter = after(&one, &add(&one, 7, true).unwrap());
        let refused = add(&voter, 8, true).unwrap_err();
        assert_eq!(refused, MemberError::NotStarted { started: 1, voters: 3, needed: 2 });
        // Those that are to vote are no learners to the limit.
        let learner = after(&voter, &add(&voter, 8, false).unwrap());
        let refused = add(&learner, 9, false).unwrap_err();
        assert_eq!(refused, MemberError::TooManyLearners { max: 1 });
        assert!(add(&status(3, &[3]), 7, true).is_ok(), "a dead voter is no reason");
    }

    #[test]
    fn an_address_belongs_to_one_member() {
        let three = status(3, &[]);
        for taken in ["http://10.0.0.2:2380", "http://10.0.0.2:2380/"] {
            let urls = [taken.to_owned()];
            let refused = plan(&three).add(NodeId(7), ("", &urls), false, RULES).unwrap_err();
            assert!(matches!(refused, MemberError::UrlTaken { .. }), "{refused}");
            assert!(plan(&three).relocate(NodeId(1), &urls).is_err());
            assert_eq!(
                plan(&three).relocate(NodeId(2), &urls).map(|made| made.len() < 2),
                Ok(true)
            );
        }
        for bad in ["", "10.0.0.7:2380", "http://10.0.0.7", "http://a:1/x", "https://a:1"] {
            assert!(matches!(address(bad), Err(MemberError::BadUrl { .. })), "{bad}");
        }
        assert_eq!(address("http://[::1]:5"), Ok(("[::1]".to_owned(), 5)));
    }

    #[test]
    fn where_it_is_reached_is_for_the_operator_to_say_unless_it_is_alone() {
        let moved = MemberInfo { peer_url: "http://10.0.0.9:1".to_owned(), ..told(1, "n1") };
        assert_eq!(plan(&status(3, &[])).announce(NodeId(1), &moved), Ok(Vec::new()));
        let alone = status(1, &[]);
        let changed = after(&alone, &plan(&alone).announce(NodeId(1), &moved).unwrap());
        assert_eq!(info_of(&changed.membership, NodeId(1)).peer_url, "http://10.0.0.9:1");
    }
}
