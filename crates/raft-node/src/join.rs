//! How a new node comes to a running cluster.
//!
//! Somebody has added a member with this node's address. The node draws a *life* for its empty
//! directory, goes to any member with it, and is given the id that was made for the address. Until
//! then it has no log, no listener for peers and no groups: nobody can take it for somebody else.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::PathBuf;

use consensus::GroupId;
use storage::{FileSystem as _, RealFileSystem};
use tokio::time::Duration;
use tokio_util::task::TaskTracker;

use crate::OpenError;
use crate::identity::{self, Identity};
use crate::member::MemberInfo;
use crate::members::{Changed, Envelope, MemberError, MemberRequest};
use crate::transport::{CallError, Caller};

/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(2);

/// A node that wants to join.
#[derive(Clone, Debug)]
pub struct Joining {
    /// Where it keeps its data.
    pub data_dir: PathBuf,
    /// As in [`Config`](crate::Config).
    pub cluster_id: u64,
    /// The group it joins.
    pub group: GroupId,
    /// What it says about itself.
    pub own: MemberInfo,
    /// Peer URLs of members, some of them at least.
    pub peers: BTreeSet<String>,
}

/// Why a node cannot join. Waiting would not help.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The directory cannot be made or looked into.
    #[error("cannot use the data directory {}", dir.display())]
    Directory {
        /// Which.
        dir: PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
    /// Its place is taken.
    #[error("the cluster does not let this node in: {0}")]
    Refused(MemberError),
}

/// Waits until the cluster has a place for this node, and takes it. Does nothing for a directory
/// that was used before. `waits` is told what it waits for, each time that changes.
///
/// # Errors
///
/// When waiting would not help.
pub async fn join(
    joining: &Joining,
    tasks: &TaskTracker,
    mut waits: impl FnMut(&str),
) -> Result<(), JoinError> {
    let Some(life) = prepare(joining)? else { return Ok(()) };
    let info = joining.own.clone();
    let request = Some(MemberRequest::Claim { life: life.node, info });
    let envelope = Envelope { group: joining.group.0, request, pass_on: true };
    let caller = Caller { tasks, cluster: joining.cluster_id, connect_timeout: CONNECT };
    let mut said = String::new();
    loop {
        let mut reasons = BTreeSet::new();
        for url in &joining.peers {
            match caller.ask((url, None), &envelope, ANSWER).await {
                Ok(Ok(changed)) => return settle(joining, &changed),
                Ok(Err(error)) if is_final(&error) => return Err(JoinError::Refused(error)),
                Ok(Err(MemberError::NotAdded { url })) => {
                    let name = &joining.own.name;
                    reasons.insert(format!(
                        "this node was not added to the cluster yet; on a member run: POST \
                         /v1/cluster/members {{\"name\":\"{name}\",\"peer_url\":\"{url}\"}}"
                    ));
                }
                Ok(Err(error)) => drop(reasons.insert(format!("{url}: {error}"))),
                Err(CallError::NotSent(error) | CallError::Broken(error)) => {
                    reasons.insert(format!("{url}: {error}"));
                }
            }
        }
        let reason = reasons.into_iter().collect::<Vec<_>>().join("; ");
        if reason != said {
            waits(&reason);
            said = reason;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The life of the directory; nothing if it was used before.
fn prepare(joining: &Joining) -> Result<Option<Identity>, JoinError> {
    let dir = &joining.data_dir;
    let failed = |source| JoinError::Directory { dir: dir.clone(), source };
    RealFileSystem.create_dir_all(dir).map_err(failed)?;
    let identity = identity::load_or_draw(&RealFileSystem, dir)?;
    // A founder was given no place, but it has a log.
    let has_log = match RealFileSystem.list(&dir.join("wal")) {
        Ok(names) => !names.is_empty(),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(failed(error)),
    };
    let is_used = identity.joined.is_some() || has_log;
    Ok((!is_used).then_some(identity))
}

fn settle(joining: &Joining, changed: &Changed) -> Result<(), JoinError> {
    let identity = Identity { node: changed.node, joined: Some(changed.list.since) };
    identity::store(&RealFileSystem, &joining.data_dir, identity)?;
    Ok(())
}

fn is_final(error: &MemberError) -> bool {
    matches!(
        error,
        MemberError::Claimed { .. }
            | MemberError::OtherName { .. }
            | MemberError::NameTaken { .. }
            | MemberError::BadUrl { .. }
    )
}
