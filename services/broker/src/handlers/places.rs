//! Where groups live, for people.

use api::broker::{GroupMove, GroupView};
use chassis::problem::Problem;
use consensus::{GroupId, NodeId, Term};
use messaging::catalog::{Catalog, Kind, Placement};

use crate::broker::Broker;
use crate::error::AdminError;

/// Where these groups live, in their order. Those that are just deleted are left out.
pub(super) async fn places(
    broker: &Broker,
    groups: impl Iterator<Item = GroupId>,
) -> Result<Vec<GroupView>, Problem> {
    let catalog = broker.shared.catalog.local(|machine| machine.0.clone());
    let catalog = catalog.await.map_err(AdminError::from)?;
    let place = |group| Some(group_view(broker, &catalog, group, catalog.groups().get(&group)?));
    Ok(groups.filter_map(place).collect())
}

/// Where a group lives.
pub(super) fn group_view(
    broker: &Broker,
    catalog: &Catalog,
    group: GroupId,
    placement: &Placement,
) -> GroupView {
    let name = |node: NodeId| name_of(catalog, node);
    let (mut topic, mut partition, mut queue, mut streams) = (None, None, None, None);
    match &placement.kind {
        Kind::Partition { topic: name, number } => {
            (topic, partition) = (Some(name.to_string()), Some(*number));
        }
        Kind::Queue { name } => queue = Some(name.to_string()),
        Kind::Streams { number } => streams = Some(*number),
    }
    let directory = broker.directory();
    let home = directory.groups.get(&group);
    let leader = home.and_then(|home| home.leader(broker.node()));
    let term = home.and_then(crate::directory::Home::term);
    GroupView {
        group: group.0,
        topic,
        partition,
        queue,
        streams,
        leader: leader.map(name),
        term: term.map(|Term(term)| term),
        preferred: name(placement.preferred),
        wanted: placement.wanted,
        replicas: placement.nodes().map(name).collect(),
        moving: placement.move_.map(|moving| GroupMove {
            to: moving.add.map(name),
            from: moving.remove.map(name),
            cancelled: moving.cancelled,
        }),
    }
}

/// What people call a broker.
pub(super) fn name_of(catalog: &Catalog, node: NodeId) -> String {
    let broker = catalog.brokers().get(&node);
    broker.map_or_else(|| node.to_string(), |broker| broker.announced.name.clone())
}
