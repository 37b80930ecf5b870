//! Start and end of a process's telemetry.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler as SdkSampler, SdkTracerProvider};
use tracing_appender::non_blocking::WorkerGuard;

use crate::export::{self, Accounts};
use crate::logs;
use crate::metrics::Registry;
use crate::settings::{Destination, InitError, Lookup, Plan, Settings};
use crate::trace::{self, Ids};

/// The last spans get this long; a sink that hangs does not keep a process from ending.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// The running telemetry of a process. [`Telemetry::shutdown`] comes last.
#[derive(Debug)]
pub struct Telemetry {
    plan: Plan,
    export: Option<(SdkTracerProvider, Accounts)>,
    /// Dropped last: it writes the last lines.
    _logs: WorkerGuard,
}

/// Starts logs and, if there is somewhere to send them, traces. Call it before the tokio runtime
/// exists: the exporter's client blocks, and is refused inside one.
pub fn init(
    settings: &Settings,
    registry: &Registry,
    env: Lookup<'_>,
) -> Result<Telemetry, InitError> {
    let plan = Plan::new(settings, env)?;
    let logs = logs::init(&settings.log_level, plan.sdk_log_level.as_deref(), settings.log_json)?;
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    plan.propagators.install();
    plan.exemplars.install();
    if let Some(max) = plan.max_attribute_len {
        trace::limit_attributes(max);
    }
    let name = env("OTEL_SERVICE_NAME").filter(|name| !name.is_empty());
    let export = start_export(&plan, resource(settings, name), registry)?;
    Ok(Telemetry { plan, export, _logs: logs })
}

fn start_export(
    plan: &Plan,
    resource: Resource,
    registry: &Registry,
) -> Result<Option<(SdkTracerProvider, Accounts)>, InitError> {
    let builder = SdkTracerProvider::builder()
        .with_id_generator(Ids)
        // Whether to sample is decided before the SDK sees a span: see `trace::Span`.
        .with_sampler(SdkSampler::AlwaysOn)
        .with_resource(resource);
    let accounts = Accounts::new(registry);
    let provider = match &plan.destination {
        Destination::Off(_) => return Ok(None),
        Destination::Console => builder.with_span_processor(export::Console).build(),
        Destination::Otlp { url } => {
            builder.with_span_processor(export::otlp(url, plan.queue, &accounts)?).build()
        }
    };
    trace::install(provider.tracer("quartet"), plan.sampler);
    Ok(Some((provider, accounts)))
}

/// Equal on all nodes of a kind, except for `service.instance.id`: a name per node would splinter
/// the service map. `OTEL_SERVICE_NAME` wins; `OTEL_RESOURCE_ATTRIBUTES` is read by the builder.
fn resource(settings: &Settings, name: Option<String>) -> Resource {
    let name = name.unwrap_or_else(|| format!("quartet-{}", settings.service));
    Resource::builder()
        .with_service_name(name)
        .with_attributes([
            KeyValue::new("service.instance.id", settings.node.clone()),
            KeyValue::new("service.namespace", "quartet"),
            KeyValue::new("service.version", settings.version.clone()),
        ])
        .build()
}

impl Telemetry {
    /// `tracing: OTLP http/protobuf -> http://… (sampler …)`, for the start-up banner.
    #[must_use]
    pub fn summary(&self) -> String {
        self.plan.to_string()
    }

    /// Whether spans are made.
    #[must_use]
    pub fn is_tracing(&self) -> bool {
        self.export.is_some()
    }

    /// Sends the last spans and lines, for at most three seconds. It blocks: call it outside the
    /// runtime, or from a blocking thread.
    pub fn shutdown(self) {
        let Some((provider, accounts)) = self.export else { return };
        if let Err(error) = provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT) {
            tracing::warn!(%error, "the last spans may be lost");
        }
        let dropped = accounts.dropped();
        if 0 < dropped {
            tracing::warn!(dropped, "dropped spans");
        }
    }
}
