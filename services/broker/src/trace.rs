//! Spans of consumers: what was received, and who made it.

use messaging::frame::Envelope;
use messaging::ids::Name;
use telemetry::trace::{ActiveSpan, MAX_LINKS, Span};

use crate::broker::{Correlation, creation_context};

/// The span of a receive or pull. Internal: the consumer is the one that calls us, and a span of
/// another kind would invent a second broker in service graphs.
pub(crate) fn receive(destination: &Name) -> ActiveSpan {
    described(Span::internal("receive").subject(destination.as_str()), "receive", destination)
        .start()
}

/// The span of a message that is pushed: what its webhook does stands below it, and the publish
/// is linked, or where configured its parent.
pub(crate) fn process(
    correlation: Correlation,
    (topic, subscription): (&Name, &Name),
    envelope: &Envelope,
) -> ActiveSpan {
    let mut span = Span::consumer("process").subject(topic.as_str());
    if let Some(created) = creation_context(&envelope.attributes) {
        span = match correlation {
            Correlation::Parent => span.parent(created),
            Correlation::Link => span.link(created),
        };
    }
    let mut span = described(span, "process", topic).start();
    span.set("messaging.destination.subscription.name", subscription.to_string());
    span
}

/// The span of settling messages.
pub(crate) fn settle(name: &'static str, destination: &Name) -> ActiveSpan {
    described(Span::internal(name).subject(destination.as_str()), name, destination).start()
}

/// Ties received messages to the spans that made them: by links, and where configured also by a
/// span in the trace of each publisher.
pub(crate) fn received<'a>(
    span: &mut ActiveSpan,
    correlation: Correlation,
    destination: &Name,
    envelopes: impl Iterator<Item = &'a Envelope>,
) {
    if !span.is_recorded() {
        return;
    }
    let mut count = 0_i64;
    for envelope in envelopes {
        count += 1;
        let Some(context) = creation_context(&envelope.attributes) else { continue };
        if count as usize <= MAX_LINKS {
            span.link(context);
            if correlation == Correlation::Parent {
                let joined = Span::internal("receive").parent(context);
                let joined = joined.subject(destination.as_str()).link(span.context());
                described(joined, "receive", destination).start().end();
            }
        }
    }
    span.set("messaging.batch.message_count", count);
}

fn described(span: Span, operation: &'static str, destination: &Name) -> Span {
    if !span.is_recorded() {
        return span;
    }
    let kind = match operation {
        "receive" | "process" => operation,
        _ => "settle",
    };
    span.attr("messaging.system", "quartet")
        .attr("messaging.operation.name", operation)
        .attr("messaging.operation.type", kind)
        .attr("messaging.destination.name", destination.to_string())
}
