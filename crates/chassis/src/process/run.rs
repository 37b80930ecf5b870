//! `main` of every service.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use telemetry::metrics::Registry;
use telemetry::{Settings, Telemetry, register_process_metrics};
use tokio::runtime::{Builder, Runtime};

use super::banner::announce;
use super::flags::{self, Task};
use super::healthcheck;
use super::notify::notify;
use super::signals::Signals;
use crate::VERSION;
use crate::clock::Clock;
use crate::config::{self, Base, Loaded, LogFormat, ServiceConfig};
use crate::context::{Context, Service, StartError};
use crate::problem::chain;
use crate::server::{self, Server, Sockets};

/// The command line or the settings cannot be used.
const USAGE: u8 = 2;

/// Blocking threads are for disk reads and name lookups; more would only queue at the disk.
const MAX_BLOCKING_THREADS: usize = 64;

/// Runs a service until a signal, or until it cannot go on. The exit code is 0 after a drain, 1 if
/// the service failed, and 2 if it was not given what it needs.
pub fn run<C, F, Fut>(start: F) -> ExitCode
where
    C: ServiceConfig,
    F: FnOnce(Context<C>) -> Fut,
    Fut: Future<Output = Result<Service, StartError>>,
{
    run_given(Given::to_process(), start)
}

/// What a process was given to start with.
#[derive(Clone, Debug)]
pub struct Given {
    /// The program's name first.
    pub arguments: Vec<String>,
    /// Names and values of the variables that are text.
    pub environment: Vec<(String, String)>,
}

impl Given {
    /// Of this process.
    #[must_use]
    pub fn to_process() -> Self {
        let variables = std::env::vars_os();
        let variables =
            variables.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let arguments = std::env::args_os();
        Self {
            arguments: arguments.map(|text| text.to_string_lossy().into_owned()).collect(),
            environment: variables.collect(),
        }
    }
}

/// As [`run`], for a service that reads its command line before.
pub fn run_given<C, F, Fut>(given: Given, start: F) -> ExitCode
where
    C: ServiceConfig,
    F: FnOnce(Context<C>) -> Fut,
    Fut: Future<Output = Result<Service, StartError>>,
{
    let Given { arguments, environment } = given;
    let (task, sources) = match flags::parse::<C>(arguments, environment.clone()) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(error.exit_code().clamp(0, 255) as u8);
        }
    };
    let loaded = match config::load::<C>(sources) {
        Ok(loaded) => loaded,
        Err(error) => return complain::<C>(&error, USAGE),
    };
    match task {
        Task::CheckConfig => check_config(&loaded),
        Task::Healthcheck => ask(loaded.config.base()),
        Task::Serve => serve(loaded.config, &environment, start),
    }
}

/// The last words of a process that cannot start or go on.
fn complain<C: ServiceConfig>(error: &(dyn std::error::Error + 'static), code: u8) -> ExitCode {
    telemetry::note!("quartet-{}: {}", C::SERVICE, chain(error));
    ExitCode::from(code)
}

fn check_config<C>(loaded: &Loaded<C>) -> ExitCode {
    say(&config::show(&loaded.effective));
    ExitCode::SUCCESS
}

/// To standard output. A reader that has gone (`| head`) is not an error.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn ask(base: &Base) -> ExitCode {
    match healthcheck::ask(base.listen) {
        Ok(Ok(answer)) => {
            say(&format!("{answer}\n"));
            ExitCode::SUCCESS
        }
        Ok(Err(answer)) => {
            telemetry::note!("{answer}");
            ExitCode::FAILURE
        }
        Err(error) => {
            telemetry::note!("http://{}/readyz: {error}; is it running?", base.listen);
            ExitCode::FAILURE
        }
    }
}

fn serve<C, F, Fut>(config: C, environment: &[(String, String)], start: F) -> ExitCode
where
    C: ServiceConfig,
    F: FnOnce(Context<C>) -> Fut,
    Fut: Future<Output = Result<Service, StartError>>,
{
    let env = |name: &str| {
        environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    };
    let metrics = Registry::default();
    let settings = telemetry_settings(&config);
    let telemetry = match telemetry::init(&settings, &metrics, &env) {
        Ok(telemetry) => telemetry,
        Err(error) => return complain::<C>(&error, USAGE),
    };
    log_panics();
    register_process_metrics(&metrics, C::SERVICE, VERSION);
    let runtime = match runtime(config.base().threads) {
        Ok(runtime) => runtime,
        Err(error) => return complain::<C>(&error, 1),
    };
    let systemd = env("NOTIFY_SOCKET");
    let process = Process { metrics, telemetry: &telemetry, systemd: systemd.as_deref() };
    let outcome = runtime.block_on(process.live(config, start));
    // A blocking read of a slow disk does not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    telemetry.shutdown();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain::<C>(&error, 1),
    }
}

fn telemetry_settings<C: ServiceConfig>(config: &C) -> Settings {
    let Base { node, log, telemetry, .. } = config.base();
    Settings {
        service: C::SERVICE.to_owned(),
        node: node.clone(),
        version: VERSION.to_owned(),
        otlp_endpoint: telemetry.otlp_endpoint.clone(),
        sample_ratio: telemetry.sample_ratio,
        log_level: log.level.clone(),
        log_json: log.format == LogFormat::Json,
    }
}

fn runtime(threads: usize) -> std::io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads(if threads == 0 { cores } else { threads })
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_name("quartet")
        .enable_all()
        .build()
}

/// A panic is one log line with its place; the request that met it is answered 500.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, message, "panic");
    }));
}

/// What a running process has besides its service.
struct Process<'a> {
    metrics: Registry,
    telemetry: &'a Telemetry,
    systemd: Option<&'a str>,
}

impl Process<'_> {
    /// Starts, serves, drains.
    async fn live<C, F, Fut>(self, config: C, start: F) -> Result<(), StartError>
    where
        C: ServiceConfig,
        F: FnOnce(Context<C>) -> Fut,
        Fut: Future<Output = Result<Service, StartError>>,
    {
        let mut signals = Signals::listen()
            .map_err(|error| StartError::with_source("signals cannot be received", error))?;
        let (listen, peer_listen) = (config.base().listen, config.base().peer_listen);
        let sockets = Sockets::bind(listen, peer_listen).await?;
        let starting = server::start(config, sockets, Clock::system(), self.metrics.clone(), start);
        let mut server = tokio::select! {
            server = starting => server?,
            // Nothing was acknowledged yet, so there is nothing to drain.
            name = signals.next() => {
                tracing::info!(signal = name, "stopped during the start");
                return Ok(());
            }
        };
        announce(&server, &self.telemetry.summary());
        notify(self.systemd, "READY=1");
        let failure = tokio::select! {
            name = signals.next() => {
                tracing::info!(signal = name, "draining");
                None
            }
            reason = &mut server.failed => Some(reason),
        };
        notify(self.systemd, "STOPPING=1");
        self.end(server, signals, failure).await
    }

    async fn end<C: ServiceConfig>(
        &self,
        server: Server<C>,
        signals: Signals,
        failure: Option<String>,
    ) -> Result<(), StartError> {
        match failure {
            None => {
                tokio::select! {
                    () = server.drain() => (),
                    () = signals.exit_at_next() => (),
                }
                tracing::info!("stopped");
                Ok(())
            }
            Some(reason) => {
                tracing::error!(reason, "the service cannot go on");
                // No drain: what is in progress could not be finished anyway.
                server.stop().await;
                Err(StartError::new(reason))
            }
        }
    }
}
