//! How a node that was added is to be started.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use api::coordinator::{Member, MemberStart};
use raft_node::MemberList;

/// What stands where the operator has to choose.
const NAME: &str = "NAME";

pub(super) fn of(member: &Member, list: &MemberList) -> MemberStart {
    let name = if member.name.is_empty() { NAME } else { &member.name };
    let others = list.members.iter().filter(|other| other.node.to_string() != member.id);
    let others = others.filter(|other| !other.info.is_awaited && !other.info.peer_url.is_empty());
    let mut peers: BTreeMap<&str, &str> =
        others.map(|other| (other.info.name.as_str(), other.info.peer_url.as_str())).collect();
    peers.insert(name, &member.peer_url);
    let port = authority(&member.peer_url);
    MemberStart { command: command(name, port, &peers), config: config(name, port, &peers) }
}

/// Where it is reached is as a rule where it listens.
fn authority(url: &str) -> &str {
    url.trim_start_matches("http://").trim_end_matches('/')
}

fn command(name: &str, peer_listen: &str, peers: &BTreeMap<&str, &str>) -> String {
    let peers = serde_json::json!(peers);
    format!(
        "quartet-coordinator --node {name} --data-dir ./data/{name} --peer-listen {peer_listen} \
         --listen 127.0.0.1:PORT --set cluster.initial_state=existing \
         --set 'cluster.initial_peers={peers}'"
    )
}

fn config(name: &str, peer_listen: &str, peers: &BTreeMap<&str, &str>) -> String {
    let mut text = format!(
        "node = {name:?}\ndata_dir = \"./data/{name}\"\nlisten = \"127.0.0.1:PORT\"\n\
         peer_listen = {peer_listen:?}\n\n[cluster]\ninitial_state = \"existing\"\n\n\
         [cluster.initial_peers]\n"
    );
    for (name, url) in peers {
        let _ = writeln!(text, "{name:?} = {url:?}");
    }
    text
}
