//! Starting and ending as a process: exit codes, signals, the last spans.

use reqwest::Client;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::collector::{Collector, Manner};
use crate::trial::{Trial, command};

#[tokio::test]
async fn sigterm_ends_a_process_with_everything_open() {
    let trial = Trial::start(command()).await;
    let client = Client::new();
    let url = trial.url.clone();
    let mut events = client.get(format!("{url}/events")).send().await.unwrap();
    events.chunk().await.unwrap();
    client.get(format!("{url}/items/7")).send().await.unwrap();
    let mut polls = JoinSet::new();
    polls.spawn(client.get(format!("{url}/poll")).send());
    until_active(&client, &url, 1).await;
    trial.signal("TERM");
    let (status, said) = trial.end().await;
    assert!(status.success(), "{status}\n{said}");
    assert_eq!(events.chunk().await.unwrap().unwrap(), ": draining, reconnect\n\n");
    assert_eq!(polls.join_next().await.unwrap().unwrap().unwrap().text().await.unwrap(), "null");
}

/// Waits until this many requests are in progress.
async fn until_active(client: &Client, url: &str, count: usize) {
    let line = format!("http_server_active_requests {count}");
    bounded(async {
        loop {
            let metrics = client.get(format!("{url}/metrics")).send().await.unwrap();
            if metrics.text().await.unwrap().contains(&line) {
                return;
            }
        }
    })
    .await;
}

/// Waits for what must come, but not for ever.
async fn bounded(wait: impl Future<Output = ()>) {
    let minute = std::time::Duration::from_secs(60);
    tokio::time::timeout(minute, wait).await.expect("it comes in time");
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut command = command();
    command.args(["--set", "drain.timeout_seconds=3600"]);
    let trial = Trial::start(command).await;
    let mut requests = JoinSet::new();
    requests.spawn(Client::new().get(format!("{}/slow", trial.url)).send());
    until_active(&Client::new(), &trial.url, 1).await;
    trial.signal("TERM");
    // Refused connections say that the first signal has arrived.
    let refused =
        async { while Client::new().get(format!("{}/livez", trial.url)).send().await.is_ok() {} };
    bounded(refused).await;
    trial.signal("INT");
    let (status, said) = trial.end().await;
    assert_eq!(status.code(), Some(130), "{said}");
}

#[tokio::test]
async fn a_service_that_cannot_go_on_ends_its_process_and_says_why() {
    let trial = Trial::start(command()).await;
    let _ = Client::new().post(format!("{}/fail", trial.url)).send().await;
    let (status, said) = trial.end().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("quartet-trial: the log cannot be written: no space left"), "{said}");
}

#[tokio::test]
async fn what_cannot_start_says_what_to_change() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (arguments, code, text) in [
        (["--set", &format!("listen={address}")], 1, "choose another `listen`"),
        (["--set", "limits.max_body=1"], 2, "did you mean `limits.max_body_bytes`?"),
        (["--set", "telemetry.otlp_endpoint=localhost:4317"], 2, "must begin with http://"),
    ] {
        let mut command = command();
        let output = command.args(arguments).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(text), "{said}");
    }
}

#[tokio::test]
async fn a_healthcheck_answers_by_its_exit_code() {
    let trial = Trial::start(command()).await;
    let listen = trial.url.trim_start_matches("http://").to_owned();
    let check = async |listen: String| {
        let mut command = command();
        command.args(["--set", &format!("listen={listen}"), "healthcheck"]).output().await.unwrap()
    };
    let healthy = check(listen.clone()).await;
    assert_eq!((healthy.status.code(), healthy.stdout.as_slice()), (Some(0), &b"ok\n"[..]));
    trial.signal("TERM");
    trial.end().await;
    assert_eq!(check(listen).await.status.code(), Some(1));
}

/// A request of a caller that samples, then SIGTERM.
async fn one_traced_request(collector: &Collector) -> (std::process::ExitStatus, String) {
    let mut command = command();
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url());
    let trial = Trial::start(command).await;
    let request = Client::new().get(format!("{}/items/7?token=hunter2", trial.url));
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = request.header("traceparent", traceparent).bearer_auth("hunter2");
    assert_eq!(request.send().await.unwrap().status(), 200);
    trial.signal("TERM");
    trial.end().await
}

#[tokio::test]
async fn the_last_spans_are_exported_before_the_process_ends() {
    let collector = Collector::start(Manner::Take).await;
    let (status, said) = one_traced_request(&collector).await;
    assert!(status.success(), "{said}");
    assert!(
        said.contains(&format!("OTLP http/protobuf -> {}/v1/traces", collector.url())),
        "{said}"
    );
    let exported = collector.exported();
    let spans: Vec<_> = exported.iter().flat_map(|request| &request.scope_spans).collect();
    let span = &spans[0].spans[0];
    assert_eq!(span.name, "GET /items/{id}");
    assert_eq!(span.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    assert_eq!(span.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    let text = format!("{exported:?}");
    for part in ["quartet-trial", "service.instance.id", "trial-1", "service.namespace"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_collector_that_hangs_or_refuses_keeps_no_process_from_ending() {
    for manner in [Manner::Hang, Manner::Refuse] {
        let collector = Collector::start(manner).await;
        let (status, said) = one_traced_request(&collector).await;
        assert!(status.success(), "{said}");
    }
}
