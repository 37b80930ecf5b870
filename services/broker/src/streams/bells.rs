//! Who waits for which stream on this node: a stream's readers are woken by its own entries only.

use std::collections::BTreeMap;

use messaging::stream::StreamPath;
use tokio::sync::watch;

/// Bells that nobody hears are thrown away when there are so many, and twice as many as were heard
/// the last time.
const MIN_SWEEP: usize = 256;

/// One bell for each stream somebody waits for.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    bells: BTreeMap<StreamPath, watch::Sender<u64>>,
    heard: usize,
}

impl Bells {
    /// Resolves at every change from now on. The receiver ends with the copy of the group.
    pub(super) fn hear(&mut self, path: &StreamPath) -> watch::Receiver<u64> {
        if MIN_SWEEP.max(2 * self.heard) <= self.bells.len() {
            self.bells.retain(|_, bell| 0 < bell.receiver_count());
            self.heard = self.bells.len();
        }
        self.bells.entry(path.clone()).or_default().subscribe()
    }

    /// Something happened to these streams.
    pub(crate) fn ring(&mut self, paths: &[StreamPath]) {
        if self.bells.is_empty() {
            return;
        }
        for path in paths {
            if let Some(bell) = self.bells.get(path)
                && bell.receiver_count() == 0
            {
                self.bells.remove(path);
            } else if let Some(bell) = self.bells.get(path) {
                bell.send_modify(|count| *count += 1);
            }
        }
    }

    /// Something may have happened to any stream.
    pub(crate) fn ring_all(&mut self) {
        for bell in self.bells.values() {
            bell.send_modify(|count| *count += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_is_heard_by_those_who_wait_and_forgotten_after_them() {
        let path = |number: usize| format!("s{number}").parse::<StreamPath>().unwrap();
        let mut bells = Bells::default();
        let (one, other) = (bells.hear(&path(1)), bells.hear(&path(2)));
        bells.ring(&[path(1), path(3)]);
        assert!(one.has_changed().unwrap() && !other.has_changed().unwrap());
        bells.ring_all();
        assert!(other.has_changed().unwrap());
        drop(one);
        bells.ring(&[path(1)]);
        assert_eq!(bells.bells.len(), 1);
        for number in 0..10 * MIN_SWEEP {
            bells.hear(&path(number));
        }
        assert!(bells.bells.len() <= MIN_SWEEP, "{}", bells.bells.len());
        drop(bells);
        assert!(other.has_changed().is_err());
    }
}
