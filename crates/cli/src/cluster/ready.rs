//! Waits until a process answers `/readyz`, and says why if it never does.

use std::time::Duration;

use anyhow::bail;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::process::log_tail;
use super::{Cluster, Node};
use crate::http::{Http, Request};

/// A start replays the log, so a large one takes a while.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

/// One question to `/readyz`. `None`: nobody answered.
pub(crate) async fn status(http: &Http, cluster: &Cluster, node: Node) -> Option<u16> {
    let request = Request::get(cluster.url(node) + "/readyz").timeout(Duration::from_secs(2));
    match http.send(request).await {
        Ok(_) => Some(200),
        Err(error) => error.status,
    }
}

/// `child` is given where this process is the parent.
pub(crate) async fn wait(
    http: &Http,
    cluster: &Cluster,
    node: Node,
    mut child: Option<&mut Child>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        if status(http, cluster, node).await == Some(200) {
            return Ok(());
        }
        if let Some(child) = child.as_deref_mut()
            && let Some(exit) = child.try_wait()?
        {
            bail!("{}", why(cluster, node, &format!("ended at once ({exit})")));
        }
        if READY_TIMEOUT <= start.elapsed() {
            let problem = format!("is not ready after {} s", READY_TIMEOUT.as_secs());
            bail!("{}", why(cluster, node, &problem));
        }
        sleep(POLL).await;
    }
}

fn why(cluster: &Cluster, node: Node, problem: &str) -> String {
    format!(
        "{} {problem}; the end of {}:\n{}",
        node.name(),
        cluster.log_file(node).display(),
        log_tail(cluster, node)
    )
}
