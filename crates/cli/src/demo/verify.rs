//! The proof: what a replica holds, to be compared with the file.

use std::collections::BTreeMap;

use anyhow::{Context, bail};

use super::expected::Totals;
use super::ledger::Account;
use super::patience::{is_status, persist};
use super::{Demo, REPLICA, TOPIC, key};
use crate::http::{Request, encode_key};

/// Reads the totals of every carrier through a replica that has seen the last write.
pub(crate) async fn read_back(
    demo: &Demo,
    expected: &BTreeMap<String, Totals>,
) -> anyhow::Result<BTreeMap<String, Totals>> {
    let mut stored = BTreeMap::new();
    for (carrier, of) in expected {
        let flights = account(demo, &key("flights", carrier)).await?;
        // A carrier that was never late has no key.
        let late = if of.late == 0 {
            Account::default()
        } else {
            account(demo, &key("late", carrier)).await?
        };
        let sum =
            |account: &Account, name: &str| account.sums.get(name).copied().unwrap_or_default();
        let count =
            |account: &Account, name: &str| u64::try_from(sum(account, name)).unwrap_or_default();
        let totals = Totals {
            flights: count(&flights, "flights"),
            cancelled: count(&flights, "cancelled"),
            late: count(&late, "late"),
            late_minutes: sum(&late, "late_minutes"),
        };
        stored.insert(carrier.clone(), totals);
    }
    Ok(stored)
}

async fn account(demo: &Demo, key: &str) -> anyhow::Result<Account> {
    let url = format!("{}/v1/kv/{}", demo.cluster.url(REPLICA), encode_key(key));
    let request =
        Request::get(format!("{url}?consistency=session")).header("x-session", demo.ledger.token());
    let response = match persist(&demo.http, &request).await {
        // An absent total is a wrong total, shown with the others.
        Err(error) if is_status(&error, 404) => return Ok(Account::default()),
        other => other.with_context(|| format!("cannot read `{key}` from {}", REPLICA.name()))?,
    };
    match response.header("x-role") {
        Some("replica") => (),
        role => {
            bail!("{} answered as {}, not as a replica", REPLICA.name(), role.unwrap_or("nobody"))
        }
    }
    response.parse().with_context(|| format!("`{key}` does not hold totals"))
}

/// How many messages the topic holds: more than flights, if a repeat was stored twice.
pub(crate) async fn messages_in_topic(demo: &Demo) -> anyhow::Result<u64> {
    let request = Request::get(demo.broker(&format!("/v1/topics/{TOPIC}")));
    let topic: api::broker::TopicView = persist(&demo.http, &request).await?.parse()?;
    Ok(topic.messages)
}
