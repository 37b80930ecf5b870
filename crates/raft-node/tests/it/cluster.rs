//! Hosts that talk to each other over real connections: snapshots between them, and members that
//! come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use consensus::{GroupId, Index, Membership, NodeId, PeerStatus};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use raft_node::{
    Config, Failure, Group, Joining, MemberError, MemberInfo, MemberRequest, Members, PeerService,
    ProposeError, QueryError, ReadError, join,
};
use telemetry::testing::RecordedSpan;
use telemetry::trace::{InSpan as _, Span};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::journal::{Gate, Journal};
use super::{GROUP, Host, PATIENCE};

const PAUSE: Duration = Duration::from_millis(10);

/// One node of a cluster, on a fixed address.
struct Node {
    host: Host,
    group: Option<Group<Journal>>,
    address: SocketAddr,
    listener: CancellationToken,
    connections: TaskTracker,
}

/// What outlives a node's process.
struct Place {
    dir: TempDir,
    socket: TcpListener,
}

impl Place {
    async fn new() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { dir: tempfile::tempdir().unwrap(), socket }
    }

    fn info(&self) -> MemberInfo {
        let address = self.socket.local_addr().unwrap();
        let peer_url = format!("http://{address}");
        MemberInfo { name: address.to_string(), peer_url, ..MemberInfo::default() }
    }

    fn config(&self) -> Config {
        Config {
            cluster_id: 7,
            heartbeat_ms: 50,
            election_ms: 1000,
            ..Config::new(self.dir.path().to_owned())
        }
    }
}

impl Node {
    async fn open(place: Place, config: Config) -> (Self, TempDir) {
        let host = Host::open(config);
        host.groups.introduce(place.info(), None).await;
        let address = place.socket.local_addr().unwrap();
        let connections = TaskTracker::new();
        let listener = serve(place.socket, host.groups.peer_service(), connections.clone());
        (Self { host, group: None, address, listener, connections }, place.dir)
    }

    async fn start(&mut self, machine: Journal, founders: Membership) {
        let group = self.host.groups.start_with(GROUP, machine, founders.into()).await.unwrap();
        self.group = Some(group);
    }

    fn node(&self) -> NodeId {
        self.host.groups.node()
    }

    fn members(&self) -> Members {
        self.host.groups.members(GROUP)
    }

    async fn write(&self, text: &str) {
        let group = self.group.as_ref().unwrap();
        // On a busy machine a node may be late for longer than the others wait for it.
        until("it is written", async || {
            match group.propose(Bytes::copy_from_slice(text.as_bytes())).await {
                Ok(_) => true,
                Err(ProposeError::Indeterminate) => {
                    self.lines().await.iter().any(|line| line == text)
                }
                Err(ProposeError::NotLeader { .. } | ProposeError::Overloaded) => false,
                Err(error) => panic!("{error}"),
            }
        })
        .await;
    }

    async fn lines(&self) -> Vec<String> {
        let group = self.group.as_ref().unwrap();
        let mut lines = Err(QueryError::Stopped);
        until("it is read", async || {
            lines = group.query(|journal| journal.lines.clone()).await;
            !matches!(lines, Err(QueryError::NotLeader { .. }))
        })
        .await;
        lines.unwrap()
    }

    async fn stop(self) -> SocketAddr {
        let Self { host, group, address, listener, connections } = self;
        listener.cancel();
        connections.close();
        connections.wait().await;
        drop(group);
        host.close().await;
        address
    }
}

pub(crate) fn serve(
    socket: TcpListener,
    service: PeerService,
    tasks: TaskTracker,
) -> CancellationToken {
    let stop = CancellationToken::new();
    let (ended, connections) = (stop.clone(), tasks.clone());
    tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
        loop {
            let Ok((stream, _)) = socket.accept().await else { return };
            let service = service.clone();
            let answer = service_fn(move |request| {
                let service = service.clone();
                async move { Ok::<_, Infallible>(service.handle(request).await) }
            });
            let mut server = http1::Builder::new();
            let served =
                server.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer);
            connections.spawn(ended.clone().run_until_cancelled_owned(served));
        }
    }));
    stop
}

/// Three founders, each started with its settings.
async fn trio(configure: impl Fn(Config) -> Config) -> (Vec<Node>, Vec<TempDir>) {
    let (mut nodes, mut dirs, mut founders) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let place = Place::new().await;
        let (info, config) = (place.info(), configure(place.config()));
        let (node, dir) = Node::open(place, config).await;
        founders.push((node.node(), info.encode()));
        nodes.push(node);
        dirs.push(dir);
    }
    for node in &mut nodes {
        node.start(Journal::default(), Membership::of(founders.clone())).await;
    }
    (nodes, dirs)
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !holds().await {
            tokio::time::sleep(PAUSE).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, poll).await.is_ok(), "never came true: {what}");
}

/// Who has answered one founder may be somebody else when the next one asks.
#[tokio::test(flavor = "multi_thread")]
async fn founders_agree_also_when_one_of_them_loses_its_disk_between_two_meetings() {
    let (mut nodes, mut dirs, mut infos) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let place = Place::new().await;
        infos.push(place.info());
        let config = place.config();
        let (node, dir) = Node::open(place, config).await;
        nodes.push(node);
        dirs.push(dir);
    }
    let founders: BTreeMap<String, String> =
        infos.iter().map(|info| (info.name.clone(), info.peer_url.clone())).collect();
    let [first, second] = [0, 1].map(|at: usize| nodes[at].host.groups.clone());
    let early = first.meet_founders(GROUP, (&infos[0], None), &founders);
    tokio::pin!(early);
    // Time enough to meet those that are there.
    let met = tokio::time::timeout(Duration::from_millis(500), &mut early).await;
    assert!(met.is_err(), "the others have not met anybody yet");

    let address = nodes.pop().unwrap().stop().await;
    dirs.pop();
    let dir = tempfile::tempdir().unwrap();
    let place = Place { dir, socket: TcpListener::bind(address).await.unwrap() };
    let config = place.config();
    let (node, dir) = Node::open(place, config).await;
    nodes.push(node);
    dirs.push(dir);
    let third = nodes[2].host.groups.clone();
    let all = async {
        tokio::join!(
            early,
            second.meet_founders(GROUP, (&infos[1], None), &founders),
            third.meet_founders(GROUP, (&infos[2], None), &founders),
        )
    };
    let (one, two, three) = tokio::time::timeout(PATIENCE, all).await.expect("they agree");
    let membership = one.unwrap();
    assert_eq!(two.unwrap(), membership);
    assert_eq!(three.unwrap(), membership);
    let ids: BTreeSet<NodeId> = nodes.iter().map(Node::node).collect();
    assert_eq!(membership.voters.iter().copied().collect::<BTreeSet<_>>(), ids);
}

/// Two nodes that have gone on without the third, far enough for their logs to begin behind what it
/// has, and the place where it comes back.
async fn left_behind() -> (Vec<Node>, Vec<TempDir>, Place) {
    let short = |config| Config { snapshot_entries: 20, ..config };
    let (mut nodes, mut dirs) = trio(short).await;
    for n in 0..10 {
        nodes[0].write(&format!("early {n}")).await;
    }
    let (late, dir) = (nodes.pop().unwrap(), dirs.pop().unwrap());
    let expected = nodes[0].lines().await;
    until("the third has them", async || late.lines().await == expected).await;
    let address = late.stop().await;
    for n in 0..100 {
        nodes[0].write(&format!("later {n}")).await;
    }
    (nodes, dirs, Place { dir, socket: TcpListener::bind(address).await.unwrap() })
}

/// The third, which was stopped, has what the others have when it comes back.
async fn comes_back(address: SocketAddr, dir: TempDir, config: Config, nodes: Vec<Node>) {
    let place = Place { dir, socket: TcpListener::bind(address).await.unwrap() };
    let (mut late, _dir) = Node::open(place, config).await;
    late.start(Journal::default(), Membership::default()).await;
    assert_eq!(late.lines().await, nodes[0].lines().await);
    late.stop().await;
    for node in nodes {
        node.stop().await;
    }
}

/// A snapshot of its own that is still being written when a newer one of the leader is installed
/// must not cut the log, which does not reach that far yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_a_fetched_one_overtakes_cuts_nothing() {
    let (nodes, _dirs, place) = left_behind().await;
    // It replays what it has, and begins a snapshot that does not end.
    let config = Config { snapshot_entries: 1, ..place.config() };
    let gate = Gate::closed();
    let machine = Journal { gate: Some(gate.clone()), ..Journal::default() };
    let (mut late, dir) = Node::open(place, config.clone()).await;
    late.start(machine, Membership::default()).await;
    until("its own snapshot is begun", async || gate.is_waited_for()).await;
    let group = late.group.clone().unwrap();
    until("the leader's is installed", async || {
        group.local(|journal| 0 < journal.restored).await.unwrap()
    })
    .await;
    drop(group);
    gate.open();
    nodes[0].write("last").await;
    let expected = nodes[0].lines().await;
    until("it goes on behind it", async || late.lines().await == expected).await;

    comes_back(late.stop().await, dir, config, nodes).await;
}

/// While the disk of a member takes no snapshot, the leader offers a newer one: that one counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetched_snapshot_that_a_newer_one_overtakes_holds_nobody_up() {
    let (nodes, _dirs, place) = left_behind().await;
    let config = place.config();
    let (mut late, dir) = Node::open(place, config.clone()).await;
    // Where the file would be written there is something else.
    let in_the_way = dir.path().join(format!("snapshots/{:016x}.snapshot-new", GROUP.0));
    std::fs::create_dir(&in_the_way).unwrap();
    late.start(Journal::default(), Membership::default()).await;
    let group = late.group.clone().unwrap();
    let restored = async || group.local(|journal| journal.restored).await.unwrap();
    until("a snapshot is installed", async || 0 < restored().await).await;
    let first = restored().await;
    for n in 0..100 {
        nodes[0].write(&format!("last {n}")).await;
    }
    until("a newer one is installed", async || first < restored().await).await;
    std::fs::remove_dir(&in_the_way).unwrap();
    let expected = nodes[0].lines().await;
    until("it goes on behind it", async || late.lines().await == expected).await;
    drop(group);

    comes_back(late.stop().await, dir, config, nodes).await;
}

/// Whoever cannot take a snapshot over takes part no more, and keeps what it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_machine_refuses_a_snapshot_ends_and_loses_nothing() {
    let (nodes, _dirs, place) = left_behind().await;
    // Meanwhile it writes a snapshot of its own.
    let config = Config { snapshot_entries: 1, ..place.config() };
    let gate = Gate::closed();
    let machine = Journal { gate: Some(gate.clone()), refuses: true, ..Journal::default() };
    let (mut late, dir) = Node::open(place, config.clone()).await;
    late.start(machine, Membership::default()).await;
    let group = late.group.clone().unwrap();
    let ended = tokio::time::timeout(PATIENCE, group.ended()).await.expect("it says so");
    assert!(matches!(ended, Failure::Group(GROUP)), "{ended}");
    assert_eq!(group.local(|_| ()).await, Err(QueryError::Stopped));
    assert!(!group.leadership().borrow().is_here);
    drop(group);
    gate.open();
    let file = dir.path().join(format!("snapshots/{:016x}.snapshot", GROUP.0));
    until("its own snapshot is written", async || file.exists()).await;
    // By then the end of the writing is noticed, too.
    late.host.groups.start(GroupId(2), Journal::default()).await.unwrap();
    nodes[0].write("last").await;

    let address = late.stop().await;
    assert!(file.exists(), "the group was not removed");
    comes_back(address, dir, config, nodes).await;
}

/// A leader whose disk gives back other bytes than it got must not be followed for as long as its
/// node lives.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_log_is_damaged_makes_way() {
    let small = storage::Config { cache_bytes: 4 << 10, ..storage::Config::default() };
    let (nodes, dirs) = trio(|config| Config { wal: small.clone(), ..config }).await;
    nodes[0].write("needle").await;
    nodes[0].write(&"x".repeat(64 << 10)).await;
    let leads = |node: &Node| node.group.as_ref().unwrap().leadership().borrow().is_here;
    until("somebody leads", async || nodes.iter().any(leads)).await;
    let position = nodes.iter().position(leads).unwrap();
    let (leader, other) = (&nodes[position], &nodes[(position + 1) % 3]);
    damage(&dirs[position].path().join("wal"), b"needle");
    let group = leader.group.as_ref().unwrap();
    let ended = group.ended();
    let read = group.read(Index(1), 1 << 20).await;
    assert!(matches!(read, Err(ReadError::Corrupt { .. })), "{read:?}");
    // It notices with its next write, and then somebody else takes it.
    until("somebody else takes it", async || {
        let after = Bytes::from_static(b"after");
        other.group.as_ref().unwrap().propose(after).await.is_ok()
    })
    .await;
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("it says so");
    assert!(matches!(ended, Failure::Group(GROUP)), "{ended}");
    assert!(!leads(leader));
    assert_eq!(other.lines().await.last().map(String::as_str), Some("after"));
    for node in nodes {
        node.stop().await;
    }
}

/// Changes a byte of the log, wherever it holds these.
fn damage(dir: &Path, needle: &[u8]) {
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let places: Vec<usize> =
            (0..bytes.len()).filter(|at| bytes[*at..].starts_with(needle)).collect();
        if !places.is_empty() {
            places.iter().for_each(|at| bytes[*at] ^= 1);
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

/// What a follower takes by its own settings may be more than the leader takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_refuses_what_is_passed_on_to_it_by_its_own_limit() {
    let limits = std::sync::atomic::AtomicUsize::new(100);
    let next = || limits.fetch_add(100, std::sync::atomic::Ordering::Relaxed);
    let (nodes, _dirs) = trio(|config| Config { max_command_bytes: next(), ..config }).await;
    // The first has the lowest limit, and is to lead.
    nodes[0].write("first").await;
    let [low, high] = [0, 2].map(|at: usize| &nodes[at]);
    let to = low.node();
    let transfer = MemberRequest::Transfer { to };
    let leads = || low.group.as_ref().unwrap().leadership().borrow().is_here;
    until("the first leads", async || {
        leads() || high.members().ask(&transfer).await.is_ok() && leads()
    })
    .await;
    let long = Bytes::from(vec![b'x'; 150]);
    let refused = high.group.as_ref().unwrap().propose(long).await;
    assert_eq!(refused.map(|_| ()), Err(ProposeError::TooLarge { len: 150, max: 100 }));
    for node in nodes {
        node.stop().await;
    }
}

/// All of a member's life: a place is made, claimed by one life only, becomes a voter, leads, and
/// is removed by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_belongs_to_whoever_claims_it_first() {
    let (nodes, _dirs) = trio(|config| config).await;
    nodes[0].write("first").await;
    let place = Place::new().await;
    let tasks = TaskTracker::new();
    let joining = Joining {
        data_dir: place.dir.path().to_owned(),
        cluster_id: 7,
        group: GROUP,
        own: place.info(),
        peers: BTreeSet::from([format!("http://{}", nodes[1].address)]),
    };
    let node = Members::draw();
    let info = place.info();
    let (name, peer_urls) = (info.name.clone(), vec![info.peer_url.clone()]);
    let wish = MemberRequest::Add { node, name, peer_urls, votes: false };
    // Any member takes it, and as often as it comes.
    for asked in &nodes {
        asked.members().ask(&wish).await.unwrap();
    }
    let promote = MemberRequest::Promote { node };
    let behind = nodes[1].members().ask(&promote).await.unwrap_err();
    assert!(matches!(behind, MemberError::Behind { reachable: false, .. }), "{behind}");

    join(&joining, &tasks, |reason| panic!("nothing to wait for: {reason}")).await.unwrap();
    // Repeated, it is there already; another life at the same address is not it.
    join(&joining, &tasks, |_| ()).await.unwrap();
    let other = tempfile::tempdir().unwrap();
    let wiped = Joining { data_dir: other.path().to_owned(), ..joining.clone() };
    let refused = join(&wiped, &tasks, |_| ()).await.unwrap_err();
    assert!(refused.to_string().contains("was started with other data"), "{refused}");

    let config = place.config();
    let (mut new, _dir) = Node::open(place, config).await;
    assert_eq!((new.node(), new.host.groups.was_added()), (node, true));
    new.start(Journal::default(), Membership::default()).await;
    until("it has all", async || new.lines().await == ["first"]).await;
    new.members().ask(&promote).await.unwrap();
    let again = nodes[2].members().ask(&promote).await;
    assert_eq!(again, Err(MemberError::NotLearner { node }));

    nodes[0].members().ask(&MemberRequest::Transfer { to: node }).await.unwrap();
    new.write("second").await;
    let keeper = new.members().keep(info, BTreeSet::new());
    let remove = MemberRequest::Remove { node, force: false };
    let left = new.members().ask(&remove).await.unwrap();
    assert_eq!(left.list.members.len(), 3);
    let removed = tokio::time::timeout(PATIENCE, keeper).await.expect("it notices");
    assert_eq!(removed.node, node);
    nodes[1].write("third").await;
    assert_eq!(nodes[2].lines().await, ["first", "second", "third"]);
    new.stop().await;
    for node in nodes {
        node.stop().await;
    }
}

/// A founder has its place and needs no other, whatever its settings say by now.
#[tokio::test(flavor = "multi_thread")]
async fn a_founder_that_is_told_to_join_what_it_has_founded_goes_on_with_its_data() {
    let (mut nodes, mut dirs) = trio(|config| config).await;
    nodes[0].write("first").await;
    let (founder, dir) = (nodes.pop().unwrap(), dirs.pop().unwrap());
    let node = founder.node();
    let address = founder.stop().await;

    let place = Place { dir, socket: TcpListener::bind(address).await.unwrap() };
    let joining = Joining {
        data_dir: place.dir.path().to_owned(),
        cluster_id: 7,
        group: GROUP,
        own: place.info(),
        peers: BTreeSet::from([format!("http://{}", nodes[0].address)]),
    };
    let waits = |reason: &str| panic!("nothing to wait for: {reason}");
    join(&joining, &TaskTracker::new(), waits).await.unwrap();
    let config = place.config();
    let (mut founder, _dir) = Node::open(place, config).await;
    assert_eq!((founder.node(), founder.host.groups.was_added()), (node, false));
    founder.start(Journal::default(), Membership::default()).await;
    assert_eq!(founder.lines().await, ["first"]);
    founder.stop().await;
    for node in nodes {
        node.stop().await;
    }
}

/// A follower that was away while it was removed cannot know: it asks.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_removed_while_away_is_told() {
    let (mut nodes, mut dirs) = trio(|config| config).await;
    nodes[0].write("first").await;
    let (away, dir) = (nodes.pop().unwrap(), dirs.pop().unwrap());
    let node = away.node();
    let address = away.stop().await;
    let remove = MemberRequest::Remove { node, force: false };
    until("the removal is taken", async || nodes[0].members().ask(&remove).await.is_ok()).await;

    let place = Place { dir, socket: TcpListener::bind(address).await.unwrap() };
    let (info, config) = (place.info(), place.config());
    let (mut back, _dir) = Node::open(place, config).await;
    back.start(Journal::default(), Membership::default()).await;
    let keeper = back.members().keep(info, BTreeSet::new());
    let removed = tokio::time::timeout(PATIENCE, keeper).await.expect("it notices");
    assert_eq!(removed.node, node);
    nodes[0].write("second").await;
    back.stop().await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_away_the_majority_by_mistake() {
    let (mut nodes, _dirs) = trio(|config| config).await;
    nodes[0].write("first").await;
    let dead = nodes.pop().unwrap();
    let gone = dead.node();
    dead.stop().await;
    let alive = nodes[1].node();
    let remove = |node, force| MemberRequest::Remove { node, force };
    // Not by asking for the removal: while all seem to be there, it is carried out.
    until("its leader knows it to be dead", async || {
        let mut known = Vec::new();
        for node in &nodes {
            known.push(node.group.as_ref().unwrap().status().await.unwrap());
        }
        let is_gone = |peer: &PeerStatus| peer.node == gone && !peer.reachable;
        known.iter().any(|status| status.peers.iter().any(is_gone))
    })
    .await;
    let refused = nodes[0].members().ask(&remove(alive, false)).await;
    assert_eq!(refused, Err(MemberError::Unhealthy { healthy: 1, voters: 2, needed: 2 }));
    let list = nodes[0].members().ask(&remove(gone, false)).await.unwrap().list;
    assert_eq!(list.members.len(), 2);
    let list = nodes[0].members().ask(&remove(alive, false)).await.unwrap().list;
    assert_eq!(list.members.len(), 1);
    let last = list.members[0].node;
    let refused = nodes[0].members().ask(&remove(last, true)).await;
    assert_eq!(refused, Err(MemberError::LastVoter { node: last }));
    assert_eq!(nodes[0].lines().await, ["first"]);
    for node in nodes {
        node.stop().await;
    }
}

/// Whoever passes a command on, every member shows when it had it on disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_traced_command_has_a_span_for_each_disk() {
    let recorder = telemetry::testing::record();
    let (nodes, _dirs) = trio(|config| config).await;
    for node in &nodes {
        node.write("before").await;
        let span = Span::internal("caller").start();
        let trace_id = span.context().trace_id;
        node.write("traced").in_span(&span).await;
        until("three disks are in the trace", async || {
            let spans = recorder.trace(trace_id);
            let append = spans.iter().find(|span| span.name == "append");
            let parent = append.map(|span| span.context.span_id);
            let persisted = |span: &&RecordedSpan| span.name == "persist" && span.parent == parent;
            parent.is_some() && spans.iter().filter(persisted).count() == 3
        })
        .await;
    }
}
