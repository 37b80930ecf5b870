//! Clients that keep a key alive with a lease over `/v3`, for a while.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sim::Rng;
use sim::leases::{Look, Tenancy};
use tokio::time::sleep;

use super::etcd::{call, encode, key_values};
use super::{Shared, http::Answer};
use crate::cluster::{Door, until};

const TTL_SECONDS: u64 = 2;
const PAUSE: Duration = Duration::from_millis(60);

pub(super) struct Tenant {
    process: u64,
    shared: Arc<Shared>,
    rng: Rng,
    turns: u64,
}

impl Tenant {
    pub(super) fn new(process: u64, shared: Arc<Shared>, rng: Rng) -> Self {
        Self { process, shared, rng, turns: 0 }
    }

    pub(super) async fn run(mut self) {
        while !self.shared.is_over() {
            self.turns += 1;
            let key = format!("t/{}/{}", self.process, self.turns);
            let mut tenancy = Tenancy { key, ttl: TTL_SECONDS * 1_000_000, ..Tenancy::default() };
            if let Some(lease) = self.begin(&mut tenancy).await {
                self.live(&lease, &mut tenancy).await;
                self.shared.recorder.record().tenancies.push(tenancy);
            }
            sleep(PAUSE).await;
        }
    }

    /// Gets a lease and puts the key on it. None if that may not have happened.
    async fn begin(&mut self, tenancy: &mut Tenancy) -> Option<Value> {
        let ask = json!({ "TTL": TTL_SECONDS.to_string() });
        let (granted, called, returned) = self.ask("/v3/lease/grant", ask).await;
        let lease = granted.success()?["ID"].clone();
        tenancy.renewed.push((called, returned));
        let key = encode(&tenancy.key);
        let ask = json!({ "key": key, "value": encode("here"), "lease": lease });
        let (written, call, returned) = self.ask("/v3/kv/put", ask).await;
        if matches!(written.whole(), Some((404, _))) {
            tenancy.looks.push(Look { call, returned, is_there: false });
        } else {
            written.success()?;
        }
        Some(lease)
    }

    /// Renews it for a while, then revokes it, or is never heard of again.
    async fn live(&mut self, lease: &Value, tenancy: &mut Tenancy) {
        for _ in 0..self.rng.range(1..8) {
            sleep(PAUSE).await;
            self.renew(lease, tenancy).await;
            self.look(tenancy).await;
            if self.shared.is_over() {
                break;
            }
        }
        // In the end all are, so that nobody has to wait for the last ones.
        if self.rng.chance(1, 2) || self.shared.is_over() {
            let revoke = json!({ "ID": lease });
            let (revoked, call, returned) = self.ask("/v3/lease/revoke", revoke).await;
            match revoked.whole() {
                Some((200, _)) => tenancy.revoked = Some(returned),
                Some((404, _)) => tenancy.looks.push(Look { call, returned, is_there: false }),
                // It may be revoked or not: nothing can be told of it any more.
                _ => return,
            }
            self.look(tenancy).await;
        }
    }

    async fn renew(&mut self, lease: &Value, tenancy: &mut Tenancy) {
        let ask = json!({ "ID": lease });
        let (renewed, call, returned) = self.ask("/v3/lease/keepalive", ask).await;
        let reply = renewed.success().unwrap_or_default();
        // A lease that is gone has no time left, and what is zero is left out.
        match (reply["result"].is_object(), reply["result"]["TTL"].is_null()) {
            (true, false) => tenancy.renewed.push((call, returned)),
            (true, true) => tenancy.looks.push(Look { call, returned, is_there: false }),
            (false, _) => {}
        }
    }

    async fn look(&mut self, tenancy: &mut Tenancy) {
        let call = self.shared.recorder.now();
        let door = self.shared.any_door(&mut self.rng);
        let seen = is_there(door, &tenancy.key).await;
        let returned = self.shared.recorder.now();
        tenancy.looks.extend(seen.map(|is_there| Look { call, returned, is_there }));
    }

    /// The answer, when it was asked for, and when it came.
    async fn ask(&mut self, path: &str, body: Value) -> (Answer, u64, u64) {
        let called = self.shared.recorder.now();
        let door = self.shared.any_door(&mut self.rng);
        let answer = call(door, path, body).await;
        (answer, called, self.shared.recorder.now())
    }
}

async fn is_there(door: &Door, key: &str) -> Option<bool> {
    let reply = call(door, "/v3/kv/range", json!({ "key": encode(key) })).await.success()?;
    Some(key_values(&reply).contains_key(key))
}

/// Waits until all of these keys are gone: nobody renews their leases.
pub(crate) async fn all_gone(door: &Door, tenancies: &[Tenancy]) {
    for Tenancy { key, .. } in tenancies {
        until(&format!("{key} is gone with its lease"), || async {
            is_there(door, key).await == Some(false)
        })
        .await;
    }
}
