//! `healthcheck`: asks the running process, without curl. For images that contain nothing else.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// A process that takes longer is not healthy.
const TIMEOUT: Duration = Duration::from_secs(3);

/// An answer to a probe is short.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Asks `/readyz`. `Ok(Err(text))`: it answered that it is not ready.
pub(super) fn ask(listen: SocketAddr) -> io::Result<Result<String, String>> {
    let address = reachable(listen);
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let body = body.trim().to_owned();
    Ok(if head.split(' ').nth(1) == Some("200") { Ok(body) } else { Err(body) })
}

/// "Every address" is none that can be connected to.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
