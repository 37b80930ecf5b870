//! Users: a client that logs in by itself, and again.

use std::time::Duration;

use client::Outcome;
use client::etcd::{
    Compare, Credentials, Etcd, Mirror, RangeRequest, Registration, RegistrationState, TxnOp,
    TxnRequest, WatchRequest,
};
use client::http::{Client, Config, Path};
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

use super::mirror::{Process, config, until};
use super::{Server, put};
use crate::peer::{Peer, Step, answer_with, ok};

const PASSWORD: &str = "hunter2";

/// Of no use to our client, which is to find its way without.
struct Root {
    http: Client,
    token: String,
}

impl Root {
    /// A user `app` that may do everything below `app/` and `quartet/`, and authentication on.
    async fn enable(server: &Server) -> Self {
        let http = Client::new(Config::default(), [server.url()]);
        let mut root = Self { http: http.unwrap(), token: String::new() };
        for name in ["root", "app"] {
            root.post("user/add", json!({ "name": name, "password": PASSWORD })).await;
            root.post("role/add", json!({ "name": name })).await;
            root.post("user/grant", json!({ "user": name, "role": name })).await;
        }
        // app/ and quartet/, and where they end.
        for (key, range_end) in [("YXBwLw==", "YXBwMA=="), ("cXVhcnRldC8=", "cXVhcnRldDA=")] {
            let perm = json!({ "permType": "READWRITE", "key": key, "range_end": range_end });
            root.post("role/grant", json!({ "name": "app", "perm": perm })).await;
        }
        root.post("enable", json!({})).await;
        let user = json!({ "name": "root", "password": PASSWORD });
        root.token = root.post("authenticate", user).await["token"].as_str().unwrap().to_owned();
        root
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let call =
            self.http.call(Method::POST, Path::encoded(format!("/v3/auth/{path}"))).json(&body);
        let token = Some(self.token.as_str()).filter(|token| !token.is_empty());
        call.maybe_header("authorization", token).send().await.unwrap().json().unwrap()
    }

    /// The tokens of the user are worth nothing any more.
    async fn end_tokens(&self) {
        let user = json!({ "name": "app", "password": PASSWORD });
        self.post("user/changepw", user).await;
    }
}

fn app(server: &Server) -> Etcd {
    server.client().acting_for(Credentials::new("app", PASSWORD))
}

pub(super) async fn a_user_is_let_in_again_whenever_its_token_is_refused(server: Server) {
    let etcd = app(&server);
    etcd.put(&put("app/1", "before anybody asks")).await.unwrap();
    let root = Root::enable(&server).await;
    let nobody = server.client().put(&put("app/2", "nobody")).await.unwrap_err();
    assert_eq!((nobody.etcd_code(), nobody.outcome), (Some(3), Outcome::NotDone));

    etcd.put(&put("app/2", "let in")).await.unwrap();
    let forbidden = etcd.put(&put("other", "x")).await.unwrap_err();
    assert_eq!((forbidden.etcd_code(), forbidden.outcome), (Some(7), Outcome::NotDone));
    let lease = etcd.grant(Duration::from_secs(60)).await.unwrap();

    root.end_tokens().await;
    let gets = join_all((0..8).map(|_| etcd.get(b"app/2"))).await;
    assert!(gets.iter().all(|got| got.as_ref().is_ok_and(Option::is_some)), "{gets:?}");
    root.end_tokens().await;
    let txn = TxnRequest {
        compare: vec![Compare::absent("app/3")],
        success: vec![TxnOp::Put(put("app/3", "once").lease(lease.id))],
        failure: vec![],
    };
    assert!(etcd.txn(&txn).await.unwrap().succeeded);
    root.end_tokens().await;
    assert!(etcd.keepalive(lease.id).await.unwrap().is_some());
    etcd.range(&RangeRequest::prefix(b"app/")).await.unwrap();
    let mut watch = etcd.watch(&WatchRequest::prefix(b"app/", 0)).await.unwrap();
    let created = watch.next().await.unwrap().unwrap();
    assert!(created.created && !created.canceled, "{created:?}");
    root.end_tokens().await;
    etcd.revoke(lease.id).await.unwrap();

    let wrong = server.client().acting_for(Credentials::new("app", "guessed"));
    let refused = wrong.get(b"app/2").await.unwrap_err();
    assert_eq!((refused.etcd_code(), refused.outcome), (Some(3), Outcome::NotDone));
    assert!(refused.to_string().contains("does not let this user in"), "{refused}");
    assert!(!format!("{refused:?} {wrong:?}").contains("guessed"));
}

pub(super) async fn a_registration_outlives_its_token(server: Server) {
    let root = Root::enable(&server).await;
    let process = Process::new();
    let mirror = Mirror::start(app(&server), "app/", &process.tasks, process.stop.clone());
    let registration =
        Registration::start(app(&server), config("one", 7), &process.tasks, process.stop.clone());
    let is_registered =
        |state: &RegistrationState| matches!(state, RegistrationState::Registered { .. });
    until("it is registered", &registration.state(), is_registered).await;
    for round in 0..3 {
        root.end_tokens().await;
        let key = format!("app/{round}");
        app(&server).put(&put(&key, "value")).await.unwrap();
        let shows = |shown: &std::sync::Arc<client::etcd::Snapshot>| {
            shown.connected && shown.entries.contains_key(key.as_bytes())
        };
        until("the mirror shows it", &mirror.watch(), shows).await;
    }
    process.end().await;
    let left = app(&server).range(&RangeRequest::prefix(b"quartet/")).await.unwrap();
    assert_eq!(left.kvs, []);
}

fn refusal(status: u16, code: u32, message: &str) -> Step {
    let body = json!({ "error": message, "code": code, "message": message });
    answer_with(status, "content-type: application/json\r\n", &body.to_string())
}

fn user(peer: &Peer) -> Etcd {
    Etcd::new([peer.url()]).unwrap().acting_for(Credentials::new("app", PASSWORD))
}

fn logins(peer: &Peer) -> usize {
    peer.seen().iter().filter(|seen| seen.line.contains("/v3/auth/authenticate")).count()
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let refused = || refusal(401, 16, "etcdserver: invalid auth token");
    let script = [ok(r#"{"token":"t.1"}"#), refused(), ok(r#"{"token":"t.2"}"#), refused()];
    let peer = Peer::start(script).await;
    let error = user(&peer).get(b"a").await.unwrap_err();
    assert_eq!((error.etcd_code(), error.outcome), (Some(16), Outcome::NotDone));
    let seen = peer.seen();
    let tokens: Vec<_> = seen.iter().map(|seen| seen.header("authorization")).collect();
    assert_eq!(tokens, [None, Some("t.1"), None, Some("t.2")]);
    assert_eq!(seen[0].body, r#"{"name":"app","password":"hunter2"}"#);
}

#[tokio::test]
async fn whoever_calls_at_once_logs_in_once() {
    let peer = Peer::start([ok(r#"{"token":"t.1"}"#), ok("{}")]).await;
    let etcd = user(&peer);
    for got in join_all((0..8).map(|_| etcd.get(b"a"))).await {
        assert_eq!(got.unwrap(), None);
    }
    assert_eq!((logins(&peer), peer.seen().len()), (1, 9));
}

#[tokio::test]
async fn where_nobody_asks_calls_go_without_a_token() {
    let off = refusal(400, 9, "etcdserver: authentication is not enabled");
    let peer = Peer::start([off, ok("{}")]).await;
    let etcd = user(&peer);
    for _ in 0..2 {
        etcd.get(b"a").await.unwrap();
    }
    assert_eq!(logins(&peer), 1);
    assert!(peer.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn a_login_that_failed_is_tried_again_with_the_next_call() {
    let wrong = "etcdserver: authentication failed, invalid user ID or password";
    let peer = Peer::start([refusal(400, 3, wrong), ok(r#"{"token":"t.1"}"#), ok("{}")]).await;
    let etcd = user(&peer);
    assert_eq!(etcd.get(b"a").await.unwrap_err().etcd_code(), Some(3));
    etcd.get(b"a").await.unwrap();
    assert_eq!(logins(&peer), 2);
}
