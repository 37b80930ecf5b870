//! Rows T1 to T5: what a request asks for is judged before it is routed.

use crate::support::raw::{exchange, get, status};
use crate::support::{Backend, gateway, http, problem};

#[tokio::test]
async fn t1_a_request_has_one_valid_host() {
    let backend = Backend::always("ok").await;
    let gateway = gateway(&[&backend]).await;
    for hosts in [
        "",
        "host: a\r\nhost: a\r\n",
        "host: a\r\nhost: b\r\n",
        "host: a b\r\n",
        "host: u@a\r\n",
        "host:\r\n",
        "host: a/b\r\n",
        "host: a:port\r\n",
    ] {
        let request = format!("GET /broker/x HTTP/1.1\r\nconnection: close\r\n{hosts}\r\n");
        let answer = exchange(&gateway.url, request).await;
        assert_eq!(status(&answer), 400, "{hosts:?}: {answer}");
        assert!(answer.contains("application/problem+json"), "{hosts:?}: {answer}");
    }
    assert!(backend.seen().is_empty());
    let old = exchange(&gateway.url, "GET /broker/x HTTP/1.0\r\n\r\n").await;
    assert_eq!(status(&old), 200);
    assert_eq!(backend.only().header("host"), [backend.address.to_string()]);
}

#[tokio::test]
async fn t2_the_target_decides_the_host() {
    let backend = Backend::always("ok").await;
    let gateway = gateway(&[&backend]).await;
    let request =
        "GET http://real.test/broker/x?q HTTP/1.1\r\nhost: other.test\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&exchange(&gateway.url, request).await), 200);
    let seen = backend.only();
    assert_eq!(seen.request_line(), "GET /x?q HTTP/1.1");
    assert_eq!(seen.header("host"), ["real.test"]);
    assert_eq!(seen.header("x-forwarded-host"), ["real.test"]);
}

#[tokio::test]
async fn t3_a_path_reaches_the_upstream_as_it_was_judged() {
    let backend = Backend::always("ok").await;
    let gateway = gateway(&[&backend]).await;
    for bad in ["/broker/../replica/x", "/broker/a/%2e%2E/b", "/broker/./a", "/broker/.."] {
        let answer = exchange(&gateway.url, get(bad, "")).await;
        assert_eq!(status(&answer), 400, "{bad}: {answer}");
    }
    for elsewhere in ["/%62roker/x", "//broker/x", "/Broker/x", "/brokers/x"] {
        let answer = exchange(&gateway.url, get(elsewhere, "")).await;
        assert_eq!(status(&answer), 404, "{elsewhere}: {answer}");
    }
    assert!(backend.seen().is_empty());
    // Keys of our services may hold anything, so their paths pass byte for byte.
    for (index, rest) in
        ["/v1/kv//a%2Fb%00%5c", "/a%2eb/c..d", "/x?a=../b&c=%ff"].iter().enumerate()
    {
        let answer = exchange(&gateway.url, get(&format!("/broker{rest}"), "")).await;
        assert_eq!(status(&answer), 200, "{answer}");
        assert_eq!(backend.seen()[index].request_line(), format!("GET {rest} HTTP/1.1"));
    }
}

#[tokio::test]
async fn t4_a_header_name_with_an_underscore_is_refused() {
    let backend = Backend::always("ok").await;
    let gateway = gateway(&[&backend]).await;
    let answer = exchange(&gateway.url, get("/broker/x", "x_user: root\r\n")).await;
    assert_eq!(status(&answer), 400);
    assert!(answer.contains("x_user"), "{answer}");
    assert!(backend.seen().is_empty());
}

#[tokio::test]
async fn t5_connect_is_refused() {
    let backend = Backend::always("ok").await;
    let gateway = gateway(&[&backend]).await;
    let target = backend.address;
    let request =
        format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\n\r\n");
    let mut raw = crate::support::raw::Raw::connect(&gateway.url).await;
    raw.send(request).await;
    let answer = raw.read_to_end().await;
    assert_eq!(status(&answer), 405, "{answer}");
    assert!(answer.contains("allow: GET, HEAD, POST"), "{answer}");
    assert!(answer.contains("\"code\":\"method-not-allowed\""), "{answer}");
    assert_eq!(backend.connections(), 0);
}

#[tokio::test]
async fn what_nothing_takes_is_a_problem_that_says_what_there_is() {
    let gateway = gateway(&[]).await;
    for path in ["/", "/nowhere", "/v1/availability", "/ui", "/v1/kv/a"] {
        let answer = http().get(format!("{}{path}", gateway.url)).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
        let problem = problem(answer).await;
        assert_eq!(problem.code, "route-not-found", "{path}");
        assert!(problem.detail.contains("/broker/"), "{}", problem.detail);
        assert!(problem.trace_id.is_some());
    }
}

#[tokio::test]
async fn a_service_without_endpoints_says_how_to_get_one() {
    let gateway = gateway(&[]).await;
    let answer = http().get(format!("{}/replica/v1/kv/a", gateway.url)).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    let problem = problem(answer).await;
    assert_eq!(problem.code, "no-endpoint");
    assert!(problem.detail.contains("quartet/services/replica/"), "{}", problem.detail);
    assert!(problem.detail.contains("[upstreams.replica]"), "{}", problem.detail);
}
