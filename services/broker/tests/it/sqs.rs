//! The SQS face: what a client sees on the wire. `scripts/test-sqs` asks more, through boto3.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::server::{Broker, read};

const ACCOUNT: &str = "000000000000";

async fn ask(broker: &Broker, action: &str, body: Value) -> Response {
    let request = broker.request(Method::POST, "/").body(body.to_string());
    let request = request.header("content-type", "application/x-amz-json-1.0");
    request.header("x-amz-target", format!("AmazonSQS.{action}")).send().await.unwrap()
}

async fn call(broker: &Broker, action: &str, body: Value) -> Value {
    read(ask(broker, action, body).await).await
}

/// The code of an answer that must be an error of SQS.
async fn refused(broker: &Broker, action: &str, body: Value, status: u16) -> String {
    let response = ask(broker, action, body).await;
    assert_eq!(response.status(), status, "{action}");
    assert_eq!(response.headers()["content-type"], "application/x-amz-json-1.0");
    let code = response.headers()["x-amzn-query-error"].to_str().unwrap().to_owned();
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    let shape = body["__type"].as_str().unwrap();
    assert!(shape.starts_with("com.amazonaws.sqs#"), "{shape}");
    assert!(!body["message"].as_str().unwrap().is_empty());
    let (code, blame) = code.split_once(';').unwrap();
    assert_eq!(blame, if status < 429 { "Sender" } else { "Receiver" });
    code.to_owned()
}

#[tokio::test]
async fn a_message_goes_in_on_one_face_and_out_on_the_other() {
    let broker = Broker::start().await;
    let queue = call(&broker, "CreateQueue", json!({ "QueueName": "Jobs" })).await;
    let url = queue["QueueUrl"].as_str().unwrap();
    assert!(url.ends_with(&format!("/{ACCOUNT}/Jobs")), "{url}");
    let attribute = json!({ "colour": { "DataType": "String", "StringValue": "red" } });
    let message =
        json!({ "QueueUrl": url, "MessageBody": "hello", "MessageAttributes": attribute });
    let sent = call(&broker, "SendMessage", message).await;
    assert_eq!(sent["MD5OfMessageBody"], "5d41402abc4b2a76b9719d911017c592");
    let taken = broker.take("/v1/queues/Jobs/receive", 1, 0.0).await;
    assert_eq!(taken[0]["data"], "hello");
    assert_eq!(taken[0]["attributes"]["sqs.colour"], "String:red");
    assert_eq!(broker.settle("/v1/queues/Jobs/ack", &taken, json!({})).await, ["ok"]);

    broker.send("Jobs", &["back"]).await;
    let got = call(&broker, "ReceiveMessage", json!({ "QueueUrl": "Jobs" })).await;
    let got = &got["Messages"][0];
    assert_eq!(got["Body"], "back");
    let done = json!({ "QueueUrl": url, "ReceiptHandle": got["ReceiptHandle"] });
    assert_eq!(call(&broker, "DeleteMessage", done).await, json!({}));
    assert_eq!(broker.get("/v1/queues/Jobs").await["stats"]["acked"], 2);
    broker.stop().await;
}

#[tokio::test]
async fn errors_have_the_form_of_sqs() {
    let broker = Broker::start().await;
    call(&broker, "CreateQueue", json!({ "QueueName": "q" })).await;
    let none = json!({ "QueueUrl": "none" });
    let nonexistent = "AWS.SimpleQueueService.NonExistentQueue";
    assert_eq!(refused(&broker, "PurgeQueue", none, 400).await, nonexistent);
    assert_eq!(refused(&broker, "FlyAway", json!({}), 400).await, "InvalidAction");
    assert_eq!(refused(&broker, "SendMessage", json!("x"), 400).await, "SerializationException");
    let full = json!({ "QueueUrl": "q", "Attributes": { "MaxMessages": "1" } });
    call(&broker, "SetQueueAttributes", full).await;
    let message = json!({ "QueueUrl": "q", "MessageBody": "x" });
    call(&broker, "SendMessage", message.clone()).await;
    assert_eq!(refused(&broker, "SendMessage", message, 429).await, "RequestThrottled");
    let large = json!({ "QueueUrl": "q", "MessageBody": "x".repeat(9 << 20) });
    assert_eq!(refused(&broker, "SendMessage", large, 413).await, "InvalidParameterValue");
    broker.stop().await;
}

/// A worker that was a little too slow has done its work all the same.
#[tokio::test]
async fn a_message_that_nobody_got_again_is_deleted_late() {
    let broker = Broker::start().await;
    call(&broker, "CreateQueue", json!({ "QueueName": "q" })).await;
    broker.send("q", &["slow"]).await;
    let ask = json!({ "QueueUrl": "q", "VisibilityTimeout": 0 });
    let got = call(&broker, "ReceiveMessage", ask.clone()).await;
    let late = json!({ "QueueUrl": "q", "ReceiptHandle": got["Messages"][0]["ReceiptHandle"] });
    let again = call(&broker, "ReceiveMessage", json!({ "QueueUrl": "q" })).await;
    call(&broker, "DeleteMessage", late).await;
    assert_eq!(broker.get("/v1/queues/q").await["stats"]["messages"], 1, "another has it");
    let handle = again["Messages"][0]["ReceiptHandle"].clone();
    let release = json!({ "QueueUrl": "q", "ReceiptHandle": handle, "VisibilityTimeout": 0 });
    call(&broker, "ChangeMessageVisibility", release).await;
    let late = json!({ "QueueUrl": "q", "ReceiptHandle": handle });
    call(&broker, "DeleteMessage", late).await;
    assert_eq!(broker.get("/v1/queues/q").await["stats"]["messages"], 0);
    broker.stop().await;
}

#[tokio::test]
async fn queues_keep_what_sqs_knows_of_them() {
    let broker = Broker::start().await;
    let attributes = json!({ "FifoQueue": "true", "MaximumMessageSize": "2048" });
    let queue = json!({ "QueueName": "a.fifo", "Attributes": attributes, "tags": { "k": "v" } });
    call(&broker, "CreateQueue", queue).await;
    let broker = broker.restart().await;
    let all = json!({ "QueueUrl": "a.fifo", "AttributeNames": ["All"] });
    let all = call(&broker, "GetQueueAttributes", all).await;
    assert_eq!(all["Attributes"]["MaximumMessageSize"], "2048");
    assert_eq!(all["Attributes"]["FifoQueue"], "true");
    let tags = call(&broker, "ListQueueTags", json!({ "QueueUrl": "a.fifo" })).await;
    assert_eq!(tags, json!({ "Tags": { "k": "v" } }));
    // Settings on our own face leave alone what they do not know.
    broker.put("/v1/queues/a.fifo", json!({ "fifo": true, "max_priority": 3 })).await;
    let tags = call(&broker, "ListQueueTags", json!({ "QueueUrl": "a.fifo" })).await;
    assert_eq!(tags, json!({ "Tags": { "k": "v" } }));
    broker.stop().await;
}
