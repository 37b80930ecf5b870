//! Tells systemd what the process is doing (`Type=notify`): one datagram, no library.

use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends `state`, such as `READY=1`, to the socket that systemd named. Does nothing elsewhere.
pub(super) fn notify(socket: Option<&str>, state: &str) {
    let Some(socket) = socket else { return };
    if let Err(error) = send(socket, state) {
        tracing::warn!(%error, socket, state, "systemd could not be notified");
    }
}

fn send(socket: &str, state: &str) -> std::io::Result<()> {
    let datagram = UnixDatagram::unbound()?;
    match socket.strip_prefix('@') {
        Some(name) => {
            use std::os::linux::net::SocketAddrExt as _;
            let address = SocketAddr::from_abstract_name(name)?;
            datagram.send_to_addr(state.as_bytes(), &address)?;
        }
        None => {
            datagram.send_to(state.as_bytes(), socket)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_arrives_at_the_named_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        notify(path.to_str(), "READY=1");
        let mut buffer = [0; 32];
        let len = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"READY=1");
        notify(None, "READY=1");
    }
}
