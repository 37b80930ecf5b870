//! JSON streams: what is appended, as it is stored and read.

use serde_json::value::RawValue;

/// A body that is no JSON.
#[derive(Debug, thiserror::Error)]
#[error("the body is no JSON")]
pub(crate) struct NoJson(#[from] serde_json::Error);

/// The messages of a body, with commas between them: the elements of an array, or the value
/// itself. They stay as they were written. Empty if there are none.
pub(crate) fn messages(body: &[u8]) -> Result<Vec<u8>, NoJson> {
    let value: &RawValue = serde_json::from_slice(body)?;
    let text = value.get();
    let Some(inside) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) else {
        return Ok(text.as_bytes().to_vec());
    };
    // What stands between the brackets of an array is this already.
    Ok(inside.trim().as_bytes().to_vec())
}

/// Messages of several appends as one array.
pub(crate) fn array(appends: &[bytes::Bytes]) -> Vec<u8> {
    let mut text = Vec::with_capacity(appends.iter().map(|part| part.len() + 1).sum::<usize>() + 2);
    text.push(b'[');
    for (number, part) in appends.iter().enumerate() {
        if 0 < number {
            text.push(b',');
        }
        text.extend_from_slice(part);
    }
    text.push(b']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(body: &str) -> String {
        String::from_utf8(messages(body.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn one_level_of_an_array_is_messages() {
        assert_eq!(stored("{\"a\": 1.0e5}"), "{\"a\": 1.0e5}");
        assert_eq!(stored(" [ 1 , \"]\" ] "), "1 , \"]\"");
        assert_eq!(stored("[[1,2],[3]]"), "[1,2],[3]");
        assert_eq!(stored("[[[1]]]"), "[[1]]");
        assert_eq!(stored("[]"), "");
        assert_eq!(stored("[ \n]"), "");
        assert_eq!(stored("\"[]\""), "\"[]\"");
        for bad in ["", "{", "[1,]", "1 2", "nul", "[1]]", "\u{feff}1"] {
            assert!(messages(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(messages(b"\"\xff\"").is_err());
    }

    #[test]
    fn what_was_appended_is_read_as_one_array() {
        let appends: Vec<bytes::Bytes> = ["[1,2]", "{\"a\":[]}", "[[3]]"]
            .map(|it| messages(it.as_bytes()).unwrap().into())
            .into();
        assert_eq!(array(&appends), b"[1,2,{\"a\":[]},[3]]");
        assert_eq!(array(&[]), b"[]");
    }

    #[test]
    fn a_deep_value_is_read_or_refused_but_harms_nobody() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let _ = messages(deep.as_bytes());
    }
}
