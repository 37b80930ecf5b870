//! What every member of a group knows of every other one.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Name and addresses of a member, kept in the membership itself: who has the log knows where the
/// others are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Chosen by the operator.
    pub name: String,
    /// Where other members reach it: `http://host:port`.
    pub peer_url: String,
    /// Where users reach it.
    pub client_urls: Vec<String>,
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
}
