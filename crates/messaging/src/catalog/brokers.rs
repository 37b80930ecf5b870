//! The brokers, as the catalog knows them.

use consensus::NodeId;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::ids::Millis;

/// Most brokers. Each is a member of the catalog's group, and choosing looks at all of them.
pub const MAX_BROKERS: usize = 64;
/// Longest name, address or zone of a broker, in bytes.
pub const MAX_BROKER_TEXT: usize = 256;
/// Forgotten brokers that are remembered as such. Theirs are ids of data directories, drawn at
/// random: one beyond these is only refused by the group it is no member of.
pub const MAX_FORGOTTEN: usize = 4_096;
/// The version of commands that this code writes and understands.
pub const VERSION: u32 = 1;

/// All brokers.
pub type Brokers = OrdMap<NodeId, BrokerEntry>;

/// What a broker says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// As people call it. No two have the same.
    pub name: String,
    /// Where clients reach it.
    pub client_url: String,
    /// Where other brokers reach it.
    pub peer_url: String,
    /// What fails together: copies are kept in different zones where there are some.
    pub zone: String,
    /// The newest command version it understands.
    pub version: u32,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerEntry {
    /// As it announced itself.
    pub announced: Announced,
    /// Whether it was heard of lately. Decides where copies go, and nothing else.
    pub up: bool,
    /// When `up` last changed.
    pub since_ms: Millis,
    /// Its copies are to be moved to others, and nothing new is placed on it.
    pub draining: bool,
}

impl BrokerEntry {
    /// It was not heard of for this long.
    #[must_use]
    pub fn down_for(&self, now: Millis) -> Option<u64> {
        (!self.up).then(|| now.saturating_sub(self.since_ms))
    }
}
