//! `/v1/leases`.

use std::{fmt, num::ParseIntError, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::Text;

/// Names a lease. A decimal string in JSON; a JSON number is accepted too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, utoipa::ToSchema)]
#[schema(value_type = String, example = "4503599627370497")]
pub struct LeaseId(pub i64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for LeaseId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for LeaseId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LeaseId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = LeaseId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a lease id: a decimal string or an integer")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<LeaseId, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_i64<E: de::Error>(self, id: i64) -> Result<LeaseId, E> {
                Ok(LeaseId(id))
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<LeaseId, E> {
                i64::try_from(id)
                    .map(LeaseId)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(id), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseGrantRequest {
    /// 1 to 9,000,000,000. The lease ends this long after its last keepalive.
    pub ttl_seconds: u64,
    /// Chosen by the server when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<LeaseId>,
}

/// A lease: reply of grant, keepalive and get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Lease {
    pub id: LeaseId,
    /// What was granted; a keepalive starts it anew.
    pub ttl_seconds: u64,
    /// What is left of it, rounded down.
    pub remaining_seconds: u64,
    /// The keys that go with it, in `GET /v1/leases/{id}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<Text>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeaseList {
    /// The one that ends first comes first.
    pub leases: Vec<Lease>,
}

/// `DELETE /v1/leases/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeaseRevoked {
    /// The store's revision after its keys were deleted.
    pub revision: u64,
    pub deleted: u64,
}
