//! The way of a span out of the process: a bounded queue, a thread, HTTP.
//!
//! The SDK's batch processor does the work. Around it are two counters, because it does not tell
//! how many spans it drops: one bound before its queue, and one look at each export's result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::{
    SpanExporter as OtlpExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};

use crate::metrics::{Counter, Registry};
use crate::settings::InitError;

/// One export, connection and answer together, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of spans.
#[derive(Clone, Debug)]
pub(crate) struct Accounts {
    /// Spans that ended and are not yet with the exporter.
    waiting: Arc<AtomicUsize>,
    exported: Counter,
    queue_full: Counter,
    export_failed: Counter,
}

impl Accounts {
    pub(crate) fn new(registry: &Registry) -> Self {
        let dropped = registry.counters(
            "telemetry_spans_dropped",
            "Spans that were recorded and lost.",
            &["reason"],
        );
        Self {
            waiting: Arc::default(),
            exported: registry.counter("telemetry_spans_exported", "Spans that were exported."),
            queue_full: dropped.with(&["queue_full"]),
            export_failed: dropped.with(&["export_failed"]),
        }
    }

    /// All that was lost so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.queue_full.get() + self.export_failed.get()
    }
}

/// The processor for OTLP to `url`. Must be called outside a tokio runtime: the client blocks.
pub(crate) fn otlp(
    url: &str,
    queue: usize,
    accounts: &Accounts,
) -> Result<impl SpanProcessor + use<>, InitError> {
    let failed = |source| InitError::Exporter { url: url.to_owned(), source };
    let client = reqwest::blocking::Client::builder()
        .timeout(EXPORT_TIMEOUT)
        .no_proxy()
        .build()
        .map_err(|error| failed(error.into()))?;
    let exporter = OtlpExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(url)
        .build()
        .map_err(|error| failed(error.into()))?;
    let exporter = Counted {
        inner: exporter,
        url: url.to_owned(),
        accounts: accounts.clone(),
        warned: false.into(),
    };
    let config = BatchConfigBuilder::default().with_max_queue_size(queue).build();
    let inner = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    Ok(Bounded { inner, queue, accounts: accounts.clone() })
}

/// Drops what the queue cannot take, and counts it.
#[derive(Debug)]
struct Bounded<P> {
    inner: P,
    queue: usize,
    accounts: Accounts,
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        let Accounts { waiting, queue_full, .. } = &self.accounts;
        if self.queue <= waiting.fetch_add(1, Ordering::Relaxed) {
            waiting.fetch_sub(1, Ordering::Relaxed);
            queue_full.inc();
            return;
        }
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Counts results, and explains the first failure once.
#[derive(Debug)]
struct Counted<E> {
    inner: E,
    url: String,
    accounts: Accounts,
    warned: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let len = batch.len();
        self.accounts.waiting.fetch_sub(len, Ordering::Relaxed);
        let result = self.inner.export(batch).await;
        match &result {
            Ok(()) => {
                self.accounts.exported.add(len as u64);
                if self.warned.swap(false, Ordering::Relaxed) {
                    tracing::info!(url = self.url, "traces are exported again");
                }
            }
            Err(error) => {
                self.accounts.export_failed.add(len as u64);
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        url = self.url,
                        %error,
                        hint = hint(&self.url),
                        "traces cannot be exported; said once, see telemetry_spans_dropped_total"
                    );
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// What is usually wrong.
fn hint(url: &str) -> &'static str {
    if url.contains(":4317") {
        "4317 is the gRPC port of OTLP; http/protobuf is on 4318"
    } else if !url.ends_with("/v1/traces") {
        "an address in OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is used as it is; it usually ends in /v1/traces"
    } else {
        "is a collector (Jaeger: port 4318) running there?"
    }
}

/// One line a span on standard error, for looking at spans without a collector.
#[derive(Debug)]
pub(crate) struct Console;

impl SpanProcessor for Console {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        let took = span.end_time.duration_since(span.start_time).unwrap_or_default();
        let attributes = span.attributes.iter().map(|kv| format!(" {}={}", kv.key, kv.value));
        crate::note!(
            "span {} {} parent={} {:?} `{}` {took:?}{}",
            span.span_context.trace_id(),
            span.span_context.span_id(),
            span.parent_span_id,
            span.span_kind,
            span.name,
            attributes.collect::<String>()
        );
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::error::OTelSdkError;
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;
    use crate::metrics::Format;

    /// Keeps what it gets, like a queue whose other end is stuck.
    #[derive(Debug, Default)]
    struct Stuck(Mutex<Vec<SpanData>>);

    impl SpanProcessor for Stuck {
        fn on_start(&self, _span: &mut Span, _context: &Context) {}

        fn on_end(&self, span: SpanData) {
            self.0.lock().unwrap().push(span);
        }

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    #[derive(Debug)]
    struct Refusing;

    impl SpanExporter for Refusing {
        async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
            Err(OTelSdkError::InternalFailure("503".to_owned()))
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts_instead_of_waiting() {
        let registry = Registry::default();
        let accounts = Accounts::new(&registry);
        let queue = Bounded { inner: Stuck::default(), queue: 2, accounts: accounts.clone() };
        let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
        for _ in 0..5 {
            provider.tracer("test").start("span");
        }
        assert_eq!(accounts.dropped(), 3);
        let text = registry.encode(Format::OpenMetrics);
        assert!(text.contains("telemetry_spans_dropped_total{reason=\"queue_full\"} 3"), "{text}");
    }

    #[test]
    fn a_refused_export_counts_as_lost() {
        let accounts = Accounts::new(&Registry::default());
        let url = "http://localhost:4317/v1/traces".to_owned();
        let warned = AtomicBool::new(false);
        let exporter = Counted { inner: Refusing, url, accounts: accounts.clone(), warned };
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
        provider.tracer("test").start("span");
        assert_eq!(accounts.dropped(), 1);
    }

    #[test]
    fn the_usual_mistakes_are_named() {
        assert!(hint("http://a:4317/v1/traces").contains("4318"));
        assert!(hint("http://a:4318").contains("/v1/traces"));
        assert!(hint("http://a:4318/v1/traces").contains("running"));
    }
}
