//! `/v3/cluster/*`. Every new member begins as a learner, also where none was asked for: then it
//! becomes a voter by itself, when it has caught up.

use consensus::NodeId;
use raft_node::{Changed, MemberEntry, MemberError, MemberList, MemberRequest, Members};

use super::super::App;
use super::super::caller::Unguarded;
use super::EtcdError;
use super::answer::{Message, Reply};
use super::error;
use super::maintenance::administered;
use super::message::codec::Uint;
use super::message::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberRequest as MemberMessage, MemberUpdateRequest,
};
use crate::store::Revision;

/// Clients replace their list of endpoints by what this answers.
pub(super) async fn member_list(
    Unguarded(app): Unguarded,
    Message(request): Message<MemberListRequest>,
) -> Result<Reply<MemberListResponse>, EtcdError> {
    if request.linearizable {
        app.coordinator().snapshot().await?;
    }
    Ok(Reply(listed(&app, app.members().list().await?)))
}

pub(super) async fn member_add(
    Unguarded(app): Unguarded,
    Message(request): Message<MemberAddRequest>,
) -> Result<Reply<MemberAddResponse>, EtcdError> {
    let (peer_urls, votes) = (request.peerURLs, !request.isLearner);
    let (node, name) = (Members::draw(), String::new());
    let wish = MemberRequest::Add { node, name, peer_urls, votes };
    let list = change(&app, &wish).await?.list;
    let added = list.member(node).cloned().ok_or(error::MEMBER_NOT_FOUND)?;
    let MemberListResponse { header, members } = listed(&app, list);
    Ok(Reply(MemberAddResponse { header, member: added.into(), members }))
}

pub(super) async fn member_remove(
    Unguarded(app): Unguarded,
    Message(request): Message<MemberMessage>,
) -> Result<Reply<MemberListResponse>, EtcdError> {
    let wish = MemberRequest::Remove { node: NodeId(request.id.0), force: false };
    Ok(Reply(listed(&app, change(&app, &wish).await?.list)))
}

pub(super) async fn member_update(
    Unguarded(app): Unguarded,
    Message(request): Message<MemberUpdateRequest>,
) -> Result<Reply<MemberListResponse>, EtcdError> {
    let (node, peer_urls) = (NodeId(request.id.0), request.peerURLs);
    let wish = MemberRequest::Move { node, peer_urls };
    Ok(Reply(listed(&app, change(&app, &wish).await?.list)))
}

pub(super) async fn member_promote(
    Unguarded(app): Unguarded,
    Message(request): Message<MemberMessage>,
) -> Result<Reply<MemberListResponse>, EtcdError> {
    let wish = MemberRequest::Promote { node: NodeId(request.id.0) };
    Ok(Reply(listed(&app, change(&app, &wish).await?.list)))
}

async fn change(app: &App, wish: &MemberRequest) -> Result<Changed, EtcdError> {
    administered(app).await?;
    Ok(app.members().ask(wish).await?)
}

fn listed(app: &App, list: MemberList) -> MemberListResponse {
    // The cluster service says no revision.
    let header = app.header(Revision(0));
    MemberListResponse { header, members: list.members.into_iter().map(Member::from).collect() }
}

impl From<MemberEntry> for Member {
    fn from(entry: MemberEntry) -> Self {
        Self {
            id: Uint(entry.node.0),
            peerURLs: entry.info.peer_urls(),
            name: entry.info.name,
            clientURLs: entry.info.client_urls,
            isLearner: !entry.is_voter,
        }
    }
}

impl From<MemberError> for EtcdError {
    fn from(error: MemberError) -> Self {
        match error {
            MemberError::Unknown { .. } | MemberError::NoSuchName { .. } => error::MEMBER_NOT_FOUND,
            MemberError::Exists { .. } | MemberError::NameTaken { .. } => error::MEMBER_EXISTS,
            MemberError::UrlTaken { .. } => error::PEER_URL_EXISTS,
            MemberError::BadUrl { .. } => error::BAD_MEMBER_URLS,
            MemberError::TooManyLearners { .. } => error::TOO_MANY_LEARNERS,
            MemberError::NotStarted { .. } | MemberError::LastVoter { .. } => {
                error::MEMBER_NOT_STARTED
            }
            MemberError::NotLearner { .. } => error::MEMBER_NOT_LEARNER,
            MemberError::Behind { .. } => error::LEARNER_NOT_READY,
            MemberError::NotVoter { .. } => error::BAD_TRANSFEREE,
            MemberError::Unhealthy { .. } => error::UNHEALTHY,
            MemberError::NotTaken { .. }
            | MemberError::InFlight
            | MemberError::NotAdded { .. }
            | MemberError::Claimed { .. }
            | MemberError::OtherName { .. }
            | MemberError::Indeterminate => error::TIMED_OUT,
            MemberError::NoLeader => error::NO_LEADER,
            MemberError::Stopped => error::STOPPED,
        }
    }
}
