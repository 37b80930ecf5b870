//! `quartet status`: every process, whether it runs, and whether it is ready.

use serde_json::{Value, json};

use super::{Cluster, Node, process, ready};
use crate::http::Http;
use crate::output::{Output, Table, say};

/// Shows the processes that `up` has ever started in this directory, and whoever else answers
/// on the standard ports.
pub(crate) async fn run(cluster: &Cluster, output: Output) -> anyhow::Result<()> {
    let http = Http::default();
    let probes = Node::all().map(|node| probe(&http, cluster, node));
    let rows: Vec<Row> =
        futures_util::future::join_all(probes).await.into_iter().flatten().collect();
    match output {
        Output::Json => output.json(&Value::from_iter(rows.iter().map(Row::json))),
        Output::Table => {
            if rows.is_empty() {
                say!("nothing runs here; start a local cluster with `quartet up`");
                return Ok(());
            }
            let mut table = Table::new(["PROCESS", "STATE", "PID", "URL", "LOG"]);
            for row in &rows {
                let pid = row.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
                table.row([
                    row.node.name(),
                    row.state.to_owned(),
                    pid,
                    row.url.clone(),
                    row.log.clone(),
                ]);
            }
            table.print();
            Ok(())
        }
    }
}

struct Row {
    node: Node,
    state: &'static str,
    pid: Option<i32>,
    url: String,
    log: String,
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "name": self.node.name(),
            "state": self.state,
            "pid": self.pid,
            "url": self.url,
            "log": self.log,
        })
    }
}

/// `None`: this node is not part of the cluster.
async fn probe(http: &Http, cluster: &Cluster, node: Node) -> Option<Row> {
    let pid = process::running(cluster, node).map(|pid| pid.as_raw_nonzero().get());
    let readiness = ready::status(http, cluster, node).await;
    let known = cluster.script(node).exists();
    let state = match (readiness, pid) {
        (Some(200), _) => "ready",
        (Some(_), _) => "not ready",
        (None, Some(_)) => "no answer",
        (None, None) if known => "stopped",
        (None, None) => return None,
    };
    let log = if known { cluster.log_file(node).display().to_string() } else { "-".to_owned() };
    Some(Row { node, state, pid, url: cluster.url(node), log })
}
