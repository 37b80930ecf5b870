//! `/v3/cluster/*`.

use super::super::{App, State};
use super::EtcdError;
use super::answer::Reply;
use super::message::codec::Uint;
use super::message::{Member, MemberListResponse};
use crate::store::Revision;

/// Clients replace their list of endpoints by what this answers.
pub(super) async fn member_list(
    State(app): State<App>,
) -> Result<Reply<MemberListResponse>, EtcdError> {
    let identity = app.identity();
    let member = Member {
        id: Uint(identity.member_id),
        name: identity.name.clone(),
        peerURLs: vec![identity.peer_url.clone()],
        clientURLs: vec![identity.client_url.clone()],
    };
    // The cluster service says no revision.
    let header = app.header(Revision(0));
    Ok(Reply(MemberListResponse { header, members: vec![member] }))
}
