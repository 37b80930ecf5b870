//! Whatever goes wrong, the answer is a problem document with a trace id.

use api::headers;
use api::problem::ProblemDetails;
use reqwest::{Client, RequestBuilder};

use crate::running;

/// Sends the request and checks the answer's form; gives it back for more.
#[track_caller]
fn check(request: RequestBuilder, code: &'static str) -> impl Future<Output = reqwest::Response> {
    let location = std::panic::Location::caller();
    async move {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        assert_eq!(headers["content-type"], headers::PROBLEM_JSON, "{location}: {text}");
        let details: ProblemDetails = serde_json::from_str(&text).unwrap();
        assert_eq!(details.code, code, "{location}: {text}");
        assert_eq!(details.status, status, "{location}: {text}");
        assert_eq!(details.kind, format!("urn:quartet:problem:{code}"), "{location}: {text}");
        assert!(!details.title.is_empty() && !details.detail.is_empty(), "{location}: {text}");
        let trace_id = details.trace_id.unwrap_or_default();
        assert_eq!(headers[headers::TRACE_ID], trace_id, "{location}: {text}");
        assert_eq!(headers[headers::NODE], "trial-1", "{location}");
        if matches!(status, 429 | 503) {
            assert!(headers.contains_key("retry-after"), "{location}");
        }
        let mut rebuilt = http::Response::builder().status(status).body(text).unwrap();
        *rebuilt.headers_mut() = headers;
        rebuilt.into()
    }
}

#[tokio::test]
async fn an_unknown_path_or_method_says_what_there_is() {
    let server = running(|_| ()).await;
    let (client, url) = (Client::new(), &server.url);
    check(client.get(format!("{url}/nowhere")), "not-found").await;
    let response = check(client.delete(format!("{url}/slow")), "method-not-allowed").await;
    let allow = response.headers()["allow"].to_str().unwrap();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
}

#[tokio::test]
async fn malformed_input_says_what_does_not_fit() {
    let server = running(|_| ()).await;
    let (client, url) = (Client::new(), &server.url);
    check(client.get(format!("{url}/items/seven")), "invalid-request").await;
    check(client.get(format!("{url}/items/%ff")), "invalid-request").await;
    check(client.get(format!("{url}/page")), "invalid-request").await;
    check(client.get(format!("{url}/page?limit=-1")), "invalid-request").await;
    let sum = || client.post(format!("{url}/sum"));
    check(sum().body("{\"terms\":[1,"), "invalid-json").await;
    check(sum().body(r#"{"terms":["one"]}"#), "invalid-json").await;
    check(sum(), "invalid-json").await;
    check(sum().body("[[1,2]]"), "invalid-json").await;
    check(sum().header("content-type", "text/plain").body("{}"), "unsupported-media-type").await;
    let response = sum().body(r#"{"terms":[1,2]}"#).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "3");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_early_and_late() {
    let server = running(|base| base.limits.max_body_bytes = 16).await;
    let (client, url) = (Client::new(), format!("{}/echo", server.url));
    check(client.post(&url).body(vec![b'x'; 17]), "too-large").await;
    let chunks = ["0123456789"; 2].map(Ok::<_, std::io::Error>);
    let chunks = futures_util::stream::iter(chunks);
    check(client.post(&url).body(reqwest::Body::wrap_stream(chunks)), "too-large").await;
    let fits = client.post(&url).body(vec![b'x'; 16]).send().await.unwrap();
    assert_eq!(fits.status(), 200);
}

#[tokio::test]
async fn a_panic_costs_one_request_and_tells_no_secret() {
    let server = running(|_| ()).await;
    let (client, url) = (Client::new(), &server.url);
    let response = check(client.get(format!("{url}/panic")), "internal").await;
    assert!(!response.text().await.unwrap().contains("hunter2"));
    assert_eq!(client.get(format!("{url}/items/1")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn time_that_is_over_is_told_apart_from_an_unknown_outcome() {
    let server = running(|_| ()).await;
    let (client, url) = (Client::new(), format!("{}/slow", server.url));
    let limited = |request: RequestBuilder| request.header(headers::DEADLINE_MS, "30");
    check(limited(client.get(&url)), "deadline-exceeded").await;
    check(limited(client.post(&url)), "indeterminate").await;
    check(client.post(&url).header(headers::DEADLINE_MS, "0"), "deadline-exceeded").await;
    check(client.get(&url).header(headers::REQUEST_TIMEOUT, "20ms"), "deadline-exceeded").await;
    check(client.get(&url).header(headers::REQUEST_TIMEOUT, "soon"), "invalid-request").await;
}

#[tokio::test]
async fn a_full_server_refuses_at_once_but_still_says_that_it_lives() {
    let server = running(|base| base.limits.max_in_flight = 1).await;
    let (client, url) = (Client::new(), server.url.clone());
    let mut held = tokio::task::JoinSet::new();
    held.spawn(client.get(format!("{url}/poll")).send());
    // The held request counts once it has arrived: ask until it has.
    let full = async {
        while client.get(format!("{url}/items/1")).send().await.unwrap().status() != 503 {}
    };
    let minute = std::time::Duration::from_secs(60);
    tokio::time::timeout(minute, full).await.expect("the held request arrives");
    check(client.get(format!("{url}/items/1")), "overloaded").await;
    assert_eq!(client.get(format!("{url}/livez")).send().await.unwrap().status(), 200);
}
