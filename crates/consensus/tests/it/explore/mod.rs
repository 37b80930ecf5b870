//! Every state that a small cluster can reach, within bounds, over the real core.
//!
//! Messages arrive in any order, late, as often as they like or never; disks finish one write at a
//! time; nodes crash between any two of these. Every step is checked by the same oracle as the
//! simulation. `scripts/explore` goes further than a test run; `QUARTET_SIM_STATES=<n>` sets how many
//! states every cluster gets.
//!
//! # What is left out, and why nothing is lost by it
//!
//! A *history* is what the oracle remembers. A state is the nodes, the messages sent so far, the
//! history and what may still happen ([`Budget`](state::Budget)). A *step* changes one node; what it
//! does is decided by that node, the message or action, and the history; only whether a commit is on
//! enough disks, and what a snapshot has in it, is decided by others as well.
//!
//! 1. **A message that was sent stays.** So to lose one, to repeat one and to send one again are no
//!    states of their own. Nothing is lost: whatever happens with messages that arrive once, happens
//!    with messages that may.
//! 2. **What others can do no less than is not looked at.** If two states differ only in that the
//!    second has more messages, or more left of timeouts, crashes and the like, then every step of
//!    the first is one of the second, with the same outcome and the same check, and leads to two
//!    states that differ in the same way. So all violations behind the first are behind the second.
//!    Proposals, reads and changes have to be equal: how many are left gives them their names.
//! 3. **What is said without a change is said at once.** If a message makes a node send others and
//!    changes neither it nor the history, the state after it has more messages and is else the same:
//!    by 2 the state before it need not be looked at. This is a partial order of steps: the step
//!    commutes with all others and takes none of them away.
//! 4. **Messages without a future are dropped, and such that are alike are one**
//!    ([`fate`]). Unlike 1 to 3 this rests on the core, and says on what.
//! 5. **Each step is taken once.** What it does is remembered by node, message and history, and by
//!    the budget where it uses that up. Not for commits and snapshots, which others have a part in.
//! 6. **Nodes are equal until one campaigns,** so the first to campaign is the first node. Where a
//!    cluster removes a member, that says who leads first.
//! 7. **States are named by their parts,** and parts by 128 bits of hash ([`hash`]).
//!
//! The order of looking ([`Order`]) decides nothing in a cluster that is exhausted.
//!
//! `the_reductions_lose_nothing` compares this with [`plain`], which leaves out nothing: the same
//! nodes with the same histories are reached. With planted bugs, both find the same ones
//! (`mutants.rs`).
//!
//! # What bounds it
//!
//! Voters (at most three), timeouts (so terms), proposals and changes (so the log), crashes,
//! compactions, transfers, reads of the leader. A crash keeps none or all of what waits for the disk
//! (some of it: the disk finishes that, then the crash). Not explored: learners, reads of followers,
//! members that are reported silent or unreachable.

mod fate;
mod hash;
mod plain;
mod reduced;
pub(crate) mod state;

use consensus::{Change, NodeId};

use reduced::visit;
pub(crate) use reduced::{Explored, Order, explore};
use state::{Budget, Network, State};

/// What is explored.
pub(crate) struct Cluster {
    pub(crate) name: &'static str,
    pub(crate) first: State,
    pub(crate) order: Order,
}

/// How many states of a cluster a test run looks at.
const STATES: usize = 30_000;

/// Small enough to be exhausted, most of them in every test run.
fn exhaustible() -> Vec<Cluster> {
    let none = Budget::default;
    let timeouts = |timeouts| Budget { timeouts, ..none() };
    let one = || timeouts(1);
    let two = || timeouts(2);
    let alone = Budget { proposals: 3, crashes: 3, compactions: 1, ..timeouts(3) };
    let of = |name, voters, budget| {
        let first = State::new(voters, 0, budget);
        Cluster { name, first, order: Order::Early }
    };
    vec![
        of("one voter", 1, alone),
        of("two terms of two", 2, two()),
        of("a transfer of two", 2, Budget { transfers: 1, ..one() }),
        of("a read of two", 2, Budget { reads: 1, ..two() }),
        of("a snapshot of two", 2, Budget { proposals: 1, compactions: 1, ..one() }),
        of("an entry and a crash of two", 2, Budget { proposals: 1, crashes: 1, ..one() }),
        of("a crash in two terms of two", 2, Budget { crashes: 1, ..two() }),
        of("an election of three", 3, one()),
        of("a crash in an election of three", 3, Budget { crashes: 1, ..one() }),
        of("a removal", 3, Budget { changes: vec![remove(1)], ..one() }),
        of("a read of three", 3, Budget { reads: 1, ..one() }),
        of("two terms of three", 3, two()),
        of("an entry of three", 3, Budget { proposals: 1, ..one() }),
    ]
}

/// Larger ones, of which a part is seen.
fn larger() -> Vec<Cluster> {
    let two = || Budget { timeouts: 2, ..Budget::default() };
    let everything = || Budget {
        timeouts: 3,
        retries: 1,
        proposals: 2,
        reads: 1,
        crashes: 1,
        compactions: 1,
        transfers: 1,
        changes: vec![remove(3)],
        ..Budget::default()
    };
    let of_two = Budget { timeouts: 2, proposals: 1, changes: vec![], ..everything() };
    let of = |name, voters, budget| {
        let first = State::new(voters, 0, budget);
        Cluster { name, first, order: Order::Deep }
    };
    vec![
        of("everything but removals of two", 2, of_two),
        of("a crash in two terms", 3, Budget { crashes: 1, ..two() }),
        of("entries of two terms", 3, Budget { proposals: 2, ..two() }),
        of("removals in two terms", 3, Budget { changes: vec![remove(2), remove(3)], ..two() }),
        of("everything", 3, everything()),
    ]
}

fn remove(node: u64) -> Change {
    Change::Remove { node: NodeId(node) }
}

pub(crate) fn clusters() -> Vec<Cluster> {
    let mut clusters = exhaustible();
    clusters.extend(larger());
    clusters
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how long it took is printed, not judged")]
fn no_state_of_a_small_cluster_breaks_an_invariant() {
    let limit = sim::states(STATES);
    let (mut sum, begin) = ((0, 0), std::time::Instant::now());
    println!("cluster                             states transitions depth  extent   seconds");
    for Cluster { name, first, order } in clusters() {
        let since = std::time::Instant::now();
        let Explored { states, transitions, depth, is_complete, violation } =
            explore(&first, limit, order);
        let extent = if is_complete { "all" } else { "cut off" };
        let seconds = since.elapsed().as_secs_f64();
        println!("{name:<32} {states:>9} {transitions:>11} {depth:>5}  {extent:<8} {seconds:>7.1}");
        assert!(violation.is_none(), "{name}: {}", violation.unwrap_or_default());
        sum = (sum.0 + states, sum.1 + transitions);
    }
    let (states, transitions, seconds) = (sum.0, sum.1, begin.elapsed().as_secs_f64());
    println!("{:<32} {states:>9} {transitions:>11} {:>24.1}", "together", seconds);
}

/// So small that nothing has to be left out.
pub(crate) fn smallest() -> Vec<Cluster> {
    let names = ["two terms of two", "a transfer of two", "a read of two"];
    let is_small = |cluster: &Cluster| names.contains(&cluster.name);
    let mut small: Vec<Cluster> = exhaustible().into_iter().filter(is_small).collect();
    let crash = Budget { timeouts: 1, crashes: 1, ..Budget::default() };
    let snapshot = Budget { timeouts: 1, compactions: 1, ..Budget::default() };
    for (name, budget) in [("a crash of two", crash), ("a short snapshot of two", snapshot)] {
        small.push(Cluster { name, first: State::new(2, 0, budget), order: Order::Early });
    }
    assert_eq!(small.len(), 5, "every name is one of a cluster");
    small
}

/// What the exploration without reductions finds; `None` if it is cut off before.
#[cfg(feature = "mutants")]
pub(crate) fn explore_whole(first: State, max_states: usize) -> Option<Result<(), String>> {
    let found = plain::explore(first, Network::Again, max_states)?;
    Some(found.map(drop))
}

#[test]
fn the_reductions_lose_nothing() {
    for Cluster { name, first, order } in smallest() {
        let reduced = visit(&first, order);
        let whole = plain::explore(first.clone(), Network::Again, usize::MAX).unwrap().unwrap();
        assert_eq!(reduced.len(), whole.len(), "{name}");
        assert!(reduced == whole, "{name}: other nodes or histories");
        let once = plain::explore(first, Network::Once, usize::MAX).unwrap().unwrap();
        assert!(once.is_subset(&whole), "{name}: messages that arrive once lead elsewhere");
        println!("{name}: {} nodes with histories, {} of them once", whole.len(), once.len());
    }
}

/// Too large for [`plain`] with messages that stay.
#[test]
fn messages_that_arrive_once_lead_nowhere_else() {
    let name = "an election of three";
    let cluster = exhaustible().into_iter().find(|cluster| cluster.name == name).unwrap();
    let reduced = visit(&cluster.first, cluster.order);
    let once = plain::explore(cluster.first, Network::Once, usize::MAX).unwrap().unwrap();
    assert!(once.is_subset(&reduced), "{} of {}", once.len(), reduced.len());
}
