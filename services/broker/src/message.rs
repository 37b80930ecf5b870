//! A message on its way in, the same for topics and queues.

use api::broker::CORRELATION_ID;
use bytes::Bytes;
use messaging::frame::Envelope;
use telemetry::trace::TraceContext;

use crate::broker::creation_context;

/// The attribute under which a CloudEvent carries its trace.
pub(crate) const CE_TRACEPARENT: &str = "ce-traceparent";

/// What a publisher hands in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NewMessage {
    /// The key in a topic, the group in a queue.
    pub key: Option<String>,
    /// What the body is.
    pub content_type: String,
    /// Names are lower case and distinct.
    pub attributes: Vec<(String, String)>,
    /// Opaque.
    pub body: Bytes,
}

impl NewMessage {
    /// The context of the span that made the message, if its publisher says so.
    pub(crate) fn creation_context(&self) -> Option<TraceContext> {
        creation_context(&self.attributes)
    }

    /// Says what it answers, whatever it said of that itself.
    pub(crate) fn note_correlation(&mut self, id: Option<String>) {
        if let Some(id) = id {
            self.set(CORRELATION_ID, id);
        }
    }

    /// Sets an attribute.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.attributes.retain(|(other, _)| other != name);
        self.attributes.push((name.to_owned(), value));
    }

    /// What is stored with the body. A message that names no context was made by `creator`.
    pub(crate) fn envelope(self, creator: &Creator) -> (Envelope, Bytes) {
        let Self { key, content_type, mut attributes, body } = self;
        if creation_context(&attributes).is_none() {
            let has = |name: &str| attributes.iter().any(|(key, _)| key == name);
            if !has(api::headers::TRACEPARENT) {
                let traceparent = (api::headers::TRACEPARENT.to_owned(), creator.traceparent());
                attributes.push(traceparent);
            }
            if let Some(state) = creator.tracestate.as_ref()
                && !attributes.iter().any(|(key, _)| key == api::headers::TRACESTATE)
            {
                attributes.push((api::headers::TRACESTATE.to_owned(), state.clone()));
            }
        }
        (Envelope { key, content_type, attributes, dead_letter: None }, body)
    }
}

/// Who made the messages of a request that do not say so themselves.
#[derive(Clone, Debug)]
pub(crate) struct Creator {
    pub(crate) context: TraceContext,
    pub(crate) tracestate: Option<String>,
}

impl Creator {
    fn traceparent(&self) -> String {
        self.context.to_string()
    }
}
