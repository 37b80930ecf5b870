//! What is sent again, where, and what never is. Row P1, §3 of the checklist.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use api::gateway::{BreakerState, EndpointHealth};
use tokio::sync::Notify;

use crate::support::{Backend, Reply, eventually, gateway, gateway_with, http, problem, upstream};

/// An address at which nobody listens.
async fn dead() -> Backend {
    let backend = Backend::always("").await;
    let address = backend.address;
    drop(backend);
    eventually("the port is closed", async || {
        tokio::net::TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
    Backend::always("").await.renamed(address)
}

#[tokio::test]
async fn a_dead_endpoint_costs_nobody_a_request() {
    let alive = Backend::always("alive").await;
    let dead = dead().await;
    let gateway = gateway(&[&dead, &alive]).await;
    for method in ["GET", "POST"] {
        for _ in 0..10 {
            let request = http()
                .request(method.parse().unwrap(), format!("{}/broker/x", gateway.url))
                .body("body")
                .send();
            let answer = request.await.unwrap();
            assert_eq!(answer.status(), 200, "{method}");
            assert_eq!(answer.text().await.unwrap(), "alive");
        }
    }
    assert_eq!(alive.seen().len(), 20);
    assert!(alive.seen().iter().all(|seen| seen.body == b"body"));
}

#[tokio::test]
async fn what_was_never_sent_goes_elsewhere_also_when_the_client_repeats() {
    let alive = Backend::always("alive").await;
    let dead = dead().await;
    let gateway = gateway(&[&dead, &alive]).await;
    for _ in 0..10 {
        let url = format!("{}/broker/x", gateway.url);
        let answer = http().post(url).header("x-attempt", "2").body("b").send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test]
async fn an_endpoint_that_is_killed_is_left_and_found_again() {
    let one = Backend::always("one").await;
    let two = Backend::always("two").await;
    let gateway = gateway(&[&one, &two]).await;
    let get = async || {
        let answer = http().get(format!("{}/broker/x", gateway.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().await.unwrap()
    };
    for _ in 0..20 {
        get().await;
    }
    let address = one.address;
    drop(one);
    for _ in 0..20 {
        assert_eq!(get().await, "two");
    }
    drop(two);
    let _one = Backend::again(address, |_| Reply::ok("one")).await;
    eventually("it is found again", async || {
        let answer = http().get(format!("{}/broker/x", gateway.url)).send().await.unwrap();
        (answer.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_post_is_sent_once_unless_it_has_a_key() {
    let backend = Backend::start(|_| Reply::ThenClose(Vec::new())).await;
    let gateway = gateway(&[&backend]).await;
    let url = format!("{}/broker/x", gateway.url);
    let answer = http().post(&url).body("once").send().await.unwrap();
    assert_eq!(answer.status(), 504);
    let problem = problem(answer).await;
    assert_eq!(problem.code, "indeterminate");
    assert!(problem.detail.contains("Idempotency-Key"), "{}", problem.detail);
    assert_eq!(backend.seen().len(), 1);

    let failed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failed);
    let backend = Backend::start(move |_| match count.fetch_add(1, SeqCst) {
        0 => Reply::ThenClose(Vec::new()),
        1 => Reply::status("503 Service Unavailable", "busy"),
        _ => Reply::ok("done"),
    })
    .await;
    let gateway = crate::support::gateway(&[&backend]).await;
    let answer = http()
        .post(format!("{}/broker/x", gateway.url))
        .header("idempotency-key", "k1")
        .body("keyed")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let seen = backend.seen();
    assert_eq!(seen.len(), 3);
    for (index, seen) in seen.iter().enumerate() {
        assert_eq!(seen.body, b"keyed");
        assert_eq!(seen.header("idempotency-key"), ["k1"]);
        assert_eq!(seen.header("x-attempt"), [(index + 1).to_string()]);
    }
}

#[tokio::test]
async fn only_answers_that_ask_for_it_are_repeated() {
    for (method, status, headers, attempts) in [
        ("GET", 502, "", 3),
        ("GET", 503, "", 3),
        ("GET", 504, "", 3),
        ("PUT", 503, "", 3),
        ("DELETE", 503, "", 3),
        ("POST", 503, "", 1),
        ("PATCH", 503, "", 1),
        ("PUT", 503, "if-match", 1),
        ("GET", 500, "", 1),
        ("GET", 404, "", 1),
        ("GET", 429, "", 1),
        ("GET", 503, "x-attempt", 1),
    ] {
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 1\r\n\r\nx").into_bytes();
        let backend = Backend::start(move |_| Reply::Bytes(answer.clone())).await;
        let gateway = gateway(&[&backend]).await;
        let mut request =
            http().request(method.parse().unwrap(), format!("{}/broker/x", gateway.url)).body("b");
        if !headers.is_empty() {
            request = request.header(headers, "1");
        }
        let answer = request.send().await.unwrap();
        // The last answer of the upstream is the answer.
        assert_eq!(answer.status(), status, "{method} {status}");
        assert_eq!(answer.text().await.unwrap(), "x");
        assert_eq!(backend.seen().len(), attempts, "{method} {status} {headers}");
    }
}

#[tokio::test]
async fn a_429_is_repeated_elsewhere_when_it_says_when() {
    let full = Backend::start(|_| {
        Reply::Bytes(
            b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n"
                .to_vec(),
        )
    })
    .await;
    let free = Backend::always("free").await;
    let gateway = gateway(&[&full, &free]).await;
    for _ in 0..10 {
        let answer = http().get(format!("{}/broker/x", gateway.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    // A full queue is no reason to leave the node.
    let view = upstream(&gateway, "broker").await;
    assert!(view.endpoints.iter().all(|endpoint| endpoint.health == EndpointHealth::Healthy));
}

#[tokio::test]
async fn a_body_that_outgrew_the_buffer_is_not_sent_again() {
    let backend = Backend::start(|_| Reply::status("503 Service Unavailable", "")).await;
    let gateway = gateway(&[&backend]).await;
    let url = format!("{}/broker/x", gateway.url);
    let small = http().put(&url).body(vec![b'x'; 60 * 1024]).send().await.unwrap();
    assert_eq!((small.status().as_u16(), backend.seen().len()), (503, 3));
    let large = http().put(&url).body(vec![b'x'; 100 * 1024]).send().await.unwrap();
    assert_eq!((large.status().as_u16(), backend.seen().len()), (503, 4));
}

#[tokio::test]
async fn p1_a_connection_that_died_while_idle_costs_nobody_a_request() {
    // Closes each connection right after its answer, without saying so in the header.
    let backend =
        Backend::start(|_| Reply::ThenClose(crate::support::backend::response("200 OK", "ok")))
            .await;
    let gateway = gateway(&[&backend]).await;
    let client = http();
    for index in 0..300 {
        let answer = client.get(format!("{}/broker/{index}", gateway.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{index}");
    }
    let seen = backend.seen();
    assert_eq!(seen.len(), 300, "none was sent twice, for none was taken and lost");
}

#[tokio::test]
async fn p1_each_post_arrives_at_most_once_over_connections_that_die() {
    let backend = Backend::start(|seen| {
        let answer = crate::support::backend::response("200 OK", "ok");
        match seen.index % 3 {
            0 => Reply::ThenClose(answer),
            _ => Reply::Bytes(answer),
        }
    })
    .await;
    let gateway = gateway(&[&backend]).await;
    let client = http();
    for index in 0..200 {
        let url = format!("{}/broker/{index}", gateway.url);
        let answer = client.post(url).body("b").send().await.unwrap();
        // Written to a connection that was about to close: nobody knows, and it is said.
        assert!(matches!(answer.status().as_u16(), 200 | 504), "{answer:?}");
    }
    let mut lines: Vec<_> =
        backend.seen().iter().map(|seen| seen.request_line().to_owned()).collect();
    let arrived = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), arrived);
}

#[tokio::test]
async fn retries_are_paid_from_a_budget() {
    let backend = Backend::start(|_| Reply::status("503 Service Unavailable", "")).await;
    let gateway = gateway_with(&[&backend], |config| {
        config.retry_budget.percent = 10;
        config.retry_budget.floor_per_second = 0;
        // The breaker would end this before the budget does.
        config.breaker.consecutive_failures = u32::MAX;
        config.breaker.min_volume = u32::MAX;
    })
    .await;
    for _ in 0..100 {
        let answer = http().get(format!("{}/broker/x", gateway.url)).send().await.unwrap();
        assert_eq!(answer.status(), 503);
    }
    let attempts = backend.seen().len();
    assert!((101..=110).contains(&attempts), "{attempts}");
}

#[tokio::test]
async fn a_breaker_opens_refuses_and_closes_again() {
    let broken = Arc::new(AtomicUsize::new(1));
    let state = Arc::clone(&broken);
    let backend = Backend::start(move |_| match state.load(SeqCst) {
        0 => Reply::ok("well"),
        _ => Reply::status("503 Service Unavailable", ""),
    })
    .await;
    let gateway = gateway_with(&[&backend], |config| {
        config.breaker.open_min_ms = 100;
        config.breaker.open_max_ms = 100;
        config.breaker.ramp_ms = 100;
    })
    .await;
    let url = format!("{}/broker/x", gateway.url);
    let refused = eventually("the breaker opens", async || {
        let answer = http().post(&url).send().await.unwrap();
        (answer.headers().contains_key("content-type")).then_some(answer)
    })
    .await;
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(problem(refused).await.code, "breaker-open");
    let view = upstream(&gateway, "broker").await;
    let endpoint = &view.endpoints[0];
    assert!(matches!(endpoint.breaker, BreakerState::Open | BreakerState::HalfOpen));
    assert_eq!(endpoint.health, EndpointHealth::Ejected);
    assert!(endpoint.last_failure.as_deref().unwrap().contains("503"), "{endpoint:?}");

    broken.store(0, SeqCst);
    eventually("it closes again", async || {
        let answer = http().post(&url).send().await.unwrap();
        let view = upstream(&gateway, "broker").await;
        (answer.status() == 200 && view.endpoints[0].breaker == BreakerState::Closed).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_in_time_is_reported_as_such() {
    let closed = Arc::new(Notify::new());
    let close = Arc::clone(&closed);
    let backend = Backend::start(move |_| Reply::Hang(Arc::clone(&close))).await;
    let gateway = gateway(&[&backend]).await;
    let url = format!("{}/broker/x", gateway.url);
    let read = http().get(&url).header("x-deadline-ms", "2000").send().await.unwrap();
    assert_eq!(read.status(), 504);
    closed.notified().await;
    let write = http().post(&url).header("x-deadline-ms", "2000").send().await.unwrap();
    assert_eq!(write.status(), 504);
    assert_eq!(problem(write).await.code, "indeterminate");
    closed.notified().await;
    assert_eq!(backend.seen().len(), 2);
}

#[tokio::test]
async fn an_outcome_stays_unknown_when_only_the_first_attempt_was_sent() {
    let address = Arc::new(std::sync::Mutex::new(None::<Backend>));
    let shared = Arc::clone(&address);
    let backend = Backend::start(move |_| {
        // The process dies while it works on the request.
        drop(shared.lock().unwrap().take());
        Reply::ThenClose(Vec::new())
    })
    .await;
    let url = backend.url.clone();
    let gateway = gateway(&[&backend]).await;
    *address.lock().unwrap() = Some(backend);
    let answer = http().put(format!("{}/broker/x", gateway.url)).body("b").send().await.unwrap();
    assert_eq!(answer.status(), 504, "{url}");
    assert_eq!(problem(answer).await.code, "indeterminate");
}

#[tokio::test]
async fn nobody_listens_is_a_bad_gateway() {
    let dead = dead().await;
    let gateway = gateway(&[&dead]).await;
    let answer = http().post(format!("{}/broker/x", gateway.url)).body("b").send().await.unwrap();
    assert_eq!(answer.status(), 502);
    let problem = problem(answer).await;
    assert_eq!(problem.code, "unreachable");
    assert!(problem.detail.contains("nothing was sent"), "{}", problem.detail);
    let view = upstream(&gateway, "broker").await;
    assert!(view.endpoints[0].last_failure.as_deref().unwrap().contains("reached"), "{view:?}");
}

#[tokio::test]
async fn connections_are_bounded_and_so_is_the_wait_for_one() {
    let closed = Arc::new(Notify::new());
    let close = Arc::clone(&closed);
    let backend = Backend::start(move |seen| match seen.index {
        0 => Reply::Hang(Arc::clone(&close)),
        _ => Reply::ok("ok"),
    })
    .await;
    let gateway = gateway_with(&[&backend], |config| config.pool.max_connections = 1).await;
    let url = format!("{}/broker/x", gateway.url);
    let holder = {
        let url = url.clone();
        async move { http().get(url).timeout(Duration::from_secs(3)).send().await }
    };
    let crowded = async {
        eventually("the first request is there", async || {
            (!backend.seen().is_empty()).then_some(())
        })
        .await;
        http().post(&url).send().await.unwrap()
    };
    let (_, answer) = tokio::join!(holder, crowded);
    assert_eq!(answer.status(), 503);
    assert_eq!(problem(answer).await.code, "overloaded");
    // The holder's client gave up: its connection is closed and the place is free.
    closed.notified().await;
    assert_eq!(http().get(&url).send().await.unwrap().status(), 200);
}
