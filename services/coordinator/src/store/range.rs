//! Reading many keys: order, limits, filters, pages.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ids::{KeyRange, Revision};
use super::mvcc::{Mvcc, Record, RevisionError};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortOrder {
    #[default]
    None,
    Ascend,
    Descend,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortTarget {
    #[default]
    Key,
    Version,
    Create,
    Mod,
    Value,
}

/// Keeps keys whose revisions lie between these; `None` does not limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionFilter {
    pub min_mod: Option<Revision>,
    pub max_mod: Option<Revision>,
    pub min_create: Option<Revision>,
    pub max_create: Option<Revision>,
}

impl RevisionFilter {
    fn is_set(&self) -> bool {
        *self != Self::default()
    }

    fn keeps(&self, record: &Record) -> bool {
        self.min_mod.is_none_or(|min| min <= record.mod_revision)
            && self.max_mod.is_none_or(|max| record.mod_revision <= max)
            && self.min_create.is_none_or(|min| min <= record.create_revision)
            && self.max_create.is_none_or(|max| record.create_revision <= max)
    }
}

/// A read of a range, as etcd defines it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeQuery {
    pub range: KeyRange,
    /// `None` is now.
    pub revision: Option<Revision>,
    /// 0 is no limit.
    pub limit: u64,
    pub order: SortOrder,
    pub target: SortTarget,
    pub keys_only: bool,
    pub count_only: bool,
    pub filter: RevisionFilter,
}

impl RangeQuery {
    #[must_use]
    pub fn of(range: KeyRange) -> Self {
        Self {
            range,
            revision: None,
            limit: 0,
            order: SortOrder::None,
            target: SortTarget::Key,
            keys_only: false,
            count_only: false,
            filter: RevisionFilter::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeResult {
    /// The store's revision at the time of reading, also for a historical read.
    pub revision: Revision,
    pub records: Vec<Arc<Record>>,
    /// The caller asked not to see the values.
    pub keys_only: bool,
    /// The limit cut the records.
    pub more: bool,
    /// Keys in the range, before limit and filters.
    pub count: u64,
}

/// One page of a range in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub records: Vec<Arc<Record>>,
    /// The first key that did not fit.
    pub next: Option<Bytes>,
}

/// What fits into a page. At least one key always does.
#[derive(Clone, Copy, Debug)]
pub struct PageLimit {
    pub keys: usize,
    pub bytes: usize,
}

impl Mvcc {
    pub fn range(&self, query: &RangeQuery) -> Result<RangeResult, RevisionError> {
        self.check_revision(query.revision)?;
        let count = self.count_range(&query.range, query.revision);
        let mut result = RangeResult {
            revision: self.revision(),
            records: Vec::new(),
            keys_only: query.keys_only,
            more: false,
            count,
        };
        if query.count_only {
            return Ok(result);
        }
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        // Etcd's quirk: without an order, a sort target sorts only the first keys in key order.
        let take = match query.order {
            SortOrder::None if limit > 0 && !query.filter.is_set() => limit.saturating_add(1),
            _ => usize::MAX,
        };
        result.records = self
            .scan(&query.range, query.revision)
            .take(take)
            .filter(|record| query.filter.keeps(record))
            .cloned()
            .collect();
        sort(&mut result.records, query.order, query.target);
        if limit > 0 && limit < result.records.len() {
            result.records.truncate(limit);
            result.more = true;
        }
        Ok(result)
    }

    /// The keys from `range` that fit, and where the next page begins.
    pub fn page(
        &self,
        range: &KeyRange,
        revision: Option<Revision>,
        limit: PageLimit,
        keys_only: bool,
    ) -> Result<Page, RevisionError> {
        self.check_revision(revision)?;
        let mut page = Page { records: Vec::new(), next: None };
        let mut bytes = 0;
        for record in self.scan(range, revision) {
            bytes += record.key.len() + if keys_only { 0 } else { record.value.len() };
            let full = limit.keys <= page.records.len() || limit.bytes < bytes;
            if full && !page.records.is_empty() {
                page.next = Some(record.key.to_bytes());
                break;
            }
            page.records.push(Arc::clone(record));
        }
        Ok(page)
    }

    fn count_range(&self, range: &KeyRange, revision: Option<Revision>) -> u64 {
        if revision.is_none() && matches!(range, KeyRange::From(start) if start.is_empty()) {
            return self.live_keys();
        }
        self.scan(range, revision).count() as u64
    }
}

fn sort(records: &mut [Arc<Record>], order: SortOrder, target: SortTarget) {
    let by_target = |a: &Arc<Record>, b: &Arc<Record>| match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    match (order, target) {
        // Already in this order.
        (SortOrder::None | SortOrder::Ascend, SortTarget::Key) => {}
        (SortOrder::None | SortOrder::Ascend, _) => records.sort_by(by_target),
        (SortOrder::Descend, _) => {
            records.sort_by(|a, b| match by_target(a, b) {
                Ordering::Less => Ordering::Greater,
                Ordering::Equal => Ordering::Equal,
                Ordering::Greater => Ordering::Less,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::LeaseId;
    use super::*;

    /// a=3 b=2 c=1 d=0, at revisions 2 to 5.
    fn four() -> Mvcc {
        let mut mvcc = Mvcc::new();
        for (key, value) in [("a", "3"), ("b", "2"), ("c", "1"), ("d", "0")] {
            let mut writer = mvcc.write();
            writer.put(key.as_bytes(), Bytes::from(value), LeaseId::NONE);
            writer.finish();
        }
        mvcc
    }

    fn keys(result: &RangeResult) -> String {
        result.records.iter().map(|record| str::from_utf8(&record.key).unwrap()).collect()
    }

    #[test]
    fn the_limit_cuts_after_sorting_and_count_does_not_see_it() {
        let query = RangeQuery {
            limit: 2,
            order: SortOrder::Descend,
            target: SortTarget::Mod,
            ..RangeQuery::of(KeyRange::all())
        };
        let result = four().range(&query).unwrap();
        assert_eq!((keys(&result).as_str(), result.more, result.count), ("dc", true, 4));
    }

    #[test]
    fn a_target_without_an_order_sorts_only_the_first_keys() {
        let query =
            RangeQuery { limit: 2, target: SortTarget::Value, ..RangeQuery::of(KeyRange::all()) };
        assert_eq!(keys(&four().range(&query).unwrap()), "cb");
    }

    #[test]
    fn filters_come_before_the_limit_and_after_the_count() {
        let filter = RevisionFilter { min_mod: Some(Revision(3)), ..RevisionFilter::default() };
        let query = RangeQuery { limit: 2, filter, ..RangeQuery::of(KeyRange::all()) };
        let result = four().range(&query).unwrap();
        assert_eq!((keys(&result).as_str(), result.more, result.count), ("bc", true, 4));
    }

    #[test]
    fn a_reversed_range_is_empty() {
        let range = KeyRange::Between { start: "c".into(), end: "a".into() };
        let result = four().range(&RangeQuery::of(range)).unwrap();
        assert_eq!((result.records.len(), result.count), (0, 0));
    }

    #[test]
    fn pages_join_without_gap_or_overlap() {
        let mvcc = four();
        let mut range = KeyRange::all();
        let mut seen = Vec::new();
        loop {
            let limit = PageLimit { keys: 10, bytes: 4 };
            let page = mvcc.page(&range, None, limit, false).unwrap();
            seen.extend(page.records.iter().map(|record| record.key.clone()));
            let Some(next) = page.next else { break };
            range = KeyRange::From(next);
        }
        assert_eq!(seen, ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_future_or_compacted_revision_is_an_error() {
        let mut mvcc = four();
        mvcc.compact(Revision(3)).unwrap();
        let at = |revision| RangeQuery {
            revision: Some(Revision(revision)),
            ..RangeQuery::of(KeyRange::all())
        };
        assert!(matches!(mvcc.range(&at(2)), Err(RevisionError::Compacted { .. })));
        assert_eq!(keys(&mvcc.range(&at(3)).unwrap()), "ab");
        assert!(matches!(mvcc.range(&at(6)), Err(RevisionError::Future { .. })));
    }
}
