//! Signatures as Standard Webhooks 1.0.0 describes them: HMAC-SHA256 over `id.timestamp.body`.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use messaging::catalog::Secret;
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "whsec_";
/// How long a secret may be, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;
/// What is hashed at a time.
const BLOCK: usize = 64;

/// The text is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret is `whsec_` and 24 to 64 bytes in base64; leave it out to have one drawn")]
pub(crate) struct InvalidSecret;

/// A secret as people hand it round.
pub(crate) fn parse(text: &str) -> Result<Secret, InvalidSecret> {
    let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
    let bytes = BASE64.decode(encoded).map_err(|_| InvalidSecret)?;
    LENGTHS.contains(&bytes.len()).then_some(Secret(bytes)).ok_or(InvalidSecret)
}

/// The same text again.
pub(crate) fn show(secret: &Secret) -> String {
    format!("{PREFIX}{}", BASE64.encode(&secret.0))
}

/// A new one, of 32 bytes.
pub(crate) fn draw() -> Secret {
    Secret((0..4).flat_map(|_| resilience::system_random().to_le_bytes()).collect())
}

/// The header `webhook-signature`: one signature for each secret.
pub(crate) fn signature<'a>(
    secrets: impl Iterator<Item = &'a Secret>,
    (id, unix_seconds): (&str, u64),
    body: &[u8],
) -> String {
    let head = format!("{id}.{unix_seconds}.");
    let mut text = String::new();
    for secret in secrets {
        let signature = BASE64.encode(hmac(&secret.0, [head.as_bytes(), body]));
        let space = if text.is_empty() { "" } else { " " };
        write!(text, "{space}v1,{signature}").expect("a string takes everything");
    }
    text
}

/// RFC 2104. A key is never longer than a block here.
fn hmac<'a>(key: &[u8], message: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut block = [0_u8; BLOCK];
    block[..key.len()].copy_from_slice(key);
    let mut inner = Sha256::new();
    inner.update(block.map(|byte| byte ^ 0x36));
    message.into_iter().for_each(|part| inner.update(part));
    let mut outer = Sha256::new();
    outer.update(block.map(|byte| byte ^ 0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_published_example_has_its_published_signature() {
        let secret = parse(PUBLISHED).unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let body = br#"{"test": 2432232314}"#;
        let signed = signature([&secret].into_iter(), (id, 1_614_265_330), body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn the_second_case_of_rfc_4231_holds() {
        let code = hmac(b"Jefe", [&b"what do ya want "[..], b"for nothing?"]);
        let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn two_secrets_sign_side_by_side() {
        let (one, two) = (draw(), draw());
        let alone = |secret| signature(std::iter::once(secret), ("m", 1), b"x");
        let both = signature([&one, &two].into_iter(), ("m", 1), b"x");
        assert_eq!(both, format!("{} {}", alone(&one), alone(&two)));
        assert_ne!(alone(&one), alone(&two));
    }

    #[test]
    fn a_secret_survives_its_text_and_others_are_refused() {
        let drawn = draw();
        assert_eq!(parse(&show(&drawn)), Ok(drawn));
        assert_eq!(show(&parse(PUBLISHED).unwrap()), PUBLISHED);
        let long = format!("whsec_{}", BASE64.encode([7; 65]));
        for bad in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &long] {
            assert_eq!(parse(bad), Err(InvalidSecret), "{bad}");
        }
    }
}
