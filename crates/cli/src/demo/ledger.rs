//! Totals in the replicated store that count every flight once, however often it is delivered.
//!
//! The value of a carrier holds its sums and the numbers of the flights in them. Both change in
//! one compare-and-set, so a repeat finds its number already there.

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::patience::{is_status, persist};
use crate::http::{Http, Request, Response, encode_key};

/// Compare-and-set attempts on one key. Only a handful of workers ever meet there.
const MAX_CONFLICTS: u32 = 1_000;

/// One thing to count: the number of a flight, and what it adds to each sum.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) number: u64,
    pub(crate) adds: Vec<(&'static str, i64)>,
}

/// A value in the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) sums: BTreeMap<String, i64>,
    /// Which flights are in the sums: disjoint ranges in order, both ends included.
    pub(crate) counted: Vec<(u64, u64)>,
}

impl Account {
    /// Adds what is new; `false` if nothing was.
    fn count(&mut self, items: &[Item]) -> bool {
        let mut changed = false;
        for item in items {
            if self.insert(item.number) {
                changed = true;
                for &(sum, amount) in &item.adds {
                    *self.sums.entry(sum.to_owned()).or_default() += amount;
                }
            }
        }
        changed
    }

    /// Adds a number to the ranges; `false` if it is there.
    fn insert(&mut self, number: u64) -> bool {
        let at = self.counted.partition_point(|&(_, last)| last < number);
        if self.counted.get(at).is_some_and(|&(first, _)| first <= number) {
            return false;
        }
        let after = at.checked_sub(1).is_some_and(|before| self.counted[before].1 + 1 == number);
        let before = self.counted.get(at).is_some_and(|&(first, _)| number + 1 == first);
        match (after, before) {
            (true, true) => {
                self.counted[at - 1].1 = self.counted[at].1;
                self.counted.remove(at);
            }
            (true, false) => self.counted[at - 1].1 = number,
            (false, true) => self.counted[at].0 = number,
            (false, false) => self.counted.insert(at, (number, number)),
        }
        true
    }
}

/// The store, through the gateway.
pub(crate) struct Ledger {
    http: Http,
    base: String,
    /// The newest position that a write was answered with: a replica that has it has all of them.
    newest: Mutex<api::replica::Position>,
}

impl Ledger {
    pub(crate) fn new(http: Http, gateway: &str) -> Self {
        let base = format!("{gateway}/replica/v1/kv/");
        Self { http, base, newest: Mutex::default() }
    }

    /// Returns when the items are counted on a quorum. `trace` is the message they came with.
    pub(crate) async fn count(
        &self,
        key: &str,
        items: &[Item],
        trace: Option<&str>,
    ) -> anyhow::Result<()> {
        let url = format!("{}{}", self.base, encode_key(key));
        for _ in 0..MAX_CONFLICTS {
            let read = Request::get(format!("{url}?consistency=strong"));
            let current = self.read(read.header_if("traceparent", trace)).await?;
            let (mut account, etag) = current.unwrap_or_default();
            if !account.count(items) {
                return Ok(());
            }
            let write = Request::put(&url).header_if("traceparent", trace).json(&account);
            let write = match etag {
                Some(etag) => write.header("if-match", etag),
                None => write.header("if-none-match", "*"),
            };
            match persist(&self.http, &write).await {
                // Another worker was faster, or a lost answer was a success. Look again.
                Err(error) if is_status(&error, 412) => (),
                Err(error) => return Err(error),
                Ok(written) => {
                    self.remember(&written);
                    return Ok(());
                }
            }
        }
        bail!("{MAX_CONFLICTS} compare-and-sets of `{key}` failed in a row")
    }

    /// The session token that makes a replica wait for everything counted so far.
    pub(crate) fn token(&self) -> String {
        self.newest.lock().expect("nobody panics while holding it").to_string()
    }

    /// The account and its ETag; `None` if there is none yet.
    async fn read(&self, request: Request) -> anyhow::Result<Option<(Account, Option<String>)>> {
        let response = match persist(&self.http, &request).await {
            Err(error) if is_status(&error, 404) => return Ok(None),
            other => other?,
        };
        let account = response.parse().context("the store holds something else than totals")?;
        Ok(Some((account, response.header("etag").map(str::to_owned))))
    }

    fn remember(&self, written: &Response) {
        let token = written.header("x-session");
        let position: Option<api::replica::Position> = token.and_then(|token| token.parse().ok());
        if let Some(position) = position {
            let mut newest = self.newest.lock().expect("nobody panics while holding it");
            *newest = position.max(*newest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(number: u64) -> Item {
        Item { number, adds: vec![("flights", 1)] }
    }

    #[test]
    fn a_repeat_is_not_counted_again() {
        let mut account = Account::default();
        assert!(account.count(&[item(3), item(1), item(3)]));
        assert!(!account.count(&[item(1)]));
        assert_eq!(account.sums["flights"], 2);
    }

    #[test]
    fn neighbours_become_one_range_in_any_order() {
        let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [0, 2, 1, 3], [3, 0, 2, 1]];
        for order in orders {
            let mut account = Account::default();
            account.count(&order.map(item));
            assert_eq!(account.counted, [(0, 3)], "{order:?}");
        }
    }

    #[test]
    fn gaps_stay_gaps() {
        let mut account = Account::default();
        account.count(&[item(5), item(1), item(7)]);
        assert_eq!(account.counted, [(1, 1), (5, 5), (7, 7)]);
    }
}
