//! When nothing fails any more, everything has to work again, within a bound.

use consensus::{Change, NodeId};
use sim::network::Faults;

use super::world::{Check, ELECTION_MS, Event, World};

/// How many election timeouts each part of the healing may take.
const PATIENCE: u64 = 40;

impl World {
    /// Mends everything and demands that the group comes back.
    pub(crate) fn heal(&mut self) -> Check {
        self.is_calm = true;
        self.network.heal();
        self.network.set_faults(Faults { max_delay: 5, ..Faults::default() });
        // Clients go on, slowly.
        self.plan.client_gap_ms = 50;
        for node in 0..self.nodes.len() {
            self.network.disconnect(node);
            self.nodes[node].paused_until = 0;
            self.events.add(self.now, Event::Start { node });
        }
        self.wait("a leader that commits", |world| {
            let leader = world.leader()?;
            let raft = world.raft(leader)?;
            let term = raft.hard_state().term;
            (raft.term_at(raft.hard_state().commit) == Some(term)).then_some(())
        })?;
        self.replace_the_lost()?;
        self.converge()?;
        self.read_everywhere()
    }

    fn wait<T>(&mut self, what: &str, done: impl Fn(&Self) -> Option<T>) -> Result<T, String> {
        self.wait_longer(0, what, done)
    }

    fn wait_longer<T>(
        &mut self,
        ms: u64,
        what: &str,
        done: impl Fn(&Self) -> Option<T>,
    ) -> Result<T, String> {
        let end = self.now + PATIENCE * ELECTION_MS + ms;
        while self.now < end {
            if let Some(result) = done(self) {
                return Ok(result);
            }
            self.run_until(self.now + ELECTION_MS / 4)?;
        }
        Err(format!(
            "after {PATIENCE} calm election timeouts there is not {what}: {}",
            self.picture()
        ))
    }

    /// Members whose disk is gone leave.
    fn replace_the_lost(&mut self) -> Check {
        let end = self.now + PATIENCE * ELECTION_MS;
        loop {
            // A leader that was removed may just have ended.
            let leader = self.wait("a leader", Self::leader)?;
            let membership = self.nodes[leader].store.membership.clone();
            let lost = |node: &NodeId| self.nodes[node.0 as usize - 1].is_wiped;
            let lost = membership.members().into_iter().find(lost);
            if lost.is_none() && !membership.is_joint() {
                return Ok(());
            }
            if end < self.now {
                return Err(format!("a lost member cannot be removed: {}", self.picture()));
            }
            if let Some(node) = lost {
                self.change(&[Change::Remove { node }])?;
            }
            self.run_until(self.now + ELECTION_MS / 2)?;
        }
    }

    /// Every member applies what the leader has committed by now.
    fn converge(&mut self) -> Check {
        let goal = self.oracle.committed();
        // In some runs every entry takes a round trip, and every member asks for all of them.
        let ms = 100 * goal.0;
        self.wait_longer(ms, "the same state everywhere", |world| {
            let leader = world.leader()?;
            let members = world.nodes[leader].store.membership.members();
            let has = |node: NodeId| {
                let store = &world.nodes[node.0 as usize - 1].store;
                goal <= store.machine.applied
            };
            members.into_iter().all(has).then_some(())
        })
    }

    /// Every member serves a linearizable read, the leader takes a write.
    fn read_everywhere(&mut self) -> Check {
        let end = self.now + PATIENCE * ELECTION_MS;
        let mut left: Vec<usize> = Vec::new();
        let leader = self.wait("a leader", Self::leader)?;
        let members = self.nodes[leader].store.membership.members();
        left.extend(members.into_iter().map(|node| node.0 as usize - 1));
        while let Some(node) = left.pop() {
            loop {
                let before = self.clients.reads_done;
                self.request(node, false)?;
                self.run_until(self.now + ELECTION_MS / 2)?;
                if before < self.clients.reads_done {
                    break;
                }
                if end < self.now {
                    return Err(format!("{} serves no reads: {}", node + 1, self.picture()));
                }
            }
        }
        Ok(())
    }

    /// Where everybody stands.
    pub(crate) fn picture(&self) -> String {
        let one = |node: usize| {
            let id = self.nodes[node].store.id;
            let Some(raft) = self.raft(node) else { return format!("{id}: down") };
            let status = raft.status();
            let applied = self.nodes[node].store.machine.applied;
            format!(
                "{id}: {:?} of {:?} in {}, {}/{}/{} applied {applied}, base {}, voters {:?} was {:?} learners {:?} peers {:?}",
                status.role,
                status.leader.map(|leader| leader.0),
                status.term,
                status.commit,
                status.durable,
                status.last,
                status.base,
                status.membership.voters,
                status.membership.outgoing,
                status.membership.learners,
                status.peers,
            )
        };
        let lines: Vec<String> = (0..self.nodes.len()).map(one).collect();
        format!("\n  {}", lines.join("\n  "))
    }
}
