//! Endpoints that register, leave and come back.

use gateway::Config;

use crate::support::etcd::Etcd;
use crate::support::{Backend, PATIENCE, Reply, eventually, http, upstream};

pub(crate) async fn gateway(etcd: &Etcd) -> chassis::testing::Running<Config> {
    let mut config = Config::default();
    config.base.coordinator.endpoints = vec![etcd.url.clone()];
    let gateway = chassis::testing::start(config, gateway::start).await;
    let ready = format!("{}/readyz", gateway.url);
    eventually("the gateway is ready", async || {
        (http().get(&ready).send().await.unwrap().status() == 200).then_some(())
    })
    .await;
    gateway
}

async fn get(gateway: &chassis::testing::Running<Config>, path: &str) -> (u16, String) {
    let answer = http().get(format!("{}{path}", gateway.url)).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn instances_are_called_as_soon_as_they_register_and_until_they_leave() {
    let etcd = Etcd::start().await;
    let (one, two) = (Backend::always("one").await, Backend::always("two").await);
    etcd.register("broker", "broker-1", &one.url);
    let gateway = gateway(&etcd).await;
    eventually("the first is found", async || {
        (get(&gateway, "/broker/x").await == (200, "one".to_owned())).then_some(())
    })
    .await;
    etcd.register("broker", "broker-2", &two.url);
    eventually("the second is found", async || {
        (get(&gateway, "/broker/x").await.1 == "two").then_some(())
    })
    .await;
    let view = upstream(&gateway, "broker").await;
    let instances: Vec<_> =
        view.endpoints.iter().filter_map(|endpoint| endpoint.instance.as_deref()).collect();
    assert_eq!(instances.len(), 2, "{view:?}");
    let (_, services) = get(&gateway, "/v1/services").await;
    let services: api::gateway::ServiceList = serde_json::from_str(&services).unwrap();
    assert!(services.connected);
    let broker = services.services.iter().find(|known| known.service == "broker").unwrap();
    assert_eq!(broker.instances.len(), 2);
    assert_eq!(broker.instances[0].port, one.address.port());

    etcd.delete("quartet/services/broker/broker-1");
    eventually("the first is left", async || {
        (upstream(&gateway, "broker").await.endpoints.len() == 1).then_some(())
    })
    .await;
    for _ in 0..10 {
        assert_eq!(get(&gateway, "/broker/x").await.1, "two");
    }
    etcd.delete("quartet/services/broker/broker-2");
    eventually("nobody is left", async || {
        (get(&gateway, "/broker/x").await.0 == 503).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_registers_again_is_not_held_to_its_past() {
    let etcd = Etcd::start().await;
    let broken = Backend::start(|_| Reply::status("503 Service Unavailable", "")).await;
    let address = broken.address;
    let mut config = Config::default();
    config.base.coordinator.endpoints = vec![etcd.url.clone()];
    config.breaker.open_min_ms = 600_000;
    config.breaker.open_max_ms = 600_000;
    let gateway = chassis::testing::start(config, gateway::start).await;
    etcd.register("broker", "broker-1", &broken.url);
    let ejected = async || {
        let view = upstream(&gateway, "broker").await;
        let first = view.endpoints.first()?;
        (first.health == api::gateway::EndpointHealth::Ejected).then_some(())
    };
    eventually("the breaker opens", async || {
        get(&gateway, "/broker/x").await;
        ejected().await
    })
    .await;
    let url = broken.url.clone();
    drop(broken);
    let _again = Backend::again(address, |_| Reply::ok("well")).await;
    etcd.register("broker", "broker-1", &url);
    eventually("it is called again", async || {
        (get(&gateway, "/broker/x").await == (200, "well".to_owned())).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_its_coordinator_a_gateway_goes_on_with_what_it_knows() {
    let etcd = Etcd::start().await;
    let backend = Backend::always("ok").await;
    etcd.register("broker", "broker-1", &backend.url);
    etcd.put(
        "quartet/methods/known",
        r#"{"service":"broker","path":"/known","http_method":"GET"}"#,
    );
    let gateway = gateway(&etcd).await;
    eventually("it is found", async || (get(&gateway, "/broker/x").await.0 == 200).then_some(()))
        .await;
    drop(etcd);
    eventually("the loss is noticed", async || {
        get(&gateway, "/v1/services").await.1.contains(r#""connected":false"#).then_some(())
    })
    .await;
    assert_eq!(get(&gateway, "/broker/x").await, (200, "ok".to_owned()));
    assert_eq!(get(&gateway, "/readyz").await.0, 200);
    let call = http()
        .post(format!("{}/v1/rpc", gateway.url))
        .body(r#"{"method":"known"}"#)
        .header("content-type", "application/json");
    assert_eq!(call.send().await.unwrap().status(), 200);
    let put = http()
        .put(format!("{}/v1/methods/new", gateway.url))
        .body(r#"{"service":"broker","path":"/x"}"#)
        .header("content-type", "application/json")
        .timeout(PATIENCE * 2);
    let refused = put.send().await.unwrap();
    assert!(matches!(refused.status().as_u16(), 503 | 504), "{refused:?}");
}

#[tokio::test]
async fn a_gateway_that_knows_nothing_yet_is_not_ready() {
    let mut config = Config::default();
    config.base.coordinator.endpoints = vec!["http://127.0.0.1:9".to_owned()];
    let gateway = chassis::testing::start(config, gateway::start).await;
    assert_eq!(get(&gateway, "/livez").await.0, 200);
    let (status, text) = get(&gateway, "/readyz?verbose").await;
    assert_eq!(status, 503);
    assert!(text.contains("coordinator"), "{text}");
}
