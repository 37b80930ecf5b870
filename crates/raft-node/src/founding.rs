//! How a group of several nodes begins.
//!
//! Every founder knows the names and addresses of all, but not their ids, which were drawn when
//! their data directories were made. So it asks each of them until all have answered, says whom it
//! has met, and goes on asking until all say the same: one that lost its disk between two meetings
//! is somebody else in the second. Then all write the same first entry. All of them are needed this once, not only a majority: otherwise a
//! founder that lost its disk could found the group again, together with one that was late, while
//! the others hold what they have acknowledged.
//!
//! Who comes when the group is there already, as one of its members, still writes the same first
//! entry: it has promised nothing yet. Who is not among its members lost its data, or never was one.

use std::collections::BTreeMap;

use consensus::{GroupId, Index, Membership, NodeId};
use tokio::time::{Duration, Instant};

use crate::groups::Groups;
use crate::identity::NodeCard;
use crate::member::MemberInfo;

/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(100);
/// What this node has agreed to is remembered: others may have acted on it.
const SAID_MAX: usize = 64;
/// How often it is said who is still missing.
const SAY: Duration = Duration::from_secs(5);

/// Why a group cannot be founded here.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// The group lives, and this node's data is not there any more.
    #[error(
        "the cluster exists already, and {name} is one of its members with other data: what it had \
         is gone from here; restore its data directory, or remove the member and add this node as \
         a new one"
    )]
    DataLost {
        /// This node.
        name: String,
    },
    /// Two founders gave the same id or the same name.
    #[error("{0} and {1} are the same node; give every member its own name, address and data")]
    Same(String, String),
    /// A founder begins with something else.
    #[error(
        "{name} and this node do not begin with the same: make the data directories of all founders \
         from one backup, with the same members and options"
    )]
    OtherSeed {
        /// The other founder.
        name: String,
    },
    /// A founder calls itself something else.
    #[error("the node at {url} is {found}, not {expected}; correct the list of initial members")]
    OtherName {
        /// Where.
        url: String,
        /// As configured.
        expected: String,
        /// As it says.
        found: String,
    },
}

impl Groups {
    /// Whether this node has entries or a snapshot of a group. A group that it has left, and one
    /// that it is to be made a member of and has heard nothing of yet, it has not.
    #[must_use]
    pub fn has(&self, group: GroupId) -> bool {
        self.wal().group(group).is_some_and(|state| state.last != Index::ZERO)
            || self.snapshots().groups().is_ok_and(|groups| groups.contains(&group))
    }

    /// Agrees with the other founders, given by name and base URL of their peer listeners, on who
    /// they are; `own` is among them, and begins with what has this digest, or with nothing. To be
    /// given to [`start_with`](Self::start_with) on a node that has nothing of the group yet.
    /// Waits until all have met the same.
    ///
    /// # Errors
    ///
    /// When waiting would not help.
    pub async fn meet_founders(
        &self,
        group: GroupId,
        (own, seed): (&MemberInfo, Option<&str>),
        founders: &BTreeMap<String, String>,
    ) -> Result<Membership, FoundingError> {
        let mut said: BTreeMap<String, Membership> = BTreeMap::new();
        let mut say_at = Instant::now() + SAY;
        loop {
            let is_time = say_at <= Instant::now();
            let mut met = BTreeMap::from([(self.node(), own.clone())]);
            let mut cards = Vec::with_capacity(founders.len());
            for (name, url) in founders.iter().filter(|(name, _)| **name != own.name) {
                match self.transport().identify(url).await {
                    Ok(card) => {
                        self.check_founder(group, (own, seed), name, &card)?;
                        if let Some(founded) = founded_with(group, &card, &said) {
                            return Ok(founded);
                        }
                        meet(&mut met, (name, url), &card)?;
                        cards.push(card);
                    }
                    Err(error) if is_time => {
                        tracing::info!(%name, %url, %error, "waiting for a founder");
                    }
                    Err(_) => {}
                }
            }
            if met.len() == founders.len() {
                let info = |(node, info): (NodeId, MemberInfo)| (node, info.encode());
                let membership = Membership::of(met.into_iter().map(info));
                let digest = digest(&membership);
                let agree = |card: &NodeCard| agrees(group, card, &digest, &membership);
                // What it has not said itself the others cannot have agreed to.
                if said.contains_key(&digest) && cards.iter().all(agree) {
                    return Ok(membership);
                }
                if said.len() == SAID_MAX {
                    said.clear();
                }
                said.insert(digest.clone(), membership);
                self.say_met(digest).await;
            }
            if is_time {
                say_at = Instant::now() + SAY;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn check_founder(
        &self,
        group: GroupId,
        (own, seed): (&MemberInfo, Option<&str>),
        name: &str,
        card: &NodeCard,
    ) -> Result<(), FoundingError> {
        match card.members(group) {
            Some(members) if !members.contains(&self.node()) => {
                Err(FoundingError::DataLost { name: own.name.clone() })
            }
            None if card.seed.as_deref() != seed => {
                Err(FoundingError::OtherSeed { name: name.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

/// What a founder has begun the group with, if it has and this node has agreed to it: another
/// founder may have lost its disk since, and be somebody else now.
fn founded_with(
    group: GroupId,
    card: &NodeCard,
    said: &BTreeMap<String, Membership>,
) -> Option<Membership> {
    card.members(group)?;
    said.get(card.met.as_ref()?).cloned()
}

/// A founder has met the same nodes. One that has the group for longer than it runs does not know
/// any more whom it met: then they have to be members.
fn agrees(group: GroupId, card: &NodeCard, digest: &str, membership: &Membership) -> bool {
    let is_founded = card
        .members(group)
        .is_some_and(|members| membership.voters.iter().all(|founder| members.contains(founder)));
    card.met.as_deref() == Some(digest) || is_founded
}

fn digest(membership: &Membership) -> String {
    let bytes = membership.encode();
    format!("{:08x}-{}", crc32c::crc32c(&bytes), bytes.len())
}

fn meet(
    met: &mut BTreeMap<NodeId, MemberInfo>,
    (name, url): (&str, &str),
    card: &NodeCard,
) -> Result<(), FoundingError> {
    let found = card.info.name.clone();
    if found != name {
        let (url, expected) = (url.to_owned(), name.to_owned());
        return Err(FoundingError::OtherName { url, expected, found });
    }
    let node = card.node().unwrap_or_default();
    if let Some(other) = met.insert(node, card.info.clone()) {
        return Err(FoundingError::Same(other.name, found));
    }
    Ok(())
}
