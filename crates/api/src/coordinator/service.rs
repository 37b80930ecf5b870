//! `/v1/services`: instances are keys under [`super::SERVICE_PREFIX`], usually with a lease.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::LeaseId;

/// `PUT /v1/services/{service}/{instance}`. Repeating it replaces the registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// Host name or IP address where the instance is reached.
    pub address: String,
    pub port: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// How the coordinator notices that the instance is gone. Without one it stays until it is
    /// deregistered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
}

/// Either `ttl_seconds` (the instance sends heartbeats, and disappears without them), or `http`
/// with `interval_seconds` (the coordinator asks, and marks the instance `failing`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Heartbeats must come at least this often. 1 to 86,400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// A path on the instance (`/health`), or an `http://` URL. 2xx is passing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Time between two HTTP checks, 1 to 3,600; 10 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InstanceStatus {
    /// Its heartbeats come, its check passes, or it has none.
    #[default]
    Passing,
    /// Its HTTP check fails.
    Failing,
    /// Its HTTP check has not run yet.
    Unknown,
}

/// What is stored under an instance's key, also when a service registers itself through `/v3`.
/// Unknown fields are ignored: the key belongs to whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceValue {
    pub address: String,
    pub port: u16,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// Written by the coordinator for instances with an HTTP check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<InstanceStatus>,
}

/// One registered instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Instance {
    pub service: String,
    pub instance: String,
    pub address: String,
    pub port: u16,
    pub tags: Vec<String>,
    pub meta: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    pub status: InstanceStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
    /// Revision of its last change.
    pub revision: u64,
}

/// Reply of a registration and of a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Registered {
    pub service: String,
    pub instance: String,
    pub revision: u64,
    /// Send a heartbeat well before this many seconds have passed. Absent without a TTL check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
}

/// `GET /v1/services`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceList {
    pub revision: u64,
    pub services: Vec<ServiceSummary>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceSummary {
    pub service: String,
    pub instances: u64,
    pub healthy: u64,
}

/// `GET /v1/services/{service}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceInstances {
    pub service: String,
    pub revision: u64,
    pub instances: Vec<Instance>,
}
