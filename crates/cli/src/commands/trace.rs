//! `quartet trace`: a link to Jaeger, and the spans as a tree if Jaeger answers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use serde_json::{Value, json};

use super::Session;
use crate::args::TraceArgs;
use crate::http::Request;
use crate::output::{Output, say};

pub(crate) async fn run(session: &Session, args: &TraceArgs) -> anyhow::Result<()> {
    let id = args.id.to_ascii_lowercase();
    if id.len() != 32 || !id.bytes().all(|c| c.is_ascii_hexdigit()) {
        bail!("`{}` is no trace id: it has 32 hex digits, as in the header x-trace-id", args.id);
    }
    let jaeger = args.jaeger.trim_end_matches('/');
    let link = format!("{jaeger}/trace/{id}");
    let request =
        Request::get(format!("{jaeger}/api/v3/traces/{id}")).timeout(Duration::from_secs(5));
    let answer = session.http.send(request).await;
    let spans = match &answer {
        Ok(response) => spans(&response.parse()?),
        Err(_) => Vec::new(),
    };
    if session.output == Output::Json {
        return session.output.json(&json!({
            "trace_id": id,
            "url": link,
            "spans": spans.iter().map(Span::json).collect::<Vec<_>>(),
        }));
    }
    say!("{link}");
    match answer {
        Err(error) if error.status.is_none() => {
            crate::output::note!("no Jaeger answers at {jaeger}; start one with scripts/jaeger")
        }
        Err(_) => crate::output::note!(
            "Jaeger at {jaeger} does not know this trace (yet: services export every few seconds; \
             they need OTEL_EXPORTER_OTLP_ENDPOINT)"
        ),
        Ok(_) => say!("\n{}", tree(&spans)),
    }
    Ok(())
}

#[derive(Debug)]
struct Span {
    id: String,
    parent: String,
    service: String,
    name: String,
    start_ns: u64,
    end_ns: u64,
    failed: bool,
}

impl Span {
    fn json(&self) -> Value {
        json!({
            "span_id": self.id,
            "parent_span_id": self.parent,
            "service": self.service,
            "name": self.name,
            "start_ns": self.start_ns,
            "duration_ns": self.end_ns.saturating_sub(self.start_ns),
            "error": self.failed,
        })
    }
}

/// Reads `{"result":{"resourceSpans":[…]}}`: OTLP as JSON, where 64-bit numbers are strings.
fn spans(answer: &Value) -> Vec<Span> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number =
        |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default();
    let mut spans = Vec::new();
    for resource in list(&answer["result"]["resourceSpans"]) {
        let attributes = list(&resource["resource"]["attributes"]);
        let service = attributes
            .iter()
            .find(|attribute| attribute["key"] == "service.name")
            .map(|attribute| text(&attribute["value"]["stringValue"]))
            .unwrap_or_default();
        for span in list(&resource["scopeSpans"]).iter().flat_map(|scope| list(&scope["spans"])) {
            spans.push(Span {
                id: text(&span["spanId"]),
                parent: text(&span["parentSpanId"]),
                service: service.clone(),
                name: text(&span["name"]),
                start_ns: number(&span["startTimeUnixNano"]),
                end_ns: number(&span["endTimeUnixNano"]),
                failed: number(&span["status"]["code"]) == 2,
            });
        }
    }
    spans.sort_by_key(|span| span.start_ns);
    spans
}

/// One line a span, children below their parent. A span whose parent is not there is a root.
fn tree(spans: &[Span]) -> String {
    let mut children: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    let mut waiting = Vec::new();
    for span in spans {
        if spans.iter().any(|other| other.id == span.parent) {
            children.entry(&span.parent).or_default().push(span);
        } else {
            waiting.push((0, span));
        }
    }
    waiting.reverse();
    let begin = spans.first().map_or(0, |span| span.start_ns);
    let mut lines = Vec::new();
    while let Some((depth, span)) = waiting.pop() {
        lines.push(line(depth, span, begin));
        let below = children.remove(span.id.as_str()).unwrap_or_default();
        waiting.extend(below.into_iter().rev().map(|child| (depth + 1, child)));
    }
    lines.join("\n")
}

fn line(depth: usize, span: &Span, begin: u64) -> String {
    let name = format!("{}{} {}", "  ".repeat(depth), span.service, span.name);
    let (start, took) = (
        micros(span.start_ns.saturating_sub(begin)),
        micros(span.end_ns.saturating_sub(span.start_ns)),
    );
    let failed = if span.failed { "  FAILED" } else { "" };
    format!("{name:<70} +{start:>9}  {took:>9}{failed}")
}

/// Nanoseconds as milliseconds with a microsecond's precision.
fn micros(nanoseconds: u64) -> String {
    let micros = nanoseconds / 1_000;
    format!("{}.{:03} ms", micros / 1_000, micros % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_jaeger_becomes_a_tree() {
        let answer = json!({"result": {"resourceSpans": [
            {"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "quartet-broker"}}]},
             "scopeSpans": [{"spans": [
                {"spanId": "b", "parentSpanId": "a", "name": "POST /x",
                 "startTimeUnixNano": "1000002000", "endTimeUnixNano": "1000003000"}]}]},
            {"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "quartet-gateway"}}]},
             "scopeSpans": [{"spans": [
                {"spanId": "a", "name": "POST /broker/{*path}", "status": {"code": 2},
                 "startTimeUnixNano": "1000000000", "endTimeUnixNano": "1000009000"}]}]}
        ]}});
        let text = tree(&spans(&answer));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("quartet-gateway POST /broker/{*path}"), "{text}");
        assert!(lines[0].ends_with("FAILED"), "{text}");
        assert!(lines[1].starts_with("  quartet-broker POST /x"), "{text}");
        assert!(lines[1].ends_with("0.001 ms"), "{text}");
    }
}
