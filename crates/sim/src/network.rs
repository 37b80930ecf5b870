//! A network that loses, repeats, delays and reorders messages, and whose links can be cut one way.
//!
//! For cores that send messages and never wait: a node gives [`Network::send`] what it wants to
//! say, the test takes what arrives with [`Network::pop`] and hands it on. Time is virtual; what
//! happens to a message is drawn from the network's seed.
//!
//! **Invariant:** every link holds a bounded number of messages; what does not fit is lost, as with
//! a full outbox.
//! **Invariant:** a cut link loses what is sent into it and what is already on its way.

use std::collections::BTreeSet;

use crate::events::Events;
use crate::rng::Rng;

/// What a network does to messages. The default does nothing to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// How many of 1,000 messages are lost.
    pub lost: u32,
    /// How many of 1,000 messages arrive twice.
    pub repeated: u32,
    /// The least time on the way.
    pub min_delay: u64,
    /// The greatest time on the way, usually.
    pub max_delay: u64,
    /// How many of 1,000 messages take up to [`Faults::very_late_by`] longer.
    pub very_late: u32,
    /// How much longer those take at most.
    pub very_late_by: u64,
    /// Whether messages of one link may overtake each other.
    pub reordered: bool,
    /// How many messages fit into one link.
    pub link_capacity: usize,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            lost: 0,
            repeated: 0,
            min_delay: 1,
            max_delay: 1,
            very_late: 0,
            very_late_by: 0,
            reordered: false,
            link_capacity: 1_000,
        }
    }
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Given to the network.
    pub sent: u64,
    /// Arrived, repetitions included.
    pub delivered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Arrived or will arrive once more.
    pub repeated: u64,
    /// Lost in a cut link.
    pub cut: u64,
    /// Lost because the link was full.
    pub overflowed: u64,
}

/// A message that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<M> {
    /// Who sent it.
    pub from: usize,
    /// To whom.
    pub to: usize,
    /// What.
    pub message: M,
}

/// The links between `nodes` nodes.
#[derive(Clone, Debug)]
pub struct Network<M> {
    rng: Rng,
    faults: Faults,
    nodes: usize,
    on_the_way: Events<Delivery<M>>,
    /// Per link: how many messages it holds, and when the last of them arrives.
    held: Vec<usize>,
    last_arrival: Vec<u64>,
    cuts: BTreeSet<(usize, usize)>,
    counts: Counts,
}

impl<M: Clone> Network<M> {
    /// A network without cuts.
    #[must_use]
    pub fn new(nodes: usize, faults: Faults, rng: Rng) -> Self {
        Self {
            rng,
            faults,
            nodes,
            on_the_way: Events::default(),
            held: vec![0; nodes * nodes],
            last_arrival: vec![0; nodes * nodes],
            cuts: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    /// From now on, do this to messages.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// What it does to messages.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Sends a message at `now`.
    pub fn send(&mut self, now: u64, from: usize, to: usize, message: M) {
        self.counts.sent += 1;
        if self.is_cut(from, to) {
            self.counts.cut += 1;
            return;
        }
        if self.rng.chance(self.faults.lost, 1_000) {
            self.counts.lost += 1;
            return;
        }
        if self.rng.chance(self.faults.repeated, 1_000) {
            self.counts.repeated += 1;
            self.carry(now, Delivery { from, to, message: message.clone() });
        }
        self.carry(now, Delivery { from, to, message });
    }

    fn carry(&mut self, now: u64, delivery: Delivery<M>) {
        let link = delivery.from * self.nodes + delivery.to;
        if self.held[link] >= self.faults.link_capacity {
            self.counts.overflowed += 1;
            return;
        }
        let Faults { min_delay, max_delay, very_late, very_late_by, reordered, .. } = self.faults;
        let mut at = now + self.rng.range(min_delay..max_delay + 1);
        if self.rng.chance(very_late, 1_000) {
            at += self.rng.range(0..very_late_by + 1);
        }
        if !reordered {
            at = at.max(self.last_arrival[link]);
        }
        self.last_arrival[link] = self.last_arrival[link].max(at);
        self.held[link] += 1;
        self.on_the_way.add(at, delivery);
    }

    /// When the next message arrives, if it gets through.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        self.on_the_way.next_at()
    }

    /// Takes the next message out, with its time. The message is `None` if its link was cut
    /// meanwhile.
    pub fn pop(&mut self) -> Option<(u64, Option<Delivery<M>>)> {
        let (at, delivery) = self.on_the_way.pop()?;
        self.held[delivery.from * self.nodes + delivery.to] -= 1;
        if self.is_cut(delivery.from, delivery.to) {
            self.counts.cut += 1;
            return Some((at, None));
        }
        self.counts.delivered += 1;
        Some((at, Some(delivery)))
    }

    /// How many messages are on their way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.on_the_way.len()
    }

    /// True if no message is on its way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.on_the_way.is_empty()
    }

    /// True if nothing gets from `from` to `to`.
    #[must_use]
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        !self.cuts.is_empty() && self.cuts.contains(&(from, to))
    }

    /// True if some link is cut.
    #[must_use]
    pub fn has_cuts(&self) -> bool {
        !self.cuts.is_empty()
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: usize, to: usize) {
        if from != to {
            self.cuts.insert((from, to));
        }
    }

    /// Cuts both directions.
    pub fn cut_both(&mut self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Mends one direction.
    pub fn join(&mut self, from: usize, to: usize) {
        self.cuts.remove(&(from, to));
    }

    /// Cuts every link between a node of `side` and one that is not of it.
    pub fn partition(&mut self, side: &[usize]) {
        for one in 0..self.nodes {
            for other in 0..one {
                if side.contains(&one) != side.contains(&other) {
                    self.cut_both(one, other);
                }
            }
        }
    }

    /// Like [`Network::partition`], but `bridge` still reaches everybody.
    pub fn bridge(&mut self, side: &[usize], bridge: usize) {
        self.partition(side);
        self.cuts.retain(|(from, to)| *from != bridge && *to != bridge);
    }

    /// Cuts a node off from all others.
    pub fn isolate(&mut self, node: usize) {
        self.partition(&[node]);
    }

    /// Mends every link.
    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Loses everything on its way to or from a node, as when its connections break.
    pub fn disconnect(&mut self, node: usize) {
        for other in 0..self.nodes {
            self.last_arrival[node * self.nodes + other] = 0;
            self.last_arrival[other * self.nodes + node] = 0;
        }
        let (held, nodes) = (&mut self.held, self.nodes);
        self.on_the_way.retain(|delivery| {
            let keep = delivery.from != node && delivery.to != node;
            if !keep {
                held[delivery.from * nodes + delivery.to] -= 1;
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(network: &mut Network<u64>) -> Vec<u64> {
        std::iter::from_fn(|| network.pop())
            .filter_map(|(_, delivery)| delivery.map(|delivery| delivery.message))
            .collect()
    }

    fn wild() -> Faults {
        Faults {
            lost: 100,
            repeated: 100,
            max_delay: 50,
            very_late: 50,
            very_late_by: 500,
            reordered: true,
            ..Faults::default()
        }
    }

    #[test]
    fn without_faults_everything_arrives_in_order() {
        let faults = Faults { max_delay: 50, ..Faults::default() };
        let mut network = Network::new(2, faults, Rng::new(1));
        (0..500).for_each(|number| network.send(number, 0, 1, number));
        assert_eq!(arrivals(&mut network), (0..500).collect::<Vec<_>>());
    }

    #[test]
    fn faults_happen_and_are_a_function_of_the_seed() {
        let run = |seed| {
            let mut network = Network::new(2, wild(), Rng::new(seed));
            (0..500).for_each(|number| network.send(number, 0, 1, number));
            (arrivals(&mut network), network.counts())
        };
        let (order, counts) = run(1);
        assert_eq!((order.clone(), counts), run(1));
        assert_ne!(order, run(2).0);
        assert!(!order.is_sorted());
        assert!(counts.lost > 0 && counts.repeated > 0);
        assert_eq!(counts.sent + counts.repeated, counts.delivered + counts.lost);
    }

    #[test]
    fn a_cut_is_one_way_and_loses_what_is_on_its_way() {
        let mut network = Network::new(2, Faults::default(), Rng::new(1));
        network.send(0, 0, 1, 1);
        network.cut(0, 1);
        network.send(0, 0, 1, 2);
        network.send(0, 1, 0, 3);
        assert_eq!(arrivals(&mut network), [3]);
        assert_eq!(network.counts().cut, 2);
        network.heal();
        network.send(5, 0, 1, 4);
        assert_eq!(arrivals(&mut network), [4]);
    }

    #[test]
    fn a_bridge_reaches_both_sides() {
        let mut network = Network::<u64>::new(5, Faults::default(), Rng::new(1));
        network.bridge(&[0, 1, 2], 2);
        assert!(network.is_cut(0, 3) && network.is_cut(4, 1));
        assert!((0..5).all(|node| !network.is_cut(2, node) && !network.is_cut(node, 2)));
        assert!(!network.is_cut(0, 1) && !network.is_cut(3, 4));
    }

    #[test]
    fn a_full_link_loses_messages_and_empties_again() {
        let faults = Faults { link_capacity: 3, ..Faults::default() };
        let mut network = Network::new(2, faults, Rng::new(1));
        (0..5).for_each(|number| network.send(0, 0, 1, number));
        assert_eq!(arrivals(&mut network), [0, 1, 2]);
        network.send(1, 0, 1, 9);
        network.disconnect(1);
        assert!(network.is_empty());
        (0..3).for_each(|number| network.send(2, 0, 1, number));
        assert_eq!(arrivals(&mut network), [0, 1, 2]);
        assert_eq!(network.counts().overflowed, 2);
    }
}
