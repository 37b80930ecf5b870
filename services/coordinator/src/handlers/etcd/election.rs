//! `/v3/election/*`.

use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;

use super::super::App;
use super::super::caller::Unguarded;
use super::EtcdError;
use super::answer::{Message, Reply, chunk, live};
use super::error::{self, GrpcCode};
use super::lock::SESSION_TTL_SECONDS;
use super::message::codec::{Blob, Int};
use super::message::{
    CampaignRequest, CampaignResponse, HeaderOnly, KeyValue, LeaderKey, LeaderRequest,
    LeaderResponse, ProclaimRequest, ResignRequest,
};
use crate::line::Patience;
use crate::observe::Observer;
use crate::store::{
    Compare, Delete, Enqueue, KeyRange, LeaseId, Op, Operand, Put, Relation, Txn, places,
};

const NO_LEADER: EtcdError = EtcdError::new(GrpcCode::Unknown, "election: no leader");
const NOT_LEADER: EtcdError = EtcdError::new(GrpcCode::Unknown, "election: not leader");
const NO_LEADER_FIELD: EtcdError =
    EtcdError::new(GrpcCode::Unknown, "\"leader\" field must be provided");

/// Blocks until the caller leads. A candidate that exists gets the new value.
pub(super) async fn campaign(
    Unguarded(app): Unguarded,
    Message(request): Message<CampaignRequest>,
) -> Result<Reply<CampaignResponse>, EtcdError> {
    let CampaignRequest { name, lease, value } = request;
    let ask = Enqueue {
        name: name.0.clone(),
        value: value.0,
        lease: LeaseId(lease.0),
        ttl_seconds: SESSION_TTL_SECONDS,
        replace: true,
    };
    let place = app.line().turn(None, ask, Patience::Endless).await?.place;
    Ok(Reply(CampaignResponse {
        // As of the candidacy, not of the victory.
        header: app.header(place.revision),
        leader: LeaderKey {
            name,
            key: Blob(place.key),
            rev: Int(place.token.0.cast_signed()),
            lease: Int(place.lease.0),
        },
    }))
}

pub(super) async fn proclaim(
    Unguarded(app): Unguarded,
    Message(request): Message<ProclaimRequest>,
) -> Result<Reply<HeaderOnly>, EtcdError> {
    let leader = request.leader.ok_or(NO_LEADER_FIELD)?;
    // Without a lease the key keeps the one it has.
    let lease = Some(LeaseId(leader.lease.0)).filter(|lease| *lease != LeaseId::NONE);
    let key = leader.key.0.clone();
    let put = Op::Put(Put { key, value: Some(request.value.0), lease, previous: false });
    let result = app.coordinator().txn(as_leader(&leader, put)?).await?;
    if !result.succeeded {
        return Err(NOT_LEADER);
    }
    Ok(Reply(HeaderOnly { header: app.header(result.revision) }))
}

/// Whoever does not lead has resigned already.
pub(super) async fn resign(
    Unguarded(app): Unguarded,
    Message(request): Message<ResignRequest>,
) -> Result<Reply<HeaderOnly>, EtcdError> {
    let leader = request.leader.ok_or(NO_LEADER_FIELD)?;
    let range = KeyRange::One(leader.key.0.clone());
    let delete = Op::Delete(Delete { range, previous: false });
    let result = app.coordinator().txn(as_leader(&leader, delete)?).await?;
    Ok(Reply(HeaderOnly { header: app.header(result.revision) }))
}

/// Does `op` if the key is still that of this leader.
fn as_leader(leader: &LeaderKey, op: Op) -> Result<Txn, EtcdError> {
    if leader.key.0.is_empty() {
        return Err(error::EMPTY_KEY.as_unknown());
    }
    let is_leader = Compare {
        range: KeyRange::One(leader.key.0.clone()),
        relation: Relation::Equal,
        operand: Operand::Create(leader.rev.0),
    };
    Ok(Txn { compares: vec![is_leader], success: vec![op], failure: vec![] })
}

pub(super) async fn leader(
    Unguarded(app): Unguarded,
    Message(request): Message<LeaderRequest>,
) -> Result<Reply<LeaderResponse>, EtcdError> {
    let store = app.coordinator().snapshot().await?;
    app.coordinator().may_read(&store, &places(&request.name.0))?;
    let line = store.mvcc.line(&request.name.0);
    let leader = line.first().ok_or(NO_LEADER)?;
    let header = app.header(store.revision());
    Ok(Reply(LeaderResponse { header, kv: KeyValue::from(&**leader) }))
}

/// The leader now, if there is one, then every new leader and every value that it proclaims.
pub(super) async fn observe(
    Unguarded(app): Unguarded,
    Message(request): Message<LeaderRequest>,
) -> Result<Response, EtcdError> {
    let observer = Observer::open(app.coordinator(), request.name.0).await?;
    let observing = Observing { app, observer, ended: false };
    Ok(live(stream::unfold(observing, async |mut observing| {
        let message = observing.next().await?;
        Some((message, observing))
    })))
}

struct Observing {
    app: App,
    observer: Observer,
    ended: bool,
}

impl Observing {
    /// The next message; `None` behind the one that says the server stops.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            let observed = tokio::select! {
                () = self.app.draining().cancelled() => None,
                observed = self.observer.next() => observed,
            };
            let Some(observed) = observed else {
                self.ended = true;
                return Some(error::STOPPED.streamed().into());
            };
            // While nobody leads there is nothing to say.
            if let Some(leader) = observed.leader {
                let header = self.app.header(observed.revision);
                return Some(chunk(LeaderResponse { header, kv: KeyValue::from(&*leader) }));
            }
        }
        None
    }
}
