//! Requests that other nodes have passed on, and those of nodes that are not members yet.

use std::pin::Pin;
use std::sync::Arc;

use api::problem::Code;
use bytes::Bytes;
use consensus::GroupId;
use http::Response;

use super::ask::{Envelope, Outcome};
use super::{Changed, Members};
use crate::groups;
use crate::transport::{PeerBody, json, problem};

/// What a peer is answered, some time.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Response<PeerBody>> + Send>>;
/// Answers the body of a request.
pub(crate) type Asked = Arc<dyn Fn(Bytes) -> Answer + Send + Sync>;

/// Answers for all groups of a process.
pub(crate) fn asked(shared: Arc<groups::Shared>) -> Asked {
    Arc::new(move |body| {
        let shared = shared.clone();
        Box::pin(async move {
            match serde_json::from_slice::<Envelope>(&body) {
                Ok(envelope) => {
                    let outcome = carry_out(shared, envelope).await;
                    json(&serde_json::to_value(outcome).expect("ids and texts are plain data"))
                }
                Err(error) => {
                    problem(Code::InvalidJson, format!("this is no request about members: {error}"))
                }
            }
        })
    })
}

async fn carry_out(shared: Arc<groups::Shared>, envelope: Envelope) -> Outcome {
    let Envelope { group, request, pass_on } = envelope;
    let members = Members::new(GroupId(group), shared.clone());
    match request {
        Some(request) => members.ask_or_pass_on(&request, pass_on).await,
        None => Ok(Changed { node: shared.node, list: members.list().await? }),
    }
}
