//! One run: a cluster, its clients, and in the end the verdict.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::Method;
use sim::Rng;
use sim::watch::Event;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cluster::{Cluster, Door, until};
use crate::load::{Load, leases, watchers};
use crate::member::PATIENCE;
use crate::network::Kind;
use crate::record::{Evidence, Record, Recorder};
use crate::verdict::judge;

/// Below what every watcher watches.
const END: &str = "r/end";

pub(crate) struct Run {
    /// Before the cluster, whose logs belong to it.
    evidence: Evidence,
    name: String,
    load: Option<Load>,
    pub(crate) rng: Rng,
    pub(crate) cluster: Cluster,
}

/// What was found to be true.
pub(crate) struct Passed {
    pub(crate) record: Record,
}

impl Run {
    /// Starts a cluster and its clients.
    pub(crate) async fn start(scenario: &str, seed: u64) -> Self {
        Self::with(scenario, seed, Cluster::prepared(Kind::Cuttable).await).await
    }

    /// The same with a cluster that was prepared.
    pub(crate) async fn with(scenario: &str, seed: u64, mut cluster: Cluster) -> Self {
        let name = format!("{scenario}-{seed}");
        let recorder = Arc::new(Recorder::new(name.clone()));
        recorder.record().logs = cluster.members.iter().map(|member| member.log_file()).collect();
        let evidence = Evidence(Arc::clone(&recorder));
        cluster.start().await;
        let mut rng = Rng::new(seed);
        let load = Load::start(cluster.doors(), recorder, &mut rng);
        let run = Self { evidence, name, load: Some(load), rng, cluster };
        run.progress(25).await;
        run
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Waits until so many more writes are acknowledged.
    pub(crate) async fn progress(&self, more: u64) {
        self.load.as_ref().expect("it is taken in the end").progress(more).await;
    }

    /// With every fault gone: all members serve again, and what the clients were told is true.
    pub(crate) async fn finish(mut self) -> Passed {
        self.cluster.network.heal();
        self.cluster.ready().await;
        self.progress(25).await;
        let mut load = self.load.take().expect("it is taken here only");
        load.stop().await;
        let doors = self.cluster.doors();
        let left = self.evidence.0.record().tenancies.clone();
        leases::all_gone(&doors[0], &left).await;
        let end = end(&doors[0]).await;
        let watched = load.watched(end).await;
        let mut told = Vec::new();
        for door in &doors {
            told.push(history(door, end).await);
        }
        let mut record = {
            let mut record = self.evidence.0.record();
            record.watched = watched;
            record.told = told;
            record.clone()
        };
        for member in &self.cluster.members {
            let log = member.log();
            let panic = log.lines().find(|line| line.contains("panicked"));
            if let Some(panic) = panic {
                record.contradictions.push(format!("{}: {panic}", member.name()));
            }
        }
        let checked = judge(&record).unwrap_or_else(|what| panic!("{}: {what}", self.name));
        let seconds = self.evidence.0.now() / 1_000_000;
        println!("{}: {checked:?} in {seconds} s", self.name);
        Passed { record }
    }
}

/// The last write of a run, and its revision.
async fn end(door: &Door) -> u64 {
    let mut attempt = 0;
    let revision = &AtomicU64::new(0);
    until("a last write is taken", || {
        attempt += 1;
        let put = door.request(Method::PUT, &format!("/v1/kv/{END}")).body(attempt.to_string());
        async move {
            let Ok(answer) = put.send().await else { return false };
            let reply: serde_json::Value = answer.json().await.unwrap_or_default();
            revision.store(reply["revision"].as_u64().unwrap_or(0), Ordering::Relaxed);
            revision.load(Ordering::Relaxed) != 0
        }
    })
    .await;
    revision.load(Ordering::Relaxed)
}

/// Every change through a revision, as one member tells it.
async fn history(door: &Door, through: u64) -> Vec<Event> {
    let (_goal, goal) = watch::channel(Some(through));
    let told = watchers::follow("history".to_owned(), vec![door.clone()], "", goal);
    let told = timeout(PATIENCE, told).await.expect("a member tells all that happened");
    told.events.into_iter().filter(|event| event.revision <= through).collect()
}
