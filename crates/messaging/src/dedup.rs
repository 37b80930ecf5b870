//! What has been done already: results by key, remembered for a while.

use std::sync::Arc;

use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};

use crate::ids::Millis;

/// Results of the last while, by key. When it holds `max` of them, the oldest goes early: a
/// bound on memory is kept even against a flood of keys. A clone, as snapshots begin with, costs
/// the same however many there are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound(serialize = "V: Serialize", deserialize = "V: Deserialize<'de> + Clone"))]
pub struct Window<V: Clone> {
    max: usize,
    results: OrdMap<Arc<str>, (u64, V)>,
    /// (until, sequence, key), oldest first. The sequence tells a key's second entry from its
    /// first.
    order: Vector<(Millis, u64, Arc<str>)>,
    sequence: u64,
}

impl<V: Clone> Window<V> {
    /// An empty one that holds up to `max` results.
    #[must_use]
    pub fn new(max: usize) -> Self {
        assert!(0 < max, "a window holds something");
        Self { max, results: OrdMap::new(), order: Vector::new(), sequence: 0 }
    }

    /// The result under this key, if it is still remembered.
    pub fn get(&self, key: &str) -> Option<&V> {
        self.results.get(key).map(|(_, value)| value)
    }

    /// Remembers a result until then. A key that is known gets the new result and time.
    pub fn insert(&mut self, key: &str, value: V, until: Millis) {
        while self.max <= self.order.len() {
            self.forget_oldest();
        }
        self.sequence += 1;
        let key: Arc<str> = key.into();
        self.results.insert(key.clone(), (self.sequence, value));
        self.order.push_back((until, self.sequence, key));
    }

    /// Forgets what is over. Windows of one owner are equally long except after a change of its
    /// configuration; then a longer one ahead keeps those behind it a little longer.
    pub fn expire(&mut self, now: Millis) {
        while self.order.front().is_some_and(|(until, ..)| *until <= now) {
            self.forget_oldest();
        }
    }

    /// How many results it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.results.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    fn forget_oldest(&mut self) {
        if let Some((_, sequence, key)) = self.order.pop_front()
            && self.results.get(&key).is_some_and(|(latest, _)| *latest == sequence)
        {
            self.results.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_remembered_for_its_window_and_not_longer() {
        let mut window = Window::new(10);
        window.insert("a", 1, 100);
        window.insert("b", 2, 200);
        window.expire(99);
        assert_eq!(window.get("a"), Some(&1));
        window.expire(100);
        assert_eq!((window.get("a"), window.get("b")), (None, Some(&2)));
    }

    #[test]
    fn a_key_that_comes_again_is_not_forgotten_with_its_first_entry() {
        let mut window = Window::new(10);
        window.insert("a", 1, 100);
        window.insert("a", 2, 300);
        window.expire(200);
        assert_eq!(window.get("a"), Some(&2));
        window.expire(300);
        assert!(window.is_empty());
    }

    #[test]
    fn it_stays_bounded() {
        let mut window = Window::new(3);
        for n in 0..10 {
            window.insert(&n.to_string(), n, 1_000);
        }
        assert_eq!(window.len(), 3);
        assert_eq!(window.get("9"), Some(&9));
    }
}
