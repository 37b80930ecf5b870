//! What is logged: one command per entry, in one versioned envelope.
//!
//! Layout: one byte version, then postcard of the stamp, the caller (since version 2) and the
//! command. A field or variant is only ever added at the end; anything else is a new version, and
//! old ones stay readable, because logs outlive programs.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::auth::{AuthCommand, Caller};
use super::ids::{LeaseId, Revision};
use super::lease::LeaseSeen;
use super::line::Enqueue;
use super::registration::Registration;
use super::requests::Request;
use super::txn::Txn;

const VERSION: u8 = 2;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    Txn(Txn),
    Compact {
        revision: Revision,
    },
    /// [`LeaseId::NONE`] lets the store choose.
    Grant {
        id: LeaseId,
        ttl_seconds: u64,
    },
    Revoke {
        id: LeaseId,
    },
    KeepAlive {
        id: LeaseId,
    },
    /// Ends those of these leases that nobody has renewed since they were seen.
    Expire {
        leases: Vec<LeaseSeen>,
    },
    /// A new process took over. The time since the last command counts for no lease.
    Resume,
    /// Nothing but the stamp: saves how much time has passed.
    Tick,
    Alarm {
        member: u64,
        kind: AlarmKind,
        on: bool,
    },
    /// Names the cluster, once.
    Found {
        cluster_id: u64,
    },
    /// Carries out a command unless this request came before: then its first answer is given.
    Once {
        request: Request,
        command: Box<Self>,
    },
    /// Writes a service instance together with its lease.
    Register(Registration),
    /// Removes one, and the lease that its registration made.
    Deregister {
        key: Bytes,
        own: LeaseId,
    },
    Auth(AuthCommand),
    /// Takes a place in line.
    Enqueue(Enqueue),
    /// Gives one up on which nobody waits any more. The request that asked for it, if it has a
    /// name, may then come again and get another.
    Leave {
        key: Bytes,
        token: Revision,
        request: Option<Bytes>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AlarmKind {
    NoSpace,
    Corrupt,
}

/// What the proposer adds to every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Milliseconds on the leader's clock: see `time.rs`.
    pub now_ms: u64,
    pub quota_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error(
        "a command of version {0} was written by a newer program; this one knows up to {VERSION}"
    )]
    Version(u8),
    #[error("a command is empty")]
    Empty,
    #[error("a command cannot be decoded")]
    Malformed(#[source] postcard::Error),
}

impl Command {
    /// What it does, for spans and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Txn(_) => "txn",
            Self::Compact { .. } => "compact",
            Self::Grant { .. } => "lease grant",
            Self::Revoke { .. } => "lease revoke",
            Self::KeepAlive { .. } => "lease keepalive",
            Self::Expire { .. } => "lease expire",
            Self::Resume => "resume",
            Self::Tick => "tick",
            Self::Alarm { .. } => "alarm",
            Self::Found { .. } => "found",
            Self::Once { command, .. } => command.name(),
            Self::Register(_) => "service register",
            Self::Deregister { .. } => "service deregister",
            Self::Auth(_) => "auth",
            Self::Enqueue(_) => "line enqueue",
            Self::Leave { .. } => "line leave",
        }
    }

    /// Whether it lets something go or a start needs it, so that a full disk takes it.
    #[must_use]
    pub fn is_freeing(&self) -> bool {
        match self {
            Self::Txn(txn) => txn.is_freeing(),
            Self::Once { command, .. } => command.is_freeing(),
            Self::Compact { .. }
            | Self::Revoke { .. }
            | Self::Expire { .. }
            | Self::Resume
            | Self::Alarm { .. }
            | Self::Deregister { .. }
            | Self::Leave { .. } => true,
            Self::Grant { .. }
            | Self::KeepAlive { .. }
            | Self::Tick
            | Self::Found { .. }
            | Self::Register(_)
            | Self::Auth(_)
            | Self::Enqueue(_) => false,
        }
    }

    #[must_use]
    pub fn encode(&self, stamp: Stamp, caller: Caller) -> Bytes {
        let buffer = vec![VERSION];
        postcard::to_extend(&(stamp, caller, self), buffer)
            .expect("a command is plain data, and a Vec grows as needed")
            .into()
    }

    /// The same command at another time. What is no command stays as it is.
    #[must_use]
    pub fn restamp(bytes: Bytes, now_ms: u64) -> Bytes {
        let Some((version, body)) = bytes.split_first() else { return bytes };
        let Ok((stamp, rest)) = postcard::take_from_bytes::<Stamp>(body) else { return bytes };
        let mut buffer = Vec::with_capacity(bytes.len() + 8);
        buffer.push(*version);
        let stamp = Stamp { now_ms, ..stamp };
        let mut buffer = postcard::to_extend(&stamp, buffer)
            .expect("a stamp is plain data, and a Vec grows as needed");
        buffer.extend_from_slice(rest);
        buffer.into()
    }

    pub fn decode(bytes: &[u8]) -> Result<(Stamp, Caller, Self), DecodeError> {
        match bytes.split_first() {
            // Nobody was asked for credentials then.
            Some((1, body)) => postcard::from_bytes(body)
                .map(|(stamp, command)| (stamp, Caller::Node, command))
                .map_err(DecodeError::Malformed),
            Some((&VERSION, body)) => postcard::from_bytes(body).map_err(DecodeError::Malformed),
            Some((version, _)) => Err(DecodeError::Version(*version)),
            None => Err(DecodeError::Empty),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::KeyRange;
    use super::super::range::RangeQuery;
    use super::super::txn::{Compare, Delete, Op, Operand, Put, Relation};
    use super::*;

    const STAMP: Stamp = Stamp { now_ms: 1_700_000_000_000, quota_bytes: 1 << 30 };

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Logs on disk hold these bytes: change them only together with `VERSION`.
    #[test]
    fn a_command_keeps_all_but_its_time_when_it_is_stamped_anew() {
        let command = Command::Grant { id: LeaseId(7), ttl_seconds: 60 };
        for now_ms in [0, 5, u64::MAX] {
            let encoded = Command::restamp(command.encode(STAMP, Caller::Node), now_ms);
            let (stamp, caller, decoded) = Command::decode(&encoded).unwrap();
            assert_eq!(stamp, Stamp { now_ms, ..STAMP });
            assert_eq!((caller, decoded), (Caller::Node, command.clone()));
        }
        let nothing = Bytes::from_static(&[VERSION, 0xff]);
        assert_eq!(Command::restamp(nothing.clone(), 5), nothing);
    }

    #[test]
    fn the_encoding_is_stable() {
        let put = Op::Put(Put {
            key: "k".into(),
            value: Some("v".into()),
            lease: Some(LeaseId(7)),
            previous: false,
        });
        let txn = Txn {
            compares: vec![Compare {
                range: KeyRange::One("k".into()),
                relation: Relation::NotEqual,
                operand: Operand::Mod(5),
            }],
            success: vec![put, Op::Range(RangeQuery::of(KeyRange::prefix("p".into())))],
            failure: vec![Op::Delete(Delete { range: KeyRange::all(), previous: true })],
        };
        let seen = LeaseSeen { id: LeaseId(7), renewals: 2 };
        let request = Request { key: "r".into(), fingerprint: 300 };
        let registration = Registration {
            key: "k".into(),
            value: "v".into(),
            ttl_seconds: Some(10),
            own: LeaseId(7),
        };
        let ask = Enqueue {
            name: "l".into(),
            value: "v".into(),
            lease: LeaseId::NONE,
            ttl_seconds: 60,
            replace: true,
        };
        let stamp = "80d095ffbc318080808004";
        for (command, expected) in [
            (
                Command::Txn(txn),
                "000100016b03020a0201016b010176010e00000101700171000000000000000000000102020001",
            ),
            (Command::Compact { revision: Revision(300) }, "01ac02"),
            (Command::Grant { id: LeaseId(-1), ttl_seconds: 10 }, "02010a"),
            (Command::Revoke { id: LeaseId(1) }, "0302"),
            (Command::KeepAlive { id: LeaseId(1) }, "0402"),
            (Command::Expire { leases: vec![seen] }, "05010e02"),
            (Command::Resume, "06"),
            (Command::Tick, "07"),
            (Command::Alarm { member: 9, kind: AlarmKind::Corrupt, on: true }, "08090101"),
            (Command::Found { cluster_id: 200 }, "09c801"),
            (Command::Once { request, command: Box::new(Command::Tick) }, "0a0172ac0207"),
            (Command::Register(registration), "0b016b0176010a0e"),
            (Command::Deregister { key: "k".into(), own: LeaseId(7) }, "0c016b0e"),
            (Command::Enqueue(ask), "0e016c0176003c01"),
            (
                Command::Leave { key: "l/1".into(), token: Revision(4), request: None },
                "0f036c2f310400",
            ),
        ] {
            let bytes = command.encode(STAMP, Caller::Node);
            assert_eq!(hex(&bytes), format!("02{stamp}02{expected}"), "{command:?}");
            assert_eq!(Command::decode(&bytes).unwrap(), (STAMP, Caller::Node, command.clone()));
            let old: Vec<u8> =
                [1].into_iter().chain(bytes[1..12].to_vec()).chain(bytes[13..].to_vec()).collect();
            assert_eq!(hex(&old), format!("01{stamp}{expected}"));
            assert_eq!(Command::decode(&old).unwrap(), (STAMP, Caller::Node, command));
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        assert!(matches!(Command::decode(b""), Err(DecodeError::Empty)));
        assert!(matches!(Command::decode(b"\x03\x00"), Err(DecodeError::Version(3))));
        let bytes = Command::Resume.encode(STAMP, Caller::Anonymous);
        for len in 1..bytes.len() {
            assert!(matches!(Command::decode(&bytes[..len]), Err(DecodeError::Malformed(_))));
        }
    }
}
