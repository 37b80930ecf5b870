//! `/v1/cluster`.

use api::coordinator::{Cluster, Member, MemberRole};
use axum::Router;
use axum::routing::get;
use chassis::extract::Json;
use chassis::problem::Problem;

use super::{App, State};

pub(super) fn router() -> Router<App> {
    Router::new().route(api::coordinator::CLUSTER, get(show))
}

/// Who is in the cluster, who leads it, and how full it is.
#[utoipa::path(get, path = "/v1/cluster", tag = "cluster", responses((status = 200, body = Cluster)))]
pub(super) async fn show(State(app): State<App>) -> Result<Json<Cluster>, Problem> {
    let (coordinator, identity) = (app.coordinator(), app.identity());
    let store = coordinator.snapshot().await?;
    let applied_index = coordinator.applied_index();
    // One voter: what is durable is committed, and what is committed is applied at once.
    let member = Member {
        id: identity.member_id.to_string(),
        name: identity.name.clone(),
        role: MemberRole::Leader,
        client_url: identity.client_url.clone(),
        commit_index: applied_index,
        applied_index,
        lag_entries: 0,
        disk_bytes: Some(app.groups().wal().stats().disk_bytes),
    };
    Ok(Json(Cluster {
        cluster_id: identity.cluster_id.to_string(),
        leader: Some(identity.name.clone()),
        term: coordinator.term(),
        revision: store.revision().0,
        compact_revision: store.mvcc.compacted().0,
        keys: store.mvcc.live_keys(),
        leases: store.leases.len() as u64,
        store_bytes: store.used_bytes(),
        quota_bytes: coordinator.quota_bytes(),
        members: vec![member],
    }))
}
