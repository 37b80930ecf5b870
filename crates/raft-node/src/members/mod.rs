//! Changes of who belongs to a running group.
//!
//! Any member takes a [`MemberRequest`]; it passes it on to the leader, once, over the peer
//! listener. The leader judges it against what it knows at that moment and begins the change in
//! one step ([`plan`]); whoever asked is answered when the change is committed.
//!
//! A new member is named by the leader before it exists: its id and its address stand in the
//! membership as *awaited*. The node that comes to that address with an empty directory *claims*
//! the place ([`join`](crate::join)): from then on the place is bound to that directory's life, and
//! one that lost its data is not taken for it.
//!
//! **Invariant:** an id stands for one life of a data directory: it is drawn for one addition, and
//! bound to one life by a committed entry before that life uses it.
//! **Invariant:** every request can be repeated: what is so already is not done again.

mod ask;
mod keep;
mod plan;
mod serve;

use std::collections::BTreeSet;
use std::sync::Arc;

use consensus::{GroupId, Index, Membership, NodeId, Status};
use serde::{Deserialize, Serialize};

use crate::groups;
use crate::member::MemberInfo;

pub(crate) use ask::{Envelope, Outcome};
pub use keep::Removed;
pub(crate) use plan::{Begun, Rules, begin};
pub(crate) use serve::{Asked, asked};

/// The members of one group, to look at and to change. Cheap to clone.
#[derive(Clone)]
pub struct Members {
    group: GroupId,
    shared: Arc<groups::Shared>,
}

/// A wish about who belongs to a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRequest {
    /// A new member at an address where nobody is yet. It begins as a learner.
    Add {
        /// Drawn for this addition: [`Members::draw`].
        node: NodeId,
        /// May be empty: then the new node brings it.
        name: String,
        /// One at least; the first is dialled.
        peer_urls: Vec<String>,
        /// It becomes a voter by itself when it has caught up.
        votes: bool,
    },
    /// A learner that has caught up becomes a voter.
    Promote {
        /// Who.
        node: NodeId,
    },
    /// A member leaves for good.
    Remove {
        /// Who.
        node: NodeId,
        /// Also if the others could not decide anything then.
        force: bool,
    },
    /// A member is reached elsewhere by the others.
    Move {
        /// Who.
        node: NodeId,
        /// One at least; the first is dialled.
        peer_urls: Vec<String>,
    },
    /// Another voter leads.
    Transfer {
        /// Who.
        to: NodeId,
    },
    /// A new node comes to the place that was made for it.
    Claim {
        /// Drawn by the new node with its directory.
        life: NodeId,
        /// What it says about itself.
        info: MemberInfo,
    },
    /// A member says what it is called and where users reach it.
    Announce {
        /// Who.
        node: NodeId,
        /// What it says about itself.
        info: MemberInfo,
    },
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberEntry {
    /// Who.
    pub node: NodeId,
    /// Name and addresses.
    pub info: MemberInfo,
    /// Its vote counts; else it is a learner.
    pub is_voter: bool,
}

/// Who belongs to a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberList {
    /// The entry since which that is so.
    pub since: Index,
    /// All of them, by id.
    pub members: Vec<MemberEntry>,
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Whom it was about.
    pub node: NodeId,
    /// All members, with the change.
    pub list: MemberList,
}

/// Why a request was not carried out. Nothing was changed, but for [`MemberError::Indeterminate`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberError {
    /// Nobody has this id.
    #[error("there is no member {node}; GET /v1/cluster lists them")]
    Unknown {
        /// As asked for.
        node: NodeId,
    },
    /// Nobody is called so.
    #[error("there is no member {name:?}; GET /v1/cluster lists them")]
    NoSuchName {
        /// As asked for.
        name: String,
    },
    /// An id is used once.
    #[error("there is a member {node} already")]
    Exists {
        /// As asked for.
        node: NodeId,
    },
    /// Two members cannot be reached at one address.
    #[error("{url} is the peer URL of member {owner}; remove that one first, or name another URL")]
    UrlTaken {
        /// As asked for.
        url: String,
        /// Whose it is: a name, or an id.
        owner: String,
    },
    /// Two members cannot have one name.
    #[error("member {owner} is called {name}; choose another name")]
    NameTaken {
        /// As asked for.
        name: String,
        /// Whose it is.
        owner: NodeId,
    },
    /// Not an address.
    #[error("{url:?} is not a peer URL: http://host:port is, without a path")]
    BadUrl {
        /// As asked for.
        url: String,
    },
    /// Learners load the leader and are meant to pass.
    #[error(
        "there are {max} learners already, which is the limit; promote or remove one first, or \
         raise cluster.max_learners"
    )]
    TooManyLearners {
        /// The limit.
        max: usize,
    },
    /// Members that were added never came.
    #[error(
        "{started} of {voters} voters would have been started, {needed} are needed; start those \
         that were added, or remove them"
    )]
    NotStarted {
        /// Those that have been started.
        started: usize,
        /// With the change.
        voters: usize,
        /// A majority.
        needed: usize,
    },
    /// Without those that answer, nothing could be decided any more.
    #[error(
        "after this, {healthy} of {voters} voters would answer, and {needed} are needed to go on; \
         bring the others back first, or remove those that are dead"
    )]
    Unhealthy {
        /// Those that answer now.
        healthy: usize,
        /// With the change.
        voters: usize,
        /// A majority.
        needed: usize,
    },
    /// Only learners are promoted.
    #[error("member {node} votes already")]
    NotLearner {
        /// As asked for.
        node: NodeId,
    },
    /// A learner that lags would hold all others up.
    #[error(
        "member {node} has {matched} of the {needed} entries that it needs{}; repeat when it has \
         caught up",
        if *.reachable { "" } else { " and does not answer: see whether it runs" }
    )]
    Behind {
        /// As asked for.
        node: NodeId,
        /// What it has.
        matched: Index,
        /// What it needs.
        needed: Index,
        /// It answers.
        reachable: bool,
    },
    /// A group needs one voter.
    #[error("member {node} is the last voter: what the cluster holds would be nobody's")]
    LastVoter {
        /// As asked for.
        node: NodeId,
    },
    /// One change at a time.
    #[error("another change of the members is under way; repeat when it is through")]
    InFlight,
    /// Only a voter leads.
    #[error("member {node} cannot lead: it does not vote")]
    NotVoter {
        /// As asked for.
        node: NodeId,
    },
    /// The one that was to lead does not.
    #[error("member {node} has not taken over: it does not answer or lags; the old leader goes on")]
    NotTaken {
        /// As asked for.
        node: NodeId,
    },
    /// The place was not made.
    #[error("no member was added at {url} yet")]
    NotAdded {
        /// Where the new node is reached.
        url: String,
    },
    /// The place belongs to another life.
    #[error(
        "member {node} at {url} was started with other data, which is gone from here; remove that \
         member and add it again"
    )]
    Claimed {
        /// Whose place it is.
        node: NodeId,
        /// Where.
        url: String,
    },
    /// The place was made for another name.
    #[error("the member at {url} was added as {expected}, and this node is {found}")]
    OtherName {
        /// Where.
        url: String,
        /// As added.
        expected: String,
        /// As it says.
        found: String,
    },
    /// Nobody leads, or nobody reaches the leader.
    #[error("nobody leads the cluster right now, or the leader is out of reach; repeat shortly")]
    NoLeader,
    /// The group does not run here.
    #[error("this node is stopping; repeat shortly or elsewhere")]
    Stopped,
    /// It may have been made or not.
    #[error("the change is begun and not through yet: see GET /v1/cluster what becomes of it")]
    Indeterminate,
}

impl Members {
    pub(crate) fn new(group: GroupId, shared: Arc<groups::Shared>) -> Self {
        Self { group, shared }
    }

    /// An id for one addition. It has never been used and never will be again.
    #[must_use]
    pub fn draw() -> NodeId {
        crate::identity::draw()
    }

    /// Who belongs to the group, as this node knows it.
    ///
    /// # Errors
    ///
    /// When the group does not run here.
    pub async fn list(&self) -> Result<MemberList, MemberError> {
        let status = self.status().await?;
        let (since, membership) = &status.settled;
        Ok(MemberList::of(*since, membership))
    }
}

impl MemberList {
    pub(crate) fn of(since: Index, membership: &Membership) -> Self {
        let entry = |node: NodeId| MemberEntry {
            node,
            info: info_of(membership, node),
            is_voter: membership.is_voter(node),
        };
        Self { since, members: membership.members().into_iter().map(entry).collect() }
    }

    /// One of them.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&MemberEntry> {
        self.members.iter().find(|member| member.node == node)
    }
}

impl MemberRequest {
    /// Whom it is about; of a claim, whoever has got the place.
    fn subject(&self, membership: &Membership) -> NodeId {
        match self {
            Self::Add { node, .. }
            | Self::Promote { node }
            | Self::Remove { node, .. }
            | Self::Move { node, .. }
            | Self::Transfer { to: node }
            | Self::Announce { node, .. } => *node,
            Self::Claim { life, .. } => {
                let has = |node: &NodeId| info_of(membership, *node).life == Some(*life);
                membership.members().into_iter().find(has).unwrap_or(*life)
            }
        }
    }

    /// Whether it is carried out in this membership.
    fn is_done(&self, status: &Status, membership: &Membership) -> bool {
        let info = |node| info_of(membership, node);
        match self {
            Self::Add { node, .. } => membership.is_member(*node),
            Self::Promote { node } => membership.voters.contains(node),
            Self::Remove { node, .. } => !membership.is_member(*node),
            Self::Move { node, peer_urls } => info(*node).peer_urls() == *peer_urls,
            Self::Transfer { to } => status.leader == Some(*to),
            Self::Claim { life, .. } => {
                membership.members().into_iter().any(|node| info(node).life == Some(*life))
            }
            Self::Announce { node, info: told } => {
                let is_alone = membership.members().len() == 1;
                info(*node) == info(*node).announced(told, is_alone)
            }
        }
    }
}

/// What is known of a member.
pub(crate) fn info_of(membership: &Membership, node: NodeId) -> MemberInfo {
    membership.info.get(&node).and_then(|info| MemberInfo::decode(info)).unwrap_or_default()
}

/// Members other than `node`, with their peer URLs.
pub(crate) fn others(membership: &Membership, node: NodeId) -> BTreeSet<String> {
    let others = membership.members().into_iter().filter(|other| *other != node);
    let urls = others.map(|other| info_of(membership, other).peer_url);
    urls.filter(|url| !url.is_empty()).collect()
}
