//! How a group of several nodes begins.
//!
//! Every founder knows the names and addresses of all, but not their ids, which were drawn when
//! their data directories were made. So it asks each of them until all have answered, and then all
//! write the same first entry. All of them are needed this once, not only a majority: otherwise a
//! founder that lost its disk could found the group again, together with one that was late, while
//! the others hold what they have acknowledged.
//!
//! Who comes when the group is there already, as one of its members, still writes the same first
//! entry: it has promised nothing yet. Who is not among its members lost its data, or never was one.

use std::collections::BTreeMap;

use consensus::{GroupId, Membership, NodeId};
use tokio::time::{Duration, Instant};

use crate::groups::Groups;
use crate::identity::NodeCard;
use crate::member::MemberInfo;

/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(100);
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
    /// Whether this node has a group's log or snapshot.
    #[must_use]
    pub fn has(&self, group: GroupId) -> bool {
        self.wal().group(group).is_some()
            || self.snapshots().groups().is_ok_and(|groups| groups.contains(&group))
    }

    /// Agrees with the other founders, given by name and base URL of their peer listeners, on who
    /// they are; `own` is among them, and begins with what has this digest, or with nothing. To be given to [`start_with`](Self::start_with) on a node
    /// that has nothing of the group yet. Waits until all have answered.
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
        let mut met: BTreeMap<NodeId, MemberInfo> = BTreeMap::from([(self.node(), own.clone())]);
        let mut missing: BTreeMap<&String, &String> =
            founders.iter().filter(|(name, _)| **name != own.name).collect();
        let mut say_at = Instant::now() + SAY;
        loop {
            let mut still = BTreeMap::new();
            for (name, url) in missing {
                match self.transport().identify(url).await {
                    Ok(card) => {
                        let members = card.members(group);
                        if members.is_some_and(|members| !members.contains(&self.node())) {
                            return Err(FoundingError::DataLost { name: own.name.clone() });
                        }
                        if card.members(group).is_none() && card.seed.as_deref() != seed {
                            return Err(FoundingError::OtherSeed { name: name.clone() });
                        }
                        meet(&mut met, (name, url), card)?;
                    }
                    Err(error) => {
                        if say_at <= Instant::now() {
                            tracing::info!(%name, %url, %error, "waiting for a founder");
                        }
                        still.insert(name, url);
                    }
                }
            }
            if still.is_empty() {
                let info = |(node, info): (NodeId, MemberInfo)| (node, info.encode());
                return Ok(Membership::of(met.into_iter().map(info)));
            }
            if say_at <= Instant::now() {
                say_at = Instant::now() + SAY;
            }
            missing = still;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn meet(
    met: &mut BTreeMap<NodeId, MemberInfo>,
    (name, url): (&str, &str),
    card: NodeCard,
) -> Result<(), FoundingError> {
    let found = card.info.name.clone();
    if found != name {
        let (url, expected) = (url.to_owned(), name.to_owned());
        return Err(FoundingError::OtherName { url, expected, found });
    }
    let node = card.node().unwrap_or_default();
    if let Some(other) = met.insert(node, card.info) {
        return Err(FoundingError::Same(other.name, found));
    }
    Ok(())
}
