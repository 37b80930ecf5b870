//! Changes of the members that one node can show: places that are made and taken back, and what is
//! refused. Clusters of several are in `e2e`.

use serde_json::{Value, json};

use crate::server::Server;

/// Nobody listens there.
const ABSENT: &str = "http://127.0.0.1:9";

async fn add(server: &Server, body: Value) -> Value {
    let answer = server.post("/v1/cluster/members", body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

async fn own(server: &Server) -> Value {
    server.get("/v1/cluster").await.json()["members"][0].take()
}

#[tokio::test]
async fn a_place_is_made_shown_and_taken_back() {
    let server = Server::start().await;
    let before = own(&server).await;
    assert_eq!((&before["role"], &before["started"]), (&json!("leader"), &json!(true)));
    let added = add(&server, json!({ "name": "two", "peer_url": ABSENT })).await;
    assert_eq!(added["role"], "learner");
    assert_eq!((&added["started"], &added["to_vote"]), (&json!(false), &json!(false)));
    let start = &added["start"];
    for text in ["--node two", "initial_state=existing", ABSENT] {
        assert!(start["command"].as_str().unwrap().contains(text), "{start}");
    }
    chassis::config::parse::<coordinator::Config>(
        &start["config"].as_str().unwrap().replace("PORT", "2379"),
    )
    .expect("the file that is shown can be used");
    let cluster = server.get("/v1/cluster").await.json();
    assert_eq!(cluster["members"].as_array().unwrap().len(), 2);
    // It votes nowhere, so whether it comes matters to nobody.
    assert_eq!(server.put("/v1/kv/key", "value").await.status, 201);
    let moved = server
        .call("PATCH", "/v1/cluster/members/two", r#"{"peer_url":"http://127.0.0.1:10"}"#)
        .await;
    assert_eq!(moved.json()["peer_url"], "http://127.0.0.1:10", "{}", moved.text());
    let id = added["id"].as_str().unwrap();
    let removed = server.call("DELETE", &format!("/v1/cluster/members/{id}"), "").await;
    assert_eq!(removed.status, 200, "{}", removed.text());
    assert_eq!(removed.json()["members"].as_array().unwrap().len(), 1);
    server
        .call("DELETE", &format!("/v1/cluster/members/{id}"), "")
        .await
        .is_problem(404, "member-not-found");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let server = Server::start().await;
    let own = own(&server).await;
    add(&server, json!({ "name": "two", "peer_url": ABSENT })).await;
    let other = "http://127.0.0.1:10";
    let cases = [
        (json!({ "peer_url": ABSENT }), 409, "already-exists"),
        (json!({ "peer_url": own["peer_url"] }), 409, "already-exists"),
        (json!({ "name": "two", "peer_url": other }), 409, "already-exists"),
        (json!({ "peer_url": other }), 412, "precondition-failed"),
        (json!({ "peer_url": "127.0.0.1:10" }), 400, "invalid-request"),
        (json!({ "peer_url": "http://127.0.0.1:10/path" }), 400, "invalid-request"),
        (json!({ "peer_url": "http://127.0.0.1" }), 400, "invalid-request"),
        (json!({ "peer_url": other, "voter": true }), 400, "invalid-json"),
    ];
    for (body, status, code) in cases {
        let answer = server.post("/v1/cluster/members", body.clone()).await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{body}");
    }
    let promote = server.call("POST", "/v1/cluster/members/two/promote", "").await;
    promote.is_problem(412, "precondition-failed");
    assert!(promote.text().contains("does not answer"), "{}", promote.text());
    for (method, path, status, code) in [
        ("POST", "/v1/cluster/members/7/promote", 404, "member-not-found"),
        ("POST", "/v1/cluster/members/nobody/promote", 404, "member-not-found"),
        ("DELETE", "/v1/cluster/members/7", 404, "member-not-found"),
    ] {
        server.call(method, path, "").await.is_problem(status, code);
    }
    let me = own["name"].as_str().unwrap();
    let promote = server.call("POST", &format!("/v1/cluster/members/{me}/promote"), "").await;
    promote.is_problem(409, "conflict");
    for force in ["", "?force=true"] {
        let remove = server.call("DELETE", &format!("/v1/cluster/members/{me}{force}"), "").await;
        remove.is_problem(409, "conflict");
        assert!(remove.text().contains("the last voter"), "{}", remove.text());
    }
    server.post("/v1/cluster/transfer", json!({ "to": "two" })).await.is_problem(409, "conflict");
    server
        .post("/v1/cluster/transfer", json!({ "to": "no" }))
        .await
        .is_problem(404, "member-not-found");
    assert_eq!(server.post("/v1/cluster/transfer", json!({ "to": me })).await.status, 200);
    assert_eq!(server.get("/v1/cluster").await.json()["members"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn of_two_that_add_the_same_one_succeeds() {
    let server = Server::start().await;
    let add = || server.post("/v1/cluster/members", json!({ "peer_url": ABSENT }));
    let (one, two) = tokio::join!(add(), add());
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{} {}", one.text(), two.text());
    // Others wait for each other.
    let add = |port: u16| {
        let body = json!({ "peer_url": format!("http://127.0.0.1:{port}"), "learner": false });
        server.post("/v1/cluster/members", body)
    };
    let (one, two) = tokio::join!(add(10), add(11));
    let mut answers = [(one.status, one), (two.status, two)];
    answers.sort_by_key(|(status, _)| *status);
    assert_eq!(answers[0].0, 201, "{}", answers[0].1.text());
    // One that nobody has started is enough.
    answers[1].1.is_problem(412, "precondition-failed");
}

#[tokio::test]
async fn members_are_known_again_after_a_restart_under_their_new_addresses() {
    let mut server = Server::start().await;
    add(&server, json!({ "name": "two", "peer_url": ABSENT })).await;
    let before = server.post("/v3/cluster/member/list", json!({})).await.json();
    server.restart().await;
    // The test's server listens elsewhere now, and says so. A sole voter with a learner keeps its
    // peer URL, which others rely on.
    let client = server.url("");
    let after = server
        .until("/v1/cluster", |answer| answer.text().contains(client.trim_end_matches('/')))
        .await
        .json();
    let after = after["members"].as_array().unwrap();
    let mut ids: Vec<&str> = after.iter().map(|member| member["id"].as_str().unwrap()).collect();
    let known = before["members"].as_array().unwrap();
    let mut expected: Vec<&str> =
        known.iter().map(|member| member["ID"].as_str().unwrap()).collect();
    ids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ids, expected);
}

/// As an etcd 3.4.23 with one member answered, except for the voter that is added while it does not
/// run: there that stops an etcd, here it is a learner until it has come.
#[tokio::test]
async fn the_face_of_an_etcd_answers_as_one() {
    let server = Server::start().await;
    let call = async |path: &str, body: Value| {
        let answer = server.post(&format!("/v3/cluster/member/{path}"), body).await;
        (answer.status, answer.json())
    };
    let refused = |(status, answer): (u16, Value)| {
        (status, answer["code"].as_u64().unwrap(), answer["message"].as_str().unwrap().to_owned())
    };
    let (_, list) = call("list", json!({})).await;
    let own = list["members"][0]["ID"].clone();
    let own_url = list["members"][0]["peerURLs"].clone();
    assert!(list["members"][0].get("isLearner").is_none());
    assert!(list["header"].get("revision").is_none());
    let bad = (400, 3, "etcdserver: given member URLs are invalid".to_owned());
    for urls in [json!([]), json!(["bad"]), json!(["http://127.0.0.1:9/x"])] {
        assert_eq!(refused(call("add", json!({ "peerURLs": urls })).await), bad);
    }
    let missing = (404, 5, "etcdserver: member not found".to_owned());
    assert_eq!(refused(call("remove", json!({ "ID": "1" })).await), missing);
    assert_eq!(refused(call("promote", json!({ "ID": "1" })).await), missing);
    let update = json!({ "ID": "1", "peerURLs": [ABSENT] });
    assert_eq!(refused(call("update", update).await), missing);
    let started =
        "etcdserver: re-configuration failed due to not enough started members".to_owned();
    let last = call("remove", json!({ "ID": own })).await;
    assert_eq!(refused(last), (400, 9, started.clone()));
    let promoted = call("promote", json!({ "ID": own })).await;
    let learner = "etcdserver: can only promote a learner member".to_owned();
    assert_eq!(refused(promoted), (400, 9, learner));
    let exists = call("add", json!({ "peerURLs": own_url, "isLearner": true })).await;
    assert_eq!(refused(exists), (400, 9, "etcdserver: Peer URLs already exists".to_owned()));

    let urls = json!([ABSENT, "http://127.0.0.1:10"]);
    let (status, added) = call("add", json!({ "peerURLs": urls, "isLearner": true })).await;
    assert_eq!(status, 200, "{added}");
    assert_eq!(
        (&added["member"]["peerURLs"], &added["member"]["isLearner"]),
        (&urls, &json!(true))
    );
    assert!(added["member"].get("name").is_none());
    assert_eq!(added["members"].as_array().unwrap().len(), 2);
    let second = call("add", json!({ "peerURLs": ["http://127.0.0.1:11"], "isLearner": true }));
    let too_many = "etcdserver: too many learner members in cluster".to_owned();
    assert_eq!(refused(second.await), (400, 9, too_many));
    let id = added["member"]["ID"].clone();
    let lags = "etcdserver: can only promote a learner member which is in sync with leader";
    assert_eq!(refused(call("promote", json!({ "ID": id })).await), (400, 9, lags.to_owned()));
    let transfer = async |id: Value| {
        let body = json!({ "targetID": id });
        let answer = server.post("/v3/maintenance/transfer-leadership", body).await;
        (answer.status, answer.json())
    };
    let transferee = (400, 9, "etcdserver: bad leader transferee".to_owned());
    assert_eq!(refused(transfer(id.clone()).await), transferee);
    assert_eq!(transfer(own.clone()).await, (200, json!({})));
    let elsewhere = json!(["http://127.0.0.1:12"]);
    let (status, _) = call("update", json!({ "ID": id, "peerURLs": elsewhere })).await;
    assert_eq!(status, 200);
    let (_, list) = call("list", json!({ "linearizable": true })).await;
    let listed = list["members"].as_array().unwrap().iter().find(|member| member["ID"] == id);
    assert_eq!(listed.unwrap()["peerURLs"], elsewhere);
    let (status, left) = call("remove", json!({ "ID": id })).await;
    assert_eq!((status, left["members"].as_array().unwrap().len()), (200, 1));

    // A voter that nobody has started, and another one.
    let (status, _) = call("add", json!({ "peerURLs": [ABSENT] })).await;
    assert_eq!(status, 200);
    let another = call("add", json!({ "peerURLs": ["http://127.0.0.1:13"] })).await;
    assert_eq!(refused(another), (400, 9, started));
}

#[tokio::test]
async fn only_root_changes_members() {
    let server = Server::start().await;
    for (path, body) in [
        ("user/add", json!({ "name": "root", "password": "pw" })),
        ("role/add", json!({ "name": "root" })),
        ("user/grant", json!({ "user": "root", "role": "root" })),
        ("user/add", json!({ "name": "guest", "password": "pw" })),
        ("enable", json!({})),
    ] {
        let answer = server.post(&format!("/v3/auth/{path}"), body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let mut tokens = Vec::new();
    for name in ["root", "guest"] {
        let body = json!({ "name": name, "password": "pw" });
        let answer = server.post("/v3/auth/authenticate", body).await.json();
        tokens.push(answer["token"].as_str().unwrap().to_owned());
    }
    let native = json!({ "peer_url": ABSENT }).to_string();
    let etcd = json!({ "peerURLs": ["http://127.0.0.1:10"], "isLearner": true }).to_string();
    for (path, body, nobody) in
        [("/v1/cluster/members", &native, 401), ("/v3/cluster/member/add", &etcd, 400)]
    {
        assert_eq!(server.call("POST", path, body.clone()).await.status, nobody, "{path}");
        let ask = |token: &str| server.request("POST", path).bearer_auth(token).body(body.clone());
        assert_eq!(server.send(ask(&tokens[1])).await.status, 403, "{path}");
    }
    let ask = server.request("POST", "/v1/cluster/members").bearer_auth(&tokens[0]);
    assert_eq!(server.send(ask.body(native)).await.status, 201);
    // Who is in it, everybody may see: clients need it.
    assert_eq!(server.get("/v1/cluster").await.status, 200);
    assert_eq!(server.post("/v3/cluster/member/list", json!({})).await.status, 200);
}
