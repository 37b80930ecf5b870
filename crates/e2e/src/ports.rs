//! Ports for processes that have to come back on the same ones.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Two ports that nobody listens on right now. A service cannot tell us which one it took, and has
/// to come back on the same one after a crash. They lie below those that the system gives to
/// outgoing connections: a peer that dials before we listen could be given the very port it dials.
#[must_use]
pub fn free_ports() -> [u16; 2] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    [(); 2].map(|()| {
        loop {
            let turn = NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id() * 37;
            let port = 10_000 + (turn % 10_000) as u16;
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return port;
            }
        }
    })
}
