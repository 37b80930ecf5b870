//! Leases.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::wire::{Header, Status, signed};
use crate::Error;

/// Names a lease. Travels as a decimal string: it does not fit a JavaScript number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// No lease at all.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for LeaseId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

pub(super) fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LeaseId, D::Error> {
    signed(deserializer).map(LeaseId)
}

/// A lease as granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    /// What was granted; it may be longer than what was asked for.
    pub ttl: Duration,
}

#[derive(Debug, Serialize)]
pub(super) struct LeaseRequest {
    #[serde(rename = "ID")]
    pub(super) id: LeaseId,
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    pub(super) ttl: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GrantReply {
    #[serde(rename = "ID", deserialize_with = "id")]
    id: LeaseId,
    #[serde(rename = "TTL", deserialize_with = "signed")]
    ttl: i64,
    error: String,
}

impl GrantReply {
    pub(super) fn into_lease(self) -> Result<Lease, Error> {
        if self.id.is_none() || self.ttl <= 0 {
            return Err(Error::bad_answer(format!("no lease was granted: {}", self.error)));
        }
        Ok(Lease { id: self.id, ttl: seconds(self.ttl) })
    }
}

/// The first document of the keepalive stream; there is one for each request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KeepaliveReply {
    result: Renewed,
    error: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Renewed {
    #[serde(rename = "header")]
    _header: Header,
    #[serde(rename = "TTL", deserialize_with = "signed")]
    ttl: i64,
}

impl KeepaliveReply {
    pub(super) fn into_ttl(self) -> Result<Option<Duration>, Error> {
        if let Some(error) = self.error {
            return Err(error.into_error());
        }
        Ok((0 < self.result.ttl).then(|| seconds(self.result.ttl)))
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keepalive_without_a_ttl_is_a_lost_lease() {
        let ttl = |json| serde_json::from_str::<KeepaliveReply>(json).unwrap().into_ttl();
        let kept = r#"{"result":{"header":{"revision":"3"},"ID":"777","TTL":"20"}}"#;
        assert_eq!(ttl(kept).unwrap(), Some(Duration::from_secs(20)));
        assert_eq!(ttl(r#"{"result":{"header":{},"ID":"778"}}"#).unwrap(), None);
        let error = ttl(r#"{"error":{"grpc_code":14,"message":"no leader"}}"#).unwrap_err();
        assert_eq!(error.etcd_code(), Some(14));
    }
}
