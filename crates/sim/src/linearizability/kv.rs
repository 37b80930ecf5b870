//! A map from text to text with conditional and multi-key writes. One key of it is a register.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Model;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Reads.
    Get {
        /// Whose value.
        key: String,
    },
    /// Writes.
    Put {
        /// Whose value.
        key: String,
        /// The new one.
        value: String,
    },
    /// Removes.
    Delete {
        /// What.
        key: String,
    },
    /// Writes if the value is as expected.
    Cas {
        /// Whose value.
        key: String,
        /// What it has to be; `None` for absent.
        expected: Option<String>,
        /// The new one.
        value: String,
    },
    /// Does `then` if all of `when` hold, else `otherwise`, at once.
    Txn {
        /// Keys with the values they have to have; `None` for absent.
        when: Vec<(String, Option<String>)>,
        /// What is done if they have.
        then: Vec<Self>,
        /// What is done if not.
        otherwise: Vec<Self>,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ret {
    /// To a get: the value, or `None` if there is none.
    Value(Option<String>),
    /// To a put.
    Written,
    /// To a delete: whether there was something.
    Deleted(bool),
    /// To a cas: whether it wrote.
    Swapped(bool),
    /// To a transaction.
    Txn {
        /// Whether `when` held.
        succeeded: bool,
        /// The answers of the branch taken, in its order.
        results: Vec<Self>,
    },
}

/// The model: starts empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kv;

type Map = BTreeMap<String, String>;

impl Model for Kv {
    type State = Map;
    type Op = Op;
    type Ret = Ret;
    type Key = String;

    fn initial(&self) -> Map {
        Map::new()
    }

    fn keys(&self, op: &Op) -> Vec<String> {
        match op {
            Op::Get { key } | Op::Put { key, .. } | Op::Delete { key } | Op::Cas { key, .. } => {
                vec![key.clone()]
            }
            Op::Txn { when, then, otherwise } => {
                let inner = then.iter().chain(otherwise).flat_map(|op| self.keys(op));
                when.iter().map(|(key, _)| key.clone()).chain(inner).collect()
            }
        }
    }

    fn step(&self, state: &Map, op: &Op, ret: Option<&Ret>) -> Option<Map> {
        if let (Op::Get { key }, Some(Ret::Value(value))) = (op, ret) {
            // The most frequent operation, without the copy.
            return (state.get(key) == value.as_ref()).then(|| state.clone());
        }
        let mut after = state.clone();
        let answer = apply(&mut after, op);
        ret.is_none_or(|ret| *ret == answer).then_some(after)
    }

    fn is_read(&self, op: &Op, ret: &Ret) -> bool {
        match (op, ret) {
            (Op::Get { .. }, _) => true,
            (Op::Delete { .. }, Ret::Deleted(changed))
            | (Op::Cas { .. }, Ret::Swapped(changed)) => !changed,
            (Op::Txn { then, otherwise, .. }, Ret::Txn { succeeded, results }) => {
                let branch = if *succeeded { then } else { otherwise };
                branch.iter().zip(results).all(|(op, ret)| self.is_read(op, ret))
            }
            _ => false,
        }
    }
}

/// Carries out an operation and says what it answers.
pub fn apply(map: &mut BTreeMap<String, String>, op: &Op) -> Ret {
    match op {
        Op::Get { key } => Ret::Value(map.get(key).cloned()),
        Op::Put { key, value } => {
            map.insert(key.clone(), value.clone());
            Ret::Written
        }
        Op::Delete { key } => Ret::Deleted(map.remove(key).is_some()),
        Op::Cas { key, expected, value } => {
            let as_expected = map.get(key) == expected.as_ref();
            if as_expected {
                map.insert(key.clone(), value.clone());
            }
            Ret::Swapped(as_expected)
        }
        Op::Txn { when, then, otherwise } => {
            let succeeded = when.iter().all(|(key, value)| map.get(key) == value.as_ref());
            let branch = if succeeded { then } else { otherwise };
            let results = branch.iter().map(|op| apply(map, op)).collect();
            Ret::Txn { succeeded, results }
        }
    }
}
