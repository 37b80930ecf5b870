//! `/v3/cluster/*`.

use super::super::{App, State};
use super::EtcdError;
use super::answer::Reply;
use super::message::codec::Uint;
use super::message::{Member, MemberListResponse};
use crate::store::Revision;
use raft_node::MemberInfo;

/// Clients replace their list of endpoints by what this answers.
pub(super) async fn member_list(
    State(app): State<App>,
) -> Result<Reply<MemberListResponse>, EtcdError> {
    let status = app.coordinator().status().await?;
    let members = status.membership.members().into_iter().map(|node| {
        let info = status.membership.info.get(&node).and_then(|info| MemberInfo::decode(info));
        let info = info.unwrap_or_default();
        Member {
            id: Uint(node.0),
            name: info.name,
            peerURLs: vec![info.peer_url],
            clientURLs: info.client_urls,
        }
    });
    // The cluster service says no revision.
    let header = app.header(Revision(0));
    Ok(Reply(MemberListResponse { header, members: members.collect() }))
}
