//! Is a port free, and if not, who has it?

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::bail;

use super::{Cluster, Node};

/// Fails with a text that names the holder and the way out, if one of the nodes' ports is taken.
pub(crate) fn check_free(cluster: &Cluster, nodes: &[Node]) -> anyhow::Result<()> {
    let mut taken = Vec::new();
    for &node in nodes {
        for port in [cluster.port(node), cluster.peer_port(node)] {
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
                let holder = holder(port).map_or_else(String::new, |who| format!(" by {who}"));
                taken.push(format!("port {port}, needed for {}, is in use{holder}", node.name()));
            }
        }
    }
    if taken.is_empty() {
        return Ok(());
    }
    bail!(
        "{}\nstop it (`quartet down --data DIR` for another local cluster), leave the service out with --only, or move all ports with --port-offset N",
        taken.join("\n")
    )
}

/// The process that listens on the port, as far as this user may see it. Linux only.
fn holder(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| listening_inode(&table, port).map(str::to_owned))?;
    let socket = format!("socket:[{inode}]");
    // `/proc/self` and the like name processes that are listed by number, too.
    let numbered = |name: &OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let mut processes = fs::read_dir("/proc").ok()?.flatten();
    let process = processes.find(|process| {
        numbered(&process.file_name())
            && fs::read_dir(process.path().join("fd")).is_ok_and(|files| {
                files.flatten().any(|file| {
                    fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == socket.as_str())
                })
            })
    })?;
    let command = fs::read(process.path().join("cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    Some(format!("pid {}: {}", process.file_name().to_string_lossy(), command.trim_end()))
}

/// Finds the socket in a table as in `/proc/net/tcp`: local address in hex, state 0A = listening.
fn listening_inode(table: &str, port: u16) -> Option<&str> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (local, state) = (fields.nth(1)?, fields.nth(1)?);
        let (_, hex) = local.rsplit_once(':')?;
        let listens = state == "0A" && u16::from_str_radix(hex, 16) == Ok(port);
        if listens { fields.nth(5) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Service;
    use std::path::Path;

    #[test]
    fn a_taken_port_names_who_has_it() {
        let node = Node { service: Service::Gateway, number: 1 };
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        // Not every port can be had by an offset; the others prove nothing here.
        let Some(port_offset) = port.checked_sub(8080) else { return };
        let cluster = Cluster { port_offset, ..Cluster::new(Path::new("data"), 0).unwrap() };
        let error = check_free(&cluster, &[node]).unwrap_err().to_string();
        assert!(error.contains(&format!("port {port}, needed for gateway-1")), "{error}");
        if cfg!(target_os = "linux") {
            assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        }
    }

    #[test]
    fn the_table_of_the_kernel_is_read_by_column() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1\n";
        assert_eq!(listening_inode(table, 8080), Some("4242"));
        assert_eq!(listening_inode(table, 8081), None);
    }
}
