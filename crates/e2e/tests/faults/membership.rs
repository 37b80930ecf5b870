//! Changes of who leads and of who belongs to the cluster, while it works and while it does not.
//!
//! A member is replaced in steps: it is removed, its data is gone, a place is made for a new one on
//! its address, that one comes as a learner, and is promoted. Whatever else fails meanwhile, each
//! step is asked for again until it is done; to ask twice does no harm.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, Door};
use crate::member::{PATIENCE, POLL};
use crate::network::MEMBERS;

/// Longer than a change waits for the one before it.
const TIMEOUT: Duration = Duration::from_secs(6);
/// Between one question and the next.
const PAUSE: Duration = Duration::from_millis(50);

/// A member that becomes another one.
pub(crate) struct Replacement {
    number: usize,
    /// What the old one is called by the others.
    id: String,
    next: Step,
    asked: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Remove,
    Add,
    Promote,
    Done,
}

impl Cluster {
    /// Asks for another leader. It need not come to that.
    pub(crate) async fn transfer(&self, to: usize, asked: usize) -> bool {
        let body = json!({ "to": self.members[to].name() });
        let ask = self.doors()[asked].request(Method::POST, "/v1/cluster/transfer").json(&body);
        answer(ask).await.is_some_and(|(status, _)| status == 200)
    }

    /// Begins to replace a member, which lives or does not.
    pub(crate) async fn replace(&mut self, number: usize) {
        let id = self.id_of(number).await;
        let next = Step::Remove;
        self.replacement = Some(Replacement { number, id, next, asked: number });
    }

    /// Goes on with it for so long. True if it is done, or if there is nothing to do.
    pub(crate) async fn replaced(&mut self, within: Duration) -> bool {
        let Some(mut replacement) = self.replacement.take() else { return true };
        let end = Instant::now() + within;
        while replacement.next != Step::Done {
            if end < Instant::now() {
                self.replacement = Some(replacement);
                return false;
            }
            replacement.step(self).await;
            sleep(PAUSE).await;
        }
        true
    }

    /// Whatever was begun is done.
    pub(crate) async fn settle(&mut self) {
        if !self.replaced(PATIENCE).await {
            let Replacement { number, next, .. } = self.replacement.as_ref().expect("not done");
            panic!("{next:?} of {number} never came to be\n{}", self.members[*number].log());
        }
    }

    async fn id_of(&self, number: usize) -> String {
        let doors = self.doors();
        let end = Instant::now() + PATIENCE;
        for door in doors.iter().cycle() {
            let member = find(door, self.members[number].name()).await;
            if let Some(id) = member.and_then(|member| member["id"].as_str().map(str::to_owned)) {
                return id;
            }
            assert!(Instant::now() < end, "nobody knows member {number}");
            sleep(POLL).await;
        }
        unreachable!("there are members")
    }
}

impl Replacement {
    async fn step(&mut self, cluster: &mut Cluster) {
        // One of the two others.
        self.asked = (self.asked + 1) % MEMBERS;
        if self.asked == self.number {
            self.asked = (self.asked + 1) % MEMBERS;
        }
        let door = &cluster.doors()[self.asked];
        let is_done = match self.next {
            Step::Remove => self.remove(door).await,
            Step::Add => self.add(cluster, door).await,
            Step::Promote => self.promote(cluster, door).await,
            Step::Done => true,
        };
        if !is_done {
            return;
        }
        self.next = match self.next {
            Step::Remove => {
                cluster.members[self.number].leave().await;
                Step::Add
            }
            Step::Add => {
                cluster.members[self.number].join_existing();
                cluster.spawn(self.number);
                Step::Promote
            }
            Step::Promote | Step::Done => Step::Done,
        };
    }

    async fn remove(&self, door: &Door) -> bool {
        let path = format!("/v1/cluster/members/{}", self.id);
        let answer = answer(door.request(Method::DELETE, &path)).await;
        answer.is_some_and(|(status, _)| matches!(status, 200 | 404))
    }

    async fn add(&self, cluster: &Cluster, door: &Door) -> bool {
        let member = &cluster.members[self.number];
        let body = json!({ "name": member.name(), "peer_url": member.peer_url() });
        let ask = door.request(Method::POST, "/v1/cluster/members").json(&body);
        let answer = answer(ask).await;
        answer.is_some_and(|(status, said)| status == 201 || said["code"] == "already-exists")
    }

    async fn promote(&self, cluster: &Cluster, door: &Door) -> bool {
        let name = cluster.members[self.number].name();
        let path = format!("/v1/cluster/members/{name}/promote");
        if answer(door.request(Method::POST, &path)).await.is_some_and(|(status, _)| status == 200)
        {
            return true;
        }
        // Or it was promoted and nobody heard.
        let member = find(door, name).await;
        member.is_some_and(|member| member["role"] != "learner" && member["started"] == true)
    }
}

/// A member as one of them knows it.
async fn find(door: &Door, name: &str) -> Option<Value> {
    let (200, cluster) = answer(door.request(Method::GET, "/v1/cluster")).await? else {
        return None;
    };
    cluster["members"].as_array()?.iter().find(|member| member["name"] == name).cloned()
}

async fn answer(request: RequestBuilder) -> Option<(u16, Value)> {
    let answer = request.timeout(TIMEOUT).send().await.ok()?;
    Some((answer.status().as_u16(), answer.json().await.ok()?))
}
