//! What etcd's `--max-txn-ops`, `--cors` and `--host-whitelist` promise.

use coordinator::Config;
use serde_json::{Value, json};

use crate::process::{Process, command, free_port};
use crate::server::{Answer, Server};

const ORIGIN: &str = "https://console.example";

fn listed(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

async fn asked(server: &Server, method: &str, path: &str, header: (&str, &str)) -> Answer {
    server.send(server.request(method, path).header(header.0, header.1).body("{}")).await
}

fn puts(count: usize) -> Value {
    let put = |at: usize| json!({ "request_put": { "key": format!("YWE{at}") } });
    json!({ "success": (0..count).map(put).collect::<Vec<_>>() })
}

#[tokio::test]
async fn a_transaction_has_as_many_operations_as_is_set() {
    let server = Server::with(Config { max_txn_ops: 3, ..Config::default() }).await;
    assert_eq!(server.post("/v3/kv/txn", puts(3)).await.status, 200);
    let refused = server.post("/v3/kv/txn", puts(4)).await;
    let text = "etcdserver: too many operations in txn request";
    assert_eq!((refused.status, &refused.json()["code"]), (400, &json!(3)));
    assert_eq!(refused.json()["error"], text);
    let nested = json!({ "success": [{ "request_txn": puts(3) }] });
    assert_eq!(server.post("/v3/kv/txn", nested).await.json()["message"], text);
    let four: Vec<_> = (0..4).map(|at| json!({ "get": { "key": format!("k{at}") } })).collect();
    let native = server.post("/v1/txn", json!({ "then": four })).await;
    native.is_problem(400, "invalid-request");
    assert!(native.json()["detail"].as_str().unwrap().contains('3'), "{}", native.text());
    let server = Server::with(Config { max_txn_ops: 200, ..Config::default() }).await;
    let reads: Vec<_> = (0..200).map(|_| json!({ "request_range": { "key": "YQ==" } })).collect();
    assert_eq!(server.post("/v3/kv/txn", json!({ "success": reads })).await.status, 200);
}

#[tokio::test]
async fn any_page_may_unless_origins_are_listed() {
    let server = Server::start().await;
    for (method, path) in [
        ("POST", "/v3/kv/range"),
        ("OPTIONS", "/v3/kv/put"),
        ("GET", "/health"),
        ("OPTIONS", "/health"),
        ("GET", "/version"),
        ("OPTIONS", "/version"),
        ("POST", "/v3/nothing"),
    ] {
        let answer = asked(&server, method, path, ("origin", ORIGIN)).await;
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{method} {path}");
    }
    let preflight = asked(&server, "OPTIONS", "/v3/kv/put", ("origin", ORIGIN)).await;
    assert_eq!((preflight.status, preflight.text()), (200, ""));
}

#[tokio::test]
async fn only_pages_of_listed_origins_may_read_what_is_answered() {
    let mut config = Config::default();
    config.access.origins = listed(&["http://other.example:8080", "https://console.example:443"]);
    let server = Server::with(config).await;
    for (method, path) in [
        ("POST", "/v3/kv/range"),
        ("OPTIONS", "/v3/kv/put"),
        ("GET", "/health"),
        ("GET", "/version"),
    ] {
        let answer = asked(&server, method, path, ("origin", ORIGIN)).await;
        assert_eq!(answer.header("access-control-allow-origin"), ORIGIN, "{method} {path}");
        assert_eq!(answer.header("vary"), "origin", "{method} {path}");
        let methods = answer.header("access-control-allow-methods");
        assert_eq!(methods, "POST, GET, OPTIONS, PUT, DELETE");
        let headers = answer.header("access-control-allow-headers");
        assert_eq!(headers, "accept, content-type, authorization");
        for other in ["https://console.example:8443", "http://console.example", "null"] {
            let answer = asked(&server, method, path, ("origin", other)).await;
            for name in ["origin", "methods", "headers"] {
                assert_eq!(answer.header(&format!("access-control-allow-{name}")), "", "{other}");
            }
            assert_eq!(answer.header("vary"), "origin", "{method} {path}");
        }
    }
    // Also what is refused before anybody looks at the origin.
    let long = server.call("POST", "/v3/kv/put", "x".repeat(9 << 20)).await;
    assert_eq!((long.status, long.header("access-control-allow-origin")), (400, ""));
    // Our own face was never open to other pages.
    let native = asked(&server, "GET", "/v1/kv", ("origin", ORIGIN)).await;
    assert_eq!((native.status, native.header("access-control-allow-origin")), (200, ""));
}

#[tokio::test]
async fn who_calls_this_node_by_a_strange_name_is_turned_away() {
    let mut config = Config::default();
    config.access.hosts = listed(&["127.0.0.1", "Etcd-1", "::1"]);
    let server = Server::with(config).await;
    for host in ["127.0.0.1", "127.0.0.1:9", "etcd-1:2379", "[::1]:2379"] {
        let answer = asked(&server, "POST", "/v3/lease/leases", ("host", host)).await;
        assert_eq!(answer.status, 200, "{host}");
    }
    for (method, path) in
        [("POST", "/v3/lease/leases"), ("GET", "/health"), ("OPTIONS", "/v3/kv/put")]
    {
        let refused = asked(&server, method, path, ("host", "evil.example:2379")).await;
        assert_eq!(refused.status, 421, "{path}");
        assert!(refused.header("content-type").starts_with("text/plain"));
        assert_eq!(refused.header("access-control-allow-origin"), "");
        let text = refused.text();
        assert!(text.contains("etcd --host-whitelist \"evil.example\""), "{text}");
        assert!(text.contains("the Host header was unrecognized"), "{text}");
    }
    asked(&server, "GET", "/v1/kv", ("host", "evil.example")).await.is_problem(421, "misdirected");
    assert_eq!(asked(&server, "GET", "/livez", ("host", "10.0.0.7")).await.status, 200);
}

#[tokio::test]
async fn the_flags_of_an_etcd_have_their_effect() {
    let dir = tempfile::tempdir().unwrap();
    let (client, peer) = (free_port(), free_port());
    let mut command = command(dir.path());
    command
        .arg(format!("--listen-client-urls=http://127.0.0.1:{client}"))
        .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
        .args(["--max-txn-ops=2", "--cors", "https://a.example,https://console.example"])
        .args(["--host-whitelist", "127.0.0.1"]);
    let (_process, said) = Process::start(command);
    assert!(!said.join("\n").contains("no effect"), "{said:?}");
    let post = |path: &str, host: &str| {
        let url = format!("http://127.0.0.1:{client}{path}");
        reqwest::Client::new().post(url).header("origin", ORIGIN).header("host", host)
    };
    let txn = post("/v3/kv/txn", "127.0.0.1").body(puts(3).to_string()).send().await.unwrap();
    assert_eq!(txn.status(), 400);
    assert_eq!(txn.headers()["access-control-allow-origin"], ORIGIN);
    let strange = post("/v3/kv/range", "evil.example").send().await.unwrap();
    assert_eq!(strange.status(), 421);
}
