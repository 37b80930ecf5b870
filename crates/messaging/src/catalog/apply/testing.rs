//! What the tests of the commands have in common.

use consensus::NodeId;

use super::CatalogReply;
use crate::catalog::{Announced, Catalog, CatalogCommand, Copies};
use crate::config::{QueueConfig, Retention};
use crate::frame::{Records, encode};
use crate::ids::Name;

pub(in crate::catalog) fn apply(catalog: &mut Catalog, command: &CatalogCommand) -> CatalogReply {
    apply_at(catalog, 1, command)
}

pub(in crate::catalog) fn apply_at(
    catalog: &mut Catalog,
    now: u64,
    command: &CatalogCommand,
) -> CatalogReply {
    catalog.apply(&encode(now, command, &Records::default()))
}

pub(in crate::catalog) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(in crate::catalog) fn announce(node: u64) -> CatalogCommand {
    let announced = Announced {
        name: format!("b{node}"),
        client_url: format!("http://b{node}:7070"),
        peer_url: format!("http://b{node}:7071"),
        zone: String::new(),
        version: 1,
    };
    CatalogCommand::Announce { node: NodeId(node), announced }
}

/// A catalog with brokers 1 to `brokers`.
pub(in crate::catalog) fn founded(brokers: u64) -> Catalog {
    let mut catalog = Catalog::default();
    for node in 1..=brokers {
        apply(&mut catalog, &announce(node)).unwrap();
    }
    catalog
}

pub(in crate::catalog) fn put_queue(text: &str, dead_letter: Option<&str>) -> CatalogCommand {
    let config = QueueConfig { dead_letter: dead_letter.map(name), ..QueueConfig::default() };
    CatalogCommand::PutQueue { name: name(text), config, copies: Copies::default() }
}

pub(in crate::catalog) fn put_topic(text: &str, partitions: Option<u32>) -> CatalogCommand {
    let (retention, copies) = (Retention::default(), Copies::default());
    CatalogCommand::PutTopic { name: name(text), partitions, retention, copies }
}

/// Every node removes what it has to.
pub(in crate::catalog) fn leave_all(catalog: &mut Catalog) {
    for (group, nodes) in catalog.leaving().clone() {
        for (node, generation) in nodes {
            let copies = vec![(group, generation)];
            apply(catalog, &CatalogCommand::Left { node, copies }).unwrap();
        }
    }
}
