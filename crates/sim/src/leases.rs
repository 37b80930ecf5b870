//! Does a lease keep its key as long as it lives, and no longer?
//!
//! From when a grant or a renewal was asked for, a lease lives for its whole time at least: the
//! system may count from any later moment. When it was revoked, it is over. When it ends otherwise
//! is for the system to say.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A key on a lease of its own, as its one client knows it. All times are of one clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenancy {
    /// Which key.
    pub key: String,
    /// How long the lease lives without a renewal.
    pub ttl: u64,
    /// Of the grant and every renewal that was acknowledged: when it was asked for, and when the
    /// answer came.
    pub renewed: Vec<(u64, u64)>,
    /// When the answer came that it is revoked.
    pub revoked: Option<u64>,
    /// What was seen of it, since it was written.
    pub looks: Vec<Look>,
}

/// What one call told of a lease or its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// When it was asked.
    pub call: u64,
    /// When the answer came.
    #[serde(rename = "return")]
    pub returned: u64,
    /// Whether it was there.
    pub is_there: bool,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was gone while it had to live until this moment at least.
    TooShort(String, Look, u64),
    /// It was there after this moment, at which it was revoked.
    TooLong(String, Look, u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort(key, Look { call, returned, .. }, until) => {
                write!(f, "{key} was gone [{call}, {returned}], its lease lived until {until}")
            }
            Self::TooLong(key, Look { call, returned, .. }, since) => {
                write!(f, "{key} was there [{call}, {returned}], its lease was revoked at {since}")
            }
        }
    }
}

/// Judges one key.
///
/// # Errors
///
/// The first look that contradicts the lease.
pub fn check(tenancy: &Tenancy) -> Result<(), Fault> {
    let Tenancy { key, ttl, renewed, revoked, looks } = tenancy;
    for look in looks {
        let over = revoked.filter(|revoked| *revoked <= look.call);
        let before = renewed.iter().filter(|(_, returned)| *returned <= look.call);
        let until = before.map(|(call, _)| call + ttl).max().unwrap_or(0);
        match (over, look.is_there) {
            (Some(over), true) => return Err(Fault::TooLong(key.clone(), *look, over)),
            (None, false) if look.returned < until => {
                return Err(Fault::TooShort(key.clone(), *look, until));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(call: u64, is_there: bool) -> Look {
        Look { call, returned: call + 2, is_there }
    }

    /// Lives until 110 at least.
    fn tenancy(looks: Vec<Look>) -> Tenancy {
        Tenancy {
            key: "k".into(),
            ttl: 50,
            renewed: vec![(0, 5), (60, 65)],
            revoked: Some(200),
            looks,
        }
    }

    #[test]
    fn a_key_is_there_while_its_lease_lives_and_may_go_at_any_time_after() {
        let fine = [(10, true), (49, false), (66, true), (108, false), (150, true), (200, false)];
        for (call, is_there) in fine {
            assert_eq!(check(&tenancy(vec![look(call, is_there)])), Ok(()), "{call}");
        }
    }

    #[test]
    fn a_key_that_goes_too_early_or_stays_is_found() {
        for call in [5, 47, 65, 107] {
            let fault = check(&tenancy(vec![look(call, false)]));
            assert!(matches!(fault, Err(Fault::TooShort(..))), "{call}");
        }
        let fault = check(&tenancy(vec![look(200, true)])).unwrap_err();
        assert_eq!(fault.to_string(), "k was there [200, 202], its lease was revoked at 200");
    }
}
