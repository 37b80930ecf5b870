//! Carries a request to the leader and waits until it is through.

use consensus::{Index, NodeId, RoleName, Status};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::{Begun, Changed, MemberError, MemberList, MemberRequest, Members, Rules, info_of};
use crate::driver::{Control, Input, PendingRead};
use crate::error::QueryError;
use crate::transport::CallError;

/// How long a leader is waited for, another change, or a learner that has nearly caught up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a change may take to be committed.
const THROUGH: Duration = Duration::from_secs(5);
/// How long a leader that was asked may take in all.
const PASS_ON: Duration = Duration::from_secs(12);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// A request as it travels to the leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    /// Which group.
    pub(crate) group: u64,
    /// What is wanted; nothing: who the members are.
    pub(crate) request: Option<MemberRequest>,
    /// Whoever gets it may pass it on, once.
    pub(crate) pass_on: bool,
}

/// What is answered.
pub(crate) type Outcome = Result<Changed, MemberError>;

impl Members {
    /// Changes the members, whichever member this node is, and answers when it is through.
    ///
    /// # Errors
    ///
    /// When the request makes no sense, would do harm, or nobody leads.
    pub async fn ask(&self, request: &MemberRequest) -> Result<Changed, MemberError> {
        self.ask_or_pass_on(request, true).await
    }

    pub(super) async fn ask_or_pass_on(&self, request: &MemberRequest, pass_on: bool) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        let mut asked = None;
        loop {
            let status = self.status().await?;
            let outcome = match status.leader {
                _ if status.role == RoleName::Leader => {
                    let asked = *asked.get_or_insert(status.commit);
                    self.lead(request, asked).await
                }
                Some(leader) if pass_on => self.pass_on(request, &status, leader).await,
                _ => Err(MemberError::NoLeader),
            };
            match outcome {
                Err(error) if error.may_pass() && Instant::now() < deadline => {
                    tokio::time::sleep(LOOK).await;
                }
                // Whoever led may be cut off by now, or removed: then the others know.
                Err(MemberError::Indeterminate) if pass_on => {
                    return self.what_became(request).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Waits until this node sees that what was begun elsewhere is through.
    async fn what_became(&self, request: &MemberRequest) -> Outcome {
        let deadline = Instant::now() + THROUGH;
        while Instant::now() < deadline {
            let is_current = tokio::time::timeout_at(deadline, self.barrier()).await;
            let status = self.status().await?;
            let (since, membership) = &status.settled;
            let is_settled = is_current.is_ok_and(|read| read.is_ok()) && !membership.is_joint();
            if is_settled && request.is_done(&status, membership) {
                let list = MemberList::of(*since, membership);
                return Ok(Changed { node: request.subject(membership), list });
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(MemberError::Indeterminate)
    }

    /// Everything that is committed now is known here afterwards.
    async fn barrier(&self) -> Result<(), QueryError> {
        let (done, outcome) = oneshot::channel();
        let input = Input::Read(PendingRead { group: self.group, done });
        self.shared.driver.send(input).await.map_err(|_| QueryError::Stopped)?;
        outcome.await.map_err(|_| QueryError::Stopped)?
    }

    pub(super) async fn status(&self) -> Result<Status, MemberError> {
        self.control(Control::Status).await
    }

    async fn control<T>(
        &self,
        control: impl FnOnce(oneshot::Sender<T>) -> Control,
    ) -> Result<T, MemberError> {
        let (done, answer) = oneshot::channel();
        let input = Input::Control(self.group, control(done));
        self.shared.driver.send(input).await.map_err(|_| MemberError::Stopped)?;
        answer.await.map_err(|_| MemberError::Stopped)
    }

    async fn lead(&self, request: &MemberRequest, asked: Index) -> Outcome {
        let rules = Rules { max_learners: self.shared.config.max_learners };
        let wish = (request.clone(), asked, rules);
        let begun = self.control(|done| Control::Members(Box::new(wish), done)).await??;
        match request {
            MemberRequest::Transfer { to } => self.taken_over(*to).await,
            _ => self.through(request, begun).await,
        }
    }

    /// Waits until the change is committed and not joint any more.
    async fn through(&self, request: &MemberRequest, Begun { node, index }: Begun) -> Outcome {
        let deadline = Instant::now() + THROUGH;
        loop {
            let status = self.status().await?;
            let (since, membership) = &status.settled;
            if index <= status.commit && !membership.is_joint() {
                let list = MemberList::of(*since, membership);
                return match request.is_done(&status, membership) {
                    true => Ok(Changed { node, list }),
                    // Another leader has put something else there.
                    false => Err(MemberError::NoLeader),
                };
            }
            if status.role != RoleName::Leader || deadline <= Instant::now() {
                return Err(MemberError::Indeterminate);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn taken_over(&self, to: NodeId) -> Outcome {
        let election = Duration::from_millis(self.shared.config.election_ms);
        let deadline = Instant::now() + election * 3;
        loop {
            let status = self.status().await?;
            if status.leader == Some(to) {
                let (since, membership) = &status.settled;
                return Ok(Changed { node: to, list: MemberList::of(*since, membership) });
            }
            let goes_on = status.role == RoleName::Leader && deadline <= Instant::now();
            if goes_on || deadline + election <= Instant::now() {
                return Err(MemberError::NotTaken { node: to });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn pass_on(&self, request: &MemberRequest, status: &Status, leader: NodeId) -> Outcome {
        let url = info_of(&status.membership, leader).peer_url;
        let envelope =
            Envelope { group: self.group.0, request: Some(request.clone()), pass_on: false };
        let told = self.shared.transport.ask(&url, Some(leader), &envelope, PASS_ON).await;
        match told {
            Ok(outcome) => outcome,
            Err(CallError::NotSent(_)) => Err(MemberError::NoLeader),
            Err(CallError::Broken(_)) => Err(MemberError::Indeterminate),
        }
    }
}

impl MemberError {
    /// The same request may be taken a moment later.
    fn may_pass(&self) -> bool {
        match self {
            Self::NoLeader | Self::InFlight => true,
            // As close as etcd asks for; the rest is a matter of a moment.
            Self::Behind { matched, needed, reachable, .. } => {
                *reachable && needed.0 / 10 * 9 <= matched.0
            }
            _ => false,
        }
    }
}
