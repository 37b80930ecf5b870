//! One child process: start it, find it again, stop it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::{Cluster, Node};

/// How long a process may take to drain before it is killed. Above the services' own drain limit.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(20);
/// How often to look at a process that seems to have no command line.
const EXEC_LOOKS: u32 = 100;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Drained,
    /// It did not end within [`STOP_TIMEOUT`] and got SIGKILL.
    Killed,
}

/// Starts the node through its script, so that what a user runs by hand is what runs here.
pub(crate) fn start(cluster: &Cluster, node: Node) -> anyhow::Result<Child> {
    let log_file = cluster.log_file(node);
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(&log_file)
        .with_context(|| format!("cannot open {}", log_file.display()))?;
    let mut command = Command::new("/bin/sh");
    command
        .arg(cluster.script(node))
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot share the log file")?)
        .stderr(log)
        // A group of its own: Ctrl-C reaches `quartet up` alone, which then stops all in order.
        .process_group(0);
    let child = command.spawn().with_context(|| format!("cannot start {}", node.name()))?;
    let pid = child.id().context("a child that was just started has a pid")?;
    write(&cluster.pid_file(node), &format!("{pid}\n"))?;
    Ok(child)
}

/// Writes the script that starts the node. The pid stays the same through `exec`.
pub(crate) fn write_script(cluster: &Cluster, node: Node) -> anyhow::Result<()> {
    let text = format!(
        "#!/bin/sh\n# Starts {name} of this cluster, as `quartet up` does.\necho $$ > {pid}\nexec {binary} --config {config} \"$@\"\n",
        name = node.name(),
        pid = quoted(&cluster.pid_file(node)),
        binary = quoted(&cluster.binary(node.service)),
        config = quoted(&cluster.config_file(node)),
    );
    let path = cluster.script(node);
    write(&path, &text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", path.display()))
}

/// The pid of the node, if it runs.
pub(crate) fn running(cluster: &Cluster, node: Node) -> Option<Pid> {
    let text = fs::read_to_string(cluster.pid_file(node)).ok()?;
    let pid = Pid::from_raw(text.trim().parse().ok()?)?;
    let command_line = command_line(pid)?;
    // Before `exec` it is still the script.
    [cluster.config_file(node), cluster.script(node)]
        .iter()
        .any(|path| command_line.contains(&*path.to_string_lossy()))
        .then_some(pid)
}

/// The command line of a process; `None` where there is none, as after its end.
fn command_line(pid: Pid) -> Option<String> {
    let number = pid.as_raw_nonzero();
    if Path::new("/proc/self/cmdline").exists() {
        // In the middle of `exec` it is empty for an instant; that of a zombie stays so.
        for _ in 0..EXEC_LOOKS {
            let bytes = fs::read(format!("/proc/{number}/cmdline")).ok()?;
            if !bytes.is_empty() {
                return Some(String::from_utf8_lossy(&bytes).replace('\0', " "));
            }
            std::thread::yield_now();
        }
        return None;
    }
    // No /proc, as on macOS.
    let output = std::process::Command::new("ps")
        .args(["-ww", "-o", "command=", "-p", &number.to_string()])
        .output()
        .ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// SIGTERM, wait for the drain, then SIGKILL.
pub(crate) async fn stop(cluster: &Cluster, node: Node, pid: Pid) -> anyhow::Result<Stopped> {
    signal(node, pid, Signal::TERM)?;
    let stopped = if ended(cluster, node, STOP_TIMEOUT).await {
        Stopped::Drained
    } else {
        signal(node, pid, Signal::KILL)?;
        if !ended(cluster, node, STOP_TIMEOUT).await {
            bail!("{} (pid {}) survives SIGKILL", node.name(), pid.as_raw_nonzero());
        }
        Stopped::Killed
    };
    // The next start writes its own; a stale one only confuses people.
    let _ = fs::remove_file(cluster.pid_file(node));
    Ok(stopped)
}

/// SIGKILL, and back when the process is gone: what a crash looks like to everyone else.
pub(crate) async fn kill(cluster: &Cluster, node: Node) -> anyhow::Result<()> {
    let pid = running(cluster, node)
        .with_context(|| format!("{} does not run, so it cannot be killed", node.name()))?;
    signal(node, pid, Signal::KILL)?;
    if !ended(cluster, node, STOP_TIMEOUT).await {
        bail!("{} survives SIGKILL", node.name());
    }
    Ok(())
}

fn signal(node: Node, pid: Pid, signal: Signal) -> anyhow::Result<()> {
    match kill_process(pid, signal) {
        // It ended by itself meanwhile.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| {
            format!("cannot signal {} (pid {})", node.name(), pid.as_raw_nonzero())
        }),
    }
}

async fn ended(cluster: &Cluster, node: Node, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while running(cluster, node).is_some() {
        if deadline <= Instant::now() {
            return false;
        }
        sleep(POLL).await;
    }
    true
}

/// The end of a node's log, for error messages.
pub(crate) fn log_tail(cluster: &Cluster, node: Node) -> String {
    const LINES: usize = 12;
    let bytes = fs::read(cluster.log_file(node)).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A path as one word of a shell script.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Service;

    const NODE: Node = Node { service: Service::Broker, number: 1 };

    fn cluster(dir: &Path) -> Cluster {
        fs::create_dir_all(dir.join("run")).unwrap();
        fs::create_dir_all(dir.join("log")).unwrap();
        Cluster { data: dir.to_path_buf(), port_offset: 0, binaries: dir.to_path_buf() }
    }

    #[test]
    fn a_path_with_a_quote_stays_one_word() {
        assert_eq!(quoted(Path::new("/it's here")), r"'/it'\''s here'");
    }

    #[test]
    fn a_pid_of_somebody_else_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = cluster(dir.path());
        write(&cluster.pid_file(NODE), &std::process::id().to_string()).unwrap();
        assert_eq!(running(&cluster, NODE), None);
    }

    #[tokio::test]
    async fn a_started_process_is_found_and_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = cluster(dir.path());
        write(&cluster.binary(NODE.service), "#!/bin/sh\nsleep 60\n").unwrap();
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(cluster.binary(NODE.service), executable).unwrap();
        write_script(&cluster, NODE).unwrap();

        let mut child = start(&cluster, NODE).unwrap();
        let reaper = async { child.wait().await.unwrap() };
        let pid = running(&cluster, NODE).unwrap();
        let (stopped, _) = tokio::join!(stop(&cluster, NODE, pid), reaper);
        assert_eq!(stopped.unwrap(), Stopped::Drained);
        assert_eq!(running(&cluster, NODE), None);
    }
}
