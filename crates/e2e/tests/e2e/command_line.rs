//! The command `quartet`, as a user has it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::node::{binary, free_ports};

/// A cluster of its own, stopped at the end whatever happens.
struct Cluster {
    directory: tempfile::TempDir,
    offset: String,
}

impl Cluster {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), offset: free_offset().to_string() }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(binary("quartet"))
            .args(["--port-offset", &self.offset])
            .args(arguments)
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed. Returns its stdout.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "quartet {}: {said}", arguments.join(" "));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[&["--output", "json"], arguments].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    fn data(&self) -> &Path {
        self.directory.path()
    }
}

/// Moves all ports of the cluster to where they are free: far from the standard ones, and below
/// those that the system gives out for outgoing connections (from 32768 on).
fn free_offset() -> u16 {
    /// Of the five services that are started here; the next port is the one for peers.
    const PORTS: [u16; 5] = [2379, 6300, 7070, 8080, 16_300];
    for _ in 0..100 {
        let [drawn, _] = free_ports();
        let offset = 9_000 + drawn % 7_400;
        let all = || PORTS.iter().flat_map(|port| [port + offset, port + offset + 1]);
        assert!(all().all(|port| port < 32_768));
        if all().all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return offset;
        }
    }
    panic!("no offset is free");
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let data = self.data().to_str().expect("a plain path").to_owned();
        let _ = self.run(&["down", "--data", &data]);
    }
}

#[test]
fn a_cluster_is_started_used_and_stopped() {
    let cluster = Cluster::new();
    let data = cluster.data().to_str().unwrap().to_owned();
    let banner = cluster.ok(&["up", "--replicas", "2", "--detach", "--data", &data]);
    assert!(banner.contains("gateway-1") && banner.contains("curl"), "{banner}");

    let status = cluster.json(&["status", "--data", &data]);
    let states: Vec<_> = status.as_array().unwrap().iter().map(|row| &row["state"]).collect();
    assert_eq!(states, ["ready"; 5], "{status}");

    keys(&cluster);
    topics(&cluster);
    queues(&cluster);
    gateway(&cluster);

    // `up` again starts what was killed, and only that.
    let pid = status[1]["pid"].to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    cluster.ok(&["up", "--replicas", "2", "--detach", "--data", &data]);
    let again = cluster.json(&["status", "--data", &data]);
    assert_ne!(again[1]["pid"], status[1]["pid"]);
    assert_eq!(again[0]["pid"], status[0]["pid"]);

    cluster.ok(&["down", "--wipe", "--data", &data]);
    assert!(!cluster.data().join("broker-1").exists());
}

fn keys(cluster: &Cluster) {
    for store in ["coordinator", "replica"] {
        cluster.ok(&["kv", "--store", store, "put", "color", "blue"]);
        assert_eq!(cluster.ok(&["kv", "--store", store, "get", "color"]), "blue\n");
        let listed = cluster.ok(&["kv", "--store", store, "ls", "col"]);
        assert!(listed.contains("blue"), "{listed}");
        cluster.ok(&["kv", "--store", store, "del", "color"]);
        let gone = cluster.run(&["kv", "--store", store, "get", "color"]);
        assert_eq!(gone.status.code(), Some(1));
        assert!(gone.stdout.is_empty());
    }
}

fn topics(cluster: &Cluster) {
    cluster.ok(&["topic", "create", "orders", "--partitions", "1"]);
    cluster.ok(&["sub", "create", "orders", "bill", "--start", "earliest"]);
    cluster.ok(&["topic", "publish", "orders", r#"{"n":1}"#, "--key", "k", "--attr", "a=b"]);
    let read = cluster.json(&["topic", "read", "orders"]);
    assert_eq!(read["messages"][0]["data"]["n"], 1, "{read}");
    let pulled = cluster.json(&["sub", "pull", "orders", "bill", "--ack"]);
    assert_eq!(pulled["messages"][0]["data"]["n"], 1, "{pulled}");
    let left = cluster.json(&["sub", "show", "orders", "bill"]);
    assert_eq!(left["stats"]["lag"], 0, "{left}");
}

fn queues(cluster: &Cluster) {
    cluster.ok(&["queue", "create", "work", "--max-priority", "9"]);
    cluster.ok(&["queue", "send", "work", "later"]);
    cluster.ok(&["queue", "send", "work", "first", "--priority", "9"]);
    let taken = cluster.json(&["queue", "receive", "work", "--max", "1", "--ack"]);
    assert_eq!(taken["messages"][0]["data"], "first", "{taken}");
    let queue = cluster.json(&["queue", "show", "work"]);
    assert_eq!(queue["stats"]["messages"], 1, "{queue}");
}

fn gateway(cluster: &Cluster) {
    let echo = cluster.ok(&["rpc", "echo", r#"{"hello":"world"}"#]);
    assert!(echo.contains("world"), "{echo}");
    let unknown = cluster.run(&["rpc", "no.such.method"]);
    assert_eq!(unknown.status.code(), Some(1));
    let services = cluster.ok(&["service", "ls"]);
    assert!(services.contains("quartet-broker") || services.contains("broker"), "{services}");
}

#[test]
fn a_service_that_does_not_run_is_an_error_that_says_so() {
    let cluster = Cluster::new();
    let output = cluster.run(&["kv", "get", "a"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot connect") && said.contains("quartet up"), "{said}");
}

#[test]
fn a_completion_script_is_printed_for_every_shell() {
    let cluster = Cluster::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(cluster.ok(&["completion", shell]).contains("quartet"));
    }
}
