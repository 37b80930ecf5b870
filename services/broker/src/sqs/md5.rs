//! Digests: clients compare them with their own, and refuse a message where they differ.

use std::fmt::Write as _;

use md5::{Digest as _, Md5};

use super::message::{MessageAttribute, Value};

/// Of a body, as lower-case hexadecimal digits.
pub(crate) fn of_body(body: &str) -> String {
    hex(&Md5::digest(body.as_bytes()))
}

/// Of attributes, which come in the order of their names. `None` where there are none: then the
/// answer has no such member.
pub(crate) fn of_attributes<'a>(
    attributes: impl IntoIterator<Item = (&'a str, &'a MessageAttribute)>,
) -> Option<String> {
    let mut digest = Md5::new();
    let mut any = false;
    for (name, attribute) in attributes {
        any = true;
        part(&mut digest, name.as_bytes());
        part(&mut digest, attribute.data_type.as_bytes());
        match &attribute.value {
            Value::Text(text) => {
                digest.update([1]);
                part(&mut digest, text.as_bytes());
            }
            Value::Binary(bytes) => {
                digest.update([2]);
                part(&mut digest, bytes);
            }
        }
    }
    any.then(|| hex(&digest.finalize()))
}

fn part(digest: &mut Md5, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("a message is far below 4 GiB");
    digest.update(len.to_be_bytes());
    digest.update(bytes);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(attributes: &[(&str, &str, &str)]) -> String {
        let attributes: Vec<_> = attributes
            .iter()
            .map(|(name, data_type, text)| {
                let value = match *data_type {
                    "Binary" => Value::Binary(text.as_bytes().to_vec()),
                    _ => Value::Text((*text).to_owned()),
                };
                (*name, MessageAttribute { data_type: (*data_type).to_owned(), value })
            })
            .collect();
        of_attributes(attributes.iter().map(|(name, attribute)| (*name, attribute))).unwrap()
    }

    /// As AWS and the tests of its SDKs have them.
    #[test]
    fn digests_are_those_of_aws() {
        assert_eq!(of_body("This is a test message"), "fafb00f5732ab283681e124bf8747ed1");
        let two = [
            ("my_attribute_name_1", "String", "my_attribute_value_1"),
            ("my_attribute_name_2", "String", "my_attribute_value_2"),
        ];
        assert_eq!(of(&two), "c48838208d2b4e14e3ca0093a8443f09");
        let text = ("attribName1", "String", "attribValue 1");
        let number =
            ("customNumberTypeAttrib", "Number.float", "4563442423554324324264524243.32543234");
        let binary = ("binaryAttribute", "Binary", "Hello binary world!");
        assert_eq!(of(&[text]), "19e27d4e946b072f3f58da80d94fd778");
        assert_eq!(of(&[number]), "9fe1b90bbd9965bdf77bac517c7d2495");
        assert_eq!(of(&[binary]), "31a92b15d92f8db860eda32aceb656c3");
        assert_eq!(of(&[text, binary, number]), "c932db14a896c663f83c260297d594ff");
    }

    #[test]
    fn no_attributes_have_no_digest() {
        assert_eq!(of_attributes([]), None);
    }
}
