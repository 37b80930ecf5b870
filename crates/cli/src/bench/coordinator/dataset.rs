//! Keys and values. The same in every run and for every system.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use serde_json::{Value, json};

use super::super::load::{Connection, Target};
use super::super::v3;

pub(super) const VALUE_BYTES: usize = 256;
/// How many keys puts and gets choose from.
pub(super) const KEYS: usize = 10_000;
/// etcd takes up to 128 operations a transaction.
const BATCH: usize = 100;

pub(super) fn key(number: usize) -> String {
    format!("bench/{number:08}")
}

/// Text, so that every API takes it as it is; without a pattern, so that nothing compresses it.
pub(super) fn value(number: usize) -> String {
    let mut bytes = [0; VALUE_BYTES / 4 * 3];
    StdRng::seed_from_u64(number as u64).fill_bytes(&mut bytes);
    STANDARD_NO_PAD.encode(bytes)
}

/// Puts these keys, with a transaction for every hundred.
pub(super) async fn load(target: &Target, keys: Range<usize>) -> anyhow::Result<()> {
    let mut connection = Connection::open(target).await?;
    for start in keys.clone().step_by(BATCH) {
        let batch = batch(start..keys.end.min(start + BATCH));
        v3::call(&mut connection, "/v3/kv/txn", &batch).await?;
    }
    Ok(())
}

fn batch(keys: Range<usize>) -> Value {
    let puts: Vec<Value> =
        keys.map(|number| json!({ "request_put": put(&key(number), &value(number)) })).collect();
    json!({ "success": puts })
}

/// As `/v3/kv/put` takes it.
pub(super) fn put(key: &str, value: &str) -> Value {
    json!({ "key": v3::base64(key.as_bytes()), "value": v3::base64(value.as_bytes()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_its_length_and_keys_have_values_of_their_own() {
        assert_eq!(value(1).len(), VALUE_BYTES);
        assert_ne!(value(1), value(2));
        assert_eq!(value(3), value(3));
    }
}
