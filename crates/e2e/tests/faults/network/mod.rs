//! What lies between the members, and how it is cut.
//!
//! Where name spaces can be made, each member has one of its own and a cut is a real loss of
//! packets. Elsewhere, and where links have to be slow, the members talk through [`proxies`].

mod namespaces;
mod proxies;

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::member::Place;
use namespaces::Namespaces;
use proxies::Proxies;

/// How many members there are.
pub(crate) const MEMBERS: usize = 3;

/// One direction between two members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// What a scenario needs of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Links that can be cut.
    Cuttable,
    /// Links that can be made slow as well.
    Slowable,
}

pub(crate) enum Network {
    Namespaces(Namespaces),
    Proxies(Proxies),
}

impl Network {
    pub(crate) async fn new(kind: Kind) -> Self {
        if kind == Kind::Slowable {
            println!("network: proxies between the members");
            return Self::Proxies(Proxies::new().await);
        }
        match Namespaces::new() {
            Ok(namespaces) => {
                println!("network: a name space for each member");
                Self::Namespaces(namespaces)
            }
            Err(reason) => {
                println!("network: proxies between the members, for {reason}");
                Self::Proxies(Proxies::new().await)
            }
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Namespaces(_) => Kind::Cuttable,
            Self::Proxies(_) => Kind::Slowable,
        }
    }

    /// Where each member listens.
    pub(crate) fn places(&self) -> [Place; MEMBERS] {
        match self {
            Self::Namespaces(namespaces) => namespaces.places(),
            Self::Proxies(proxies) => proxies.places(),
        }
    }

    /// Nothing comes through any more in this direction, until [`Network::heal`].
    pub(crate) fn cut(&self, link: Link) {
        match self {
            Self::Namespaces(namespaces) => namespaces.cut(link),
            Self::Proxies(proxies) => proxies.cut(link),
        }
    }

    /// Everything on this link takes so long, and up to `jitter` more.
    pub(crate) fn slow(&self, link: Link, delay: Duration, jitter: Duration) {
        match self {
            Self::Namespaces(_) => panic!("ask for {:?} links", Kind::Slowable),
            Self::Proxies(proxies) => proxies.slow(link, delay, jitter),
        }
    }

    pub(crate) fn heal(&self) {
        match self {
            Self::Namespaces(namespaces) => namespaces.heal(),
            Self::Proxies(proxies) => proxies.heal(),
        }
    }

    /// Tells which process is which member.
    pub(crate) fn meet(&self, member: usize, pid: Option<u32>) {
        if let Self::Proxies(proxies) = self {
            proxies.meet(member, pid);
        }
    }
}

/// Both directions between two members.
pub(crate) fn between(one: usize, other: usize) -> [Link; 2] {
    [Link { from: one, to: other }, Link { from: other, to: one }]
}

/// Every link of one member.
pub(crate) fn around(member: usize) -> Vec<Link> {
    (0..MEMBERS).filter(|other| *other != member).flat_map(|other| between(member, other)).collect()
}

/// Every link.
pub(crate) fn all() -> Vec<Link> {
    (0..MEMBERS)
        .flat_map(|from| (0..MEMBERS).map(move |to| Link { from, to }))
        .filter(|link| link.from != link.to)
        .collect()
}

/// Where members listen that share the machine's own network.
fn on_loopback(port: u16, peer_port: u16, dialled: u16) -> Place {
    let peer_url = format!("http://127.0.0.1:{dialled}");
    Place { address: Ipv4Addr::LOCALHOST, port, peer_port, namespace: None, peer_url }
}
