//! What every member of a group knows of every other one.

use bytes::Bytes;
use consensus::NodeId;
use serde::{Deserialize, Serialize};

/// Name and addresses of a member, kept in the membership itself: who has the log knows where the
/// others are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Chosen by the operator.
    pub name: String,
    /// Where other members reach it: `http://host:port`.
    pub peer_url: String,
    /// Further addresses that the operator gave. They are shown and not dialled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_peer_urls: Vec<String>,
    /// Where users reach it.
    pub client_urls: Vec<String>,
    /// It was added and has not come yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_awaited: bool,
    /// It becomes a voter by itself when it has caught up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_to_vote: bool,
    /// The life of the data directory that has claimed the place of an added member. A founder's
    /// id is its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<NodeId>,
}

impl MemberInfo {
    /// As it stands in a membership.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("names and addresses are plain data").into()
    }

    /// What [`encode`](Self::encode) has written. `None` for a member without addresses.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// All addresses for other members, the one that is dialled first.
    #[must_use]
    pub fn peer_urls(&self) -> Vec<String> {
        let first = std::iter::once(&self.peer_url).filter(|url| !url.is_empty());
        first.chain(&self.more_peer_urls).cloned().collect()
    }

    pub(crate) fn set_peer_urls(&mut self, urls: &[String]) {
        let (first, more) = urls.split_first().map_or((None, [].as_slice()), |(f, m)| (Some(f), m));
        self.peer_url = first.cloned().unwrap_or_default();
        self.more_peer_urls = more.to_vec();
    }

    /// With what the member says about itself. Where others reach it is for the operator to say,
    /// unless nobody has, or there are no others.
    pub(crate) fn announced(&self, told: &Self, is_alone: bool) -> Self {
        let mut info = self.clone();
        info.name.clone_from(&told.name);
        info.client_urls.clone_from(&told.client_urls);
        info.is_awaited = false;
        if info.peer_url.is_empty() || is_alone {
            info.set_peer_urls(&told.peer_urls());
        }
        info
    }
}
