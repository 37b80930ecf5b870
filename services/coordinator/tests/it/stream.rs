//! Reading answers that do not end.

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::Value;

/// The longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Lines {
    response: Response,
    buffer: String,
}

impl Lines {
    pub(crate) async fn open(request: RequestBuilder) -> Self {
        let response = tokio::time::timeout(PATIENCE, request.send()).await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        Self { response, buffer: String::new() }
    }

    pub(crate) async fn next(&mut self) -> String {
        loop {
            if let Some((line, rest)) = self.buffer.split_once('\n') {
                let line = line.to_owned();
                self.buffer = rest.to_owned();
                return line;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.expect("something comes in time").unwrap();
            let chunk = chunk.expect("the stream goes on");
            self.buffer.push_str(str::from_utf8(&chunk).unwrap());
        }
    }

    /// One message of a `/v3` stream, without its header.
    pub(crate) async fn message(&mut self) -> Value {
        let mut value: Value = serde_json::from_str(&self.next().await).unwrap();
        if let Some(result) = value["result"].as_object_mut() {
            result.remove("header");
        }
        value["result"].take()
    }

    /// One server-sent event: id, name, data. Comments are skipped.
    pub(crate) async fn event(&mut self) -> Event {
        let mut event = Event::default();
        loop {
            let line = self.next().await;
            match line.split_once(": ") {
                _ if line.is_empty() && !event.name.is_empty() => return event,
                Some(("id", id)) => event.id = Some(id.parse().unwrap()),
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                _ => {}
            }
        }
    }

    /// The next event that is no bookmark.
    pub(crate) async fn change(&mut self) -> Event {
        loop {
            let event = self.event().await;
            if event.name != "bookmark" {
                return event;
            }
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Event {
    pub(crate) id: Option<u64>,
    pub(crate) name: String,
    pub(crate) data: Value,
}
