//! The configuration file of each process of a local cluster.

use std::fmt::Write;

use super::process::write;
use super::up::Plan;
use super::{Cluster, Node, Service};

/// Writes `DIR/config/<name>.toml`. What it does not name keeps its default.
pub(crate) fn write_file(cluster: &Cluster, node: Node, plan: &Plan) -> anyhow::Result<()> {
    write(&cluster.config_file(node), &text(cluster, node, plan))
}

fn text(cluster: &Cluster, node: Node, plan: &Plan) -> String {
    let mut text = format!(
        "# {name} of a local cluster. `quartet up` writes this file at every start.\n\
         # All settings with their defaults: deploy/config/{service}.toml\n\n\
         node = {quoted_name}\n\
         listen = \"127.0.0.1:{port}\"\n\
         peer_listen = \"127.0.0.1:{peer_port}\"\n\
         data_dir = {data_dir}\n",
        name = node.name(),
        service = node.service.name(),
        quoted_name = quoted(&node.name()),
        port = cluster.port(node),
        peer_port = cluster.peer_port(node),
        data_dir = quoted(&cluster.data_dir(node).to_string_lossy()),
    );
    let replication = match node.service {
        Service::Replica => replication(cluster, node, &plan.nodes),
        Service::Coordinator | Service::Broker | Service::Gateway => String::new(),
    };
    text.push_str(&replication);
    if node.service != Service::Coordinator {
        let endpoints: Vec<String> = plan
            .nodes
            .iter()
            .filter(|other| other.service == Service::Coordinator)
            .map(|&other| quoted(&cluster.url(other)))
            .collect();
        // Empty without one: each service also works alone.
        let _ = write!(text, "\n[coordinator]\nendpoints = [{}]\n", endpoints.join(", "));
    }
    if let Some(endpoint) = &plan.otlp {
        let _ = write!(text, "\n[telemetry]\notlp_endpoint = {}\n", quoted(endpoint));
    }
    text
}

/// Who is primary, and whom it ships its log to.
fn replication(_cluster: &Cluster, _node: Node, _nodes: &[Node]) -> String {
    String::new()
}

/// A TOML basic string. JSON escapes a subset of what TOML does, in the same way.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
