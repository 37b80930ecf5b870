//! What `up` says when everything runs: where things are, and the first thing to try.

use serde_json::json;

use super::up::Plan;
use super::{Cluster, Node, Service, process};
use crate::output::{Output, say};

/// Where a local Jaeger shows traces.
pub(crate) const JAEGER_UI: &str = "http://localhost:16686";
/// Where it takes them.
pub(crate) const JAEGER_OTLP: &str = "http://localhost:4318";

pub(crate) fn print(
    cluster: &Cluster,
    plan: &Plan,
    detached: bool,
    output: Output,
) -> anyhow::Result<()> {
    if output == Output::Json {
        let processes: Vec<_> = plan.nodes.iter().map(|&node| describe(cluster, node)).collect();
        return output.json(&json!({ "data": cluster.data, "processes": processes }));
    }
    say!("{}", text(cluster, plan, detached));
    Ok(())
}

fn describe(cluster: &Cluster, node: Node) -> serde_json::Value {
    json!({
        "name": node.name(),
        "url": cluster.url(node),
        "pid": process::running(cluster, node).map(|pid| pid.as_raw_nonzero().get()),
        "log": cluster.log_file(node),
    })
}

fn text(cluster: &Cluster, plan: &Plan, detached: bool) -> String {
    let mut lines = vec![String::new(), "Quartet is up.".to_owned(), String::new()];
    for &node in &plan.nodes {
        let url = cluster.url(node);
        lines.push(format!("  {:<14} {url:<24} docs: {url}/docs", node.name()));
    }
    lines.push(String::new());
    lines.push(match &plan.otlp {
        Some(endpoint) => format!("  traces  to {endpoint} (OTLP); look at {JAEGER_UI}"),
        None => format!(
            "  traces  off; run scripts/jaeger, then start with OTEL_EXPORTER_OTLP_ENDPOINT={JAEGER_OTLP}"
        ),
    });
    lines.push(format!("  data    {}", cluster.data.display()));
    lines.push(format!("  logs    {}", cluster.data.join("log").display()));
    lines.push(if detached {
        format!("  stop    quartet down --data {}", cluster.data.display())
    } else {
        "  stop    Ctrl-C".to_owned()
    });
    lines.push(format!("  try     {}", sample(cluster, plan)));
    lines.join("\n") + "\n"
}

/// One line to paste. Through the gateway where there is one.
fn sample(cluster: &Cluster, plan: &Plan) -> String {
    let runs = |service| plan.nodes.iter().find(|node| node.service == service).copied();
    if let (Some(gateway), Some(_)) = (runs(Service::Gateway), runs(Service::Replica)) {
        return format!("curl -i -X PUT {}/replica/v1/kv/color -d blue", cluster.url(gateway));
    }
    let Some(&node) = plan.nodes.first() else { return String::new() };
    let url = cluster.url(node);
    match node.service {
        Service::Coordinator | Service::Replica => {
            format!("curl -i -X PUT {url}/v1/kv/color -d blue")
        }
        Service::Broker => format!(
            "curl -i -X PUT {url}/v1/queues/work -H 'content-type: application/json' -d '{{}}'"
        ),
        Service::Gateway => format!("curl -i {url}/v1/services"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_banner_names_every_url_and_what_to_try() {
        let cluster = Cluster::new(Path::new("/tmp/c"), 0).unwrap();
        let plan = Plan::new(1, Some(2), &[]).unwrap();
        let text = text(&cluster, &plan, true);
        for part in
            ["http://127.0.0.1:16300", "http://127.0.0.1:8080", "down --data /tmp/c", "curl"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
