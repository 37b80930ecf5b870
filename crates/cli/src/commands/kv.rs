//! `quartet kv`: keys of the coordinator or of the replicated store.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{Session, content_type, payload};
use crate::cluster::Service;
use crate::http::{Request, Response, encode_key, query};
use crate::output::{self, Output, Table};

#[derive(Debug, clap::Args)]
pub(crate) struct KvArgs {
    /// Which of the two stores.
    #[arg(long, value_enum, default_value = "coordinator", global = true)]
    store: Store,
    #[command(subcommand)]
    command: KvCommand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Store {
    /// Linearizable, for configuration and coordination.
    Coordinator,
    /// Primary and replicas, for data.
    Replica,
}

impl Store {
    const fn service(self) -> Service {
        match self {
            Self::Coordinator => Service::Coordinator,
            Self::Replica => Service::Replica,
        }
    }
}

#[derive(Debug, Subcommand)]
enum KvCommand {
    /// Print a value.
    Get {
        key: String,
        /// coordinator: linearizable, serializable. Replica: eventual, bounded, session, strong.
        #[arg(long, value_name = "LEVEL")]
        consistency: Option<String>,
    },
    /// Write a value; a dash reads it from stdin.
    Put {
        key: String,
        value: String,
        /// Only if this is the current version (its ETag); `*` = only if the key is new.
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
        /// Replica: async, semi, quorum, all.
        #[arg(long, value_name = "LEVEL")]
        ack: Option<String>,
        /// Replica: the key goes away after so many seconds.
        #[arg(long, value_name = "SECONDS")]
        ttl_seconds: Option<u64>,
        /// Coordinator: the key goes away with this lease.
        #[arg(long, value_name = "ID")]
        lease: Option<String>,
    },
    /// Remove a key.
    #[command(visible_alias = "rm")]
    Del { key: String },
    /// List keys.
    Ls {
        #[arg(default_value = "")]
        prefix: String,
        #[arg(long, default_value = "100")]
        limit: u32,
        /// Where an earlier page ended.
        #[arg(long, value_name = "KEY")]
        start: Option<String>,
    },
}

pub(crate) async fn run(session: &Session, args: KvArgs) -> anyhow::Result<()> {
    let store = args.store;
    let url = |key: &str| session.url(store.service(), &format!("/v1/kv/{}", encode_key(key)));
    match args.command {
        KvCommand::Get { key, consistency } => {
            let request = Request::get(url(&key) + &query(&[("consistency", consistency)]));
            show(session, &key, &session.http.send(request).await?)
        }
        KvCommand::Put { key, value, if_match, ack, ttl_seconds, lease } => {
            let body = payload(&value)?;
            let ttl_seconds = ttl_seconds.map(|seconds| seconds.to_string());
            let query = query(&[("ack", ack), ("ttl_seconds", ttl_seconds), ("lease", lease)]);
            let (new, version) = match if_match {
                Some(etag) if etag == "*" => (Some(etag), None),
                other => (None, other),
            };
            let request = Request::put(url(&key) + &query)
                .header_if("if-none-match", new)
                .header_if("if-match", version)
                .body(content_type(&body), body);
            session.tell(request, &format!("{key} is written")).await
        }
        KvCommand::Del { key } => {
            session.tell(Request::delete(url(&key)), &format!("{key} is removed")).await
        }
        KvCommand::Ls { prefix, limit, start } => {
            let pairs =
                [("prefix", Some(prefix)), ("limit", Some(limit.to_string())), ("start", start)];
            let url = session.url(store.service(), "/v1/kv") + &query(&pairs);
            list(session, store, Request::get(url)).await
        }
    }
}

/// The value as it is; with `--output json` also what its headers say.
fn show(session: &Session, key: &str, response: &Response) -> anyhow::Result<()> {
    if session.output == Output::Table {
        let end: &[u8] = if response.body().ends_with(b"\n") { b"" } else { b"\n" };
        output::bytes(&[response.body(), end].concat());
        return Ok(());
    }
    let mut shown = json!({ "key": key });
    match std::str::from_utf8(response.body()) {
        Ok(text) => shown["value"] = Value::from(text),
        Err(_) => shown["value_bytes"] = Value::from(response.body()),
    }
    for header in ["etag", "content-type", "x-lag-ms", "x-served-by", "x-role", "x-trace-id"] {
        if let Some(value) = response.header(header) {
            shown[header.trim_start_matches("x-").replace('-', "_")] = Value::from(value);
        }
    }
    session.output.json(&shown)
}

async fn list(session: &Session, store: Store, request: Request) -> anyhow::Result<()> {
    let mut table = Table::new(["KEY", "VALUE", "VERSION"]);
    let next = match store {
        Store::Coordinator => {
            let page = session.ask::<api::coordinator::KeyPage>(request).await?;
            let Some(page) = page else { return Ok(()) };
            for kv in page.kvs {
                let value = kv.value.as_ref().map_or_else(String::new, text);
                table.row([text(&kv.key), cut(&value), kv.mod_revision.to_string()]);
            }
            page.next
        }
        Store::Replica => {
            let page = session.ask::<api::replica::Page>(request).await?;
            let Some(page) = page else { return Ok(()) };
            for item in page.items {
                let value = item.value.or(item.value_base64).unwrap_or_default();
                table.row([item.key, cut(&value), item.version.to_string()]);
            }
            page.next
        }
    };
    table.print();
    if let Some(next) = next {
        crate::output::note!("there is more: --start {next}");
    }
    Ok(())
}

pub(super) fn text(text: &api::coordinator::Text) -> String {
    match text {
        api::coordinator::Text::Plain(text) => text.clone(),
        api::coordinator::Text::Encoded(_) => {
            text.decode().map_or_else(|_| String::new(), |bytes| bytes.escape_ascii().to_string())
        }
    }
}

/// Long values would break the table; `get` shows them whole.
fn cut(value: &str) -> String {
    const WIDTH: usize = 60;
    let line = value.lines().next().unwrap_or_default();
    if line.chars().count() <= WIDTH && line.len() == value.len() {
        return line.to_owned();
    }
    line.chars().take(WIDTH).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_and_short_ones_are_not() {
        assert_eq!(cut("blue"), "blue");
        assert_eq!(cut("a\nb"), "a…");
        assert_eq!(cut(&"x".repeat(100)).chars().count(), 61);
    }
}
