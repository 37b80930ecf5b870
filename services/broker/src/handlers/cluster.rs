//! `/v1/cluster`: the brokers, what they carry, and changes of that.

use api::broker::{
    Broker as BrokerView, BrokerAddRequest, BrokerAdded, CLUSTER, CLUSTER_GROUPS, Cluster,
    GroupStayed, Groups, MEMBER, MEMBER_DRAIN, MEMBER_UNDRAIN, MEMBERS, TRANSFER, TransferRequest,
    Transferred,
};
use api::problem::Code;
use axum::Router;
use axum::extract::State;
use axum::routing::{delete, get, post};
use chassis::extract::{Json, Path, Query};
use chassis::problem::Problem;
use consensus::NodeId;
use http::StatusCode;
use messaging::catalog::{Catalog, Placement};
use messaging::ids::Name;
use raft_node::{MemberEntry, MemberList};
use serde::Deserialize;

use super::places::{group_view, name_of};
use crate::broker::Broker;
use crate::directory::Home;
use crate::transfer::Handovers;

pub(super) fn router() -> Router<Broker> {
    Router::new()
        .route(CLUSTER, get(show))
        .route(CLUSTER_GROUPS, get(groups))
        .route(MEMBERS, post(add))
        .route(MEMBER, delete(remove))
        .route(MEMBER_DRAIN, post(drain))
        .route(MEMBER_UNDRAIN, post(undrain))
        .route(TRANSFER, post(transfer))
}

/// The brokers, and what each carries.
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster", responses((status = 200, body = Cluster)))]
async fn show(State(broker): State<Broker>) -> Result<Json<Cluster>, Problem> {
    let (catalog, members) = broker.cluster().await?;
    Ok(Json(described(&broker, &catalog, &members)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GroupParams {
    node: Option<String>,
}

/// Where partitions and queues live.
#[utoipa::path(get, path = "/v1/cluster/groups", tag = "cluster",
    params(("node" = Option<String>, Query, description = "only those with a copy there: id or name")),
    responses((status = 200, body = Groups), (status = 404, description = "member-not-found")))]
async fn groups(
    State(broker): State<Broker>,
    Query(GroupParams { node }): Query<GroupParams>,
) -> Result<Json<Groups>, Problem> {
    broker.listed()?;
    let node = match node {
        Some(node) => Some(broker.find_broker(&node).await?.node),
        None => None,
    };
    let (catalog, _) = broker.cluster().await?;
    let has = |placement: &Placement| node.is_none_or(|node| placement.replica(node).is_some());
    let groups = catalog.groups().iter().filter(|(_, placement)| has(placement));
    let groups = groups.map(|(group, placement)| group_view(&broker, &catalog, *group, placement));
    Ok(Json(Groups { groups: groups.collect() }))
}

/// Makes a place for a new broker. It gets its share of the copies after it has come.
#[utoipa::path(post, path = "/v1/cluster/members", tag = "cluster", request_body = BrokerAddRequest,
    responses((status = 201, body = BrokerAdded, description = "with the way to start it"),
              (status = 409, description = "already-exists: the URL or the name is a broker's; conflict: another change is under way")))]
async fn add(
    State(broker): State<Broker>,
    Json(request): Json<BrokerAddRequest>,
) -> Result<(StatusCode, Json<BrokerAdded>), Problem> {
    let BrokerAddRequest { name, peer_url } = request;
    let (node, members) = broker.add_broker(name.unwrap_or_default(), peer_url).await?;
    let command = command(node, &members);
    Ok((StatusCode::CREATED, Json(BrokerAdded { id: node.to_string(), command })))
}

/// Removes a broker for good: drain it first. A dead one too, when nothing needs it any more.
#[utoipa::path(delete, path = "/v1/cluster/members/{id}", tag = "cluster",
    params(("id" = String, Path, description = "id or name")),
    responses((status = 204), (status = 404, description = "member-not-found"),
              (status = 409, description = "conflict: it has copies, or another change is under way"),
              (status = 412, description = "precondition-failed: too few of those that are left answer")))]
async fn remove(
    State(broker): State<Broker>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let node = broker.find_broker(&id).await?.node;
    broker.remove_broker(node).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Moves everything off a broker. `GET /v1/cluster` shows how many copies are left there.
#[utoipa::path(post, path = "/v1/cluster/members/{id}/drain", tag = "cluster",
    params(("id" = String, Path, description = "id or name")),
    responses((status = 200, body = Cluster), (status = 404, description = "member-not-found")))]
async fn drain(
    State(broker): State<Broker>,
    Path(id): Path<String>,
) -> Result<Json<Cluster>, Problem> {
    set_draining(broker, &id, true).await
}

/// Lets a broker have copies again.
#[utoipa::path(post, path = "/v1/cluster/members/{id}/undrain", tag = "cluster",
    params(("id" = String, Path, description = "id or name")),
    responses((status = 200, body = Cluster), (status = 404, description = "member-not-found")))]
async fn undrain(
    State(broker): State<Broker>,
    Path(id): Path<String>,
) -> Result<Json<Cluster>, Problem> {
    set_draining(broker, &id, false).await
}

async fn set_draining(broker: Broker, id: &str, on: bool) -> Result<Json<Cluster>, Problem> {
    let node = broker.find_broker(id).await?.node;
    broker.drain_broker(node, on).await?;
    show(State(broker)).await
}

/// Lets another broker lead a partition, a queue or a group of streams, or others everything that
/// one broker leads. Takes effect at once; brokers even out later who leads what.
#[utoipa::path(post, path = "/v1/cluster/transfer", tag = "cluster", request_body = TransferRequest,
    responses((status = 200, body = Transferred, description = "also if it led already"),
        (status = 400, description = "invalid-request: name one thing, and who is to lead it"),
        (status = 404, description = "member-not-found, topic-not-found, partition-not-found, queue-not-found, not-found"),
        (status = 409, description = "conflict: it has no copy, does not answer, or lags")))]
async fn transfer(
    State(broker): State<Broker>,
    Json(request): Json<TransferRequest>,
) -> Result<Json<Transferred>, Problem> {
    let wish = Wish::of(&request)?;
    let to = match &request.to {
        Some(to) => Some(broker.find_broker(to).await?),
        None => None,
    };
    let home = match (wish, &to) {
        (Wish::From(from), _) => {
            let from = broker.find_broker(from).await?.node;
            let to = to.map(|to| to.node);
            if to == Some(from) {
                return Err(invalid("`from` and `to` are the same broker; name two"));
            }
            return Ok(Json(handed_over(broker.transfer_all(from, to).await)));
        }
        (_, None) => return Err(invalid("`to` is missing: the broker that is to lead")),
        (wish, Some(_)) => wish.home(&broker)?,
    };
    let to = to.expect("it was just there");
    let handed = broker.transfer(&home, to.node).await?.map_err(|stays| {
        let detail = format!("broker `{}` does not lead it: {stays}", to.info.name);
        Problem::new(Code::Conflict, detail)
    })?;
    Ok(Json(Transferred {
        leader: Some(to.info.name),
        term: Some(handed.term.0),
        moved: handed.is_new.into(),
        stayed: Vec::new(),
    }))
}

/// What is to be led by another.
enum Wish<'a> {
    Partition(&'a str, Option<u32>),
    Queue(&'a str),
    Streams(u32),
    From(&'a str),
}

impl<'a> Wish<'a> {
    fn of(request: &'a TransferRequest) -> Result<Self, Problem> {
        let TransferRequest { topic, partition, queue, streams, from, .. } = request;
        match (topic, queue, streams, from) {
            (Some(topic), None, None, None) => Ok(Self::Partition(topic, *partition)),
            _ if partition.is_some() => Err(invalid("`partition` goes with `topic` only")),
            (None, Some(queue), None, None) => Ok(Self::Queue(queue)),
            (None, None, Some(number), None) => Ok(Self::Streams(*number)),
            (None, None, None, Some(from)) => Ok(Self::From(from)),
            _ => Err(invalid("name exactly one of `topic`, `queue`, `streams` and `from`")),
        }
    }

    fn home(self, broker: &Broker) -> Result<Home, Problem> {
        let name = |name: &str| name.parse::<Name>().map_err(|error| invalid(error.to_string()));
        let directory = broker.directory();
        Ok(match self {
            Self::Partition(topic, partition) => {
                let topic = directory.topic(&name(topic)?)?;
                let partition = match partition {
                    Some(partition) => partition,
                    None if topic.partition_count() == 1 => 0,
                    None => return Err(invalid("the topic has several partitions; name one")),
                };
                Home::Partition(topic.partition(partition)?.clone())
            }
            Self::Queue(queue) => Home::Queue(directory.queue(&name(queue)?)?),
            Self::Streams(number) => {
                directory.check_whole()?;
                let found = directory.streams.get(number as usize).cloned();
                let nobody = || {
                    let count = directory.streams.len();
                    let detail = format!("there are {count} groups of streams, counted from 0");
                    Problem::new(Code::NotFound, detail)
                };
                Home::Streams(found.ok_or_else(nobody)?)
            }
            Self::From(_) => return Err(invalid("`from` is no single group")),
        })
    }
}

fn invalid(detail: impl std::fmt::Display) -> Problem {
    Problem::new(Code::InvalidRequest, detail)
}

fn handed_over(all: Handovers) -> Transferred {
    /// More are not named.
    const MAX_STAYED: usize = 100;
    let stayed = all.stayed.into_iter().take(MAX_STAYED);
    let stayed = stayed.map(|(group, reason)| GroupStayed { group: group.0, reason });
    Transferred { leader: None, term: None, moved: all.moved, stayed: stayed.collect() }
}

fn described(broker: &Broker, catalog: &Catalog, members: &MemberList) -> Cluster {
    let leader = broker.shared.catalog.leadership().borrow().leader;
    Cluster {
        leader: leader.map(|leader| name_of(catalog, leader)),
        revision: catalog.revision(),
        groups: catalog.groups().len() as u64,
        moving: catalog.moving().len() as u64,
        leaving: catalog.leaving().values().map(|nodes| nodes.len() as u64).sum(),
        brokers: members.members.iter().map(|member| broker_view(catalog, member)).collect(),
    }
}

fn broker_view(catalog: &Catalog, member: &MemberEntry) -> BrokerView {
    let (node, info) = (member.node, &member.info);
    let entry = catalog.brokers().get(&node);
    let announced = entry.map(|entry| &entry.announced);
    let share = catalog.load().of(node);
    BrokerView {
        id: node.to_string(),
        name: announced.map_or(&info.name, |announced| &announced.name).clone(),
        client_url: announced.map(|announced| announced.client_url.clone()).unwrap_or_default(),
        peer_url: announced.map_or(&info.peer_url, |announced| &announced.peer_url).clone(),
        zone: announced.map(|announced| announced.zone.clone()).unwrap_or_default(),
        awaited: entry.is_none(),
        up: entry.is_some_and(|entry| entry.up),
        draining: entry.is_some_and(|entry| entry.draining),
        votes: member.is_voter,
        replicas: share.replicas,
        preferred: share.preferred,
    }
}

/// How the broker is started that is to come.
fn command(node: NodeId, members: &MemberList) -> String {
    let new = members.members.iter().find(|member| member.node == node);
    let (name, url) = new.map_or(("", ""), |new| (&*new.info.name, &*new.info.peer_url));
    let name = if name.is_empty() { "NAME" } else { name };
    let others = members.members.iter().filter(|other| other.node != node);
    let others = others.filter(|other| !other.info.is_awaited && !other.info.peer_url.is_empty());
    let mut peers: std::collections::BTreeMap<&str, &str> =
        others.map(|other| (&*other.info.name, &*other.info.peer_url)).collect();
    peers.insert(name, url);
    let listen = url.trim_start_matches("http://").trim_end_matches('/');
    let peers = serde_json::json!(peers);
    format!(
        "quartet-broker --node {name} --data-dir ./data/{name} --peer-listen {listen} \
         --listen 127.0.0.1:PORT --set cluster.initial_state=existing \
         --set 'cluster.initial_peers={peers}'"
    )
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(show, groups, add, remove, drain, undrain, transfer))]
pub(super) struct Api;
