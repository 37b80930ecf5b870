//! Who may do what, in both faces, with authentication on.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::server::{Answer, Server};
use crate::stream::Lines;

fn b64(text: &str) -> String {
    STANDARD.encode(text)
}

async fn admin(server: &Server, token: &str, path: &str, body: Value) -> Answer {
    let answer = call(server, token, &format!("/v3/auth/{path}"), body).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer
}

async fn call(server: &Server, token: &str, path: &str, body: Value) -> Answer {
    let request = server.request("POST", path).body(body.to_string());
    server
        .send(if token.is_empty() { request } else { request.header("authorization", token) })
        .await
}

async fn native(server: &Server, token: &str, method: &str, path: &str, body: &str) -> Answer {
    let request = server.request(method, path).body(body.to_owned());
    let request = match token {
        "" => request,
        token => request.header("authorization", format!("Bearer {token}")),
    };
    server.send(request).await
}

async fn token(server: &Server, name: &str) -> String {
    let body = json!({ "name": name, "password": "p" });
    let answer = admin(server, "", "authenticate", body).await;
    answer.json()["token"].as_str().unwrap().to_owned()
}

/// Root, a reader of r/, a writer of w/, and nobody in particular; authentication is on.
async fn secured() -> Server {
    let server = Server::start().await;
    for name in ["root", "reader", "writer", "nobody"] {
        admin(&server, "", "user/add", json!({ "name": name, "password": "p" })).await;
    }
    for (role, kind, prefix) in [("reader", "READ", "r/"), ("writer", "WRITE", "w/")] {
        admin(&server, "", "role/add", json!({ "name": role })).await;
        let end = format!("{}0", &prefix[..1]);
        let perm = json!({ "permType": kind, "key": b64(prefix), "range_end": b64(&end) });
        admin(&server, "", "role/grant", json!({ "name": role, "perm": perm })).await;
        admin(&server, "", "user/grant", json!({ "user": role, "role": role })).await;
    }
    admin(&server, "", "user/grant", json!({ "user": "root", "role": "root" })).await;
    for key in ["r/a", "w/a", "x"] {
        server.put(&format!("/v1/kv/{key}"), "v").await;
    }
    admin(&server, "", "enable", json!({})).await;
    server
}

/// What the face of an etcd answers root, reader, writer, nobody and no token at all.
fn etcd_matrix() -> Vec<(&'static str, Value, [u16; 5])> {
    let put = |key: &str| json!({ "key": b64(key), "value": b64("v") });
    let one = |key: &str| json!({ "key": b64(key) });
    let shown = |key: &str| json!({ "key": b64(key), "value": b64("v"), "prev_kv": true });
    let txn = |compare: &str, op: Value| {
        json!({ "compare": [{ "key": b64(compare), "target": "MOD", "mod_revision": 9999 }],
                "success": [op] })
    };
    let nested = json!({ "request_txn": { "failure": [{ "request_range": one("x") }] } });
    vec![
        ("kv/range", one("r/a"), [200, 200, 403, 403, 400]),
        (
            "kv/range",
            json!({ "key": b64("r/"), "range_end": b64("r0") }),
            [200, 200, 403, 403, 400],
        ),
        ("kv/range", json!({ "key": b64("r/"), "range_end": b64("s") }), [200, 403, 403, 403, 400]),
        ("kv/range", json!({ "key": "AA==", "range_end": "AA==" }), [200, 403, 403, 403, 400]),
        ("kv/range", json!({ "key": b64("x"), "serializable": true }), [200, 403, 403, 403, 400]),
        ("kv/put", put("w/a"), [200, 403, 200, 403, 400]),
        ("kv/put", put("r/a"), [200, 403, 403, 403, 400]),
        ("kv/put", shown("w/a"), [200, 403, 403, 403, 400]),
        ("kv/deleterange", one("w/none"), [200, 403, 200, 403, 400]),
        (
            "kv/deleterange",
            json!({ "key": b64("w/n"), "range_end": b64("x") }),
            [200, 403, 403, 403, 400],
        ),
        // The branch that is not taken counts too.
        ("kv/txn", txn("r/a", json!({ "request_put": put("w/b") })), [200, 403, 403, 403, 400]),
        ("kv/txn", txn("r/a", json!({ "request_range": one("r/a") })), [200, 200, 403, 403, 400]),
        ("kv/txn", txn("r/a", nested), [200, 403, 403, 403, 400]),
        ("kv/compaction", json!({ "revision": 1 }), [200, 403, 403, 403, 400]),
        ("lease/leases", json!({}), [200, 200, 200, 200, 200]),
        ("cluster/member/list", json!({}), [200, 200, 200, 200, 200]),
        ("maintenance/status", json!({}), [200, 200, 200, 200, 200]),
        ("maintenance/alarm", json!({ "action": "GET" }), [200, 200, 200, 200, 200]),
        (
            "maintenance/alarm",
            json!({ "action": "DEACTIVATE", "alarm": "NOSPACE" }),
            [200, 403, 403, 403, 400],
        ),
        ("maintenance/hash", json!({}), [200, 403, 403, 403, 400]),
        ("maintenance/hashkv", json!({}), [200, 403, 403, 403, 400]),
        ("maintenance/snapshot", json!({}), [200, 403, 403, 403, 400]),
        ("maintenance/defragment", json!({}), [200, 403, 403, 403, 400]),
        ("auth/status", json!({}), [200, 403, 403, 403, 400]),
        ("auth/user/list", json!({}), [200, 403, 403, 403, 400]),
        ("auth/user/get", json!({ "name": "reader" }), [200, 200, 403, 403, 400]),
        ("auth/role/get", json!({ "role": "writer" }), [200, 403, 200, 403, 400]),
        ("auth/user/add", json!({ "name": "reader", "password": "q" }), [400, 403, 403, 403, 400]),
        ("auth/role/add", json!({ "name": "root2" }), [200, 403, 403, 403, 400]),
        ("auth/user/grant", json!({ "user": "nobody", "role": "none" }), [400, 403, 403, 403, 400]),
    ]
}

/// The same for the native face.
const NATIVE: &[(&str, &str, &str, [u16; 5])] = &[
    ("GET", "/v1/kv/r/a", "", [200, 200, 403, 403, 401]),
    ("GET", "/v1/kv/r/a?consistency=serializable", "", [200, 200, 403, 403, 401]),
    ("GET", "/v1/kv/none", "", [404, 403, 403, 403, 401]),
    ("GET", "/v1/kv?prefix=r/", "", [200, 200, 403, 403, 401]),
    ("GET", "/v1/kv?prefix=", "", [200, 403, 403, 403, 401]),
    ("PUT", "/v1/kv/w/a", "v", [200, 403, 200, 403, 401]),
    ("PUT", "/v1/kv/x", "v", [200, 403, 403, 403, 401]),
    ("DELETE", "/v1/kv/w/none", "", [200, 403, 200, 403, 401]),
    ("DELETE", "/v1/kv/x?prefix=true", "", [200, 403, 403, 403, 401]),
    ("GET", "/v1/watch?prefix=", "", [0, 403, 403, 403, 401]),
    ("GET", "/v1/services", "", [200, 403, 403, 403, 401]),
    ("GET", "/v1/services/s", "", [200, 403, 403, 403, 401]),
    ("GET", "/v1/services/s/i", "", [404, 403, 403, 403, 401]),
    ("PUT", "/v1/services/s/i/heartbeat", "", [404, 403, 403, 403, 401]),
    ("DELETE", "/v1/services/s/i", "", [404, 403, 403, 403, 401]),
    ("GET", "/v1/snapshot", "", [200, 403, 403, 403, 401]),
    ("GET", "/v1/leases", "", [200, 200, 200, 200, 401]),
    ("GET", "/v1/cluster", "", [200, 200, 200, 200, 200]),
    ("GET", "/version", "", [200, 200, 200, 200, 200]),
    ("GET", "/health", "", [200, 200, 200, 200, 200]),
    ("GET", "/readyz", "", [200, 200, 200, 200, 200]),
];

#[tokio::test]
async fn everybody_may_do_what_their_roles_say_and_nothing_else() {
    let server = secured().await;
    let mut tokens = Vec::new();
    for name in ["root", "reader", "writer", "nobody"] {
        tokens.push(token(&server, name).await);
    }
    tokens.push(String::new());
    for (path, body, expected) in etcd_matrix() {
        for (token, expected) in tokens.iter().zip(expected) {
            let answer = call(&server, token, &format!("/v3/{path}"), body.clone()).await;
            // Root repeats what the one before has done: another refusal than for want of rights.
            assert_eq!(answer.status, expected, "{path} {body}: {}", answer.text());
        }
    }
    for (method, path, body, expected) in NATIVE {
        for (token, expected) in tokens.iter().zip(expected).filter(|(_, expected)| **expected != 0)
        {
            let answer = native(&server, token, method, path, body).await;
            assert_eq!(answer.status, *expected, "{method} {path}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_right_that_is_taken_back_is_gone_at_once() {
    let server = secured().await;
    let (root, writer) = (token(&server, "root").await, token(&server, "writer").await);
    assert_eq!(native(&server, &writer, "PUT", "/v1/kv/w/a", "1").await.status, 200);
    admin(&server, &root, "user/revoke", json!({ "name": "writer", "role": "writer" })).await;
    native(&server, &writer, "PUT", "/v1/kv/w/a", "2").await.is_problem(403, "forbidden");
    admin(&server, &root, "user/changepw", json!({ "name": "writer", "password": "q" })).await;
    native(&server, &writer, "PUT", "/v1/kv/w/a", "2").await.is_problem(401, "unauthenticated");
    admin(&server, &root, "user/delete", json!({ "name": "writer" })).await;
    let gone = json!({ "name": "writer", "password": "q" });
    let answer = server.post("/v3/auth/authenticate", gone).await;
    assert_eq!((answer.status, &answer.json()["code"]), (400, &json!(3)));
    let kept = server.post("/v3/auth/user/delete", json!({ "name": "root" })).await;
    assert_eq!(kept.json()["message"], "etcdserver: user name is empty");
    let kept = call(&server, &root, "/v3/auth/user/delete", json!({ "name": "root" })).await;
    assert_eq!(kept.json()["message"], "etcdserver: invalid auth management");
}

#[tokio::test]
async fn a_token_lives_while_it_is_used_and_not_longer() {
    let server = secured().await;
    let (root, reader) = (token(&server, "root").await, token(&server, "reader").await);
    for _ in 0..5 {
        server.clock.advance(Duration::from_secs(200));
        // A read notes its use a moment later, a write with itself.
        let answer = native(&server, &reader, "GET", "/v1/kv/r/a", "").await;
        assert_eq!(answer.status, 200);
        assert_eq!(native(&server, &root, "PUT", "/v1/kv/x", "").await.status, 200);
        server.clock.advance(Duration::from_secs(80));
        for _ in 0..400 {
            // The note is a command like any: it is there once a later one is.
            if native(&server, &root, "PUT", "/v1/kv/x", "").await.status == 200 {
                break;
            }
        }
        assert_eq!(native(&server, &reader, "GET", "/v1/kv/r/a", "").await.status, 200);
    }
    server.clock.advance(Duration::from_secs(301));
    native(&server, &reader, "GET", "/v1/kv/r/a", "").await.is_problem(401, "unauthenticated");
    let expired = call(&server, &root, "/v3/kv/put", json!({ "key": b64("x") })).await;
    assert_eq!(expired.json()["message"], "etcdserver: invalid auth token");
}

#[tokio::test]
async fn users_and_tokens_survive_a_restart_and_a_backup_has_no_tokens() {
    let mut server = secured().await;
    let (root, reader) = (token(&server, "root").await, token(&server, "reader").await);
    server.restart().await;
    assert_eq!(native(&server, &reader, "GET", "/v1/kv/r/a", "").await.status, 200);
    server.get("/v1/kv/r/a").await.is_problem(401, "unauthenticated");
    let backup = native(&server, &root, "GET", "/v1/snapshot", "").await.body;
    let contains = |text: &str| backup.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(contains("reader") && !contains(&reader) && !contains(&root));
    let off = call(&server, &root, "/v3/auth/disable", json!({})).await;
    assert_eq!(off.status, 200, "{}", off.text());
    assert_eq!(server.get("/v1/kv/x").await.status, 200);
    // A token of the time before means nothing, and does no harm.
    assert_eq!(native(&server, &reader, "GET", "/v1/kv/x", "").await.status, 200);
}

#[tokio::test]
async fn a_watch_ends_with_the_right_to_it() {
    let server = secured().await;
    let (root, reader) = (token(&server, "root").await, token(&server, "reader").await);
    let create = json!({ "create_request": { "key": b64("r/"), "range_end": b64("r0") } });
    let request = server.request("POST", "/v3/watch").header("authorization", &reader);
    let mut etcd = Lines::open(request.body(create.to_string())).await;
    assert_eq!(etcd.message().await["created"], true);
    let request = server.request("GET", "/v1/watch?prefix=r/");
    let mut sse = Lines::open(request.bearer_auth(&reader)).await;
    assert_eq!(native(&server, &root, "PUT", "/v1/kv/r/a", "1").await.status, 200);
    assert_eq!(etcd.message().await["events"][0]["kv"]["key"], b64("r/a"));
    assert_eq!(sse.change().await.data["key"], "r/a");
    admin(&server, &root, "role/delete", json!({ "role": "reader" })).await;
    assert_eq!(native(&server, &root, "PUT", "/v1/kv/r/a", "2").await.status, 200);
    let ended = etcd.message().await;
    assert_eq!(ended["canceled"], true, "{ended}");
    assert!(ended["cancel_reason"].as_str().unwrap().contains("permission denied"));
    assert_eq!(sse.change().await.name, "denied");
}

#[tokio::test]
async fn a_lease_is_as_protected_as_its_keys() {
    let server = secured().await;
    let (root, writer) = (token(&server, "root").await, token(&server, "writer").await);
    let lease = call(&server, "", "/v3/lease/grant", json!({ "TTL": 60, "ID": 7 })).await;
    assert_eq!(lease.status, 200);
    let put = |key: &str| json!({ "key": b64(key), "lease": 7 });
    assert_eq!(call(&server, &root, "/v3/kv/put", put("x")).await.status, 200);
    // Whoever could hang a key on it, or end it, would decide about x.
    assert_eq!(call(&server, &writer, "/v3/kv/put", put("w/a")).await.status, 403);
    let revoke = json!({ "ID": 7 });
    assert_eq!(call(&server, &writer, "/v3/lease/revoke", revoke.clone()).await.status, 403);
    assert_eq!(native(&server, &writer, "DELETE", "/v1/leases/7", "").await.status, 403);
    let look = json!({ "ID": 7, "keys": true });
    assert_eq!(call(&server, &writer, "/v3/lease/timetolive", look.clone()).await.status, 403);
    assert_eq!(native(&server, &writer, "GET", "/v1/leases/7", "").await.status, 403);
    assert_eq!(
        call(&server, &root, "/v3/lease/timetolive", look).await.json()["keys"][0],
        b64("x")
    );
    // Renewing takes no credentials, as with etcd.
    let renewed = call(&server, "", "/v3/lease/keepalive", json!({ "ID": 7 })).await;
    assert_eq!(renewed.json()["result"]["TTL"], "60");
    assert_eq!(call(&server, &root, "/v3/lease/revoke", revoke).await.status, 200);
}

#[tokio::test]
async fn a_guessed_idempotency_key_shows_nobody_anything() {
    let server = secured().await;
    let root = token(&server, "root").await;
    let writer = token(&server, "writer").await;
    let txn =
        json!({ "then": [{ "get": { "key": "x" } }, { "put": { "key": "x", "value": "1" } }] });
    let send = |token: String| {
        let request = server.request("POST", "/v1/txn").bearer_auth(token);
        let request = request.header("idempotency-key", "k1");
        server.send(request.header("content-type", "application/json").body(txn.to_string()))
    };
    assert_eq!(send(root).await.status, 200);
    send(writer).await.is_problem(403, "forbidden");
}

/// Watchers are woken with a store that may be older than the one that let them in.
#[tokio::test]
async fn a_watch_is_allowed_by_what_was_granted_just_before() {
    let server = secured().await;
    let root = token(&server, "root").await;
    for at in 0..5 {
        let name = format!("new{at}");
        admin(&server, &root, "user/add", json!({ "name": name, "password": "p" })).await;
        admin(&server, &root, "user/grant", json!({ "user": name, "role": "reader" })).await;
        let token = token(&server, &name).await;
        let native = server.request("GET", "/v1/watch?prefix=r/&from_revision=1");
        let mut native =
            Lines::open(native.header("authorization", format!("Bearer {token}"))).await;
        assert_eq!(native.change().await.name, "put");
        let create = json!({ "create_request": { "key": b64("r/"), "range_end": b64("r0"),
                                                 "start_revision": 1 } });
        let etcd = server.request("POST", "/v3/watch").body(create.to_string());
        let mut etcd = Lines::open(etcd.header("authorization", token)).await;
        assert_eq!(etcd.message().await["created"], true);
        assert!(etcd.message().await["events"].is_array());
    }
}

#[tokio::test]
async fn a_password_that_is_hashed_already_is_refused() {
    let server = secured().await;
    let root = token(&server, "root").await;
    let hashed = json!({ "name": "migrated", "hashedPassword": "JDJhJDEwJA==" });
    for path in ["user/add", "user/changepw"] {
        let answer = call(&server, &root, &format!("/v3/auth/{path}"), hashed.clone()).await;
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!(3)), "{path}");
    }
    let users = admin(&server, &root, "user/list", json!({})).await;
    assert!(!users.text().contains("migrated"));
    let empty = json!({ "name": "migrated", "password": "" });
    assert_ne!(call(&server, "", "/v3/auth/authenticate", empty).await.status, 200);
}
