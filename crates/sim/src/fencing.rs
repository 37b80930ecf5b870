//! Do fencing tokens only go up?
//!
//! A token protects whoever checks it: a holder that lost its lock without noticing must not get
//! through any more. So tokens rise from grant to grant, and a resource takes no lower one after a
//! higher one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A grant of one lock, or of leadership in one election.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Who got it.
    pub owner: String,
    /// When it was asked for.
    pub call: u64,
    /// When the answer came.
    #[serde(rename = "return")]
    pub returned: u64,
    /// What it carries.
    pub token: u64,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Two grants carry the same token.
    Reused(Box<(Grant, Grant)>),
    /// A grant that was asked for after another had been answered carries no higher token.
    WentBack(Box<(Grant, Grant)>),
    /// The resource took the second token after the first.
    Accepted(u64, u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reused(grants) => {
                let (one, other) = grants.as_ref();
                write!(f, "{} and {} both hold token {}", one.owner, other.owner, one.token)
            }
            Self::WentBack(grants) => {
                let (first, second) = grants.as_ref();
                let Grant { owner, token, call, .. } = second;
                write!(f, "{owner} asked at {call} and got token {token}, ")?;
                let Grant { owner, token, returned, .. } = first;
                write!(f, "after {owner} had got {token} at {returned}")
            }
            Self::Accepted(high, low) => write!(f, "token {low} was accepted after {high}"),
        }
    }
}

/// Checks the grants of one lock.
///
/// # Errors
///
/// The first two grants that contradict each other.
pub fn check_grants(grants: &[Grant]) -> Result<(), Fault> {
    let mut by_token: Vec<&Grant> = grants.iter().collect();
    by_token.sort_by_key(|grant| grant.token);
    for pair in by_token.windows(2) {
        if pair[0].token == pair[1].token {
            return Err(Fault::Reused(Box::new((pair[0].clone(), pair[1].clone()))));
        }
    }
    // By descending token: nothing with a lower one may have been called after any of these
    // returned.
    let mut first_to_return: Option<&Grant> = None;
    for grant in by_token.into_iter().rev() {
        if let Some(higher) = first_to_return.filter(|higher| higher.returned < grant.call) {
            return Err(Fault::WentBack(Box::new((higher.clone(), grant.clone()))));
        }
        if first_to_return.is_none_or(|other| grant.returned < other.returned) {
            first_to_return = Some(grant);
        }
    }
    Ok(())
}

/// Checks the tokens that a protected resource took, in the order in which it did.
///
/// # Errors
///
/// The first that is lower than one before it.
pub fn check_accepted(tokens: &[u64]) -> Result<(), Fault> {
    let back = tokens.windows(2).find(|pair| pair[1] < pair[0]);
    back.map_or(Ok(()), |pair| Err(Fault::Accepted(pair[0], pair[1])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(call: u64, returned: u64, token: u64) -> Grant {
        Grant { owner: format!("o{token}"), call, returned, token }
    }

    #[test]
    fn overlapping_grants_may_come_in_any_order() {
        assert_eq!(check_grants(&[grant(0, 9, 7), grant(1, 8, 3), grant(10, 11, 8)]), Ok(()));
    }

    #[test]
    fn a_later_grant_has_a_higher_token() {
        let fault = check_grants(&[grant(0, 4, 7), grant(5, 6, 3)]).unwrap_err();
        assert_eq!(fault.to_string(), "o3 asked at 5 and got token 3, after o7 had got 7 at 4");
        assert!(matches!(check_grants(&[grant(0, 4, 7), grant(5, 6, 7)]), Err(Fault::Reused(_))));
        // Not only between neighbours.
        let far = [grant(0, 1, 9), grant(0, 100, 8), grant(2, 3, 2)];
        assert!(matches!(check_grants(&far), Err(Fault::WentBack(_))));
    }

    #[test]
    fn a_resource_takes_no_lower_token() {
        assert_eq!(check_accepted(&[1, 1, 4, 4]), Ok(()));
        assert_eq!(check_accepted(&[1, 4, 3]), Err(Fault::Accepted(4, 3)));
    }
}
