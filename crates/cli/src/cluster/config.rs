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
    let members = match node.service {
        Service::Replica => replication(cluster, node, &plan.nodes),
        Service::Coordinator | Service::Broker => founders(cluster, node.service, &plan.nodes),
        Service::Gateway => String::new(),
    };
    text.push_str(&members);
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

/// Every node of the service, by name. A node alone needs no list.
fn founders(cluster: &Cluster, service: Service, nodes: &[Node]) -> String {
    let founders: Vec<Node> =
        nodes.iter().copied().filter(|node| node.service == service).collect();
    if founders.len() < 2 {
        return String::new();
    }
    let mut text = "\n[cluster.initial_peers]\n".to_owned();
    for node in founders {
        let url = quoted(&format!("http://127.0.0.1:{}", cluster.peer_port(node)));
        let _ = writeln!(text, "{} = {url}", node.name());
    }
    text
}

/// The first node is the primary. A node alone needs no members.
fn replication(cluster: &Cluster, node: Node, nodes: &[Node]) -> String {
    let members: Vec<Node> =
        nodes.iter().copied().filter(|other| other.service == Service::Replica).collect();
    if members.len() < 2 {
        return String::new();
    }
    let role = if node.number == 1 { "primary" } else { "replica" };
    let mut text = format!("\n[replication]\nrole = \"{role}\"\n");
    for member in members {
        let _ = write!(
            text,
            "\n[[replication.members]]\nname = {}\nurl = {}\npeer_url = {}\n",
            quoted(&member.name()),
            quoted(&cluster.url(member)),
            quoted(&format!("http://127.0.0.1:{}", cluster.peer_port(member))),
        );
    }
    text
}

/// A TOML basic string. JSON escapes a subset of what TOML does, in the same way.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_second_replica_follows_the_first() {
        let cluster = Cluster::new(Path::new("/data"), 0).unwrap();
        let plan = Plan::new(1, Some(2), &[]).unwrap();
        let text = text(&cluster, Node { service: Service::Replica, number: 2 }, &plan);
        assert!(text.contains("role = \"replica\""), "{text}");
        assert!(text.contains("peer_url = \"http://127.0.0.1:6301\""), "{text}");
        assert!(text.contains("endpoints = [\"http://127.0.0.1:2379\"]"), "{text}");
    }

    #[test]
    fn coordinators_know_each_other_by_name() {
        let cluster = Cluster::new(Path::new("/data"), 0).unwrap();
        let plan = Plan::new(3, None, &[Service::Coordinator]).unwrap();
        let text = text(&cluster, Node { service: Service::Coordinator, number: 2 }, &plan);
        assert!(text.contains("coordinator-3 = \"http://127.0.0.1:32380\""), "{text}");
    }

    #[test]
    fn so_do_brokers() {
        let cluster = Cluster::new(Path::new("/data"), 0).unwrap();
        let plan = Plan::new(3, None, &[]).unwrap();
        let text = text(&cluster, Node { service: Service::Broker, number: 1 }, &plan);
        assert!(text.contains("broker-2 = \"http://127.0.0.1:17071\""), "{text}");
        assert!(!text.contains("coordinator-1 ="), "{text}");
    }

    #[test]
    fn without_a_coordinator_nobody_is_asked() {
        let cluster = Cluster::new(Path::new("/data"), 0).unwrap();
        let plan = Plan::new(1, None, &[Service::Broker]).unwrap();
        let text = text(&cluster, Node { service: Service::Broker, number: 1 }, &plan);
        assert!(text.contains("endpoints = []"), "{text}");
    }
}
