//! `/v3/maintenance/*` and `/v3/auth/*`, as far as clients of a single node need them.

use axum::extract::State;
use serde::Serialize;

use super::super::{App, ETCD_VERSION};
use super::EtcdError;
use super::answer::{Message, Reply};
use super::error;
use super::message::codec::{Enum, Int, Uint};
use super::message::{
    Alarm, AlarmAction, AlarmMember, AlarmRequest, AlarmResponse, Header, StatusResponse,
};
use crate::store::{Command, Store};

pub(super) async fn status(State(app): State<App>) -> Result<Reply<StatusResponse>, EtcdError> {
    let store = app.coordinator().snapshot().await?;
    let index = Uint(app.coordinator().applied_index());
    let size = Int(store.used_bytes().cast_signed());
    let errors = store.no_space_alarm().then(|| "NOSPACE".to_owned()).into_iter().collect();
    Ok(Reply(StatusResponse {
        header: app.header(store.revision()),
        version: ETCD_VERSION,
        db_size: size,
        leader: Uint(app.identity().member_id),
        raft_index: index,
        raft_term: Uint(app.coordinator().term()),
        raft_applied_index: index,
        errors,
        db_size_in_use: size,
    }))
}

pub(super) async fn alarm(
    State(app): State<App>,
    Message(request): Message<AlarmRequest>,
) -> Result<Reply<AlarmResponse>, EtcdError> {
    let (member, alarm) = (request.member_id.0, request.alarm.0);
    if request.action.0 != AlarmAction::Get
        && let Some(kind) = alarm.kind()
    {
        let on = request.action.0 == AlarmAction::Activate;
        app.coordinator().command(Command::Alarm { member, kind, on }).await?;
    }
    let store = app.coordinator().snapshot().await?;
    let member_of = |member, alarm| AlarmMember { member_id: Uint(member), alarm: Enum(alarm) };
    let alarms = match request.action.0 {
        AlarmAction::Get => {
            store.alarms().map(|(member, kind)| member_of(member, Alarm::from(kind))).collect()
        }
        AlarmAction::Activate | AlarmAction::Deactivate => vec![member_of(member, alarm)],
    };
    Ok(Reply(AlarmResponse { header: app.header(store.revision()), alarms }))
}

/// Memory is given back as it becomes free: there is nothing to do.
pub(super) async fn defragment() -> Reply<Empty> {
    Reply(Empty {})
}

#[derive(Serialize)]
pub(super) struct Empty {}

#[derive(Serialize)]
pub(super) struct HashResponse {
    header: Header,
    hash: u32,
}

pub(super) async fn hash(State(app): State<App>) -> Result<Reply<HashResponse>, EtcdError> {
    let store = app.coordinator().snapshot().await?;
    let revision = store.revision();
    let digest = tokio::task::spawn_blocking(move || Store::digest(&store))
        .await
        .map_err(|error| EtcdError::internal(&error))?;
    Ok(Reply(HashResponse { header: app.header(revision), hash: digest }))
}

pub(super) async fn authenticate() -> EtcdError {
    error::AUTH_NOT_ENABLED
}
