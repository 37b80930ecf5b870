//! Names of queues as SQS writes them: bare, as URL, as ARN. And identities of messages.

use messaging::ids::{MessageId, Name};

use super::error::{Code, Fault};

/// Longest name of a queue.
const MAX_NAME: usize = 80;
/// What the names of FIFO queues end with.
const FIFO: &str = ".fifo";

/// Where a client thinks it is: what its URLs and ARNs are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    /// Such as `http://localhost:7070`, without a slash at the end.
    pub(crate) base: String,
    /// Twelve digits.
    pub(crate) account: String,
    /// As the client signed for it.
    pub(crate) region: String,
}

impl Home {
    /// The URL of a queue.
    pub(crate) fn url(&self, queue: &Name) -> String {
        format!("{}/{}/{queue}", self.base, self.account)
    }

    /// The ARN of a queue.
    pub(crate) fn arn(&self, queue: &Name) -> String {
        format!("arn:aws:sqs:{}:{}:{queue}", self.region, self.account)
    }

    /// The queue that an ARN names, if it is of this account. Any region: a broker has none.
    pub(crate) fn queue_of_arn(&self, arn: &str) -> Option<Name> {
        let mut parts = arn.split(':');
        let is_ours =
            (parts.next(), parts.next(), parts.next()) == (Some("arn"), Some("aws"), Some("sqs"));
        let (_region, account, name) = (parts.next()?, parts.next()?, parts.next()?);
        let is_whole = parts.next().is_none();
        (is_ours && is_whole && account == self.account).then(|| name.parse().ok()).flatten()
    }

    /// The queue that a URL names; its host is not looked at. A bare name is one too.
    pub(crate) fn queue_of_url(&self, url: &str) -> Result<Name, Fault> {
        let path = match url.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => url.strip_prefix('/').unwrap_or(url),
        };
        let name = match path.trim_end_matches('/').rsplit_once('/') {
            Some((before, name)) => {
                let account = before.rsplit('/').next().unwrap_or_default();
                if account != self.account {
                    return Err(no_such_queue());
                }
                name
            }
            None => path,
        };
        name.parse().map_err(|_| {
            let url: String = url.chars().take(200).collect();
            Fault::new(
                Code::InvalidAddress,
                format!("The address {url} is not valid for this endpoint."),
            )
        })
    }
}

/// The queue is not there.
pub(crate) fn no_such_queue() -> Fault {
    Fault::new(Code::QueueDoesNotExist, "The specified queue does not exist.")
}

/// The name of a queue that is to be created.
pub(crate) fn new_name(name: &str, is_fifo: bool) -> Result<Name, Fault> {
    let stem = name.strip_suffix(FIFO);
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    let rest = stem.unwrap_or(name);
    if rest.is_empty() || MAX_NAME < name.len() || !rest.bytes().all(fits) {
        let reason = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 \
                      in length";
        return Err(Fault::value("QueueName", name, reason));
    }
    if stem.is_some() != is_fifo {
        let reason = "The name of a FIFO queue can only include alphanumeric characters, hyphens, \
                      or underscores, must end with .fifo suffix and be 1 to 80 in length; set \
                      the attribute FifoQueue to true for it, and only for it.";
        return Err(Fault::value("QueueName", name, reason));
    }
    name.parse().map_err(|error| Fault::value("QueueName", name, &format!("{error}")))
}

/// The identity of a message, as a UUID is written: where it was sent to, and which it is there.
pub(crate) fn message_id(group: u64, message: MessageId) -> String {
    let (high, low) = (group, message.0);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// Where a message stands in its queue, and so in its group.
pub(crate) fn sequence_number(message: MessageId) -> String {
    format!("{:020}", message.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> Home {
        Home {
            base: "http://localhost:7070".to_owned(),
            account: "000000000000".to_owned(),
            region: "eu-west-1".to_owned(),
        }
    }

    #[test]
    fn a_queue_is_found_by_all_its_names() {
        let queue: Name = "Orders.fifo".parse().unwrap();
        assert_eq!(home().url(&queue), "http://localhost:7070/000000000000/Orders.fifo");
        assert_eq!(home().arn(&queue), "arn:aws:sqs:eu-west-1:000000000000:Orders.fifo");
        for url in [
            "http://localhost:7070/000000000000/Orders.fifo",
            "https://other.example/000000000000/Orders.fifo/",
            "http://proxy.example/below/000000000000/Orders.fifo",
            "/000000000000/Orders.fifo",
            "Orders.fifo",
        ] {
            assert_eq!(home().queue_of_url(url).as_ref(), Ok(&queue), "{url}");
        }
        let elsewhere = "arn:aws:sqs:us-east-1:000000000000:Orders.fifo";
        assert_eq!(home().queue_of_arn(elsewhere), Some(queue));
    }

    #[test]
    fn what_names_no_queue_of_ours_is_told_apart() {
        let code = |url: &str| home().queue_of_url(url).unwrap_err().code;
        assert_eq!(code("http://localhost/111111111111/q"), Code::QueueDoesNotExist);
        assert_eq!(code("http://localhost"), Code::InvalidAddress);
        assert_eq!(code("a b"), Code::InvalidAddress);
        for arn in [
            "",
            "q",
            "arn:aws:sns:r:000000000000:q",
            "arn:aws:sqs:r:111111111111:q",
            "arn:aws:sqs:r:000000000000:q:more",
        ] {
            assert_eq!(home().queue_of_arn(arn), None, "{arn}");
        }
    }

    #[test]
    fn names_of_new_queues_are_those_of_sqs() {
        for (name, is_fifo) in [("a-b_C9", false), ("a.fifo", true), (&"a".repeat(80), false)] {
            assert!(new_name(name, is_fifo).is_ok(), "{name}");
        }
        for (name, is_fifo) in [
            ("", false),
            ("a.b", false),
            ("a.fifo", false),
            ("a", true),
            (".fifo", true),
            ("ä", false),
            (&"a".repeat(81), false),
        ] {
            let fault = new_name(name, is_fifo).unwrap_err();
            assert_eq!(fault.code, Code::InvalidParameterValue, "{name}");
        }
    }

    #[test]
    fn identities_differ_wherever_queue_or_message_does() {
        assert_eq!(message_id(7, MessageId(9)), "00000000-0000-0007-0000-000000000009");
        assert_eq!(
            message_id(u64::MAX, MessageId(u64::MAX)),
            "ffffffff-ffff-ffff-ffff-ffffffffffff"
        );
        assert_eq!(sequence_number(MessageId(u64::MAX)), "18446744073709551615");
        assert!(sequence_number(MessageId(9)) < sequence_number(MessageId(10)));
    }
}
