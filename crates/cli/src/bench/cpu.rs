//! CPU time that everybody takes between two moments.

use std::time::Duration;

use tokio::time::sleep_until;

use super::host;
use super::load::Window;
use super::report::CpuSpent;
use super::systems::Cluster;

/// CPU time so far. What cannot be seen from here is absent.
#[derive(Clone, Debug)]
pub(crate) struct Clocks {
    servers: Option<Vec<Duration>>,
    generator: Option<Duration>,
    machine: Option<Duration>,
}

impl Clocks {
    /// `generator`: the process that makes the load.
    pub(crate) fn read(cluster: &Cluster, leader: usize, generator: u32) -> Self {
        Self {
            servers: cluster.cpu_times(leader),
            generator: host::cpu_time(generator),
            machine: host::busy_time(),
        }
    }

    pub(crate) fn since(self, before: &Self) -> CpuSpent {
        let since =
            |then: Option<Duration>, now: Option<Duration>| Some(now?.saturating_sub(then?));
        let servers = self.servers.zip(before.servers.as_ref()).map(|(after, before)| {
            let pairs = after.into_iter().zip(before);
            pairs.map(|(after, before)| after.saturating_sub(*before)).collect()
        });
        CpuSpent {
            servers,
            generator: since(before.generator, self.generator),
            machine: since(before.machine, self.machine),
        }
    }
}

/// Of everybody from the beginning of the window to its end; this process makes the load.
pub(crate) async fn spent(cluster: &Cluster, leader: usize, window: Window) -> CpuSpent {
    let now = || Clocks::read(cluster, leader, std::process::id());
    sleep_until(window.begin).await;
    let before = now();
    sleep_until(window.end).await;
    now().since(&before)
}
