//! What to export and where to, from our settings and the `OTEL_*` variables.

use std::fmt;

use crate::metrics::Exemplars;
use crate::trace::{Propagators, Sampler};

/// Spans that wait for export, unless `OTEL_BSP_MAX_QUEUE_SIZE` says otherwise.
const DEFAULT_QUEUE: usize = 2048;

/// The standard's default, used when an exporter is asked for by name and no address is given.
const DEFAULT_ENDPOINT: &str = "http://localhost:4318";

/// What a process says about itself and about its telemetry.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `coordinator`, `broker`, `replica` or `gateway`; `service.name` is `quartet-<service>`.
    pub service: String,
    /// `service.instance.id`.
    pub node: String,
    /// `service.version`.
    pub version: String,
    /// OTLP base URL, such as `http://localhost:4318`; empty: none.
    pub otlp_endpoint: String,
    /// Share of new traces that are recorded.
    pub sample_ratio: f64,
    /// `info`, or per module as in `info,hyper=warn`.
    pub log_level: String,
    /// JSON lines instead of text.
    pub log_json: bool,
}

/// Looks an environment variable up. Passed in, so that only one place reads the environment.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Telemetry cannot be set up as asked.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The URL has no scheme that we can speak.
    #[error("`{url}` is not an OTLP address; it must begin with http://, as in {DEFAULT_ENDPOINT}")]
    Endpoint {
        /// As it was given.
        url: String,
    },
    /// Encryption is not built in.
    #[error(
        "`{url}`: exporting over https is not supported; send to a collector on this machine over \
         http, which can forward it"
    )]
    Https {
        /// As it was given.
        url: String,
    },
    /// The log filter does not parse.
    #[error("`{level}` is not a log level; write `info`, or `info,hyper=warn`")]
    LogLevel {
        /// As it was given.
        level: String,
    },
    /// The exporter could not be built.
    #[error("the exporter to {url} could not be built")]
    Exporter {
        /// Where it should have sent.
        url: String,
        /// What its builder said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Destination {
    /// No spans are made; the text says why.
    Off(&'static str),
    /// One line a span on standard error.
    Console,
    /// OTLP over HTTP, to this very URL.
    Otlp { url: String },
}

/// The decisions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) destination: Destination,
    pub(crate) sampler: Sampler,
    pub(crate) propagators: Propagators,
    pub(crate) queue: usize,
    pub(crate) exemplars: Exemplars,
    /// Characters of a text attribute that are kept; `None`: all.
    pub(crate) max_attribute_len: Option<usize>,
    /// The level of the SDK's own log lines.
    pub(crate) sdk_log_level: Option<String>,
    /// What was asked for and not understood; logged once logging works.
    pub(crate) warnings: Vec<String>,
}

impl Plan {
    /// `OTEL_*` wins over `settings`, as everywhere where OpenTelemetry is used.
    pub(crate) fn new(settings: &Settings, env: Lookup<'_>) -> Result<Self, InitError> {
        // By the standard an empty variable is as good as none.
        let get = |name: &str| env(name).filter(|value| !value.trim().is_empty());
        let mut warnings = Vec::new();
        let destination = destination(settings, &get, &mut warnings)?;
        let sampler = sampler(settings, &get, &mut warnings);
        let propagators = propagators(&get, &mut warnings);
        let queue = get("OTEL_BSP_MAX_QUEUE_SIZE").and_then(|value| value.trim().parse().ok());
        let queue = queue.filter(|queue| 0 < *queue).unwrap_or(DEFAULT_QUEUE);
        let exemplars = exemplars(&get, &mut warnings);
        let max_attribute_len = get("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT")
            .or_else(|| get("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"))
            .and_then(|value| value.trim().parse().ok());
        let sdk_log_level = get("OTEL_LOG_LEVEL");
        if get("OTEL_METRICS_EXPORTER").is_some_and(|name| !matches!(&*name, "prometheus" | "none"))
        {
            let text = "OTEL_METRICS_EXPORTER: metrics are not pushed; scrape /metrics";
            warnings.push(text.to_owned());
        }
        Ok(Self {
            destination,
            sampler,
            propagators,
            queue,
            exemplars,
            max_attribute_len,
            sdk_log_level,
            warnings,
        })
    }
}

fn destination(
    settings: &Settings,
    get: Lookup<'_>,
    warnings: &mut Vec<String>,
) -> Result<Destination, InitError> {
    if get("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
        return Ok(Destination::Off("OTEL_SDK_DISABLED is set"));
    }
    let exporter = get("OTEL_TRACES_EXPORTER");
    match exporter.as_deref().map(str::trim) {
        Some("none") => return Ok(Destination::Off("OTEL_TRACES_EXPORTER is none")),
        Some("console") => return Ok(Destination::Console),
        None | Some("otlp") => (),
        Some(other) => warnings.push(format!(
            "OTEL_TRACES_EXPORTER: `{other}` is not otlp, console or none; using otlp"
        )),
    }
    let protocol =
        get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| get("OTEL_EXPORTER_OTLP_PROTOCOL"));
    if let Some(protocol) = protocol.filter(|protocol| protocol.trim() != "http/protobuf") {
        warnings.push(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL: `{protocol}` is not supported; using http/protobuf, whose \
             port is 4318"
        ));
    }
    let base = get("OTEL_EXPORTER_OTLP_ENDPOINT")
        .or_else(|| Some(settings.otlp_endpoint.clone()).filter(|url| !url.is_empty()))
        .or_else(|| exporter.is_some().then(|| DEFAULT_ENDPOINT.to_owned()));
    // The signal's own variable is used as it is, the general one is a base.
    let url = match (get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), base) {
        (Some(url), _) => url.trim().to_owned(),
        (None, Some(base)) => traces_url(base.trim()),
        (None, None) => return Ok(Destination::Off("no OTEL_EXPORTER_OTLP_ENDPOINT")),
    };
    if url.starts_with("https://") {
        return Err(InitError::Https { url });
    }
    if !url.starts_with("http://") {
        return Err(InitError::Endpoint { url });
    }
    Ok(Destination::Otlp { url })
}

fn exemplars(get: Lookup<'_>, warnings: &mut Vec<String>) -> Exemplars {
    match get("OTEL_METRICS_EXEMPLAR_FILTER").as_deref().map(str::trim) {
        None | Some("trace_based") => Exemplars::Sampled,
        Some("always_on") => Exemplars::All,
        Some("always_off") => Exemplars::None,
        Some(other) => {
            let text = format!("OTEL_METRICS_EXEMPLAR_FILTER: `{other}` is not known; ignored");
            warnings.push(text);
            Exemplars::Sampled
        }
    }
}

/// A base that names the path already is a common and harmless mistake.
fn traces_url(base: &str) -> String {
    let base = base.trim_end_matches('/');
    if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") }
}

fn sampler(settings: &Settings, get: Lookup<'_>, warnings: &mut Vec<String>) -> Sampler {
    let fallback = Sampler { parent_based: true, ratio: settings.sample_ratio };
    let argument = get("OTEL_TRACES_SAMPLER_ARG");
    let ratio = argument.as_ref().and_then(|text| text.trim().parse::<f64>().ok());
    let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
    if let (Some(text), None) = (&argument, ratio) {
        warnings.push(format!("OTEL_TRACES_SAMPLER_ARG: `{text}` is not between 0 and 1; ignored"));
    }
    let Some(name) = get("OTEL_TRACES_SAMPLER") else { return fallback };
    Sampler::parse(name.trim(), ratio.unwrap_or(1.0)).unwrap_or_else(|| {
        warnings.push(format!("OTEL_TRACES_SAMPLER: `{name}` is not known; using {fallback}"));
        fallback
    })
}

fn propagators(get: Lookup<'_>, warnings: &mut Vec<String>) -> Propagators {
    let Some(names) = get("OTEL_PROPAGATORS") else {
        return Propagators { trace_context: true, baggage: true };
    };
    let mut propagators = Propagators { trace_context: false, baggage: false };
    for name in names.split(',').map(str::trim) {
        match name {
            "tracecontext" => propagators.trace_context = true,
            "baggage" => propagators.baggage = true,
            "none" | "" => (),
            other => warnings.push(format!(
                "OTEL_PROPAGATORS: `{other}` is not tracecontext or baggage; ignored"
            )),
        }
    }
    propagators
}

/// The start-up line.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.destination {
            Destination::Off(why) => write!(f, "tracing: off ({why})"),
            Destination::Console => write!(f, "tracing: console (sampler {})", self.sampler),
            Destination::Otlp { url } => {
                write!(f, "tracing: OTLP http/protobuf -> {url} (sampler {})", self.sampler)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(otlp_endpoint: &str) -> Settings {
        Settings {
            service: "broker".into(),
            node: "broker-1".into(),
            version: "0".into(),
            otlp_endpoint: otlp_endpoint.into(),
            sample_ratio: 0.5,
            log_level: "info".into(),
            log_json: false,
        }
    }

    fn plan(endpoint: &str, variables: &[(&str, &str)]) -> Result<Plan, InitError> {
        let env = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Plan::new(&settings(endpoint), &env)
    }

    #[track_caller]
    fn goes_to(endpoint: &str, variables: &[(&str, &str)], url: &str) {
        let destination = plan(endpoint, variables).unwrap().destination;
        assert_eq!(destination, Destination::Otlp { url: url.into() });
    }

    #[track_caller]
    fn is_off(endpoint: &str, variables: &[(&str, &str)]) {
        let destination = plan(endpoint, variables).unwrap().destination;
        assert!(matches!(destination, Destination::Off(_)), "{destination:?}");
    }

    #[test]
    fn spans_go_nowhere_unless_somebody_says_where() {
        is_off("", &[]);
        is_off("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]);
        is_off("http://a:4318", &[("OTEL_SDK_DISABLED", "TRUE")]);
        is_off("http://a:4318", &[("OTEL_TRACES_EXPORTER", "none")]);
    }

    #[test]
    fn the_general_endpoint_is_a_base_and_the_signals_own_is_verbatim() {
        goes_to("http://a:4318/", &[], "http://a:4318/v1/traces");
        goes_to("http://a:4318/v1/traces", &[], "http://a:4318/v1/traces");
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:4318");
        goes_to("http://a:4318", &[general], "http://b:4318/v1/traces");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4318/here");
        goes_to("http://a:4318", &[general, own], "http://c:4318/here");
        goes_to("", &[("OTEL_TRACES_EXPORTER", "otlp")], "http://localhost:4318/v1/traces");
    }

    #[test]
    fn an_address_that_cannot_work_is_an_error_that_says_what_can() {
        assert!(matches!(plan("https://a", &[]), Err(InitError::Https { .. })));
        assert!(matches!(plan("localhost:4318", &[]), Err(InitError::Endpoint { .. })));
    }

    #[test]
    fn the_standards_variables_win_and_bad_ones_are_reported() {
        assert_eq!(plan("", &[]).unwrap().sampler, Sampler { parent_based: true, ratio: 0.5 });
        let ratio = ("OTEL_TRACES_SAMPLER_ARG", "0.1");
        let by_id = plan("", &[("OTEL_TRACES_SAMPLER", "traceidratio"), ratio]).unwrap();
        assert_eq!(by_id.sampler, Sampler { parent_based: false, ratio: 0.1 });
        let jaeger = plan("", &[("OTEL_TRACES_SAMPLER", "jaeger_remote")]).unwrap();
        assert_eq!((jaeger.sampler.ratio, jaeger.warnings.len()), (0.5, 1));
        let grpc = plan("", &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap();
        assert!(grpc.warnings[0].contains("4318"), "{:?}", grpc.warnings);
        let none = plan("", &[("OTEL_PROPAGATORS", "none")]).unwrap().propagators;
        assert_eq!(none, Propagators { trace_context: false, baggage: false });
        let b3 = plan("", &[("OTEL_PROPAGATORS", "b3,baggage")]).unwrap();
        assert!(b3.propagators.baggage && !b3.propagators.trace_context);
        assert_eq!(b3.warnings.len(), 1);
        let off = plan("", &[("OTEL_METRICS_EXEMPLAR_FILTER", "always_off")]).unwrap();
        assert_eq!(off.exemplars, Exemplars::None);
        let short = plan("", &[("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "64")]).unwrap();
        assert_eq!(short.max_attribute_len, Some(64));
        let pushed = plan("", &[("OTEL_METRICS_EXPORTER", "otlp")]).unwrap();
        assert!(pushed.warnings[0].contains("/metrics"));
        assert_eq!(plan("", &[("OTEL_BSP_MAX_QUEUE_SIZE", "65536")]).unwrap().queue, 65536);
    }
}
