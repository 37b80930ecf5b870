//! `/v3/maintenance/*`.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use consensus::{NodeId, RoleName};
use futures_util::StreamExt as _;
use raft_node::MemberRequest;

use super::super::caller::Unguarded;
use super::super::{App, ETCD_VERSION};
use super::EtcdError;
use super::answer::{Message, Reply, chunk, success};
use super::error;
use super::message::codec::{Blob, Enum, Int, Uint};
use super::message::{
    Alarm, AlarmAction, AlarmMember, AlarmRequest, AlarmResponse, DowngradeAction,
    DowngradeRequest, Empty, HashKvRequest, HashKvResponse, HashResponse, MoveLeaderRequest,
    SnapshotResponse, StatusResponse,
};
use crate::backup::{Backup, BackupRefused};
use crate::store::{AlarmKind, Revision, Snapshot, Store};

pub(super) async fn status(Unguarded(app): Unguarded) -> Result<Reply<StatusResponse>, EtcdError> {
    let store = app.read(true).await?;
    let applied = app.coordinator().applied_index();
    let group = app.coordinator().status().await?;
    let size = Int(store.used_bytes().cast_signed());
    Ok(Reply(StatusResponse {
        header: app.header(store.revision()),
        version: ETCD_VERSION,
        db_size: size,
        leader: Uint(app.coordinator().leader()),
        raft_index: Uint(group.commit.0.max(applied)),
        raft_term: Uint(app.coordinator().term()),
        raft_applied_index: Uint(applied),
        errors: alarms(&app, &store, Alarm::None).iter().map(AlarmMember::to_string).collect(),
        db_size_in_use: size,
        is_learner: group.role == RoleName::Learner,
    }))
}

pub(super) async fn alarm(
    Unguarded(app): Unguarded,
    Message(request): Message<AlarmRequest>,
) -> Result<Reply<AlarmResponse>, EtcdError> {
    let (member, alarm) = (request.member_id.0, request.alarm.0);
    let named = AlarmMember { member_id: Uint(member), alarm: Enum(alarm) };
    let listed = match (request.action.0, alarm.kind()) {
        (AlarmAction::Get, _) => None,
        (AlarmAction::Activate, Some(kind)) => {
            app.coordinator().raise_alarm(member, kind, true).await?;
            Some(vec![named])
        }
        (AlarmAction::Deactivate, Some(kind)) => {
            let changed = app.coordinator().raise_alarm(member, kind, false).await?;
            Some(if changed { vec![named] } else { Vec::new() })
        }
        // `NONE` is no alarm: there is nothing to change.
        (AlarmAction::Activate | AlarmAction::Deactivate, None) => Some(Vec::new()),
    };
    if let Some(alarms) = listed {
        return Ok(Reply(AlarmResponse { header: app.header_now().await, alarms }));
    }
    let store = app.coordinator().snapshot().await?;
    let alarms = alarms(&app, &store, alarm);
    Ok(Reply(AlarmResponse { header: app.header(store.revision()), alarms }))
}

/// What was raised, and what this node finds itself. `Alarm::None` lists every kind.
fn alarms(app: &App, store: &Store, wanted: Alarm) -> Vec<AlarmMember> {
    let found = (store.is_out_of_space() && !store.has_alarm(AlarmKind::NoSpace))
        .then(|| (app.identity().member_id, AlarmKind::NoSpace));
    store
        .alarms()
        .chain(found)
        .map(|(member, kind)| AlarmMember {
            member_id: Uint(member),
            alarm: Enum(Alarm::from(kind)),
        })
        .filter(|member| wanted == Alarm::None || wanted == member.alarm.0)
        .collect()
}

/// Memory is given back as it becomes free: there is nothing to do.
pub(super) async fn defragment(Unguarded(app): Unguarded) -> Result<Reply<Empty>, EtcdError> {
    administered(&app).await?;
    Ok(Reply(Empty {}))
}

/// The newest state, for whoever may do everything.
pub(super) async fn administered(app: &App) -> Result<Snapshot, EtcdError> {
    let store = app.coordinator().snapshot().await?;
    app.coordinator().may_administer(&store)?;
    Ok(store)
}

pub(super) async fn hash(Unguarded(app): Unguarded) -> Result<Reply<HashResponse>, EtcdError> {
    let store = administered(&app).await?;
    let header = app.header(store.revision());
    let hash = tokio::task::spawn_blocking(move || store.digest())
        .await
        .map_err(|error| EtcdError::internal(&error))?;
    Ok(Reply(HashResponse { header, hash }))
}

pub(super) async fn hash_kv(
    Unguarded(app): Unguarded,
    Message(request): Message<HashKvRequest>,
) -> Result<Reply<HashKvResponse>, EtcdError> {
    let store = administered(&app).await?;
    let header = app.header(store.revision());
    let revision = u64::try_from(request.revision.0).ok().filter(|revision| 0 < *revision);
    let hashed = tokio::task::spawn_blocking(move || store.mvcc.keys_hash(revision.map(Revision)))
        .await
        .map_err(|error| EtcdError::internal(&error))??;
    Ok(Reply(HashKvResponse {
        header,
        hash: hashed.hash,
        compact_revision: Int(hashed.compacted.0.cast_signed()),
        hash_revision: Int(hashed.revision.0.cast_signed()),
    }))
}

/// A backup as `quartet-coordinator restore` reads it, in pieces.
pub(super) async fn snapshot(Unguarded(app): Unguarded) -> Result<Response, EtcdError> {
    let store = administered(&app).await?;
    let backup = Backup::start(app.backups(), store).await.map_err(|refused| match refused {
        BackupRefused::TooMany => error::TOO_MANY_REQUESTS,
        BackupRefused::Failed(error) => EtcdError::internal(&error),
    })?;
    let messages = backup.pieces().map(|piece| {
        let piece = piece?;
        let (remaining_bytes, blob) = (Uint(piece.remaining), Blob(piece.bytes));
        Ok::<_, crate::backup::Interrupted>(chunk(SnapshotResponse { remaining_bytes, blob }))
    });
    Ok(success(Body::from_stream(messages)).into_response())
}

pub(super) async fn transfer_leadership(
    Unguarded(app): Unguarded,
    Message(request): Message<MoveLeaderRequest>,
) -> Result<Reply<Empty>, EtcdError> {
    administered(&app).await?;
    let to = NodeId(request.target_id.0);
    match app.members().ask(&MemberRequest::Transfer { to }).await {
        Ok(_changed) => Ok(Reply(Empty {})),
        Err(error) => Err(error.into()),
    }
}

/// There is no older format of ours that a running cluster could go back to.
pub(super) async fn downgrade(
    Unguarded(app): Unguarded,
    Message(request): Message<DowngradeRequest>,
) -> Result<Reply<Empty>, EtcdError> {
    administered(&app).await?;
    if request.action.0 == DowngradeAction::Cancel {
        return Err(error::NO_DOWNGRADE);
    }
    let parts: Option<Vec<u32>> =
        request.version.split('.').map(|part| part.parse().ok()).collect();
    Err(match parts.as_deref() {
        Some([3, 4] | [3, 4, 0]) => error::NOT_CAPABLE,
        Some([_, _] | [_, _, _]) => error::WRONG_TARGET,
        _ => error::BAD_VERSION,
    })
}
