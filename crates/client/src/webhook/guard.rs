//! Which addresses may be called: what users configure must not reach into the site.
//!
//! The check is on the address that is connected to, at the moment of connecting, and not on the
//! name: a name may lead elsewhere at the next look.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Which addresses may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Those of the internet.
    Public,
    /// And this machine's loopback.
    Loopback,
    /// All.
    Everything,
}

/// The address must not be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} is a private, loopback, link-local or otherwise reserved address ({address})")]
pub struct Forbidden {
    /// As it was asked for.
    pub host: String,
    /// What it stands for.
    pub address: IpAddr,
}

impl Reach {
    /// Whether this address may be called.
    #[must_use]
    pub fn allows(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match self {
            Self::Everything => true,
            Self::Loopback => address.is_loopback() || is_public(address),
            Self::Public => is_public(address),
        }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    // This network, private, loopback, multicast, reserved and broadcast.
    let special = matches!(a, 0 | 10 | 127 | 224..);
    // Carrier-grade NAT; link-local, with the metadata of clouds; private; benchmarks.
    let wide = matches!((a, b), (100, 64..=127) | (169, 254) | (172, 16..=31) | (192, 168))
        || matches!((a, b), (198, 18 | 19));
    // Protocol assignments, 6to4 relays, documentation.
    let small = matches!((a, b, c), (192, 0, 0 | 2) | (192, 88, 99) | (198, 51, 100))
        || matches!((a, b, c), (203, 0, 113));
    !(special || wide || small)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Only global unicast is handed out; of it not what is reserved or carries an IPv4 address
    // that somebody else unwraps: Teredo and others, documentation, 6to4.
    let global = a & 0xe000 == 0x2000;
    let reserved = match a {
        0x2001 => b < 0x0200 || b == 0x0db8,
        _ => matches!(a, 0x2002 | 0x3fff),
    };
    global && !reserved
}

/// Resolves names, to allowed addresses only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver(pub(super) Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((&*host, 0)).await?.collect();
            let (allowed, refused): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|found| reach.allows(found.ip()));
            match (allowed.is_empty(), refused.first()) {
                (true, Some(refused)) => Err(Forbidden { host, address: refused.ip() }.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(public: bool, addresses: &[&str]) {
        for address in addresses {
            let parsed = address.parse().unwrap();
            assert_eq!(Reach::Public.allows(parsed), public, "{address}");
        }
    }

    #[test]
    fn what_is_not_of_the_internet_is_refused() {
        let v4 = ["0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.0.9", "240.0.0.1"];
        check(false, &v4);
        check(false, &["169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.0.1"]);
        check(false, &["192.0.2.1", "198.18.0.1", "203.0.113.7", "224.0.0.1", "255.255.255.255"]);
        check(false, &["::", "::1", "fc00::1", "fd12::1", "fe80::1", "ff02::1", "2001:db8::1"]);
        check(false, &["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::a00:1"]);
        check(false, &["2002:7f00:1::1", "2001:0:7f00:1::1"]);
    }

    #[test]
    fn the_internet_is_allowed() {
        check(true, &["1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "192.0.1.1"]);
        check(true, &["2606:4700::1111", "2a00:1450::1", "::ffff:1.1.1.1"]);
    }

    #[test]
    fn loopback_may_be_allowed_alone() {
        for (address, allowed) in [("127.0.0.1", true), ("::1", true), ("10.0.0.1", false)] {
            assert_eq!(Reach::Loopback.allows(address.parse().unwrap()), allowed, "{address}");
            assert!(Reach::Everything.allows(address.parse().unwrap()));
        }
    }
}
