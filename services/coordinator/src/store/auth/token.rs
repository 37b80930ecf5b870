//! Tokens: who has proved to be whom, and until when.
//!
//! They are part of the replicated state, so that every member knows every token, and one that is
//! taken back is void everywhere at once. (Signed ones would need no state, but could neither live
//! longer with use, as clients of etcd expect, nor be taken back.) Only the SHA-256 of a token is
//! kept: whoever reads a log or a backup cannot use it.

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

/// Tokens that one user may have; a new one ends the one that was not used for the longest time.
const TOKENS_PER_USER_MAX: usize = 1000;

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenDigest(pub [u8; 32]);

impl std::fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenDigest")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Token {
    pub(super) user: String,
    deadline_ms: u64,
    ttl_ms: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tokens {
    by_digest: OrdMap<TokenDigest, Token>,
    by_user: OrdMap<String, OrdSet<(u64, TokenDigest)>>,
}

impl Tokens {
    /// The user, while the token lives.
    pub(super) fn user(&self, digest: TokenDigest, now_ms: u64) -> Option<&str> {
        let token = self.by_digest.get(&digest)?;
        (now_ms < token.deadline_ms).then_some(&*token.user)
    }

    /// Whether a fifth of its life is over, so that a use of it is worth a note.
    pub(super) fn is_worn(&self, digest: TokenDigest, now_ms: u64) -> bool {
        self.by_digest.get(&digest).is_some_and(|token| {
            token.deadline_ms.saturating_sub(now_ms) < token.ttl_ms - token.ttl_ms / 5
        })
    }

    pub(super) fn issue(&mut self, digest: TokenDigest, user: String, ttl_ms: u64, now_ms: u64) {
        self.drop_expired(&user, now_ms);
        while TOKENS_PER_USER_MAX <= self.by_user.get(&user).map_or(0, OrdSet::len) {
            let first = self.by_user.get(&user).and_then(|tokens| tokens.get_min().copied());
            let Some((_, oldest)) = first else { break };
            self.remove(oldest);
        }
        let deadline_ms = now_ms.saturating_add(ttl_ms);
        self.insert(digest, Token { user, deadline_ms, ttl_ms });
    }

    /// It was used: it lives its full time again.
    pub(super) fn refresh(&mut self, digest: TokenDigest, now_ms: u64) {
        if self.user(digest, now_ms).is_some()
            && let Some(mut token) = self.remove(digest)
        {
            token.deadline_ms = now_ms.saturating_add(token.ttl_ms);
            self.insert(digest, token);
        }
    }

    /// None of this user's tokens is worth anything any more.
    pub(super) fn revoke(&mut self, user: &str) {
        for (_, digest) in self.by_user.remove(user).into_iter().flatten() {
            self.by_digest.remove(&digest);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn image(&self) -> Vec<(TokenDigest, Token)> {
        self.by_digest.iter().map(|(digest, token)| (*digest, token.clone())).collect()
    }

    pub(super) fn from_image(image: Vec<(TokenDigest, Token)>) -> Self {
        let mut this = Self::default();
        image.into_iter().for_each(|(digest, token)| this.insert(digest, token));
        this
    }

    fn drop_expired(&mut self, user: &str, now_ms: u64) {
        let Some(tokens) = self.by_user.get(user) else { return };
        let expired: Vec<_> =
            tokens.iter().take_while(|(deadline_ms, _)| *deadline_ms <= now_ms).copied().collect();
        for (_, digest) in expired {
            self.remove(digest);
        }
    }

    fn insert(&mut self, digest: TokenDigest, token: Token) {
        let tokens = self.by_user.entry(token.user.clone()).or_default();
        tokens.insert((token.deadline_ms, digest));
        self.by_digest.insert(digest, token);
    }

    fn remove(&mut self, digest: TokenDigest) -> Option<Token> {
        let token = self.by_digest.remove(&digest)?;
        if let Some(tokens) = self.by_user.get_mut(&token.user) {
            tokens.remove(&(token.deadline_ms, digest));
            if tokens.is_empty() {
                self.by_user.remove(&token.user);
            }
        }
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL_MS: u64 = 300_000;

    fn digest(number: u64) -> TokenDigest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        TokenDigest(digest)
    }

    #[test]
    fn a_token_lives_as_long_as_it_is_used() {
        let mut tokens = Tokens::default();
        tokens.issue(digest(1), "u".into(), TTL_MS, 0);
        assert_eq!(tokens.user(digest(1), TTL_MS - 1), Some("u"));
        assert!(!tokens.is_worn(digest(1), TTL_MS / 5));
        assert!(tokens.is_worn(digest(1), TTL_MS / 5 + 1));
        tokens.refresh(digest(1), TTL_MS - 1);
        assert_eq!(tokens.user(digest(1), 2 * TTL_MS - 2), Some("u"));
        tokens.refresh(digest(1), 2 * TTL_MS);
        assert_eq!(tokens.user(digest(1), 2 * TTL_MS), None, "a dead one is not brought back");
    }

    #[test]
    fn one_user_cannot_fill_the_store_with_tokens() {
        let mut tokens = Tokens::default();
        tokens.issue(digest(0), "other".into(), TTL_MS, 0);
        for number in 1..=TOKENS_PER_USER_MAX as u64 + 1 {
            tokens.issue(digest(number), "u".into(), TTL_MS, number);
        }
        assert_eq!(tokens.by_digest.len(), TOKENS_PER_USER_MAX + 1);
        assert_eq!(tokens.user(digest(1), 2000), None);
        assert_eq!(tokens.user(digest(2), 2000), Some("u"));
        assert_eq!(tokens.user(digest(0), 2000), Some("other"));
        tokens.revoke("u");
        assert_eq!((tokens.by_digest.len(), tokens.by_user.len()), (1, 1));
    }
}
