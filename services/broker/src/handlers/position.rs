//! Positions in a topic as text.

use api::problem::Code;
use chassis::problem::Problem;
use messaging::config::Start;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::read::From;

/// Where to start: a word, an offset, a time.
pub(super) fn start(text: &str) -> Result<Start, Problem> {
    match text {
        "earliest" => return Ok(Start::Earliest),
        "latest" => return Ok(Start::Latest),
        _ => (),
    }
    if let Ok(offset) = text.parse() {
        return Ok(Start::Offset(offset));
    }
    // A plus sign of an offset arrives as a space when a client forgets to encode it.
    if let Ok(time) = OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339) {
        let ms = time.unix_timestamp_nanos() / 1_000_000;
        return Ok(Start::Time(u64::try_from(ms).unwrap_or(0)));
    }
    let shown: String = text.chars().take(40).collect();
    let detail = format!(
        "`{shown}` is no position: use earliest, latest, an offset such as 42, or a time such as \
         2026-01-31T12:00:00Z"
    );
    Err(Problem::new(Code::InvalidRequest, detail))
}

/// The same, or `partition:offset,…`.
pub(super) fn from(text: &str) -> Result<From, Problem> {
    let pair = |part: &str| {
        let (partition, offset) = part.split_once(':')?;
        Some((partition.parse().ok()?, offset.parse().ok()?))
    };
    match text.split(',').map(pair).collect::<Option<Vec<(u32, u64)>>>() {
        Some(offsets) => {
            let mut partitions: Vec<_> = offsets.iter().map(|(partition, _)| partition).collect();
            partitions.sort_unstable();
            partitions.dedup();
            if partitions.len() < offsets.len() {
                let detail = "a partition is named twice; give one offset for each";
                return Err(Problem::new(Code::InvalidRequest, detail));
            }
            Ok(From::Offsets(offsets))
        }
        None => Ok(From::Start(start(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        assert_eq!(from("earliest").unwrap(), From::Start(Start::Earliest));
        assert_eq!(from("42").unwrap(), From::Start(Start::Offset(42)));
        assert_eq!(from("0:7,3:0").unwrap(), From::Offsets(vec![(0, 7), (3, 0)]));
        let noon = Start::Time(1_769_860_800_000);
        assert_eq!(from("2026-01-31T12:00:00Z").unwrap(), From::Start(noon));
        assert_eq!(from("2026-01-31T13:00:00 01:00").unwrap(), From::Start(noon));
        assert_eq!(from("1960-01-01T00:00:00Z").unwrap(), From::Start(Start::Time(0)));
    }

    #[test]
    fn anything_else_is_refused() {
        for wrong in ["", "yesterday", "-1", "1:2,", "1:2,1:3", "1.5", "99999999999999999999"] {
            assert!(from(wrong).is_err(), "{wrong}");
        }
    }
}
