//! `/v1/cluster`: the brokers, what each carries, and where groups live.

use serde::{Deserialize, Serialize};

/// `GET /v1/cluster`, as the answering broker sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Cluster {
    /// Name of the broker that leads the catalog; absent when nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Counts the changes of the catalog.
    pub revision: u64,
    /// Partitions and queues: each is a group with copies of its own.
    pub groups: u64,
    /// Groups whose copies are moving.
    pub moving: u64,
    /// Copies that are to be removed and are not yet.
    pub leaving: u64,
    /// By id.
    pub brokers: Vec<Broker>,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Broker {
    /// Decimal.
    pub id: String,
    /// Empty for one that was added without a name and has not come yet.
    pub name: String,
    /// Where clients reach it.
    pub client_url: String,
    /// Where the other brokers reach it.
    pub peer_url: String,
    /// What it fails together with; empty: nothing in particular.
    #[serde(default)]
    pub zone: String,
    /// It was added and has not come yet.
    #[serde(default)]
    pub awaited: bool,
    /// It was heard of lately.
    pub up: bool,
    /// Its copies are moving to others.
    pub draining: bool,
    /// It takes part in decisions about the catalog; the others follow.
    pub votes: bool,
    /// Copies it has, or is getting.
    pub replicas: u32,
    /// Groups it should lead.
    pub preferred: u32,
}

/// `POST /v1/cluster/members`: makes a place for a broker that is started afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BrokerAddRequest {
    /// What the broker will call itself. Absent: it says so when it comes.
    #[serde(default)]
    pub name: Option<String>,
    /// Where the others will reach it: `http://host:port`.
    pub peer_url: String,
}

/// The place that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BrokerAdded {
    /// Decimal.
    pub id: String,
    /// How to start the new broker. Addresses and directories are for its operator to adapt.
    pub command: String,
}

/// `GET /v1/cluster/groups`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Groups {
    /// By group.
    pub groups: Vec<GroupView>,
}

/// Where a partition or queue lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GroupView {
    /// Its number, never used again.
    pub group: u64,
    /// The topic, of a partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Which partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// The queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Which of the groups that hold streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<u32>,
    /// Who leads it, by name, as far as the answering broker knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The term it leads in, as far as the answering broker knows: absent where it has no copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// Who should lead it.
    pub preferred: String,
    /// How many copies there should be.
    pub wanted: u8,
    /// Who has copies, by name.
    pub replicas: Vec<String>,
    /// The copy that is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<GroupMove>,
}

/// A copy on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GroupMove {
    /// Who gets one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Whose goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// It is being undone.
    #[serde(default)]
    pub cancelled: bool,
}

/// `POST /v1/cluster/transfer`: one of `topic`, `queue`, `streams` and `from`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TransferRequest {
    /// A topic, of which a partition is to be led by another broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Which partition. Absent: 0, if the topic has only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// A queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// One of the groups that hold streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<u32>,
    /// A broker, by id or name: everything that it leads is to be led by others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Who is to lead, by id or name. Only with `from` it may be absent: whoever has most, then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// Who leads now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Transferred {
    /// Name of the leader, of one group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The term it leads in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// Groups that another broker led before.
    pub moved: u64,
    /// Groups that are led as before, though they should not be: the first 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stayed: Vec<GroupStayed>,
}

/// A group that is led by whom it was led before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GroupStayed {
    /// Its number.
    pub group: u64,
    /// What is in the way.
    pub reason: String,
}
