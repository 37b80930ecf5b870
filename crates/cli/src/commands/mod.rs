//! A file per noun of the command line.

pub(crate) mod broker;
pub(crate) mod election;
pub(crate) mod gateway;
pub(crate) mod kv;
pub(crate) mod lock;
pub(crate) mod queue;
pub(crate) mod rpc;
pub(crate) mod service;
pub(crate) mod sub;
pub(crate) mod topic;
pub(crate) mod trace;

mod deliveries;
mod retry;

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use clap::CommandFactory;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::{Args, Command, UpArgs};
use crate::bench;
use crate::cluster::{Cluster, Node, Service, down, status, up};
use crate::demo;
use crate::http::{Http, Request};
use crate::output::{self, Output, say};

/// Carries out one command line.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Args { output, endpoint, port_offset, command } = args;
    let session = || Session::new(output, endpoint, port_offset);
    match command {
        Command::Up(args) => up(args, port_offset, output).await,
        Command::Down { data, wipe } => {
            down::run(&Cluster::new(&data.data, port_offset)?, wipe).await
        }
        Command::Status(data) => status::run(&Cluster::new(&data.data, port_offset)?, output).await,
        Command::Demo(args) => demo::run(args, port_offset).await,
        Command::Kv(args) => kv::run(&session()?, args).await,
        Command::Topic(command) => topic::run(&session()?, command).await,
        Command::Sub(command) => sub::run(&session()?, command).await,
        Command::Queue(command) => queue::run(&session()?, command).await,
        Command::Broker(command) => broker::run(&session()?, command).await,
        Command::Lock(command) => lock::run(&session()?, command).await,
        Command::Election(command) => election::run(&session()?, command).await,
        Command::Service(command) => service::run(&session()?, command).await,
        Command::Rpc(args) => rpc::run(&session()?, args).await,
        Command::Method(command) => gateway::method(&session()?, command).await,
        Command::Route(command) => gateway::route(&session()?, command).await,
        Command::Upstreams => gateway::upstreams(&session()?).await,
        Command::Trace(args) => trace::run(&session()?, &args).await,
        Command::Bench(command) => bench::run(command, port_offset, output).await,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "quartet", &mut script);
            output::bytes(&script);
            Ok(())
        }
    }
}

async fn up(args: UpArgs, port_offset: u16, output: Output) -> anyhow::Result<()> {
    let mut plan = up::Plan::new(args.nodes, args.replicas, &args.only)?;
    plan.otlp = args.otlp.endpoint;
    up::run(&Cluster::new(&args.data.data, port_offset)?, &plan, args.detach, output).await
}

/// What every command needs: where to ask, and how to answer.
pub(crate) struct Session {
    pub(crate) http: Http,
    pub(crate) output: Output,
    endpoint: Option<String>,
    local: Cluster,
}

impl Session {
    fn new(output: Output, endpoint: Option<String>, port_offset: u16) -> anyhow::Result<Self> {
        // Only its ports are used: no command looks into a data directory.
        let local = Cluster::new(Path::new("data"), port_offset)?;
        Ok(Self { http: Http::default(), output, endpoint, local })
    }

    /// `path` at the service: at `--endpoint` if given, else at the first local node.
    pub(crate) fn url(&self, service: Service, path: &str) -> String {
        match &self.endpoint {
            Some(endpoint) => format!("{}{path}", endpoint.trim_end_matches('/')),
            None => self.local.url(Node { service, number: 1 }) + path,
        }
    }

    /// Asks. With `--output json` the service's answer goes out as it came and there is nothing
    /// left to do; else it is returned for a table.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        request: Request,
    ) -> anyhow::Result<Option<T>> {
        match self.output {
            Output::Table => self.http.json(request).await.map(Some),
            Output::Json => {
                let response = self.http.send(request).await?;
                let answer =
                    if response.body().is_empty() { Value::Null } else { response.parse()? };
                self.output.json(&answer)?;
                Ok(None)
            }
        }
    }

    /// Asks for something whose answer is that it happened.
    pub(crate) async fn tell(&self, request: Request, done: &str) -> anyhow::Result<()> {
        if self.ask_any(request).await?.is_some() {
            say!("{done}");
        }
        Ok(())
    }

    async fn ask_any(&self, request: Request) -> anyhow::Result<Option<()>> {
        let response = self.http.send(request).await?;
        if self.output == Output::Table {
            return Ok(Some(()));
        }
        let answer = if response.body().is_empty() { Value::Null } else { response.parse()? };
        self.output.json(&answer)?;
        Ok(None)
    }
}

/// An argument as bytes; a dash means stdin.
pub(crate) fn payload(argument: &str) -> anyhow::Result<Vec<u8>> {
    if argument != "-" {
        return Ok(argument.as_bytes().to_vec());
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("cannot read stdin")?;
    Ok(bytes)
}

/// `application/json` for what is JSON, else text or bytes.
pub(crate) fn content_type(payload: &[u8]) -> &'static str {
    if serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok() {
        "application/json"
    } else if std::str::from_utf8(payload).is_ok() {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}

/// `name=value`, as flags take attributes.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as name=value".to_owned()),
    }
}

/// A JSON argument that has to be one.
pub(crate) fn json_argument(argument: &str) -> anyhow::Result<Value> {
    let bytes = payload(argument)?;
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(value),
        Err(error) => bail!("`{}` is not JSON: {error}", String::from_utf8_lossy(&bytes).trim()),
    }
}

/// Something that may be absent, in a table.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_follows_the_bytes() {
        assert_eq!(content_type(b"{\"a\":1}"), "application/json");
        assert_eq!(content_type(b"hello"), "text/plain; charset=utf-8");
        assert_eq!(content_type(&[0xff]), "application/octet-stream");
    }

    #[test]
    fn an_endpoint_replaces_the_local_service() {
        let endpoint = Some("http://gateway:8080/broker/".to_owned());
        let session = Session::new(Output::Table, endpoint, 0).unwrap();
        let url = session.url(Service::Broker, "/v1/topics");
        assert_eq!(url, "http://gateway:8080/broker/v1/topics");
    }
}
