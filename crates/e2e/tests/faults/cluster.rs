//! Three members that found a store together.

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use e2e::Disk;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::member::{Member, PATIENCE, POLL};
use crate::membership::Replacement;
use crate::network::{Kind, MEMBERS, Network};

/// How often a leader is heard from, and after how much silence another leads. Short, so that a
/// run sees many leaders; not so short that a busy machine elects all the time.
const HEARTBEAT_MS: u64 = 60;
const ELECTION_MS: u64 = 600;

/// So that members restart from snapshots, and get them from others.
const SNAPSHOT_ENTRIES: u64 = 300;
/// Room for the first segments of a log, and for their reserve.
const DISK: &str = "size=256m";
/// More than that, in commands of a mebibyte.
const COMMANDS_MAX: usize = 400;

/// What is mounted in a directory goes before the directory does, and members before their network.
pub(crate) struct Cluster {
    disks: Vec<Disk>,
    pub(crate) members: Vec<Member>,
    pub(crate) network: Network,
    pub(crate) replacement: Option<Replacement>,
    /// How far each wall clock is off, in seconds. Empty: they cannot be moved.
    clocks: Vec<i64>,
}

/// Where clients reach a member.
#[derive(Clone)]
pub(crate) struct Door {
    /// Which member.
    pub(crate) number: usize,
    pub(crate) url: String,
    pub(crate) client: Client,
    lives: Arc<AtomicU64>,
}

impl Door {
    /// Which of the member's processes is behind it. If that is the same before a call and after
    /// it, this process answered.
    pub(crate) fn life(&self) -> u64 {
        self.lives.load(Ordering::SeqCst)
    }
}

impl Cluster {
    /// Ports, names and directories, but no processes yet.
    pub(crate) async fn prepared(kind: Kind) -> Self {
        let settings = format!("snapshot_entries = {SNAPSHOT_ENTRIES}\n");
        Self::of("coordinator", kind, &settings).await
    }

    /// The same of another service, with these settings in its section `cluster`.
    pub(crate) async fn of(service: &'static str, kind: Kind, settings: &str) -> Self {
        let network = Network::new(kind).await;
        let places = network.places();
        let name = |number| format!("{service}-{}", number + 1);
        let peers: String = (0..MEMBERS)
            .map(|number| format!("{} = {:?}\n", name(number), places[number].peer_url))
            .collect();
        let settings = format!(
            "[cluster]\nheartbeat_ms = {HEARTBEAT_MS}\nelection_ms = {ELECTION_MS}\n\
             {settings}\
             [cluster.initial_peers]\n{peers}"
        );
        let member = |(number, place)| Member::new(service, name(number), place, settings.clone());
        let members = places.into_iter().enumerate().map(member).collect();
        Self { members, network, replacement: None, disks: Vec::new(), clocks: Vec::new() }
    }

    /// Gives each member a small disk of its own, before the start. False, with a reason printed,
    /// where that is not possible.
    pub(crate) fn give_disks(&mut self) -> bool {
        let mount = |member: &Member| Disk::mount(&member.data_dir(), DISK);
        self.disks = self.members.iter().map_while(mount).collect();
        self.has_disks()
    }

    pub(crate) fn has_disks(&self) -> bool {
        self.disks.len() == MEMBERS
    }

    pub(crate) fn disk(&self, number: usize) -> &Disk {
        &self.disks[number]
    }

    /// Gives each member a wall clock of its own, before the start. False, with a reason printed,
    /// where that is not possible.
    pub(crate) fn give_clocks(&mut self) -> bool {
        let Some(library) = faketime() else {
            println!("skipped: clocks cannot be moved without libfaketime (apt: faketime)");
            return false;
        };
        self.clocks = vec![0; MEMBERS];
        for (number, member) in self.members.iter_mut().enumerate() {
            let text = |text: &str| text.to_owned();
            member.set_environment(vec![
                ("LD_PRELOAD", library.display().to_string()),
                ("FAKETIME_TIMESTAMP_FILE", member.clock_file().display().to_string()),
                ("FAKETIME_NO_CACHE", text("1")),
                // Corrections move the wall clock only.
                ("FAKETIME_DONT_FAKE_MONOTONIC", text("1")),
                ("DONT_FAKE_MONOTONIC", text("1")),
            ]);
            set_clock(&member.clock_file(), self.clocks[number]);
        }
        true
    }

    pub(crate) fn has_clocks(&self) -> bool {
        !self.clocks.is_empty()
    }

    /// Moves a wall clock by so many seconds. It stays there.
    pub(crate) fn move_clock(&mut self, number: usize, seconds: i64) {
        self.clocks[number] += seconds;
        set_clock(&self.members[number].clock_file(), self.clocks[number]);
    }

    /// Writes until the log of a member has no more space. What is written changes nothing.
    pub(crate) async fn fill_log(&self, number: usize) {
        let nothing = json!({
            "if": [{ "key": "there is none", "exists": true }],
            "then": [{ "put": { "key": "large", "value": "x".repeat(1 << 20) } }],
        });
        let doors = self.doors();
        for turn in 0..COMMANDS_MAX {
            let member = &self.members[number];
            let ready = member.client().get(member.url("/readyz?verbose")).send().await;
            let said = ready.expect("an answer").text().await.unwrap_or_default();
            if said.contains("the disk is full") {
                return;
            }
            let door = &doors[turn % MEMBERS];
            // Refused or not: the log tells.
            let _ = door.request(Method::POST, "/v1/txn").json(&nothing).send().await;
        }
        panic!("the disk of {} is never full", self.members[number].name());
    }

    /// Starts every member and waits until all are ready.
    pub(crate) async fn start(&mut self) {
        for number in 0..MEMBERS {
            self.spawn(number);
        }
        self.ready().await;
    }

    /// Starts one process and does not wait.
    pub(crate) fn spawn(&mut self, number: usize) {
        self.members[number].spawn();
        self.network.meet(number, self.members[number].pid());
    }

    pub(crate) async fn ready(&mut self) {
        for member in &mut self.members {
            member.ready().await;
        }
    }

    pub(crate) fn doors(&self) -> Vec<Door> {
        let door = |(number, member): (usize, &Member)| Door {
            number,
            url: member.url(""),
            client: member.client().clone(),
            lives: member.lives(),
        };
        self.members.iter().enumerate().map(door).collect()
    }

    /// Who leads, as a majority knows it. Waits until somebody does.
    pub(crate) async fn leader(&self) -> usize {
        self.leader_among(&[0, 1, 2]).await
    }

    /// Waits until these know another leader than `old`.
    pub(crate) async fn successor_among(&self, asked: &[usize], old: usize) -> usize {
        let succeeded = async {
            loop {
                let leader = self.leader_among(asked).await;
                if leader != old {
                    return leader;
                }
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, succeeded).await.expect("somebody else leads")
    }

    /// Who leads, as asked of these, which must be able to know: an answer takes a quorum.
    pub(crate) async fn leader_among(&self, asked: &[usize]) -> usize {
        let name = |name: Value| self.members.iter().position(|member| name == member.name());
        let ask = async {
            loop {
                for number in asked {
                    let member = &self.members[*number];
                    let get = member.client().get(member.url("/v1/cluster"));
                    let Ok(answer) = get.timeout(Duration::from_secs(1)).send().await else {
                        continue;
                    };
                    let cluster: Value = answer.json().await.unwrap_or_default();
                    if let Some(leader) = name(cluster["leader"].clone()) {
                        return leader;
                    }
                }
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, ask).await.expect("somebody leads")
    }
}

fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    let library = |folder: fs::DirEntry| folder.path().join("faketime/libfaketimeMT.so.1");
    folders.map(library).find(|library| library.exists())
}

/// At once: it is read whenever somebody asks for the time.
fn set_clock(file: &std::path::Path, off_by_seconds: i64) {
    let new = file.with_extension("new");
    fs::write(&new, format!("{off_by_seconds:+}\n")).expect("the clock's file");
    fs::rename(new, file).expect("the clock's file");
}

/// Polls until something holds.
pub(crate) async fn until<F, Fut>(what: &str, mut holds: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let poll = async {
        while !holds().await {
            sleep(POLL).await;
        }
    };
    assert!(timeout(PATIENCE, poll).await.is_ok(), "never came true: {what}");
}
