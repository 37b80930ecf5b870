//! Who answers: the ids and URLs in `/v3` headers and in `/v1/cluster`.

use chassis::{Context, ServiceConfig as _};

use crate::config::Config;

#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) name: String,
    /// Where clients reach this node. Etcd clients replace their endpoints by these.
    pub(crate) client_url: String,
    pub(crate) peer_url: String,
}

impl Identity {
    pub(crate) fn new(context: &Context<Config>, cluster_id: u64) -> Self {
        let advertise = &context.config.base().advertise;
        let client =
            if advertise.is_empty() { context.listen.to_string() } else { advertise.clone() };
        Self {
            cluster_id,
            member_id: fingerprint(&context.node),
            name: context.node.clone(),
            client_url: format!("http://{client}"),
            peer_url: format!("http://{}", context.peer_listen),
        }
    }
}

/// FNV-1a: a node keeps its id for as long as it keeps its name. Never 0.
fn fingerprint(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    hash.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_always_gives_the_same_id() {
        assert_eq!(fingerprint("coordinator-1"), fingerprint("coordinator-1"));
        assert_ne!(fingerprint("coordinator-1"), fingerprint("coordinator-2"));
        assert_eq!(fingerprint(""), 0xcbf2_9ce4_8422_2325);
    }
}
