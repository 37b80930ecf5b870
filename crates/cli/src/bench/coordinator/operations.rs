//! The requests that are measured, in each API.

use bytes::Bytes;
use http::Request;
use serde_json::json;

use super::super::events::Shape;
use super::super::load::Requests;
use super::super::systems::{System, nginx};
use super::super::v3;
use super::dataset::{KEYS, VALUE_BYTES, key, put, value};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Put,
    /// Linearizable.
    Get,
    /// From what the asked node has applied.
    SerializableGet,
    /// The same, all from one node.
    OneNodeGet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Api {
    /// etcd's JSON, with keys and values in base64.
    V3,
    /// Quartet's own: the body is the value.
    V1,
}

impl Operation {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Put => "put, linearizable",
            Self::Get => "get, linearizable",
            Self::SerializableGet => "get, serializable",
            Self::OneNodeGet => "get, one node",
        }
    }
}

impl Api {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V3 => "/v3/kv",
            Self::V1 => "/v1/kv",
        }
    }

    /// Those that a system has.
    pub(super) const fn of(system: System) -> &'static [Self] {
        match system {
            System::Quartet => &[Self::V3, Self::V1],
            System::Etcd => &[Self::V3],
            System::Nginx | System::RabbitMq | System::Nats | System::Redis => &[],
        }
    }

    pub(super) const fn watch(self) -> &'static str {
        match self {
            Self::V3 => "/v3/watch",
            Self::V1 => "/v1/watch",
        }
    }

    /// Of what it sends then.
    pub(super) const fn shape(self) -> Shape {
        match self {
            Self::V3 => Shape::EtcdWatch,
            Self::V1 => Shape::Watch,
        }
    }

    pub(super) fn put(self, key: &str, value: &str) -> Request<Bytes> {
        match self {
            Self::V3 => v3::request("/v3/kv/put", put(key, value).to_string()),
            Self::V1 => plain("PUT", key, "", value.to_owned()),
        }
    }

    pub(super) fn requests(self, operation: Operation) -> Requests {
        let requests = (0..KEYS).map(|number| self.request(operation, number));
        let min_body = match (operation, self) {
            (Operation::Put, _) => 0,
            (_, Self::V1) => VALUE_BYTES,
            // The value in base64, and something around it.
            (_, Self::V3) => VALUE_BYTES / 3 * 4,
        };
        Requests::new(requests, min_body)
    }

    fn request(self, operation: Operation, number: usize) -> Request<Bytes> {
        let key = key(number);
        match (self, operation) {
            (_, Operation::Put) => self.put(&key, &value(number)),
            (Self::V3, Operation::Get) => {
                let body = json!({ "key": v3::base64(key.as_bytes()) });
                v3::request("/v3/kv/range", body.to_string())
            }
            (Self::V3, Operation::SerializableGet | Operation::OneNodeGet) => {
                let body = json!({ "key": v3::base64(key.as_bytes()), "serializable": true });
                v3::request("/v3/kv/range", body.to_string())
            }
            (Self::V1, Operation::Get) => plain("GET", &key, "", String::new()),
            (Self::V1, Operation::SerializableGet | Operation::OneNodeGet) => {
                plain("GET", &key, "?consistency=serializable", String::new())
            }
        }
    }
}

fn plain(method: &str, key: &str, query: &str, body: String) -> Request<Bytes> {
    Request::builder()
        .method(method)
        .uri(format!("/v1/kv/{key}{query}"))
        .body(body.into())
        .expect("keys of ours need no escaping")
}

/// What nginx is asked for.
pub(super) fn static_file() -> Requests {
    let request = Request::get(nginx::PATH).body(Bytes::new()).expect("it is a constant");
    Requests::new([request], VALUE_BYTES)
}
