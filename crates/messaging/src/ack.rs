//! Ack ids: what a consumer sends back to settle a delivery.

use serde::{Deserialize, Serialize};

use std::fmt;
use std::str::FromStr;

use crate::ids::Epoch;

/// One delivery of one message. As text: six hexadecimal numbers with dots between them.
///
/// It names everything that could change under it: the group (a queue that was deleted and made
/// again has another), the subscription and its generation (a seek), the message, the delivery,
/// and the life of the leader that made it. So a stale one is recognised, never mistaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckId {
    /// The group of the queue or partition.
    pub group: u64,
    /// The subscription; 0 in a queue.
    pub subscription: u64,
    /// Counts the seeks of the subscription.
    pub generation: u32,
    /// The message: its id or offset.
    pub message: u64,
    /// Which delivery.
    pub delivery: u32,
    /// Which life of the leader.
    pub epoch: Epoch,
}

/// A text that is no ack id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an ack id")]
pub struct InvalidAckId;

impl fmt::Display for AckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, subscription, generation, message, delivery, epoch } = self;
        write!(f, "{group:x}.{subscription:x}.{generation:x}.{message:x}.{delivery:x}.")?;
        write!(f, "{:x}", epoch.0)
    }
}

impl FromStr for AckId {
    type Err = InvalidAckId;

    fn from_str(text: &str) -> Result<Self, InvalidAckId> {
        let mut parts = text.split('.').map(|part| match part.as_bytes() {
            // `from_str_radix` takes a sign.
            [b'+' | b'-', ..] => Err(InvalidAckId),
            _ => u64::from_str_radix(part, 16).map_err(|_| InvalidAckId),
        });
        let mut next = || parts.next().ok_or(InvalidAckId)?;
        let narrow = |number: u64| u32::try_from(number).map_err(|_| InvalidAckId);
        let id = Self {
            group: next()?,
            subscription: next()?,
            generation: narrow(next()?)?,
            message: next()?,
            delivery: narrow(next()?)?,
            epoch: Epoch(next()?),
        };
        if parts.next().is_some() { Err(InvalidAckId) } else { Ok(id) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_ack_id_survives_its_text(
            (group, subscription, message, epoch) in any::<(u64, u64, u64, u64)>(),
            (generation, delivery) in any::<(u32, u32)>(),
        ) {
            let epoch = Epoch(epoch);
            let id = AckId { group, subscription, generation, message, delivery, epoch };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn any_other_text_is_refused_without_a_panic(text in "[0-9a-g.+-]{0,40}|.*") {
            if let Ok(id) = text.parse::<AckId>() {
                prop_assert_eq!(id.to_string().parse(), Ok(id));
            }
        }
    }
}
