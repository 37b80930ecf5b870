//! Clients that work through faults and record what they are told.

mod etcd;
mod http;
pub(crate) mod leases;
mod lines;
pub(crate) mod locks;
mod native;
mod observers;
mod readers;
mod registers;
mod streams;
pub(crate) mod watchers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sim::Rng;
use sim::watch::Watched;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::cluster::{Door, until};
use crate::member;
use crate::record::Recorder;

/// Clients of registers and transactions.
const WRITERS: u64 = 8;
/// Clients of locks and elections. Their numbers follow.
const LOCKERS: u64 = 4;
/// Clients that read what a member knows by itself.
const READERS: u64 = 2;
/// Clients of leases.
const TENANTS: u64 = 2;
const FIRST_TENANT: u64 = WRITERS + LOCKERS + READERS;
/// What watchers watch. Every run ends with a write below the first one, which is below the others.
const WATCHED: [&str; 2] = ["r/", ""];
/// The same over `/v3`.
const STREAMED: [&str; 2] = ["", "r/"];

/// All clients of a run. They end when it is dropped.
pub(crate) struct Load {
    workers: JoinSet<()>,
    watchers: JoinSet<Watched>,
    shared: Arc<Shared>,
    goal: watch::Sender<Option<u64>>,
}

/// What all clients share.
pub(crate) struct Shared {
    doors: Vec<Door>,
    recorder: Arc<Recorder>,
    stop: AtomicBool,
    /// Writes that were acknowledged.
    done: AtomicU64,
    /// Operations that were begun.
    begun: AtomicU64,
}

impl Load {
    pub(crate) fn start(doors: Vec<Door>, recorder: Arc<Recorder>, rng: &mut Rng) -> Self {
        let shared = Arc::new(Shared {
            doors,
            recorder,
            stop: AtomicBool::new(false),
            done: AtomicU64::new(0),
            begun: AtomicU64::new(0),
        });
        let goal = watch::Sender::new(None);
        let (mut workers, mut watchers) = (JoinSet::new(), JoinSet::new());
        for process in 0..WRITERS {
            workers.spawn(registers::Writer::new(process, Arc::clone(&shared), rng.fork()).run());
        }
        for process in WRITERS..WRITERS + LOCKERS {
            workers.spawn(locks::Locker::new(process, Arc::clone(&shared), rng.fork()).run());
        }
        for process in WRITERS + LOCKERS..WRITERS + LOCKERS + READERS {
            workers.spawn(readers::Reader::new(process, Arc::clone(&shared), rng.fork()).run());
        }
        for process in FIRST_TENANT..FIRST_TENANT + TENANTS {
            workers.spawn(leases::Tenant::new(process, Arc::clone(&shared), rng.fork()).run());
        }
        let is_election = |line: &&lines::Line| line.kind != lines::Kind::Lock;
        for line in lines::LINES.iter().filter(is_election) {
            let observer = observers::Observer::new(line.name, Arc::clone(&shared), rng.fork());
            workers.spawn(observer.run());
        }
        let doors_from = |number: usize| {
            let mut doors = shared.doors.clone();
            let places = doors.len();
            doors.rotate_left(number % places);
            doors
        };
        for (number, prefix) in WATCHED.into_iter().enumerate() {
            let name = format!("watcher {number} of {prefix:?}");
            watchers.spawn(watchers::follow(name, doors_from(number), prefix, goal.subscribe()));
        }
        for (number, prefix) in STREAMED.into_iter().enumerate() {
            let name = format!("stream {number} of {prefix:?}");
            let doors = doors_from(number + 2);
            watchers.spawn(streams::follow(name, doors, prefix, goal.subscribe()));
        }
        Self { workers, watchers, shared, goal }
    }

    /// Waits until so many more writes are acknowledged.
    pub(crate) async fn progress(&self, more: u64) {
        let goal = self.shared.done.load(Ordering::Relaxed) + more;
        let reached = || {
            let reached = goal <= self.shared.done.load(Ordering::Relaxed);
            async move { reached }
        };
        until("writes are acknowledged", reached).await;
    }

    /// Lets every client end what it is doing.
    pub(crate) async fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.workers.join_next().await {
            ended.expect("a client does not panic");
        }
    }

    /// Waits until every watcher has come to this revision. Returns what each got.
    pub(crate) async fn watched(mut self, through: u64) -> Vec<Watched> {
        self.goal.send_replace(Some(through));
        let mut all = Vec::new();
        let patience = Instant::now() + member::PATIENCE;
        while let Some(watched) =
            timeout_at(patience, self.watchers.join_next()).await.expect("watchers come there")
        {
            all.push(watched.expect("a watcher does not panic"));
        }
        all
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::Relaxed)
    }

    fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    fn done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    fn any_door(&self, rng: &mut Rng) -> &Door {
        rng.pick(&self.doors).expect("there are members")
    }
}
