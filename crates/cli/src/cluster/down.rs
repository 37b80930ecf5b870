//! `quartet down`: stops every process of the data directory, users' entrance first.

use std::fs;

use anyhow::{Context, bail};

use super::process::{self, STOP_TIMEOUT, Stopped};
use super::{Cluster, Node, Service};

/// Stops what runs. With `wipe`, also removes everything that `up` has put into the directory.
pub(crate) async fn run(cluster: &Cluster, wipe: bool) -> anyhow::Result<()> {
    if !cluster.data.join("run").is_dir() {
        bail!("{} holds no local cluster; name its directory with --data", cluster.data.display());
    }
    stop_all(cluster).await?;
    if wipe {
        wipe_all(cluster)?;
    }
    Ok(())
}

/// The gateway first, so that no request meets a half-stopped cluster; the coordinator last, so
/// that the others can still take back their registrations.
pub(crate) async fn stop_all(cluster: &Cluster) -> anyhow::Result<()> {
    let waves =
        [&[Service::Gateway][..], &[Service::Broker, Service::Replica], &[Service::Coordinator]];
    for wave in waves {
        let stops = Node::all()
            .filter(|node| wave.contains(&node.service))
            .filter_map(|node| Some((node, process::running(cluster, node)?)))
            .map(|(node, pid)| async move { (node, process::stop(cluster, node, pid).await) });
        for (node, stopped) in futures_util::future::join_all(stops).await {
            match stopped? {
                Stopped::Drained => crate::output::note!("  {:<14} stopped", node.name()),
                Stopped::Killed => crate::output::note!(
                    "  {:<14} killed: it did not drain within {} s; see {}",
                    node.name(),
                    STOP_TIMEOUT.as_secs(),
                    cluster.log_file(node).display()
                ),
            }
        }
    }
    Ok(())
}

/// Removes only what `up` made: the directory may hold a user's own files.
pub(crate) fn wipe_all(cluster: &Cluster) -> anyhow::Result<()> {
    let own = ["run", "log", "config"].map(str::to_owned).into_iter();
    for name in own.chain(Node::all().map(Node::name)) {
        let path = cluster.data.join(name);
        if path.exists() {
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    // Stays if somebody else put something there.
    let _ = fs::remove_dir(&cluster.data);
    Ok(())
}
