//! The real program, started as a user starts it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

pub(crate) struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quartet-coordinator"));
    command.current_dir(dir).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("ETCD_") || name.starts_with("QUARTET_") {
            command.env_remove(name);
        }
    }
    command
}

impl Process {
    /// Starts it and waits for the line that etcd has, too. Also returns what was said before.
    pub(crate) fn start(mut command: Command) -> (Self, Vec<String>) {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let process = Self { child, lines };
        let mut said = Vec::new();
        loop {
            let line = process.lines.recv_timeout(Duration::from_secs(30));
            let line = line.unwrap_or_else(|_| panic!("it did not start: {said:#?}"));
            let ready = line.contains("ready to serve client requests");
            said.push(line);
            if ready {
                return (process, said);
            }
        }
    }
}

/// Below the ports that the system gives out for outgoing connections: one of those may be taken
/// again before it is listened at.
pub(crate) fn free_port() -> u16 {
    let bind = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).ok();
    let draw = || Some(10_000 + bind(0)?.local_addr().ok()?.port() % 10_000);
    let free = (0..100).filter_map(|_| draw()).find(|port| bind(*port).is_some());
    free.expect("a port is free")
}

async fn get(url: String) -> serde_json::Value {
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap()
}

async fn post(url: String, body: serde_json::Value) -> serde_json::Value {
    let request = reqwest::Client::new().post(url).body(body.to_string());
    serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap()
}

/// As the tests of Patroni and the manuals of etcd start one.
#[tokio::test]
async fn it_starts_where_an_etcd_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let (client, peer) = (free_port(), free_port());
    let url = format!("http://127.0.0.1:{client}");
    let mut command = command(dir.path());
    command
        .args(["--name", "infra0", "--data-dir", "d", "--enable-v2=true", "--max-wals", "3"])
        .arg(format!("--listen-client-urls=http://localhost:{client},http://10.9.9.9:{client}"))
        .args(["--advertise-client-urls", &url])
        .arg(format!("-listen-peer-urls=http://127.0.0.1:{peer}"))
        .arg(format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"))
        .arg(format!("--initial-cluster=infra0=http://127.0.0.1:{peer}"))
        .args(["--initial-cluster-state=new", "--initial-cluster-token", "t1"])
        .args(["--heartbeat-interval=50", "--election-timeout", "500"])
        .args(["--quota-backend-bytes=8388608", "--pre-vote", "--logger=zap"]);
    let (_process, said) = Process::start(command);
    let said = said.join("\n");
    assert!(said.contains("--max-wals=3 is taken and has no effect"), "{said}");
    assert!(said.contains("10.9.9.9") && !said.contains("--name"), "{said}");
    let members = post(format!("{url}/v3/cluster/member/list"), serde_json::json!({})).await;
    assert_eq!(members["members"][0]["name"], "infra0");
    assert_eq!(members["members"][0]["clientURLs"][0], url);
    let cluster = get(format!("{url}/v1/cluster")).await;
    assert_eq!(cluster["quota_bytes"], 8 << 20);
    assert!(dir.path().join("d/wal").is_dir());
}

#[tokio::test]
async fn variables_of_an_etcd_count_and_flags_win() {
    let dir = tempfile::tempdir().unwrap();
    let (client, peer) = (free_port(), free_port());
    let mut command = command(dir.path());
    command
        .env("ETCD_NAME", "from-variable")
        .env("ETCD_LISTEN_CLIENT_URLS", format!("http://127.0.0.1:{client}"))
        .env("ETCD_LISTEN_PEER_URLS", format!("http://127.0.0.1:{peer}"))
        .env("ETCD_AUTH_TOKEN_TTL", "60")
        .args(["--name", "from-flag"]);
    let (_process, _) = Process::start(command);
    let version = get(format!("http://127.0.0.1:{client}/version")).await;
    assert_eq!(version["node"], "from-flag");
    assert!(dir.path().join("from-flag.etcd").is_dir(), "etcd's default directory");
}

#[tokio::test]
async fn a_request_that_a_flag_allows_meets_no_other_limit() {
    let dir = tempfile::tempdir().unwrap();
    let (client, peer) = (free_port(), free_port());
    let mut command = command(dir.path());
    command
        .arg(format!("--listen-client-urls=http://127.0.0.1:{client}"))
        .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
        .args(["--max-request-bytes", "8388608"]);
    let (_process, _) = Process::start(command);
    let put = async |bytes: usize| {
        let body = serde_json::json!({ "key": "YQ==", "value": "AAAA".repeat(bytes / 3) });
        post(format!("http://127.0.0.1:{client}/v3/kv/put"), body).await
    };
    assert_eq!(put(8_000_000).await["header"]["revision"], "2");
    assert_eq!(put(8_600_000).await["message"], "etcdserver: request is too large");
}

#[test]
fn what_would_promise_too_much_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, text) in [
        (&["--cert-file", "c.pem", "--key-file", "k.pem"][..], "TLS"),
        (&["--listen-client-urls", "https://127.0.0.1:1"], "TLS"),
        (&["--peer-client-cert-auth"], "TLS"),
        (&["--config-file", "etcd.yaml"], "TOML"),
        (&["--name", "a", "--initial-cluster", "b=http://127.0.0.1:1"], "initial_peers"),
        (&["--name", "a", "--election-timeout", "100"], "cluster.election_ms"),
        (&["--name"], "--name needs a value"),
        (&["--no-such-flag"], "--no-such-flag"),
    ] {
        let output = command(dir.path()).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(said.contains(text), "{arguments:?}: {said}");
    }
}
