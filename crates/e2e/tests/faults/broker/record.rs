//! What clients of the brokers were told, and whether it can be true.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What came of a send or publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Acknowledged.
    Done,
    /// Refused: nothing was done.
    Denied,
    /// Nobody knows.
    Unknown,
}

/// Messages of the queue, or of the subscription.
#[derive(Default)]
pub(super) struct Line {
    pub(super) sent: BTreeMap<String, Fate>,
    /// How often each was delivered.
    pub(super) delivered: BTreeMap<String, u64>,
    /// Since when its acknowledgement is answered.
    acked: BTreeMap<String, Duration>,
}

#[derive(Default)]
pub(super) struct Record {
    pub(super) queue: Line,
    pub(super) topic: Line,
    /// Where messages are: by partition and offset.
    pub(super) places: BTreeMap<(u64, u64), String>,
    pub(super) acknowledged: u64,
    lies: Vec<String>,
}

/// What was found to be true.
#[derive(Debug)]
#[expect(dead_code, reason = "it is printed")]
pub(super) struct Checked {
    sends: usize,
    publishes: usize,
    unknown: usize,
    denied: usize,
    delivered: usize,
    duplicates: u64,
    kept: usize,
}

impl Line {
    /// A consumer has got it in answer to what it asked at `begun`.
    fn deliver(&mut self, body: &str, begun: Duration) -> Option<String> {
        *self.delivered.entry(body.to_owned()).or_default() += 1;
        let acked = self.acked.get(body).filter(|acked| **acked < begun)?;
        Some(format!("{body} was acked at {acked:?} and delivered again, asked at {begun:?}"))
    }

    fn count(&self, fate: Fate) -> usize {
        self.sent.values().filter(|known| **known == fate).count()
    }

    fn missing(&self) -> usize {
        let done = self.sent.iter().filter(|(_, fate)| **fate == Fate::Done);
        done.filter(|(body, _)| !self.delivered.contains_key(*body)).count()
    }

    fn judge(&self, what: &str) -> Result<(), String> {
        for body in self.delivered.keys() {
            match self.sent.get(body) {
                None => return Err(format!("{what}: {body} came, and nobody sent it")),
                Some(Fate::Denied) => return Err(format!("{what}: {body} was denied, and came")),
                Some(Fate::Done | Fate::Unknown) => (),
            }
        }
        match self.missing() {
            0 => Ok(()),
            missing => Err(format!("{what}: {missing} acknowledged messages never came")),
        }
    }
}

impl Record {
    pub(super) fn line(&mut self, is_queue: bool) -> &mut Line {
        if is_queue { &mut self.queue } else { &mut self.topic }
    }

    pub(super) fn delivered(&mut self, is_queue: bool, body: &str, begun: Duration) {
        let lie = self.line(is_queue).deliver(body, begun);
        self.lies.extend(lie);
    }

    pub(super) fn acked(&mut self, is_queue: bool, body: &str, now: Duration) {
        self.line(is_queue).acked.entry(body.to_owned()).or_insert(now);
    }

    /// How many acknowledged messages have not come yet.
    pub(super) fn missing(&self) -> usize {
        self.queue.missing() + self.topic.missing()
    }

    /// Compares with what the partitions hold in the end.
    pub(super) fn judge(&self, kept: &[Vec<String>]) -> Result<Checked, String> {
        if let Some(lie) = self.lies.first() {
            return Err(format!("{lie}; and {} more", self.lies.len() - 1));
        }
        self.queue.judge("queue")?;
        self.topic.judge("topic")?;
        let mut all = BTreeSet::new();
        for body in kept.iter().flatten() {
            match self.topic.sent.get(body) {
                None => return Err(format!("{body} is kept, and nobody published it")),
                Some(Fate::Denied) => return Err(format!("{body} was denied, and is kept")),
                Some(Fate::Done | Fate::Unknown) => (),
            }
            if !all.insert(body) {
                return Err(format!("{body} is kept twice"));
            }
        }
        for ((partition, offset), body) in &self.places {
            let there = kept.get(*partition as usize).and_then(|all| all.get(*offset as usize));
            if there != Some(body) {
                return Err(format!("{partition}:{offset} was {body}, and is {there:?}"));
            }
        }
        for one in kept {
            check_order(one)?;
        }
        let again = |line: &Line| line.delivered.values().map(|times| times - 1).sum::<u64>();
        Ok(Checked {
            sends: self.queue.count(Fate::Done),
            publishes: self.topic.count(Fate::Done),
            unknown: self.queue.count(Fate::Unknown) + self.topic.count(Fate::Unknown),
            denied: self.queue.count(Fate::Denied) + self.topic.count(Fate::Denied),
            delivered: self.queue.delivered.len() + self.topic.delivered.len(),
            duplicates: again(&self.queue) + again(&self.topic),
            kept: all.len(),
        })
    }
}

/// What a producer numbers is kept in its order, and without a gap.
fn check_order(kept: &[String]) -> Result<(), String> {
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for body in kept {
        let Some((producer, number)) = body.split_once('#') else { continue };
        let expected = next.entry(producer).or_default();
        if number.parse() != Ok(*expected) {
            return Err(format!("{body} is kept, {producer}#{expected} was to come"));
        }
        *expected += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(bodies: &[(&str, Fate)]) -> Record {
        let mut record = Record::default();
        for (body, fate) in bodies {
            record.topic.sent.insert((*body).to_owned(), *fate);
            if *fate == Fate::Done {
                record.delivered(false, body, Duration::ZERO);
            }
        }
        record
    }

    fn lie(record: &Record, kept: &[&str]) -> Option<String> {
        record.judge(&[kept.iter().map(|body| (*body).to_owned()).collect()]).err()
    }

    #[test]
    fn every_kind_of_lie_is_found() {
        let record = published(&[("p#0", Fate::Done), ("p#1", Fate::Unknown), ("x", Fate::Denied)]);
        assert_eq!(lie(&record, &["p#0", "p#1"]), None);
        assert!(lie(&record, &["p#1", "p#0"]).unwrap().contains("was to come"));
        assert!(lie(&record, &["p#0", "p#0"]).unwrap().contains("kept twice"));
        assert!(lie(&record, &["p#0", "x"]).unwrap().contains("was denied"));
        assert!(lie(&record, &["p#0", "y"]).unwrap().contains("nobody published"));
        let mut moved = published(&[("a", Fate::Done)]);
        moved.places.insert((0, 1), "a".to_owned());
        assert!(lie(&moved, &["a"]).unwrap().contains("0:1 was a"));
        let mut lost = published(&[]);
        lost.queue.sent.insert("s".to_owned(), Fate::Done);
        assert!(lie(&lost, &[]).unwrap().contains("never came"));
        let mut again = published(&[("a", Fate::Done)]);
        again.acked(false, "a", Duration::from_secs(1));
        again.delivered(false, "a", Duration::from_secs(1));
        assert_eq!(lie(&again, &["a"]), None, "it may have been on its way");
        again.delivered(false, "a", Duration::from_secs(2));
        assert!(lie(&again, &["a"]).unwrap().contains("delivered again"));
    }
}
