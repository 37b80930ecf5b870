//! Calls that are answered later: they wait in a queue of the broker, and so do their answers.
//!
//! ```text
//! respond-async ─▶ quartet.rpc ─▶ any gateway ([`worker`]) ─▶ the method ─▶ quartet.rpc.results
//! GET /v1/rpc/{id} ◀── by correlation ───────────────────────────────────────────┘
//! ```
//!
//! **Invariant:** a call is taken off its queue after its answer is on disk: a gateway that dies in
//! between leaves it to another. So a method may be called twice, each time with the same
//! `Idempotency-Key`.

mod broker;
mod worker;

use std::sync::Arc;

use api::broker::PeekedMessage;
use api::gateway::RpcRequest;
use api::problem::Code;
use chassis::problem::Problem;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use telemetry::trace::TraceContext;
use tokio::sync::Notify;

use crate::rpc::Rpc;

use self::broker::Broker;
pub(crate) use self::worker::Worker;

/// Calls that wait.
const CALLS: &str = "quartet.rpc";
/// Their answers.
const RESULTS: &str = "quartet.rpc.results";
/// How long an answer is kept, and a call waits at most.
const KEPT_SECONDS: u64 = 3_600;

/// The asynchronous calls of all gateways. Clones share everything.
#[derive(Clone)]
pub(crate) struct Later {
    broker: Broker,
    rpc: Rpc,
    /// A call was stored here: somebody has to look.
    stored: Arc<Notify>,
}

/// A call as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    id: String,
    /// Under which the method is called.
    key: String,
    call: RpcRequest,
}

/// What is known of a call.
pub(crate) enum Known {
    /// The envelope of its answer, as it is.
    Answered(Box<serde_json::value::RawValue>),
    /// It waits, or runs.
    Pending,
    /// Nothing: it never was, or that was more than an hour ago.
    Nothing,
}

impl Later {
    pub(crate) fn new(rpc: Rpc) -> Self {
        Self { broker: Broker::new(rpc.gateway.clone()), rpc, stored: Arc::default() }
    }

    /// Stores a call. Answers the id under which its answer will be. A repeat under the same key
    /// is the same call.
    pub(crate) async fn store(
        &self,
        call: RpcRequest,
        key: Option<String>,
    ) -> Result<String, Problem> {
        let id = match &key {
            Some(key) => hex(&Sha256::digest(key.as_bytes())[..16]),
            None => TraceContext::random().trace_id.to_string(),
        };
        let key = key.unwrap_or_else(|| id.clone());
        let body = serde_json::to_vec(&Stored { id: id.clone(), key, call })
            .map_err(|error| Problem::internal(&error))?;
        // Who repeats a call that is answered already asks for that answer.
        if self.broker.peek(RESULTS, &id).await?.is_none() {
            self.broker.send(CALLS, &id, body).await?;
        }
        self.stored.notify_one();
        Ok(id)
    }

    /// What is known of a call.
    pub(crate) async fn look(&self, id: &str) -> Result<Known, Problem> {
        if let Some(answer) = self.broker.peek(RESULTS, id).await? {
            return answered(answer);
        }
        if self.broker.peek(CALLS, id).await?.is_some() {
            return Ok(Known::Pending);
        }
        // It may have been answered between the two looks.
        self.broker.peek(RESULTS, id).await?.map_or(Ok(Known::Nothing), answered)
    }
}

fn answered(message: PeekedMessage) -> Result<Known, Problem> {
    message.data.map(Known::Answered).ok_or_else(|| {
        let detail = "the stored answer is no JSON: something else wrote to its queue";
        Problem::new(Code::BadGateway, detail)
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
