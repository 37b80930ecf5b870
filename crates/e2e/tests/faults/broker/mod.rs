//! Brokers under faults: who sends, publishes, receives and pulls records what it was told, and in
//! the end everything acknowledged has arrived.

mod load;
mod record;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sim::{Rng, seeds};
use tokio::time::sleep;

use crate::cluster::{Cluster, Door, until};
use crate::network::{Kind, MEMBERS, around, between};
use load::Load;

const QUEUE: &str = "/v1/queues/work";
const TOPIC: &str = "/v1/topics/log";
const PARTITIONS: u32 = 2;

/// What befalls a broker, and passes.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// SIGKILL, and a new process.
    Kill,
    /// SIGKILL of everybody.
    KillAll,
    /// SIGSTOP, for longer than an election takes.
    Pause,
    /// Nobody hears it, and it hears nobody.
    Isolate,
    /// It and one other do not hear each other.
    Part,
    /// SIGTERM, and a new process.
    Restart,
}

const ALL: [Fault; 6] =
    [Fault::Kill, Fault::KillAll, Fault::Pause, Fault::Isolate, Fault::Part, Fault::Restart];

struct Run {
    name: String,
    cluster: Cluster,
    load: Load,
    rng: Rng,
    /// How long nothing was acknowledged after each fault began.
    gaps: Vec<Duration>,
}

impl Run {
    async fn start(scenario: &str, seed: u64) -> Self {
        let mut cluster = Cluster::of("broker", Kind::Cuttable, "settle_seconds = 0\n").await;
        cluster.start().await;
        let doors = cluster.doors();
        until("all brokers know each other", || async {
            let seen = get(&doors[0], "/v1/cluster").await;
            seen["brokers"].as_array().is_some_and(|brokers| brokers.len() == MEMBERS)
        })
        .await;
        put(&doors[0], QUEUE, json!({ "ack_deadline_seconds": 2 })).await;
        put(&doors[0], TOPIC, json!({ "partitions": PARTITIONS })).await;
        let all = format!("{TOPIC}/subscriptions/all");
        put(&doors[0], &all, json!({ "ack_deadline_seconds": 2, "start": "earliest" })).await;
        let mut rng = Rng::new(seed);
        let load = Load::start(&doors, &mut rng);
        let name = format!("broker-{scenario}-{seed}");
        let run = Self { name, cluster, load, rng, gaps: Vec::new() };
        run.load.progress(20).await;
        run
    }

    /// The broker that leads the queue.
    async fn leader(&self) -> usize {
        let doors = self.cluster.doors();
        let leader = AtomicUsize::new(MEMBERS);
        until("somebody leads the queue", || async {
            let door = &doors[self.load.turn() % doors.len()];
            let seen = get(door, "/v1/cluster/groups").await;
            let groups = seen["groups"].as_array().cloned().unwrap_or_default();
            let group = groups.into_iter().find(|group| group["queue"] == "work");
            let name = group.map(|group| group["leader"].clone()).unwrap_or_default();
            let found = self.cluster.members.iter().position(|member| name == member.name());
            leader.store(found.unwrap_or(MEMBERS), Ordering::Relaxed);
            found.is_some()
        })
        .await;
        leader.load(Ordering::Relaxed)
    }

    async fn strike(&mut self, fault: Fault) {
        let leader = self.leader().await;
        let one = if self.rng.chance(2, 3) { leader } else { self.rng.index(MEMBERS) };
        let lasts = Duration::from_millis(self.rng.range(800..2_500));
        println!("{}: {fault:?} of {one} for {lasts:?}; {leader} leads", self.name);
        let since = self.load.now();
        match fault {
            Fault::Kill => self.cluster.members[one].kill().await,
            Fault::KillAll => {
                for number in 0..MEMBERS {
                    self.cluster.members[number].kill().await;
                }
            }
            Fault::Pause => self.cluster.members[one].signal("STOP").await,
            Fault::Isolate => {
                around(one).into_iter().for_each(|link| self.cluster.network.cut(link));
            }
            Fault::Part => {
                let links = between(one, (one + 1) % MEMBERS);
                links.into_iter().for_each(|link| self.cluster.network.cut(link));
            }
            Fault::Restart => drop(self.cluster.members[one].terminate().await),
        }
        sleep(lasts).await;
        match fault {
            Fault::Kill | Fault::Restart => self.cluster.spawn(one),
            Fault::KillAll => (0..MEMBERS).for_each(|number| self.cluster.spawn(number)),
            Fault::Pause => self.cluster.members[one].signal("CONT").await,
            Fault::Isolate | Fault::Part => self.cluster.network.heal(),
        }
        self.gaps.push(self.load.first_acknowledged(since).await);
        self.cluster.ready().await;
        self.load.progress(20).await;
    }

    /// With every fault gone everything that was acknowledged arrives, and nothing else.
    async fn finish(mut self) {
        self.cluster.network.heal();
        self.cluster.ready().await;
        let doors = self.cluster.doors();
        self.load.end_sending().await;
        let record = self.load.record();
        until("everything acknowledged has arrived, and the queue is empty", || async {
            let queue = get(&doors[0], QUEUE).await;
            let left = record.lock().expect("nobody panics with it").missing();
            left == 0 && queue["stats"]["messages"] == 0
        })
        .await;
        self.load.stop().await;
        let mut kept = Vec::new();
        for partition in 0..PARTITIONS {
            kept.push(read(&doors[partition as usize % MEMBERS], partition).await);
        }
        for member in &self.cluster.members {
            let log = member.log();
            let panic = log.lines().find(|line| line.contains("panicked"));
            assert!(panic.is_none(), "{}: {panic:?}", member.name());
        }
        let record = record.lock().expect("nobody panics with it");
        let checked = record.judge(&kept).unwrap_or_else(|lie| panic!("{}: {lie}", self.name));
        println!("{}: Checked {checked:?}; nothing acknowledged for {:?}", self.name, self.gaps);
    }
}

async fn get(door: &Door, path: &str) -> Value {
    let get = door.client.get(format!("{}{path}", door.url)).timeout(Duration::from_secs(2));
    let Ok(answer) = get.send().await else { return Value::Null };
    answer.json().await.unwrap_or_default()
}

async fn put(door: &Door, path: &str, body: Value) {
    until("it is made", || async {
        let put = door.request(Method::PUT, path).json(&body);
        put.send().await.is_ok_and(|answer| answer.status().is_success())
    })
    .await;
}

/// All that a partition holds, from its first message on.
async fn read(door: &Door, partition: u32) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    loop {
        let page = format!("{TOPIC}/messages?partition={partition}&from={}&limit=500", kept.len());
        let page = get(door, &page).await;
        let Some(messages) = page["messages"].as_array() else { continue };
        for message in messages {
            assert_eq!(message["offset"], kept.len(), "an offset is missing in {partition}");
            kept.push(message["data"].as_str().unwrap_or_default().to_owned());
        }
        if messages.is_empty() {
            return kept;
        }
    }
}

async fn scenario(name: &str, faults: &[Fault]) {
    for seed in seeds(1) {
        let mut run = Run::start(name, seed).await;
        for fault in faults {
            run.strike(*fault).await;
        }
        run.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_brokers_are_killed() {
    scenario("kill", &[Fault::Kill, Fault::Kill, Fault::KillAll]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_brokers_sleep() {
    scenario("pause", &[Fault::Pause, Fault::Pause]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_links_are_cut() {
    scenario("cut", &[Fault::Isolate, Fault::Part, Fault::Isolate]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_one_after_the_other_restarts() {
    scenario("rolling", &[Fault::Restart, Fault::Restart, Fault::Restart]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute a seed: scripts/chaos broker"]
async fn many_faults_by_chance() {
    for seed in seeds(1) {
        let mut run = Run::start("chaos", seed).await;
        for _ in 0..12 {
            let fault = *run.rng.pick(&ALL).expect("there are some");
            run.strike(fault).await;
        }
        run.finish().await;
    }
}
