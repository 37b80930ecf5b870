//! `/v1/rpc`, `/v1/methods`, `/v1/routes`: what is called by name.

use api::gateway::{MethodList, RouteList, RpcResponse, RpcStatus};
use chassis::testing::Running;
use gateway::Config;

use crate::discovery;
use crate::support::etcd::Etcd;
use crate::support::{Backend, Reply, eventually, gateway, gateway_with, http, problem};

async fn send(
    gateway: &Running<Config>,
    method: &str,
    path: &str,
    body: &str,
) -> reqwest::Response {
    let request = http().request(method.parse().unwrap(), format!("{}{path}", gateway.url));
    let request = request.header("content-type", "application/json").body(body.to_owned());
    request.send().await.unwrap()
}

async fn rpc(gateway: &Running<Config>, call: &str) -> (u16, RpcResponse) {
    let answer = send(gateway, "POST", "/v1/rpc", call).await;
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn data(response: &RpcResponse) -> &str {
    response.data.as_ref().map_or("null", |data| data.get())
}

#[tokio::test]
async fn echo_answers_what_it_is_given() {
    let gateway = gateway(&[]).await;
    let answer = send(
        &gateway,
        "POST",
        "/v1/rpc",
        r#"{"id":"7","method":"echo","data":{"n": 1.00, "s":"ü"}}"#,
    )
    .await;
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    assert!(
        text.starts_with(
            r#"{"id":"7","status":"ok","data":{"n": 1.00, "s":"ü"},"error":null,"timestamp":"20"#
        ),
        "{text}"
    );
    let (_, number) = rpc(&gateway, r#"{"id":7,"method":"echo"}"#).await;
    assert_eq!((serde_json::to_string(&number.id).unwrap().as_str(), data(&number)), ("7", "null"));
}

#[tokio::test]
async fn an_unknown_method_is_not_found() {
    let gateway = gateway(&[]).await;
    let (status, answer) = rpc(&gateway, r#"{"id":"1","method":"nope"}"#).await;
    assert_eq!((status, answer.status), (404, RpcStatus::Error));
    let error = answer.error.unwrap();
    assert!(error.starts_with("method nope not found"), "{error}");
    assert_eq!(answer.code.as_deref(), Some("method-not-found"));
}

#[tokio::test]
async fn what_cannot_be_read_is_a_problem_that_says_what_to_do() {
    let gateway = gateway(&[]).await;
    for (body, status, code) in [
        ("", 400, "invalid-json"),
        ("{", 400, "invalid-json"),
        ("[]", 400, "invalid-json"),
        ("7", 400, "invalid-json"),
        (r#"{"id":"1"}"#, 400, "invalid-json"),
        (r#"{"method":7}"#, 400, "invalid-json"),
        (r#"{"id":{},"method":"echo"}"#, 400, "invalid-json"),
        (r#"{"method":"echo","dta":1}"#, 400, "invalid-json"),
        ("\u{0}\u{1}", 400, "invalid-json"),
    ] {
        let answer = send(&gateway, "POST", "/v1/rpc", body).await;
        assert_eq!(answer.status(), status, "{body:?}");
        let problem = problem(answer).await;
        assert_eq!(problem.code, code, "{body:?}");
        assert!(!problem.detail.is_empty());
    }
    let binary = http()
        .post(format!("{}/v1/rpc", gateway.url))
        .header("content-type", "application/json")
        .body(vec![0xff, 0xfe])
        .send();
    assert_eq!(binary.await.unwrap().status(), 400);
    let text = http()
        .post(format!("{}/v1/rpc", gateway.url))
        .header("content-type", "text/plain")
        .body(r#"{"method":"echo"}"#)
        .send();
    assert_eq!(text.await.unwrap().status(), 415);
    let get = http().get(format!("{}/v1/rpc", gateway.url)).send().await.unwrap();
    assert_eq!(get.status(), 405);
    assert_eq!(problem(get).await.code, "method-not-allowed");
}

#[tokio::test]
async fn a_call_with_data_that_does_not_fit_says_what_fits() {
    let gateway = gateway(&[]).await;
    for call in [
        r#"{"method":"kv.get"}"#,
        r#"{"method":"kv.get","data":{}}"#,
        r#"{"method":"kv.get","data":{"key":1}}"#,
        r#"{"method":"kv.put","data":{"key":"k"}}"#,
        r#"{"method":"queue.send","data":{"data":1}}"#,
        r#"{"method":"topic.publish","data":"x"}"#,
    ] {
        let (status, answer) = rpc(&gateway, call).await;
        assert_eq!((status, answer.status), (400, RpcStatus::Error), "{call}");
        assert_eq!(answer.code.as_deref(), Some("invalid-request"), "{call}");
    }
    let (status, answer) = rpc(&gateway, r#"{"method":"kv.get","data":{"key":"k"}}"#).await;
    assert_eq!((status, answer.code.as_deref()), (503, Some("no-endpoint")));
}

#[tokio::test]
async fn built_in_methods_call_their_services() {
    let broker = Backend::start(|seen| match seen.request_line().contains("/queues/") {
        true => json(201, r#"{"count":1,"ids":["a"],"deduplicated":0}"#),
        false => json(201, r#"[{"partition":0,"count":1,"first":4,"last":4}]"#),
    })
    .await;
    let replica = Backend::start(|seen| match seen.request_line().starts_with("PUT") {
        true => Reply::Bytes(
            b"HTTP/1.1 200 OK\r\netag: \"3\"\r\nx-session: 1:3\r\nx-acked-by: 2\r\n\
              content-length: 0\r\n\r\n"
                .to_vec(),
        ),
        false => Reply::Bytes(
            b"HTTP/1.1 200 OK\r\netag: \"3\"\r\ncontent-type: application/json\r\n\
              content-length: 9\r\n\r\n{\"a\": 1.0}"[..]
                .to_vec(),
        ),
    })
    .await;
    let gateway = gateway_with(&[&broker], |config| {
        let endpoints = gateway::Endpoints { endpoints: vec![replica.url.clone()] };
        config.upstreams.insert("replica".into(), endpoints);
    })
    .await;
    let call = r#"{"method":"queue.send","data":{"queue":"jobs","data":{"n":1},"priority":7}}"#;
    let (status, answer) = rpc(&gateway, call).await;
    assert_eq!((status, data(&answer)), (200, r#"{"count":1,"ids":["a"],"deduplicated":0}"#));
    let call = r#"{"method":"topic.publish","data":{"topic":"t","data":"x","key":"k"}}"#;
    let (status, answer) = rpc(&gateway, call).await;
    assert_eq!((status, answer.status), (200, RpcStatus::Ok));
    let seen = broker.seen();
    assert_eq!(seen[0].request_line(), "POST /v1/queues/jobs/messages HTTP/1.1");
    assert_eq!(seen[0].body, br#"{"data":{"n":1},"priority":7}"#);
    assert_eq!(seen[0].header("content-type"), ["application/x-ndjson"]);
    assert_eq!(seen[1].body, br#"{"data":"x","key":"k"}"#);

    let call = r#"{"method":"kv.put","data":{"key":"a b","value":"blue"}}"#;
    let (status, answer) = rpc(&gateway, call).await;
    assert_eq!(status, 200);
    assert!(data(&answer).contains(r#""acked_by":2"#), "{}", data(&answer));
    let seen = replica.seen();
    assert_eq!(seen[0].request_line(), "PUT /v1/kv/a%20b HTTP/1.1");
    assert_eq!(seen[0].body, b"blue");
}

fn json(status: u16, body: &str) -> Reply {
    let len = body.len();
    Reply::Bytes(
        format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {len}\r\n\r\n\
             {body}"
        )
        .into_bytes(),
    )
}

#[tokio::test]
async fn a_services_problem_becomes_the_calls_error() {
    let broker = Backend::start(|_| {
        let body = r#"{"type":"urn:quartet:problem:queue-full","title":"t","status":429,
                       "detail":"receive some first","code":"queue-full"}"#;
        let len = body.len();
        Reply::Bytes(
            format!(
                "HTTP/1.1 429 x\r\ncontent-type: application/problem+json\r\nretry-after: 3\r\n\
                 content-length: {len}\r\n\r\n{body}"
            )
            .into_bytes(),
        )
    })
    .await;
    let gateway = gateway(&[&broker]).await;
    let call = r#"{"id":1,"method":"queue.send","data":{"queue":"q","data":1}}"#;
    let answer = send(&gateway, "POST", "/v1/rpc", call).await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "3");
    let answer: RpcResponse = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(answer.status, RpcStatus::Error);
    assert_eq!(answer.error.as_deref(), Some("receive some first"));
    assert_eq!(answer.code.as_deref(), Some("queue-full"));
    assert_eq!(broker.seen().len(), 1, "a send without a key is not repeated");
}

#[tokio::test]
async fn a_registered_method_is_durable_shared_and_removable() {
    let etcd = Etcd::start().await;
    let backend = Backend::start(|_| json(200, r#"{"price": 1.50}"#)).await;
    etcd.register("pricing", "pricing-1", &backend.url);
    let (one, two) = (discovery::gateway(&etcd).await, discovery::gateway(&etcd).await);
    let spec = r#"{"service":"pricing","path":"/v1/price/{sku}","http_method":"GET"}"#;
    let created = send(&one, "PUT", "/v1/methods/price", spec).await;
    assert_eq!(created.status(), 201);
    assert!(etcd.get("quartet/methods/price").unwrap().contains("/v1/price/{sku}"));
    let call = r#"{"id":"1","method":"price","data":{"sku":"a/b","currency":"EUR"}}"#;
    let (status, answer) = rpc(&one, call).await;
    assert_eq!((status, data(&answer)), (200, r#"{"price": 1.50}"#));
    let seen = backend.only();
    assert_eq!(seen.request_line(), "GET /v1/price/a%2Fb?currency=EUR HTTP/1.1");
    eventually("the other gateway has it too", async || {
        (rpc(&two, call).await.0 == 200).then_some(())
    })
    .await;
    let list = http().get(format!("{}/v1/methods", two.url)).send().await.unwrap();
    let list: MethodList = serde_json::from_str(&list.text().await.unwrap()).unwrap();
    let names: Vec<_> = list.methods.iter().map(|method| method.name.as_str()).collect();
    assert_eq!(names, ["echo", "kv.get", "kv.put", "queue.send", "topic.publish", "price"]);
    assert_eq!(send(&one, "PUT", "/v1/methods/price", spec).await.status(), 200);
    assert_eq!(send(&one, "DELETE", "/v1/methods/price", "").await.status(), 204);
    assert_eq!(send(&one, "DELETE", "/v1/methods/price", "").await.status(), 404);
    assert_eq!(rpc(&one, call).await.0, 404);
}

#[tokio::test]
async fn methods_and_routes_that_cannot_be_are_refused() {
    let etcd = Etcd::start().await;
    let gateway = discovery::gateway(&etcd).await;
    let long = "n".repeat(129);
    for (path, body, status) in [
        ("/v1/methods/m", "{}", 400),
        ("/v1/methods/m", r#"{"service":"s","path":"p"}"#, 400),
        ("/v1/methods/m", r#"{"service":"s","path":"/a/../b"}"#, 400),
        ("/v1/methods/m", r#"{"service":"s","path":"/{"}"#, 400),
        ("/v1/methods/m", r#"{"service":"a b","path":"/p"}"#, 400),
        ("/v1/methods/m", r#"{"service":"s","path":"/p","timeout_ms":0}"#, 400),
        ("/v1/methods/m", r#"{"service":"s","path":"/p","timeout_ms":-1}"#, 400),
        ("/v1/methods/m", r#"{"service":"s","path":"/p","http_method":"BREW"}"#, 400),
        ("/v1/methods/m", r#"{"service":"s","path":"/p","htp_method":"GET"}"#, 400),
        ("/v1/methods/echo", r#"{"service":"s","path":"/p"}"#, 409),
        ("/v1/methods/a%20b", r#"{"service":"s","path":"/p"}"#, 400),
        (&format!("/v1/methods/{long}"), r#"{"service":"s","path":"/p"}"#, 400),
        ("/v1/methods/%ff", r#"{"service":"s","path":"/p"}"#, 400),
        ("/v1/routes/r", r#"{"match":{},"service":"s"}"#, 400),
        ("/v1/routes/r", r#"{"match":{"path_prefix":"/broker"},"service":"s"}"#, 400),
        ("/v1/routes/r", r#"{"match":{"path_prefix":"/a"},"endpoints":["ftp://x"]}"#, 400),
    ] {
        let answer = send(&gateway, "PUT", path, body).await;
        assert_eq!(answer.status(), status, "{path} {body}");
        assert!(!problem(answer).await.detail.is_empty(), "{path} {body}");
    }
}

#[tokio::test]
async fn without_a_coordinator_nothing_can_be_registered() {
    let gateway = gateway(&[]).await;
    let answer =
        send(&gateway, "PUT", "/v1/methods/m", r#"{"service":"broker","path":"/x"}"#).await;
    assert_eq!(answer.status(), 503);
    let problem = problem(answer).await;
    assert!(problem.detail.contains("coordinator.endpoints"), "{}", problem.detail);
    let list = http().get(format!("{}/v1/methods", gateway.url)).send().await.unwrap();
    assert_eq!(list.status(), 200);
}

#[tokio::test]
async fn routes_take_effect_at_once_and_end_at_once() {
    let etcd = Etcd::start().await;
    let (shop, own) = (Backend::always("shop").await, Backend::always("own").await);
    etcd.register("shop", "shop-1", &shop.url);
    let gateway = discovery::gateway(&etcd).await;
    let by_service = r#"{"match":{"path_prefix":"/shop"},"service":"shop","strip_prefix":true}"#;
    assert_eq!(send(&gateway, "PUT", "/v1/routes/shop", by_service).await.status(), 201);
    let by_endpoint = format!(
        r#"{{"match":{{"path_prefix":"/shop/own","methods":["GET"]}},"endpoints":["{}"],
            "policy":{{"retries":0,"timeout_ms":1000,"balance":"round_robin"}}}}"#,
        own.url
    );
    assert_eq!(send(&gateway, "PUT", "/v1/routes/own", &by_endpoint).await.status(), 201);
    let text = async |path: &str| send(&gateway, "GET", path, "").await.text().await.unwrap();
    assert_eq!(text("/shop/a?b").await, "shop");
    assert_eq!(text("/shop/own/c").await, "own");
    assert_eq!(shop.only().request_line(), "GET /a?b HTTP/1.1");
    assert_eq!(own.only().request_line(), "GET /shop/own/c HTTP/1.1");
    // What an upstream might resolve differently is not passed on.
    for bad in ["/shop//x", "/shop/%2fx", "/shop/a%00"] {
        let mut raw = crate::support::raw::Raw::connect(&gateway.url).await;
        raw.send(crate::support::raw::get(bad, "")).await;
        assert_eq!(crate::support::raw::status(&raw.read_to_end().await), 400, "{bad}");
    }
    let list = text("/v1/routes").await;
    let list: RouteList = serde_json::from_str(&list).unwrap();
    assert_eq!(list.routes.len(), 2);
    assert_eq!(send(&gateway, "DELETE", "/v1/routes/own", "").await.status(), 204);
    assert_eq!(text("/shop/own/c").await, "shop");
    assert_eq!(send(&gateway, "GET", "/v1/routes/own", "").await.status(), 404);
}

#[tokio::test]
async fn a_route_to_the_gateway_itself_does_not_go_round_forever() {
    let etcd = Etcd::start().await;
    let gateway = discovery::gateway(&etcd).await;
    let route = format!(r#"{{"match":{{"path_prefix":"/loop"}},"endpoints":["{}"]}}"#, gateway.url);
    assert_eq!(send(&gateway, "PUT", "/v1/routes/loop", &route).await.status(), 201);
    let answer = send(&gateway, "POST", "/loop", "x").await;
    assert_eq!(answer.status(), 502);
    assert!(problem(answer).await.detail.contains("come back"));
}

#[tokio::test]
async fn the_description_names_every_path() {
    let gateway = gateway(&[]).await;
    let text = http().get(format!("{}/openapi.json", gateway.url)).send().await.unwrap();
    let document: serde_json::Value = serde_json::from_str(&text.text().await.unwrap()).unwrap();
    for path in [
        "/v1/rpc",
        "/v1/methods",
        "/v1/methods/{name}",
        "/v1/routes",
        "/v1/routes/{name}",
        "/v1/upstreams",
        "/v1/services",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for schema in ["RpcRequest", "RpcResponse", "MethodSpec", "RouteSpec", "UpstreamList"] {
        assert!(schemas.contains_key(schema), "{schema}: {:?}", schemas.keys());
    }
}
