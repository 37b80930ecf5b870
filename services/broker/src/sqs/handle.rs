//! Receipt handles: what a consumer sends back to settle a delivery.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use messaging::ack::AckId;
use messaging::ids::{Epoch, Millis, stable_hash};

use super::error::{Code, Fault};

/// Longest that a consumer may hold a message, all extensions together: 12 hours.
pub(crate) const MAX_HELD_MS: u64 = 12 * 3_600_000;

/// A delivery: its ack id, and when it was made.
///
/// ```text
/// base64( version (1) | group (8) | message (8) | delivery (4) | epoch (8) | received (8) | sum (8) )
/// ```
///
/// The sum tells a handle that was cut or made up from one that is merely old. It is no secret:
/// whoever may reach a queue may settle what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) ack: AckId,
    pub(crate) received_ms: Millis,
}

const VERSION: u8 = 1;
const LEN: usize = 37;

impl Handle {
    /// As a client sees it.
    pub(crate) fn text(&self) -> String {
        let AckId { group, message, delivery, epoch, .. } = self.ack;
        let mut bytes = Vec::with_capacity(LEN + 8);
        bytes.push(VERSION);
        bytes.extend_from_slice(&group.to_be_bytes());
        bytes.extend_from_slice(&message.to_be_bytes());
        bytes.extend_from_slice(&delivery.to_be_bytes());
        bytes.extend_from_slice(&epoch.0.to_be_bytes());
        bytes.extend_from_slice(&self.received_ms.to_be_bytes());
        bytes.extend_from_slice(&stable_hash(&bytes).to_be_bytes());
        BASE64.encode(bytes)
    }

    /// Of a delivery by the queue in `group`.
    pub(crate) fn parse(text: &str, group: u64) -> Result<Self, Fault> {
        let handle = BASE64.decode(text).ok().and_then(|bytes| Self::decode(&bytes));
        handle.filter(|handle| handle.ack.group == group).ok_or_else(|| {
            let message = "The input receipt handle is invalid for this queue.";
            Fault::new(Code::ReceiptHandleIsInvalid, message)
        })
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (said, sum) = bytes.split_at_checked(LEN)?;
        if said[0] != VERSION || sum != stable_hash(said).to_be_bytes() {
            return None;
        }
        let long = |at: usize| said[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        let short = |at: usize| said[at..at + 4].try_into().map(u32::from_be_bytes).ok();
        let (subscription, generation) = (0, 0);
        let (group, message, delivery) = (long(1)?, long(9)?, short(17)?);
        let epoch = Epoch(long(21)?);
        let ack = AckId { group, subscription, generation, message, delivery, epoch };
        Some(Self { ack, received_ms: long(29)? })
    }

    /// Whether holding it this long from now on is too long in all.
    pub(crate) fn is_beyond(&self, now: Millis, timeout_ms: u64) -> bool {
        let since = now.saturating_sub(self.received_ms);
        MAX_HELD_MS < since.saturating_add(timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle() -> Handle {
        let ack = AckId {
            group: 7,
            subscription: 0,
            generation: 0,
            message: u64::MAX,
            delivery: 3,
            epoch: Epoch(1 << 40),
        };
        Handle { ack, received_ms: 1_700_000_000_000 }
    }

    #[test]
    fn a_handle_comes_back_as_it_went() {
        assert_eq!(Handle::parse(&handle().text(), 7), Ok(handle()));
    }

    #[test]
    fn a_handle_that_was_never_given_out_is_told() {
        let text = handle().text();
        let code = |text: &str, group| Handle::parse(text, group).unwrap_err().code;
        assert_eq!(code(&text, 8), Code::ReceiptHandleIsInvalid);
        assert_eq!(code("", 7), Code::ReceiptHandleIsInvalid);
        assert_eq!(code("bogus", 7), Code::ReceiptHandleIsInvalid);
        assert_eq!(code(&text[4..], 7), Code::ReceiptHandleIsInvalid);
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(code(&other, 7), Code::ReceiptHandleIsInvalid, "{at}");
        }
    }

    #[test]
    fn nobody_holds_a_message_longer_than_twelve_hours() {
        let begun = handle().received_ms;
        assert!(!handle().is_beyond(begun, MAX_HELD_MS));
        assert!(handle().is_beyond(begun + 1, MAX_HELD_MS));
        assert!(!handle().is_beyond(begun + MAX_HELD_MS, 0));
    }
}
