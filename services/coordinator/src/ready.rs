//! What `/readyz` asks of a coordinator besides that it has started and accepts requests.

use chassis::Context;
use chassis::health::Check;
use raft_node::Groups;

use crate::config::Config;
use crate::coordinator::Coordinator;
use crate::store::AlarmKind;

/// Adds the checks. The one that is returned belongs to the upkeep of leases and history.
pub(crate) fn watch(
    context: &Context<Config>,
    groups: &Groups,
    coordinator: &Coordinator,
) -> Check {
    let health = &context.health;
    let of = coordinator.clone();
    health.probe("leader", move || match of.leader() {
        0 => Err("nobody is known to lead: a majority of the members cannot be reached".into()),
        _ => Ok(()),
    });
    let wal = groups.wal().clone();
    health.probe("log", move || match &wal.durable().borrow().failed {
        None => Ok(()),
        Some(error) => Err(error.to_string()),
    });
    let wal = groups.wal().clone();
    health.probe("disk", move || match wal.stats().disk_full {
        false => Ok(()),
        true => Err("the disk is full: reads, deletes and compaction work, writes do not".into()),
    });
    let of = coordinator.clone();
    health.probe("data", move || match of.recent_blocking().has_alarm(AlarmKind::Corrupt) {
        false => Ok(()),
        true => Err("the alarm CORRUPT is raised: writes are refused until it is down".into()),
    });
    let upkeep = health.check("upkeep", "starting");
    upkeep.pass();
    upkeep
}
