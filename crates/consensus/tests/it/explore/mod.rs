//! Every state that a small cluster can reach, within bounds, over the real core.
//!
//! Messages arrive in any order, late, twice or never; disks finish one write at a time; nodes crash
//! between any two of these. Every transition is checked by the same oracle as the simulation.
//! `QUARTET_SIM_STATES=<n>` raises the limit of states for a long night.

pub(crate) mod state;

use consensus::{Change, NodeId};

use state::{Action, Budget, State};

/// What an exploration found.
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) transitions: u64,
    /// Nothing was left out.
    pub(crate) is_complete: bool,
    pub(crate) violation: Option<String>,
}

/// Only asked whether something is in it, so that its order does not matter.
#[expect(clippy::disallowed_types, reason = "never iterated over")]
type Seen = std::collections::HashSet<u64, std::hash::BuildHasherDefault<state::Quick>>;

/// A state on the way from the first one, and what is still to be tried in it.
struct Level {
    state: State,
    todo: Vec<Action>,
    taken: Option<Action>,
}

/// Depth first: the path is all that has to be kept besides the fingerprints.
pub(crate) fn explore(first: State, max_states: usize) -> Explored {
    let mut seen = Seen::default();
    seen.insert(first.fingerprint());
    let todo = first.actions();
    let mut path = vec![Level { state: first, todo, taken: None }];
    let mut transitions = 0;
    while let Some(level) = path.last_mut() {
        let Some(action) = level.todo.pop() else {
            path.pop();
            continue;
        };
        transitions += 1;
        level.taken = Some(action);
        match level.state.after(action) {
            Err(violation) => {
                let violation = Some(tell(&path, &violation));
                return Explored { states: seen.len(), transitions, is_complete: false, violation };
            }
            Ok(Some(state)) if seen.insert(state.fingerprint()) => {
                if max_states <= seen.len() {
                    let states = seen.len();
                    return Explored { states, transitions, is_complete: false, violation: None };
                }
                let mut todo = state.actions();
                // Another order at every depth, so that a bounded search gets around.
                let shift = path.len() % todo.len().max(1);
                todo.rotate_left(shift);
                path.push(Level { state, todo, taken: None });
            }
            Ok(_) => {}
        }
    }
    Explored { states: seen.len(), transitions, is_complete: true, violation: None }
}

fn tell(path: &[Level], violation: &str) -> String {
    let step = |level: &Level| level.taken.map(|action| level.state.describe(action));
    let steps: Vec<String> = path.iter().filter_map(step).collect();
    format!("{violation}\nafter\n  {}", steps.join("\n  "))
}

/// The clusters that are explored: their names, voters, others, and bounds.
pub(crate) fn clusters() -> Vec<(&'static str, State)> {
    let remove = |node| Change::Remove { node: NodeId(node) };
    let none = Budget::default;
    let everything = Budget {
        timeouts: 3,
        retries: 1,
        proposals: 2,
        crashes: 1,
        repeats: 1,
        compactions: 1,
        transfers: 1,
        reads: 1,
        one_by_one: false,
        changes: vec![remove(3)],
    };
    let alone = Budget { timeouts: 3, proposals: 3, crashes: 3, compactions: 1, ..none() };
    let removal = Budget { timeouts: 1, changes: vec![remove(1)], ..none() };
    let removals = Budget { timeouts: 2, changes: vec![remove(2), remove(3)], ..none() };
    vec![
        ("one voter", State::new(1, 0, alone)),
        (
            "an entry and a crash of two",
            State::new(2, 0, Budget { timeouts: 1, proposals: 1, crashes: 1, ..none() }),
        ),
        ("two terms of two", State::new(2, 0, Budget { timeouts: 2, ..none() })),
        ("an election of three", State::new(3, 0, Budget { timeouts: 1, ..none() })),
        ("an entry of three", State::new(3, 0, Budget { timeouts: 1, proposals: 1, ..none() })),
        ("a removal", State::new(3, 0, removal)),
        ("two terms of three", State::new(3, 0, Budget { timeouts: 2, ..none() })),
        ("a crash in two terms", State::new(3, 0, Budget { timeouts: 2, crashes: 1, ..none() })),
        ("entries of two terms", State::new(3, 0, Budget { timeouts: 2, proposals: 2, ..none() })),
        ("removals in two terms", State::new(3, 0, removals)),
        ("everything", State::new(3, 0, everything)),
    ]
}

#[test]
fn no_state_of_a_small_cluster_breaks_an_invariant() {
    let limit = sim::states(100_000);
    let mut sum = (0, 0);
    for (name, first) in clusters() {
        let found = explore(first, limit);
        let Explored { states, transitions, is_complete, violation } = found;
        let extent = if is_complete { "all" } else { "not all" };
        println!("{name}: {states} states ({extent}), {transitions} transitions");
        assert!(violation.is_none(), "{name}: {}", violation.unwrap_or_default());
        sum = (sum.0 + states, sum.1 + transitions);
    }
    println!("together: {} states, {} transitions", sum.0, sum.1);
}
