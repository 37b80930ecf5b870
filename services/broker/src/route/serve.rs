//! Operations that other brokers ask for.

use api::problem::Code;
use chassis::problem::Problem;
use consensus::GroupId;

use super::propose::Propose;
use super::wire::{self, Head};
use super::{At, By, Handle as _, Kind, Late, Op, Route};
use crate::broker::Broker;
use crate::directory::{PartitionHandle, QueueHandle, StreamsHandle};
use crate::error::{LogError, MessageError};
use crate::host::Whole;
use crate::transfer::HandOver;
use crate::{admin, hub, moves, pull, read, receive, redrive, replies, settle, stats, streams};

/// Carries out what another broker asks for, and encodes the answer.
pub(crate) async fn serve(late: &Late, body: &[u8]) -> Result<Vec<u8>, Problem> {
    let Some(broker) = late.get() else {
        return Err(Problem::new(Code::Unavailable, "this broker is starting; repeat shortly"));
    };
    let Some((head, op)) = wire::decode_head(body) else {
        return Err(refused("this is no call between brokers of this version"));
    };
    check(broker, &head)?;
    let group = head.group;
    let answer = match head.kind {
        Kind::ProposeToQueue => run::<Propose<QueueHandle>>(broker, group, op).await,
        Kind::ProposeToPartition => run::<Propose<PartitionHandle>>(broker, group, op).await,
        Kind::ConfigureQueue => run::<admin::ConfigureQueue>(broker, group, op).await,
        Kind::ConfigurePartition => run::<admin::ConfigurePartition>(broker, group, op).await,
        Kind::Receive => run::<receive::Receive>(broker, group, op).await,
        Kind::SettleJobs => run::<settle::SettleJobs>(broker, group, op).await,
        Kind::Peek => run::<redrive::Peek>(broker, group, op).await,
        Kind::Redrive => run::<redrive::Redrive>(broker, group, op).await,
        Kind::QueueLook => run::<stats::QueueLook>(broker, group, op).await,
        Kind::Take => run::<pull::Take>(broker, group, op).await,
        Kind::Ready => run::<pull::Ready>(broker, group, op).await,
        Kind::SettleMessages => run::<settle::SettleMessages>(broker, group, op).await,
        Kind::Seek => run::<stats::Seek>(broker, group, op).await,
        Kind::SubscriptionLook => run::<stats::SubscriptionLook>(broker, group, op).await,
        Kind::PartitionLook => run::<stats::PartitionLook>(broker, group, op).await,
        Kind::Page => run::<read::Page>(broker, group, op).await,
        Kind::Grown => run::<read::Grown>(broker, group, op).await,
        Kind::Locate => run::<read::Locate>(broker, group, op).await,
        Kind::WholeQueue => run::<Whole<QueueHandle>>(broker, group, op).await,
        Kind::WholePartition => run::<Whole<PartitionHandle>>(broker, group, op).await,
        Kind::Moves => run::<moves::Moves>(broker, group, op).await,
        Kind::Answer => run::<replies::Answer>(broker, group, op).await,
        Kind::Question => run::<replies::Question>(broker, group, op).await,
        Kind::Feed => run::<hub::Feed>(broker, group, op).await,
        Kind::ProposeToStreams => run::<Propose<StreamsHandle>>(broker, group, op).await,
        Kind::StreamLook => run::<streams::Look>(broker, group, op).await,
        Kind::StreamGrown => run::<streams::Grown>(broker, group, op).await,
        Kind::StreamUsed => run::<streams::Used>(broker, group, op).await,
        Kind::WholeStreams => run::<Whole<StreamsHandle>>(broker, group, op).await,
        Kind::HandOverQueue => run::<HandOver<QueueHandle>>(broker, group, op).await,
        Kind::HandOverPartition => run::<HandOver<PartitionHandle>>(broker, group, op).await,
        Kind::HandOverStreams => run::<HandOver<StreamsHandle>>(broker, group, op).await,
    };
    answer.ok_or_else(|| refused("this operation is not understood here"))
}

fn check(broker: &Broker, head: &Head) -> Result<(), Problem> {
    if head.version != wire::VERSION {
        return Err(refused("brokers of different versions: upgrade this one"));
    }
    if head.cluster != broker.shared.peers.cluster() {
        return Err(refused("the caller is of another cluster; compare the cluster.token of both"));
    }
    if head.to != broker.node() {
        return Err(refused("another broker is meant, which was at this address before"));
    }
    Ok(())
}

/// Nothing was done.
fn refused(detail: &'static str) -> Problem {
    Problem::new(Code::InvalidRequest, detail)
}

/// Nothing, if the operation cannot be read.
async fn run<O: Op>(broker: &Broker, group: GroupId, op: &[u8]) -> Option<Vec<u8>> {
    let op: O = wire::decode(op)?;
    Some(wire::encode_answer(&carry_out(broker, group, op).await))
}

async fn carry_out<O: Op>(
    broker: &Broker,
    group: GroupId,
    op: O,
) -> Result<O::Answer, MessageError> {
    let handle = O::On::find(&broker.directory(), group).ok_or(LogError::NotHere)?;
    let (group, led) = match handle.port().route()? {
        Route::Leading { group, led } => (group, Some(led)),
        Route::Member { group, .. } if O::BY == By::AnyMember => (group, None),
        Route::Member { leader, .. } => {
            let hint = leader.filter(|leader| *leader != broker.node());
            return Err(LogError::NoLeader { hint }.into());
        }
        Route::Elsewhere => return Err(LogError::NotHere.into()),
    };
    op.run(At { broker: broker.clone(), handle, group, led }).await
}
