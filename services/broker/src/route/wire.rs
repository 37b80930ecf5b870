//! How an operation travels: a head, then the operation, both in postcard.

use consensus::{GroupId, NodeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Kind;

/// Where brokers call each other, on the peer listener.
pub(crate) const PATH: &str = "/peer/v1/broker";
/// What calls and answers are.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.quartet.broker.v1+postcard";
/// The version of [`Head`] and of what follows it.
pub(super) const VERSION: u8 = 1;
/// The longest call or answer, in bytes.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// What stands before an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) version: u8,
    /// Which cluster both belong to.
    pub(super) cluster: u64,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) kind: Kind,
    pub(super) group: GroupId,
}

pub(super) fn encode(head: &Head, op: &impl Serialize) -> Vec<u8> {
    let bytes =
        postcard::to_extend(head, Vec::new()).and_then(|head| postcard::to_extend(op, head));
    bytes.expect("operations are plain data, a vector grows")
}

pub(super) fn encode_answer(answer: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(answer, Vec::new()).expect("answers are plain data, a vector grows")
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

pub(super) fn decode_head(bytes: &[u8]) -> Option<(Head, &[u8])> {
    postcard::take_from_bytes(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_as_it_was_written() {
        let head = Head {
            version: VERSION,
            cluster: 7,
            from: NodeId(1),
            to: NodeId(2),
            kind: Kind::Peek,
            group: GroupId(9),
        };
        let bytes = encode(&head, &(3_u64, "x"));
        let (read, rest) = decode_head(&bytes).unwrap();
        assert_eq!(read, head);
        assert_eq!(decode::<(u64, String)>(rest), Some((3, "x".to_owned())));
        assert!(decode_head(&bytes[..3]).is_none());
    }
}
