//! What texts of a message may consist of.

use super::error::{Code, Fault};

/// Longest group, dedup id and attempt id.
const MAX_TOKEN: usize = 128;

/// A body: at least one character, none that XML 1.0 forbids.
pub(super) fn check_body(body: &str) -> Result<(), Fault> {
    let fits = |c: char| match c {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        c => ' ' <= c,
    };
    if body.is_empty() {
        let message = "The message body is empty; it has at least one character.";
        return Err(Fault::new(Code::InvalidMessageContents, message));
    }
    match body.chars().find(|c| !fits(*c)) {
        None => Ok(()),
        Some(c) => Err(Fault::new(
            Code::InvalidMessageContents,
            format!("Invalid character #x{:X} in the message body; encode it.", u32::from(c)),
        )),
    }
}

/// A group, dedup id or attempt id: 1 to 128 letters, digits and punctuation marks.
pub(crate) fn check_token(parameter: &str, token: &str) -> Result<(), Fault> {
    if (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|c| c.is_ascii_graphic()) {
        return Ok(());
    }
    let reason = format!(
        "{parameter} can only include alphanumeric and punctuation characters. 1 to 128 in length"
    );
    Err(Fault::value(parameter, token, &reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_consist_of_what_xml_allows() {
        for good in ["a", "\t\r\n", "\u{20}\u{d7ff}\u{e000}\u{fffd}\u{10000}\u{10ffff}"] {
            assert_eq!(check_body(good), Ok(()), "{good:?}");
        }
        for bad in ["", "a\u{0}", "\u{b}", "\u{1f}", "\u{fffe}", "\u{ffff}"] {
            let fault = check_body(bad).unwrap_err();
            assert_eq!(fault.code, Code::InvalidMessageContents, "{bad:?}");
        }
    }

    #[test]
    fn groups_are_letters_digits_and_punctuation() {
        assert_eq!(check_token("MessageGroupId", "aZ9!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"), Ok(()));
        for bad in ["", "a b", "ä", &"a".repeat(129)] {
            assert!(check_token("MessageGroupId", bad).is_err(), "{bad}");
        }
    }
}
