//! A real broker behind a real gateway.

use std::time::Duration;

use api::broker::TopicSpec;
use api::gateway::RpcStatus;
use client::broker::{Broker, Payload, Read};
use client::gateway::{Gateway, RpcOptions};
use client::http::{Client, Config};
use serde_json::json;

use super::in_time;
use crate::process::Service;

#[tokio::test]
async fn the_broker_is_found_and_called_through_the_gateway() {
    let Some(coordinator) = Service::start("coordinator", &[]).await else { return };
    let known = [("QUARTET_COORDINATOR__ENDPOINTS", format!("[\"{}\"]", coordinator.url()))];
    let Some(_broker) = Service::start("broker", &known).await else { return };
    let Some(service) = Service::start("gateway", &known).await else { return };
    let gateway = Gateway::new(service.client());
    in_time("the broker is known", async {
        let serves = |service: &api::gateway::ServiceView| service.service == "broker";
        while !gateway.services().await.unwrap().services.iter().any(serves) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;

    let prefix = service.url().join("broker").unwrap();
    let broker = Broker::new(Client::new(Config::default(), [prefix]).unwrap());
    broker.put_topic("t", &TopicSpec::default()).await.unwrap();
    broker.publish("t", None, Payload::bytes("through")).await.unwrap();
    assert_eq!(broker.read("t", &Read::earliest()).await.unwrap().messages.len(), 1);
    let mut stream = broker.stream("t", &Read::earliest()).await.unwrap();
    in_time("the first", stream.next()).await.unwrap();
    broker.publish("t", None, Payload::bytes("live")).await.unwrap();
    assert_eq!(in_time("a live one", stream.next()).await.unwrap().offset, 1);

    let data = json!({"n": 1});
    let echo = gateway.rpc("echo", Some(&data), &RpcOptions::default()).await.unwrap();
    assert_eq!((echo.status, echo.data.unwrap().get()), (RpcStatus::Ok, r#"{"n":1}"#));
    let none = gateway.rpc("no.such", Some(&data), &RpcOptions::default()).await.unwrap();
    assert!(none.error.unwrap().contains("no.such"));
    let upstreams = gateway.upstreams().await.unwrap().upstreams;
    assert!(upstreams.iter().any(|upstream| upstream.service == "broker"));
}
