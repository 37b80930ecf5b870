//! `/v1/cluster`: who belongs to it, and changes of that.

use api::coordinator::{
    Cluster, Member, MemberAddRequest, MemberAdded, MemberMoveRequest, MemberRemoved, MemberRole,
    TransferRequest, Transferred,
};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use chassis::extract::{Json, Path, Query};
use chassis::problem::Problem;
use consensus::{NodeId, Status};
use raft_node::{Changed, MemberError, MemberInfo, MemberList, MemberRequest, Members};
use serde::Deserialize;

use super::refusal::Refusal as _;
use super::{App, State, member_start};

pub(super) fn router() -> Router<App> {
    Router::new()
        .route(api::coordinator::CLUSTER, get(show))
        .route(api::coordinator::MEMBERS, post(add))
        .route(api::coordinator::MEMBER, delete(remove).patch(relocate))
        .route(api::coordinator::MEMBER_PROMOTE, post(promote))
        .route(api::coordinator::TRANSFER, post(transfer))
}

/// Who is in the cluster, who leads it, and how full it is. While nobody leads, as this node last
/// knew it.
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster", responses((status = 200, body = Cluster)))]
pub(super) async fn show(State(app): State<App>) -> Result<Json<Cluster>, Problem> {
    let coordinator = app.coordinator();
    let store = app.read(true).await?;
    let status = coordinator.status().await?;
    let members = list(&app, &status);
    let leader = members.iter().find(|member| member.role == MemberRole::Leader);
    Ok(Json(Cluster {
        cluster_id: store.cluster_id().to_string(),
        leader: leader.map(|member| member.name.clone()),
        term: coordinator.term(),
        revision: store.revision().0,
        compact_revision: store.mvcc.compacted().0,
        keys: store.mvcc.live_keys(),
        leases: store.leases.len() as u64,
        store_bytes: store.used_bytes(),
        quota_bytes: coordinator.quota_bytes(),
        members,
    }))
}

/// Makes a place for a new member. It begins as a learner: it gets everything and does not vote.
#[utoipa::path(post, path = "/v1/cluster/members", tag = "cluster", request_body = MemberAddRequest,
    responses((status = 201, body = MemberAdded, description = "with the way to start it"),
              (status = 409, description = "already-exists: the URL or the name is a member's; conflict: another change is under way"),
              (status = 412, description = "precondition-failed: too many learners, or members that were added never came")))]
pub(super) async fn add(
    State(app): State<App>,
    Json(request): Json<MemberAddRequest>,
) -> Result<(StatusCode, Json<MemberAdded>), Problem> {
    let MemberAddRequest { name, peer_url, learner } = request;
    let name = name.unwrap_or_default();
    let (node, peer_urls) = (Members::draw(), vec![peer_url]);
    let wish = MemberRequest::Add { node, name, peer_urls, votes: !learner };
    let changed = ask(&app, &wish).await?;
    let member = one(&app, &changed.list, node).await?;
    let start = member_start::of(&member, &changed.list);
    Ok((StatusCode::CREATED, Json(MemberAdded { member, start })))
}

/// Makes a learner that has caught up a voter.
#[utoipa::path(post, path = "/v1/cluster/members/{id}/promote", tag = "cluster",
    params(("id" = String, Path, description = "id or name")),
    responses((status = 200, body = Member), (status = 404, description = "member-not-found"),
              (status = 409, description = "conflict: it votes already, or another change is under way"),
              (status = 412, description = "precondition-failed: it lags, or too few voters answer")))]
pub(super) async fn promote(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Member>, Problem> {
    let node = find(&app, &id).await?;
    let changed = ask(&app, &MemberRequest::Promote { node }).await?;
    Ok(Json(one(&app, &changed.list, node).await?))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RemoveParams {
    force: bool,
}

/// Removes a member for good: its data is of no use any more. A dead one too.
#[utoipa::path(delete, path = "/v1/cluster/members/{id}", tag = "cluster",
    params(("id" = String, Path, description = "id or name"),
           ("force" = Option<bool>, Query, description = "also if those that are left could not decide anything right now")),
    responses((status = 200, body = MemberRemoved), (status = 404, description = "member-not-found"),
              (status = 409, description = "conflict: it is the last voter, or another change is under way"),
              (status = 412, description = "precondition-failed: too few of the voters that are left answer")))]
pub(super) async fn remove(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(RemoveParams { force }): Query<RemoveParams>,
) -> Result<Json<MemberRemoved>, Problem> {
    let node = find(&app, &id).await?;
    ask(&app, &MemberRequest::Remove { node, force }).await?;
    let status = app.coordinator().status().await?;
    let left = list(&app, &status).into_iter().filter(|member| member.id != node.to_string());
    Ok(Json(MemberRemoved { id: node.to_string(), members: left.collect() }))
}

/// Says where the others reach a member from now on. Do it before the member moves.
#[utoipa::path(patch, path = "/v1/cluster/members/{id}", tag = "cluster",
    params(("id" = String, Path, description = "id or name")), request_body = MemberMoveRequest,
    responses((status = 200, body = Member), (status = 404, description = "member-not-found"),
              (status = 409, description = "already-exists: the URL is another member's")))]
pub(super) async fn relocate(
    State(app): State<App>,
    Path(id): Path<String>,
    Json(MemberMoveRequest { peer_url }): Json<MemberMoveRequest>,
) -> Result<Json<Member>, Problem> {
    let node = find(&app, &id).await?;
    let wish = MemberRequest::Move { node, peer_urls: vec![peer_url] };
    let changed = ask(&app, &wish).await?;
    Ok(Json(one(&app, &changed.list, node).await?))
}

/// Lets another voter lead.
#[utoipa::path(post, path = "/v1/cluster/transfer", tag = "cluster", request_body = TransferRequest,
    responses((status = 200, body = Transferred), (status = 404, description = "member-not-found"),
              (status = 409, description = "conflict: it does not vote, does not answer, or lags")))]
pub(super) async fn transfer(
    State(app): State<App>,
    Json(TransferRequest { to }): Json<TransferRequest>,
) -> Result<Json<Transferred>, Problem> {
    let to = find(&app, &to).await?;
    let changed = ask(&app, &MemberRequest::Transfer { to }).await?;
    let leader = changed.list.member(to).map(|member| member.info.name.clone());
    Ok(Json(Transferred { leader: leader.unwrap_or_default(), term: app.coordinator().term() }))
}

async fn ask(app: &App, wish: &MemberRequest) -> Result<Changed, Problem> {
    app.members().ask(wish).await.map_err(|error| error.problem())
}

/// The member of this id or name.
async fn find(app: &App, text: &str) -> Result<NodeId, Problem> {
    let list = app.members().list().await.map_err(|error| error.problem())?;
    let named = |name: &str| list.members.iter().find(|member| member.info.name == name);
    match (named(text), text.parse().map(NodeId)) {
        (Some(member), _) if !text.is_empty() => Ok(member.node),
        // It may be newer than what this node knows: the leader judges.
        (_, Ok(node)) => Ok(node),
        _ => Err(MemberError::NoSuchName { name: text.to_owned() }.problem()),
    }
}

/// A member after a change that this node may not have seen yet.
async fn one(app: &App, list: &MemberList, node: NodeId) -> Result<Member, Problem> {
    let status = app.coordinator().status().await?;
    let entry = list.member(node).ok_or_else(|| MemberError::Unknown { node }.problem())?;
    Ok(member(app, &status, (node, entry.info.clone(), entry.is_voter)))
}

fn list(app: &App, status: &Status) -> Vec<Member> {
    let (_, membership) = &status.settled;
    let info = |node| membership.info.get(&node).and_then(|info| MemberInfo::decode(info));
    let known = |node| (node, info(node).unwrap_or_default(), membership.is_voter(node));
    membership.members().into_iter().map(|node| member(app, status, known(node))).collect()
}

/// One member, as far as this node knows it: a leader knows the others' positions.
fn member(
    app: &App,
    status: &Status,
    (node, info, is_voter): (NodeId, MemberInfo, bool),
) -> Member {
    let is_here = node.0 == app.identity().member_id;
    let role = match is_voter {
        _ if status.leader == Some(node) => MemberRole::Leader,
        true => MemberRole::Follower,
        false => MemberRole::Learner,
    };
    let peer = status.peers.iter().find(|peer| peer.node == node);
    let applied = is_here.then(|| app.coordinator().applied_index());
    let matched = match is_here {
        true => Some(status.commit.0),
        false => peer.map(|peer| peer.matched.0.min(status.commit.0)),
    };
    Member {
        id: node.0.to_string(),
        name: info.name,
        role,
        started: !info.is_awaited,
        to_vote: info.is_to_vote,
        client_url: info.client_urls.into_iter().next().unwrap_or_default(),
        peer_url: info.peer_url,
        reachable: if is_here { Some(true) } else { peer.map(|peer| peer.reachable) },
        commit_index: matched,
        applied_index: applied,
        lag_entries: matched
            .map(|matched| status.commit.0.saturating_sub(applied.unwrap_or(matched))),
        disk_bytes: is_here.then(|| app.groups().wal().stats().disk_bytes),
    }
}
