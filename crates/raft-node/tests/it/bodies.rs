//! Members that come late, lag, leave and come back read every entry that their machine still reads.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use consensus::{Change, ChangeRefused, GroupId, Index, NodeId};
use raft_node::{
    Beginning, Config, Encode, Entry, Group, Groups, ProposeError, RestoreError, StateMachine,
};

use super::cluster::until;
use super::stand::{Running, Stand, book};

const GROUP: GroupId = GroupId(9);

/// Keeps the places of commands whose payloads stay in the log, until they are taken.
#[derive(Default)]
pub(crate) struct Shelf {
    places: BTreeSet<Index>,
    /// It came from another member's snapshot, or from its own.
    is_restored: bool,
}

impl StateMachine for Shelf {
    /// Whether there was something to take.
    type Reply = bool;

    fn apply(&mut self, entry: &Entry) -> bool {
        match entry.payload.strip_prefix(b"take ") {
            Some(place) => {
                self.places.remove(&Index(String::from_utf8_lossy(place).parse().unwrap()))
            }
            None => self.places.insert(entry.index),
        }
    }

    fn snapshot(&self) -> Encode {
        let places: Vec<u64> = self.places.iter().map(|place| place.0).collect();
        Box::new(move |file| places.iter().try_for_each(|place| writeln!(file, "{place}")))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let text = String::from_utf8_lossy(snapshot);
        self.places = text.lines().map(|line| Index(line.parse().unwrap())).collect();
        self.is_restored = true;
        Ok(())
    }

    fn retained(&self) -> Vec<RangeInclusive<Index>> {
        self.places.iter().map(|place| *place..=*place).collect()
    }
}

/// What was put and not taken.
#[derive(Default)]
struct Expected(BTreeMap<Index, Bytes>);

impl Expected {
    async fn put(&mut self, group: &Group<Shelf>, bytes: usize) {
        let mut body = format!("body {} ", self.0.len()).into_bytes();
        body.resize(body.len() + bytes, b'.');
        let body = Bytes::from(body);
        let applied = settled(group, body.clone()).await;
        self.0.insert(applied, body);
    }

    async fn take(&mut self, group: &Group<Shelf>, place: Index) {
        settled(group, format!("take {place}").into()).await;
        self.0.remove(&place);
    }

    /// Every second of the first ones is taken.
    async fn thin_out(&mut self, group: &Group<Shelf>, count: usize) {
        let places: Vec<Index> = self.0.keys().copied().step_by(2).take(count).collect();
        for place in places {
            self.take(group, place).await;
        }
    }

    /// Everything can be read on this member.
    async fn check(&self, group: &Group<Shelf>) {
        let mut places = Vec::new();
        until("it is read", async || {
            let read = group.query(|shelf| shelf.places.iter().copied().collect::<Vec<_>>()).await;
            read.map(|read| places = read).is_ok()
        })
        .await;
        let expected: Vec<Index> = self.0.keys().copied().collect();
        assert_eq!(places, expected);
        assert_eq!(group.missing().await.unwrap(), []);
        let read = group.read_at(&places).await.unwrap();
        let read: BTreeMap<Index, Bytes> =
            read.into_iter().map(|entry| (entry.index, entry.payload)).collect();
        let lost: Vec<&Index> = self.0.keys().filter(|place| !read.contains_key(place)).collect();
        assert!(lost.is_empty(), "bodies are gone: {lost:?}");
        assert!(read == self.0, "bodies are others than were put");
    }
}

async fn settled(group: &Group<Shelf>, command: Bytes) -> Index {
    let mut index = Index::ZERO;
    until("it is written", async || match group.propose(command.clone()).await {
        Ok(applied) => {
            index = applied.index;
            true
        }
        Err(ProposeError::NotLeader { .. } | ProposeError::Overloaded) => false,
        Err(error) => panic!("{error}"),
    })
    .await;
    index
}

fn short(config: Config) -> Config {
    Config { snapshot_entries: 20, ..config }
}

/// So slow that it is killed before it is done.
fn slow(config: Config) -> Config {
    Config { fill_bytes_per_second: 1 << 20, ..short(config) }
}

struct Cluster {
    stands: Vec<Stand>,
    running: Vec<Option<Running>>,
}

impl Cluster {
    /// Three founders of the group, and some who wait to be made members.
    async fn of(others: usize) -> (Self, Vec<Group<Shelf>>) {
        let (mut stands, mut running) = (Vec::new(), Vec::new());
        for _ in 0..3 + others {
            let (stand, node) = Stand::new(short).await;
            stands.push(stand);
            running.push(Some(node));
        }
        let cluster = Self { stands, running };
        let of: Vec<NodeId> = cluster.stands[..3].iter().map(|stand| stand.node).collect();
        let mut groups = Vec::new();
        for at in 0..cluster.stands.len() {
            cluster.groups(at).know(book(&cluster.stands)).await;
            let founders = Beginning::Founders { of: of.clone(), first: of[0] };
            let beginning = if at < 3 { founders } else { Beginning::Member };
            groups.push(cluster.start(at, beginning).await);
        }
        (cluster, groups)
    }

    fn groups(&self, at: usize) -> &Groups {
        self.running[at].as_ref().expect("it runs").groups()
    }

    async fn start(&self, at: usize, beginning: Beginning) -> Group<Shelf> {
        self.groups(at).start_with(GROUP, Shelf::default(), beginning).await.unwrap()
    }

    async fn stop(&mut self, at: usize) {
        self.running[at].take().expect("it runs").stop().await;
    }

    /// Starts again what was there.
    async fn open(&mut self, at: usize, configure: impl Fn(Config) -> Config) -> Group<Shelf> {
        self.running[at] = Some(self.stands[at].open(configure).await);
        self.groups(at).know(book(&self.stands)).await;
        self.start(at, Beginning::Member).await
    }

    async fn end(self) {
        for running in self.running.into_iter().flatten() {
            running.stop().await;
        }
    }
}

/// The leader among them.
async fn leader(groups: &[Group<Shelf>]) -> Group<Shelf> {
    let mut found = None;
    until("somebody leads", async || {
        for group in groups {
            if group.leading().await.is_some() {
                found = Some(group.clone());
            }
        }
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// Makes changes of the membership, and waits until they are through.
async fn change(groups: &[Group<Shelf>], changes: Vec<Change>) {
    until("the members change", async || {
        let leader = leader(groups).await;
        let Some(term) = leader.leading().await else { return false };
        match leader.change(term, changes.clone()).await.unwrap() {
            Ok(_) => true,
            // Repeated when it has caught up, or somebody else leads.
            Err(
                ChangeRefused::Behind { .. }
                | ChangeRefused::NotReady
                | ChangeRefused::NotLeader { .. },
            ) => false,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
    until("the change is through", async || {
        let status = leader(groups).await.status().await.unwrap();
        status.membership_index <= status.commit && !status.membership.is_joint()
    })
    .await;
}

/// Until the logs begin behind what the third has, so that only a snapshot helps it.
async fn until_cut(groups: &[Group<Shelf>], behind: Index) {
    until("the logs are cut", async || {
        let mut bases = Vec::new();
        for group in groups {
            bases.push(group.status().await.unwrap().base);
        }
        bases.iter().all(|base| behind < *base)
    })
    .await;
}

/// Three members of which the third has stopped while the others went on.
async fn left_behind(bodies: usize, bytes: usize) -> (Cluster, Vec<Group<Shelf>>, Expected) {
    let (mut cluster, mut groups) = Cluster::of(0).await;
    let mut expected = Expected::default();
    for _ in 0..30 {
        expected.put(&groups[0], 100).await;
    }
    let third = groups.pop().unwrap();
    let last = *expected.0.keys().last().unwrap();
    until("the third has them", async || last <= *third.applied().borrow()).await;
    drop(third);
    cluster.stop(2).await;
    for _ in 0..bodies {
        expected.put(&groups[0], bytes).await;
    }
    expected.thin_out(&groups[0], 40).await;
    for _ in 0..50 {
        expected.put(&groups[0], 10).await;
    }
    until_cut(&groups, last).await;
    (cluster, groups, expected)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lags_reads_every_body_that_is_kept() {
    lagging().await;
}

pub(crate) async fn lagging() {
    let (mut cluster, groups, expected) = left_behind(80, 300).await;
    let third = cluster.open(2, short).await;
    expected.check(&third).await;
    assert!(third.local(|shelf| shelf.is_restored).await.unwrap());
    // It can take over: the others are gone one after the other.
    drop(groups);
    cluster.stop(0).await;
    expected.check(&third).await;
    cluster.end().await;
}

/// What only the leader of a term may say is said by nobody else, and in no other term.
#[tokio::test(flavor = "multi_thread")]
async fn commands_of_a_term_are_placed_in_it_or_not_at_all() {
    let (cluster, groups) = Cluster::of(0).await;
    let old = leader(&groups).await;
    let term = old.leading().await.expect("it leads");
    let command = Bytes::from_static(b"body");
    old.propose_leading(term, command.clone(), false).await.unwrap();
    for other in groups.iter().filter(|group| !group.leadership().borrow().is_here) {
        assert_eq!(other.leading().await, None);
        let refused = other.propose_leading(term, command.clone(), false).await;
        assert!(matches!(refused, Err(ProposeError::NotLeader { .. })), "{refused:?}");
    }
    let at = groups.iter().position(|group| group.leadership().borrow().is_here).unwrap();
    cluster.groups(at).resign_all().await;
    until("another one leads", async || !groups[at].leadership().borrow().is_here).await;
    let new = leader(&groups).await;
    let refused = old.propose_leading(term, command.clone(), true).await;
    assert!(matches!(refused, Err(ProposeError::NotLeader { .. })), "{refused:?}");
    let next = new.leading().await.expect("it leads");
    assert!(term < next);
    let refused = new.propose_leading(term, command.clone(), false).await;
    assert!(matches!(refused, Err(ProposeError::NotLeader { .. })), "{refused:?}");
    new.propose_leading(next, command, false).await.unwrap();
    let kept = new.query(|shelf| shelf.places.len()).await.unwrap();
    assert_eq!(kept, 2, "nothing that was refused is there");
    cluster.end().await;
}

/// Whoever decided on it saw the group in another term: others have written since.
#[tokio::test(flavor = "multi_thread")]
async fn members_change_in_the_term_that_was_looked_at_or_not_at_all() {
    let (cluster, groups) = Cluster::of(1).await;
    let first = leader(&groups[..3]).await;
    let term = first.leading().await.expect("it leads");
    let add = || vec![Change::AddLearner { node: cluster.stands[3].node, info: Bytes::new() }];
    first.resign().await;
    until("another term is led", async || {
        first.status().await.is_ok_and(|status| status.term > term && status.leader.is_some())
    })
    .await;
    // Every member, as one of them is the successor.
    for group in &groups[..3] {
        let refused = group.change(term, add()).await.unwrap();
        assert!(matches!(refused, Err(ChangeRefused::NotLeader { .. })), "{refused:?}");
    }
    let status = leader(&groups[..3]).await.status().await.unwrap();
    assert!(status.membership.learners.is_empty());
    change(&groups[..3], add()).await;
    let status = leader(&groups[..3]).await.status().await.unwrap();
    assert!(status.membership.learners.contains(&cluster.stands[3].node));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_added_or_come_back_read_every_body_that_is_kept() {
    let (cluster, groups) = Cluster::of(1).await;
    let mut expected = Expected::default();
    for _ in 0..60 {
        expected.put(&groups[0], 300).await;
    }
    expected.thin_out(&groups[0], 20).await;
    until_cut(&groups[..3], Index(40)).await;
    let ids: Vec<NodeId> = cluster.stands.iter().map(|stand| stand.node).collect();
    let add = |node| Change::AddLearner { node, info: Bytes::new() };

    change(&groups[..3], vec![add(ids[3])]).await;
    change(&groups[..3], vec![Change::Promote { node: ids[3] }, Change::Remove { node: ids[2] }])
        .await;
    expected.check(&groups[3]).await;
    let members = [groups[0].clone(), groups[1].clone(), groups[3].clone()];

    // The third leaves, and comes back with nothing.
    cluster.groups(2).leave(GROUP).await.unwrap();
    cluster.groups(2).leave(GROUP).await.unwrap();
    let kept = cluster.groups(2).wal().group(GROUP).unwrap();
    assert!(kept.hard_state.forgotten.1 > Index(40) && kept.last == Index::ZERO, "{kept:?}");
    for _ in 0..60 {
        expected.put(&members[0], 100).await;
    }
    let founders = Beginning::Founders { of: ids[..3].to_vec(), first: ids[2] };
    let third = cluster.start(2, founders).await;
    change(&members, vec![add(ids[2])]).await;
    change(&members, vec![Change::Promote { node: ids[2] }]).await;
    expected.check(&third).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_killed_while_it_is_filled_goes_on_where_it_was() {
    killed().await;
}

pub(crate) async fn killed() {
    let (mut cluster, groups, expected) = left_behind(80, 64 << 10).await;
    let newest = *expected.0.keys().last().unwrap();
    let (mut had, mut interrupted) = (0, 0);
    for life in 0..6 {
        let third = cluster.open(2, slow).await;
        let groups = cluster.groups(2).clone();
        let mut held = 0;
        until("some more is filled in", async || {
            let state = groups.wal().group(GROUP).unwrap();
            held = state.retained.iter().map(|range| range.end().0 - range.start().0 + 1).sum();
            had < held && state.filling || newest <= *third.applied().borrow()
        })
        .await;
        let filling = groups.wal().group(GROUP).unwrap().filling;
        if filling {
            interrupted += 1;
            // Nobody looks at a machine without its bodies, nor counts on it.
            assert!(*third.applied().borrow() < newest, "life {life}");
            let read = third.query(|shelf| shelf.places.len());
            let read = tokio::time::timeout(Duration::from_millis(100), read).await;
            let still = groups.wal().group(GROUP).unwrap().filling;
            assert!(!still || !matches!(read, Ok(Ok(_))), "life {life}");
        }
        had = held;
        drop((third, groups));
        cluster.stop(2).await;
    }
    assert!(2 < interrupted, "it was whole too soon: {interrupted}");
    let third = cluster.open(2, short).await;
    expected.check(&third).await;
    drop(groups);
    cluster.end().await;
}
