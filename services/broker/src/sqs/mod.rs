//! The rules of the SQS protocol, apart from HTTP and from the broker: what names, attributes,
//! digests, receipt handles and errors look like.
//!
//! A queue of SQS is a queue of ours: whoever creates, sends or receives on one face may go on on
//! the other. What the engine knows lives in [`QueueConfig`](messaging::config::QueueConfig), the
//! rest in the catalog's notes on the queue ([`Notes`]), and what SQS keeps with a message in its
//! attributes, under names that begin with `sqs.`.
//!
//! **Invariant:** nothing here reads a clock or waits.
//! **Invariant:** a digest covers exactly what is answered beside it.

mod attempts;
mod batch;
mod error;
mod handle;
mod md5;
mod message;
mod names;
mod notes;
mod outgoing;
mod policy;
mod settings;
mod system;
mod task;
mod text;

pub(crate) use attempts::{Attempts, Remembered};
pub(crate) use batch::check_batch;
pub(crate) use error::{Code, Fault};
pub(crate) use handle::Handle;
pub(crate) use md5::{of_attributes, of_body};
pub(crate) use message::{Wanted, base64_encoding};
pub(crate) use names::{Home, message_id, sequence_number};
pub(crate) use notes::Notes;
pub(crate) use outgoing::{Entry, Prepared, prepare};
pub(crate) use policy::{grant, revoke};
pub(crate) use settings::{COUNTS, Settings, TIMES};
pub(crate) use system::{System, SystemNames};
pub(crate) use task::Task;
pub(crate) use text::check_token;
