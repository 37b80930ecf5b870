//! Proving who somebody is: passwords in, tokens out.
//!
//! A password is hashed with Argon2id, which costs memory and time on purpose. So hashing runs on
//! threads of its own kind, a bounded number at once, and a password that was right a moment ago
//! is not hashed again: the cache holds a keyed hash of what was verified, not the password, and
//! an entry is void as soon as the user's password changes, because the stored hash is part of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::{Algorithm, Argon2, Params, Version};
use rand::Rng as _;
use rand::distr::{Alphanumeric, SampleString as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::coordinator::{CommandError, Coordinator, Failure};
use crate::store::{AuthCommand, AuthError, Caller, Command, PasswordHash, TokenDigest};

/// What a new hash costs: 19 MiB and two passes, about 20 ms.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Passwords hashed at a time, and waiting for it. Beyond that callers are told to slow down.
const HASHING_MAX: usize = 2;
const WAITING_MAX: usize = 64;
/// Verified credentials that are remembered.
const VERIFIED_MAX: usize = 4096;
/// A longer one is no password.
pub(crate) const MAX_PASSWORD_BYTES: usize = 1024;
/// A user that changes again and again while it authenticates is told so.
const ATTEMPTS: usize = 3;
/// Tokens noted as used by one command.
const NOTED_MAX: usize = 256;

#[derive(Clone)]
pub(crate) struct Authenticator(Arc<Inner>);

struct Inner {
    ttl_ms: u64,
    hashing: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Keys the fingerprints, so that they are of no use outside this process.
    secret: [u8; 32],
    verified: Mutex<HashMap<[u8; 32], ()>>,
    /// Compared with when there is no such user, so that an answer takes as long as for others.
    nobody: PasswordHash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthenticateError {
    #[error("authentication is not enabled")]
    NotEnabled,
    #[error("the name or the password is wrong")]
    Failed,
    #[error("the user was changed meanwhile; authenticate again")]
    Changed,
    #[error("{0}")]
    Store(#[from] Failure),
}

impl Authenticator {
    pub(crate) fn new(ttl_ms: u64) -> Self {
        let mut random = rand::rng();
        Self(Arc::new(Inner {
            ttl_ms,
            hashing: Arc::new(Semaphore::new(HASHING_MAX)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            secret: random.random(),
            verified: Mutex::default(),
            nobody: PasswordHash {
                memory_kib: MEMORY_KIB,
                passes: PASSES,
                lanes: LANES,
                salt: random.random(),
                hash: random.random(),
            },
        }))
    }

    /// A hash of a new password, with a salt of its own.
    pub(crate) async fn hash(&self, password: String) -> Result<PasswordHash, Failure> {
        let salt = rand::rng().random();
        let params = (MEMORY_KIB, PASSES, LANES);
        let hash = self.argon2(params, salt, password).await?;
        let (memory_kib, passes, lanes) = params;
        Ok(PasswordHash { memory_kib, passes, lanes, salt, hash })
    }

    /// A token for whoever knows the password.
    pub(crate) async fn authenticate(
        &self,
        coordinator: &Coordinator,
        name: &str,
        password: &str,
    ) -> Result<String, AuthenticateError> {
        // The password is what entitles to a token, not whatever token came with it.
        let coordinator = coordinator.acting_for(Caller::Node);
        for _ in 0..ATTEMPTS {
            let store = coordinator.snapshot().await?;
            if !store.auth.is_enabled() {
                return Err(AuthenticateError::NotEnabled);
            }
            let user = store.auth.user(name);
            let known = user.and_then(|user| user.password.as_ref());
            let right = self.verify(known.unwrap_or(&self.0.nobody), password).await?;
            let Some(user) = user.filter(|user| right && user.password.is_some()) else {
                return Err(AuthenticateError::Failed);
            };
            let token = new_token(coordinator.applied_index());
            let issue = AuthCommand::Issue {
                user: name.to_owned(),
                password_revision: user.password_revision,
                token: digest(&token),
                ttl_ms: self.0.ttl_ms,
            };
            match coordinator.auth(issue).await {
                Ok(()) => return Ok(token),
                Err(CommandError::Refused(AuthError::NotEnabled)) => {
                    return Err(AuthenticateError::NotEnabled);
                }
                // The password or the user: look again.
                Err(CommandError::Refused(_)) => {}
                Err(CommandError::Failed(failure)) => return Err(failure.into()),
            }
        }
        Err(AuthenticateError::Changed)
    }

    async fn verify(&self, known: &PasswordHash, password: &str) -> Result<bool, Failure> {
        if MAX_PASSWORD_BYTES < password.len() {
            return Ok(false);
        }
        let fingerprint = self.fingerprint(known, password);
        if self.verified().contains_key(&fingerprint) {
            return Ok(true);
        }
        let params = (known.memory_kib, known.passes, known.lanes);
        let hash = self.argon2(params, known.salt, password.to_owned()).await?;
        let right = is_same(&hash, &known.hash);
        if right {
            let mut verified = self.verified();
            if VERIFIED_MAX <= verified.len() {
                // Rare, and whoever comes again pays once.
                verified.clear();
            }
            verified.insert(fingerprint, ());
        }
        Ok(right)
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], ()>> {
        self.0.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fingerprint(&self, known: &PasswordHash, password: &str) -> [u8; 32] {
        // All of fixed length but the last.
        Sha256::new()
            .chain_update(self.0.secret)
            .chain_update(known.salt)
            .chain_update(known.hash)
            .chain_update(password)
            .finalize()
            .into()
    }

    async fn argon2(
        &self,
        (memory_kib, passes, lanes): (u32, u32, u32),
        salt: [u8; 16],
        password: String,
    ) -> Result<[u8; 32], Failure> {
        let waiting = Arc::clone(&self.0.waiting).try_acquire_owned();
        let waiting = waiting.map_err(|_full| Failure::Overloaded)?;
        let hashing = Arc::clone(&self.0.hashing).acquire_owned().await;
        let hashing = hashing.map_err(|_closed| Failure::Stopped)?;
        let hashed = tokio::task::spawn_blocking(move || {
            // Until it is done, also if nobody waits for it any more.
            let _room = (waiting, hashing);
            let mut hash = [0; 32];
            let params = Params::new(memory_kib, passes, lanes, Some(hash.len()))?;
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
                password.as_bytes(),
                &salt,
                &mut hash,
            )?;
            Ok::<_, argon2::Error>(hash)
        });
        match hashed.await {
            Ok(Ok(hash)) => Ok(hash),
            Ok(Err(error)) => {
                tracing::error!(%error, "a password could not be hashed");
                Err(Failure::Stopped)
            }
            Err(_stopped) => Err(Failure::Stopped),
        }
    }
}

/// Takes as long wherever they differ.
fn is_same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
}

/// As etcd's look: letters and digits, a dot, a number. 142 bits of chance.
fn new_token(number: u64) -> String {
    let secret = Alphanumeric.sample_string(&mut rand::rng(), 24);
    format!("{secret}.{number}")
}

pub(crate) fn digest(token: &str) -> TokenDigest {
    TokenDigest(Sha256::digest(token).into())
}

/// Notes which tokens were used for reads; writes note it themselves.
pub(crate) async fn note_uses(
    coordinator: Coordinator,
    mut used: mpsc::Receiver<TokenDigest>,
    stop: CancellationToken,
) {
    loop {
        let mut tokens = Vec::new();
        tokio::select! {
            () = stop.cancelled() => return,
            count = used.recv_many(&mut tokens, NOTED_MAX) => if count == 0 { return },
        }
        tokens.sort_unstable();
        tokens.dedup();
        let (store, now_ms) = (coordinator.recent().await, coordinator.now_ms());
        // Many uses of one token come before the first is noted.
        tokens.retain(|token| store.auth.is_worn(*token, now_ms));
        if tokens.is_empty() {
            continue;
        }
        let refresh = Command::Auth(AuthCommand::Refresh { tokens });
        if let Err(failure) = coordinator.command(refresh).await {
            tracing::warn!(%failure, "uses of tokens were not noted; they may expire early");
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn only_the_right_password_is_right_also_from_the_cache() {
        let authenticator = Authenticator::new(1000);
        let hash = authenticator.hash("secret".to_owned()).await.unwrap();
        for _ in 0..2 {
            assert!(authenticator.verify(&hash, "secret").await.unwrap());
            assert!(!authenticator.verify(&hash, "Secret").await.unwrap());
        }
        let other = authenticator.hash("secret".to_owned()).await.unwrap();
        assert_ne!(hash, other, "equal passwords must not show");
        assert_eq!(authenticator.verified().len(), 1);
        let long = "x".repeat(MAX_PASSWORD_BYTES + 1);
        assert!(!authenticator.verify(&hash, &long).await.unwrap());
    }

    #[tokio::test]
    async fn whoever_hangs_up_does_not_make_room_for_more_hashing() {
        let authenticator = Authenticator::new(1000);
        let room = || authenticator.0.hashing.available_permits();
        let mut hashing = Box::pin(authenticator.hash("secret".to_owned()));
        assert!((&mut hashing).now_or_never().is_none(), "it has begun");
        drop(hashing);
        assert_eq!(room(), HASHING_MAX - 1);
        for _ in 0..400 {
            if room() == HASHING_MAX {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("the room was never given back");
    }

    #[test]
    fn tokens_are_new_and_fit_a_header() {
        let (one, two) = (new_token(7), new_token(7));
        assert_ne!(one, two);
        assert!(one.ends_with(".7") && one.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}
