//! `/v1/cluster`.

use api::coordinator::{Cluster, Member, MemberRole};
use axum::Router;
use axum::routing::get;
use chassis::extract::Json;
use chassis::problem::Problem;
use consensus::{NodeId, Status};
use raft_node::MemberInfo;

use super::{App, State};

pub(super) fn router() -> Router<App> {
    Router::new().route(api::coordinator::CLUSTER, get(show))
}

/// Who is in the cluster, who leads it, and how full it is.
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster", responses((status = 200, body = Cluster)))]
pub(super) async fn show(State(app): State<App>) -> Result<Json<Cluster>, Problem> {
    let coordinator = app.coordinator();
    let store = coordinator.snapshot().await?;
    let status = coordinator.status().await?;
    let members: Vec<Member> =
        status.membership.members().into_iter().map(|node| member(&app, &status, node)).collect();
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

/// One member, as far as this node knows it: a leader knows the others' positions.
fn member(app: &App, status: &Status, node: NodeId) -> Member {
    let info = status.membership.info.get(&node).and_then(|info| MemberInfo::decode(info));
    let info = info.unwrap_or_default();
    let is_here = node.0 == app.identity().member_id;
    let role = match () {
        () if status.leader == Some(node) => MemberRole::Leader,
        () if status.membership.is_voter(node) => MemberRole::Follower,
        () => MemberRole::Learner,
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
