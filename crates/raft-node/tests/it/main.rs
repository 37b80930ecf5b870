//! The host of groups over the real file system: durable, in order, rebuilt after a restart.

#[cfg(test)]
mod bodies;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod journal;
#[cfg(test)]
mod many;
#[cfg(all(test, feature = "mutants"))]
mod mutants;
#[cfg(test)]
mod stand;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use consensus::{GroupId, Index};
use futures_util::future::join_all;
use raft_node::{
    Config, Failure, Group, Groups, Host as Lent, OpenError, ProposeError, QueryError, StartError,
};
use telemetry::metrics::Registry;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use journal::{FAULT, Gate, Journal, LATE_FAULT};

const GROUP: GroupId = GroupId(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// A host of groups that ends when told to, as a process does.
struct Host {
    groups: Groups,
    tasks: TaskTracker,
    stop: CancellationToken,
    metrics: Registry,
}

impl Host {
    fn open(config: Config) -> Self {
        Self::try_open(config).expect("the directory is free")
    }

    fn try_open(config: Config) -> Result<Self, OpenError> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let metrics = Registry::default();
        let groups = Groups::open(
            config,
            Lent {
                tasks: tasks.clone(),
                stop: stop.clone(),
                links: stop.clone(),
                metrics: metrics.clone(),
            },
        )?;
        Ok(Self { groups, tasks, stop, metrics })
    }

    /// Ends the owner tasks and gives the directory back.
    async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn journal(&self) -> Group<Journal> {
        self.groups.start(GROUP, Journal::default()).await.expect("a sound group starts")
    }

    /// A group whose first snapshot is being written until its gate is opened.
    async fn held_up(&self, group: GroupId) -> (Group<Journal>, Arc<Gate>) {
        let gate = Gate::closed();
        let machine = Journal { gate: Some(gate.clone()), ..Journal::default() };
        let group = self.groups.start(group, machine).await.expect("a sound group starts");
        cluster::until("its snapshot is begun", async || gate.is_waited_for()).await;
        (group, gate)
    }
}

fn config(dir: &TempDir) -> Config {
    Config::new(dir.path().to_owned())
}

async fn propose(group: &Group<Journal>, text: &str) -> u64 {
    let command = Bytes::copy_from_slice(text.as_bytes());
    group.propose(command).await.expect("nothing hinders it").reply
}

async fn lines(group: &Group<Journal>) -> Vec<String> {
    group.query(|journal| journal.lines.clone()).await.expect("it runs")
}

#[tokio::test]
async fn an_answered_command_is_seen_by_the_next_query() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(config(&dir));
    let group = host.journal().await;
    assert_eq!(propose(&group, "a").await, 1);
    assert_eq!(lines(&group).await, ["a"]);
    host.close().await;
}

#[tokio::test]
async fn commands_survive_a_restart_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(config(&dir));
    let group = host.journal().await;
    for text in ["a", "b", "c"] {
        propose(&group, text).await;
    }
    drop(group);
    host.close().await;

    let host = Host::open(config(&dir));
    let group = host.journal().await;
    assert_eq!(lines(&group).await, ["a", "b", "c"]);
    assert_eq!(propose(&group, "d").await, 4);
    host.close().await;
}

/// Every start leaves a blank entry in the log.
#[tokio::test]
async fn whoever_reads_entries_back_gets_commands_only() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["a", "b", "c"] {
        let host = Host::open(config(&dir));
        propose(&host.journal().await, text).await;
        host.close().await;
    }
    let host = Host::open(config(&dir));
    let group = host.journal().await;
    for max_bytes in [1, 1 << 20] {
        let (mut from, mut texts) = (Index(1), Vec::new());
        loop {
            let entries = group.read(from, max_bytes).await.unwrap().entries;
            let Some(last) = entries.last() else { break };
            from = last.index.next();
            texts.extend(entries.into_iter().map(|entry| entry.payload));
        }
        assert_eq!(texts, ["a", "b", "c"]);
    }
    host.close().await;
}

#[tokio::test]
async fn every_life_of_a_group_has_a_term_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut terms = Vec::new();
    for _ in 0..3 {
        let host = Host::open(config(&dir));
        terms.push(host.journal().await.term());
        host.close().await;
    }
    assert!(terms.is_sorted_by(|a, b| a < b), "{terms:?}");
}

#[tokio::test]
async fn concurrent_commands_are_each_applied_once() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(config(&dir));
    let group = host.journal().await;
    let writers = (0..64).map(|writer| {
        let group = group.clone();
        async move {
            for n in 0..10 {
                propose(&group, &format!("{writer}-{n}")).await;
            }
        }
    });
    join_all(writers).await;
    let mut seen = lines(&group).await;
    assert_eq!(seen.len(), 640);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 640);
    host.close().await;
}

#[tokio::test]
async fn groups_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(config(&dir));
    let starts = (1..=50).map(|n| host.groups.start(GroupId(n), Journal::default()));
    let groups: Vec<_> = join_all(starts).await.into_iter().map(Result::unwrap).collect();
    join_all(groups.iter().map(|group| async { propose(group, &group.id().to_string()).await }))
        .await;
    for group in &groups {
        assert_eq!(lines(group).await, [group.id().to_string()]);
    }
    host.close().await;
}

#[tokio::test]
async fn a_snapshot_takes_the_place_of_the_log_and_retained_entries_stay_readable() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { snapshot_bytes: 1_000, ..config(&dir) };
    let host = Host::open(config.clone());
    let group = host.journal().await;
    let long = "x".repeat(100);
    for n in 0..200 {
        propose(&group, &format!("{n}-{long}")).await;
    }
    let first = group.query(|journal| journal.first).await.unwrap().expect("it has lines");
    let expected = lines(&group).await;
    drop(group);
    host.close().await;

    let host = Host::open(config);
    let group = host.journal().await;
    assert_eq!(lines(&group).await, expected);
    let restored = group.query(|journal| journal.restored).await.unwrap();
    assert!(restored > 0, "some commands came from the snapshot");
    // The journal retains its first entry, far below the snapshot.
    let entries = group.read(first, 1).await.unwrap().entries;
    assert_eq!(entries[0].index, first);
    assert_eq!(entries[0].payload, format!("0-{long}").as_bytes());
    host.close().await;
}

#[tokio::test]
async fn a_group_runs_once() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(config(&dir));
    let _group = host.journal().await;
    let second = host.groups.start(GROUP, Journal::default()).await;
    assert!(matches!(second, Err(StartError::Running { group: GROUP })));
    host.close().await;
}

#[tokio::test]
async fn a_removed_group_answers_nobody_and_stays_removed() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(config(&dir));
    let group = host.journal().await;
    propose(&group, "a").await;
    host.groups.remove(GROUP).await.unwrap();
    assert_eq!(group.propose(Bytes::from_static(b"b")).await, Err(ProposeError::Stopped));
    assert_eq!(group.query(|_| ()).await, Err(QueryError::Stopped));
    drop(group);
    host.close().await;

    let host = Host::open(config(&dir));
    assert_eq!(lines(&host.journal().await).await, Vec::<String>::new());
    host.close().await;
}

#[tokio::test]
async fn a_machine_that_refuses_its_snapshot_can_be_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { snapshot_bytes: 1, ..config(&dir) };
    let host = Host::open(config.clone());
    let group = host.journal().await;
    propose(&group, "a").await;
    drop(group);
    host.close().await;

    let host = Host::open(config);
    let refusing = Journal { refuses: true, ..Journal::default() };
    let refused = host.groups.start(GROUP, refusing).await;
    assert!(matches!(refused, Err(StartError::Restore { .. })));
    assert_eq!(lines(&host.journal().await).await, ["a"]);
    host.close().await;
}

/// Waiting for a machine that is gone would be waiting for ever.
#[tokio::test]
async fn a_machine_that_panics_ends_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(config(&dir));
    let group = host.journal().await;
    let failed = host.groups.failed();
    let fault = group.propose(Bytes::from_static(FAULT.as_bytes())).await;
    assert_eq!(fault, Err(ProposeError::Indeterminate));
    let failed = tokio::time::timeout(PATIENCE, failed).await.expect("it is told");
    assert!(matches!(failed, Failure::Task("apply")), "{failed}");
    let end = async {
        let more = async || group.propose(Bytes::from_static(b"more")).await;
        while more().await != Err(ProposeError::Stopped) {}
    };
    tokio::time::timeout(PATIENCE, end).await.expect("the driver ends with it");
    assert_eq!(group.query(|_| ()).await, Err(QueryError::Stopped));
    host.close().await;
}

/// The group would have no further snapshot, and its log would grow until the disk is full.
#[tokio::test]
async fn a_snapshot_that_panics_ends_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(Config { snapshot_bytes: 1, ..config(&dir) });
    let group = host.journal().await;
    let failed = host.groups.failed();
    propose(&group, LATE_FAULT).await;
    let failed = tokio::time::timeout(PATIENCE, failed).await.expect("it is told");
    assert!(matches!(failed, Failure::Task("snapshot")), "{failed}");
    host.close().await;
}

/// No entry comes afterwards that would be an occasion.
#[tokio::test]
async fn what_a_group_took_while_its_snapshot_was_written_is_snapshotted_too() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(Config { snapshot_bytes: 1, ..config(&dir) });
    let (group, gate) = host.held_up(GROUP).await;
    let failed = host.groups.failed();
    propose(&group, LATE_FAULT).await;
    gate.open();
    let failed = tokio::time::timeout(PATIENCE, failed).await.expect("it is snapshotted");
    assert!(matches!(failed, Failure::Task("snapshot")), "{failed}");
    host.close().await;
}

#[tokio::test]
async fn a_snapshot_that_has_to_wait_for_those_of_others_has_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(Config { snapshot_bytes: 1, ..config(&dir) });
    let (_first, gate) = host.held_up(GroupId(2)).await;
    let (_second, other) = host.held_up(GroupId(3)).await;
    let group = host.journal().await;
    let failed = host.groups.failed();
    propose(&group, LATE_FAULT).await;
    gate.open();
    other.open();
    let failed = tokio::time::timeout(PATIENCE, failed).await.expect("it is snapshotted");
    assert!(matches!(failed, Failure::Task("snapshot")), "{failed}");
    host.close().await;
}

#[tokio::test]
async fn a_second_host_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(config(&dir));
    let second = Host::try_open(config(&dir));
    assert!(matches!(second, Err(OpenError::Wal(_))));
    host.close().await;
}

#[tokio::test]
async fn a_command_over_the_limit_is_refused_with_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(Config { max_command_bytes: 10, ..config(&dir) });
    let group = host.journal().await;
    let refused = group.propose(Bytes::from(vec![b'x'; 11])).await;
    assert_eq!(refused, Err(ProposeError::TooLarge { len: 11, max: 10 }));
    host.close().await;
}

/// Whoever sent one would be told for ever to slow down.
#[tokio::test]
async fn commands_that_the_log_could_never_take_are_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let wal = config(&dir).wal;
    let max_command_bytes = wal.queue_bytes;
    let refused = Host::try_open(Config { max_command_bytes, ..config(&dir) }).err();
    let Some(OpenError::Commands { most, .. }) = refused else { panic!("{refused:?}") };
    let host = Host::open(Config { max_command_bytes: most, ..config(&dir) });
    let group = host.journal().await;
    group.propose(Bytes::from(vec![b'x'; most])).await.expect("the longest is taken");
    host.close().await;
}

#[tokio::test]
async fn whoever_waits_for_news_is_woken() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::open(config(&dir));
    let group = host.journal().await;
    let mut applied = group.applied();
    let before = *applied.borrow_and_update();
    let woken = async {
        let seen = applied.wait_for(|applied| Index(before.0 + 2) <= *applied).await;
        *seen.expect("the group runs")
    };
    let (seen, ()) = tokio::join!(woken, async {
        propose(&group, "a").await;
        propose(&group, "b").await;
    });
    assert_eq!(seen, Index(before.0 + 2));
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_waits_for_the_next_segment_instead_of_being_refused() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut config = Config::new(directory.path().to_owned());
    // Each round takes a good part of a segment, so that segments are made all the time.
    (config.wal.segment_bytes, config.wal.queue_bytes) = (512 << 10, 128 << 10);
    config.max_command_bytes = 16 << 10;
    let host = Host::open(config);
    let group = host.journal().await;
    let writers = (0..32_u8).map(|writer| {
        let group = group.clone();
        async move {
            for _ in 0..40 {
                let command = Bytes::from(vec![b'a' + writer % 26; 3 << 10]);
                group.propose(command).await.expect("there is room in a moment");
            }
        }
    });
    join_all(writers).await;
    host.close().await;
}
