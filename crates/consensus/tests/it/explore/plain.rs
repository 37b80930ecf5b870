//! The exploration without any reduction, to compare the reduced one with: every state is held
//! whole, nothing is forgotten, and a state is only left out if it was there before.

use std::collections::BTreeSet;

use super::state::{Action, Network, State};

/// What the nodes are, and what is judged by, in a state that was reached.
pub(super) type Visited = BTreeSet<(Vec<u128>, u128)>;

struct Level {
    state: State,
    todo: Vec<Action>,
}

/// Depth first. `None` if there are more states than that.
pub(super) fn explore(
    first: State,
    network: Network,
    max_states: usize,
) -> Option<Result<Visited, String>> {
    let first = first.over(network);
    let (mut seen, mut visited) = (BTreeSet::from([first.fingerprint()]), Visited::new());
    visited.insert(first.shown());
    let todo = first.actions();
    let mut path = vec![Level { state: first, todo }];
    while let Some(level) = path.last_mut() {
        let Some(action) = level.todo.pop() else {
            path.pop();
            continue;
        };
        let state = match level.state.after(action) {
            Err(violation) => return Some(Err(violation)),
            Ok(None) => continue,
            Ok(Some(state)) => state,
        };
        if !seen.insert(state.fingerprint()) {
            continue;
        }
        if max_states < seen.len() {
            return None;
        }
        visited.insert(state.shown());
        let todo = state.actions();
        path.push(Level { state, todo });
    }
    Some(Ok(visited))
}
