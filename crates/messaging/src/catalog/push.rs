//! Push, as the catalog keeps it: where messages of a subscription go by themselves.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::Millis;

/// Longest URL of a webhook, in bytes.
pub const MAX_PUSH_URL: usize = 2_048;
/// Longest reason of a pause, in bytes.
const MAX_PAUSE_REASON: usize = 512;

/// What calls are signed with. It does not show in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// How a message looks to a webhook. Variants are only ever added, at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PushFormat {
    /// The body, with attributes as headers.
    Raw,
    /// A CloudEvent in headers and body.
    CloudeventsBinary,
    /// A CloudEvent as one JSON document.
    CloudeventsStructured,
}

/// As it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPush {
    /// Where to.
    pub url: String,
    /// What to sign with.
    pub secret: Secret,
    /// Nobody asked for this secret: one that is there already stays.
    pub is_drawn: bool,
    /// How.
    pub format: PushFormat,
    /// Most calls at a time.
    pub max_in_flight: u32,
    /// How long a call may take.
    pub timeout_ms: u64,
}

/// As it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// Where to.
    pub url: String,
    /// What calls are signed with.
    pub secret: Secret,
    /// The former secret, and until when it signs too.
    pub former: Option<(Secret, Millis)>,
    /// How messages look.
    pub format: PushFormat,
    /// Most calls at a time.
    pub max_in_flight: u32,
    /// How long a call may take.
    pub timeout_ms: u64,
    /// Why it does not push, and since when.
    pub paused: Option<(String, Millis)>,
}

impl Push {
    /// A pause ends with the URL that it is about, and a former secret with its successor.
    pub(super) fn following(known: Option<&Self>, new: NewPush) -> Self {
        let NewPush { url, secret, is_drawn, format, max_in_flight, timeout_ms } = new;
        let secret = match known {
            Some(known) if is_drawn => known.secret.clone(),
            _ => secret,
        };
        let former = known.filter(|known| known.secret == secret);
        let former = former.and_then(|known| known.former.clone());
        let paused = known.filter(|known| known.url == url).and_then(|known| known.paused.clone());
        Self { url, secret, former, format, max_in_flight, timeout_ms, paused }
    }

    /// False if nothing changes.
    pub(super) fn pause(&mut self, reason: Option<String>, now: Millis) -> bool {
        if self.paused.is_some() == reason.is_some() {
            return false;
        }
        self.paused = reason.map(|mut reason| {
            reason.truncate(reason.floor_char_boundary(MAX_PAUSE_REASON));
            (reason, now)
        });
        true
    }

    /// False if it is this one already.
    pub(super) fn rotate(&mut self, secret: Secret, until: Millis) -> bool {
        if self.secret == secret {
            return false;
        }
        let former = std::mem::replace(&mut self.secret, secret);
        self.former = Some((former, until));
        true
    }

    /// What a call at this time is signed with, the newest first.
    pub fn secrets(&self, now: Millis) -> impl Iterator<Item = &Secret> {
        let former = self.former.as_ref().filter(|(_, until)| now < *until);
        std::iter::once(&self.secret).chain(former.map(|(secret, _)| secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(url: &str, secret: u8, is_drawn: bool) -> NewPush {
        NewPush {
            url: url.to_owned(),
            secret: Secret(vec![secret]),
            is_drawn,
            format: PushFormat::Raw,
            max_in_flight: 1,
            timeout_ms: 1,
        }
    }

    #[test]
    fn a_drawn_secret_does_not_replace_the_one_that_is_there() {
        let first = Push::following(None, new("u", 1, true));
        assert_eq!(Push::following(Some(&first), new("u", 2, true)), first);
        let given = Push::following(Some(&first), new("u", 3, false));
        assert_eq!(given.secret, Secret(vec![3]));
    }

    #[test]
    fn a_rotated_secret_signs_for_a_while() {
        let mut push = Push::following(None, new("u", 1, true));
        assert!(push.rotate(Secret(vec![2]), 100));
        assert!(!push.rotate(Secret(vec![2]), 200), "that is no rotation");
        let (new_, old) = (Secret(vec![2]), Secret(vec![1]));
        assert!(push.secrets(99).eq([&new_, &old]));
        assert!(push.secrets(100).eq([&new_]));
    }

    #[test]
    fn a_pause_is_about_a_url() {
        let mut push = Push::following(None, new("u", 1, true));
        assert!(push.pause(Some("gone".to_owned()), 5));
        assert!(Push::following(Some(&push), new("u", 1, true)).paused.is_some());
        assert!(Push::following(Some(&push), new("v", 1, true)).paused.is_none());
        assert!(push.pause(None, 6) && push.paused.is_none());
    }

    #[test]
    fn a_secret_does_not_show() {
        assert!(!format!("{:?}", Push::following(None, new("u", 77, true))).contains("77"));
    }
}
