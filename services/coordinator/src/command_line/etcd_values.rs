//! The values of etcd's flags.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    #[error("it must be a URL such as http://127.0.0.1:2379")]
    Url,
    #[error("this program does not have TLS yet; use http:// and let a proxy do that")]
    Https,
    #[error("listen on an IP address or on localhost; names may mean several")]
    HostName,
    #[error("it must be a whole number")]
    Number,
    #[error("it must be a list such as m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380")]
    Peers,
    #[error("the mode must be periodic or revision")]
    Mode,
    #[error("it must be a number of hours or a time such as 30m or 72h")]
    Time,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listen {
    pub(super) first: SocketAddr,
    pub(super) others: Vec<String>,
}

/// History that is kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Retention {
    Off,
    Revisions(u64),
    Seconds(u64),
}

/// One URL or more, without paths.
pub(super) fn urls(text: &str) -> Result<Vec<String>, ValueError> {
    text.split(',').map(|url| url_of(url.trim())).collect()
}

fn url_of(url: &str) -> Result<String, ValueError> {
    if url.starts_with("https://") || url.starts_with("unixs://") {
        return Err(ValueError::Https);
    }
    let authority = url.strip_prefix("http://").ok_or(ValueError::Url)?.trim_end_matches('/');
    let (host, port) = authority.rsplit_once(':').ok_or(ValueError::Url)?;
    if host.is_empty() || host.contains('/') || port.parse::<u16>().is_err() {
        return Err(ValueError::Url);
    }
    Ok(format!("http://{authority}"))
}

/// Host and port of a checked URL.
pub(super) fn authority(url: &str) -> &str {
    url.strip_prefix("http://").unwrap_or(url)
}

pub(super) fn listen(text: &str) -> Result<Listen, ValueError> {
    let mut urls = urls(text)?.into_iter();
    let first = urls.next().ok_or(ValueError::Url)?;
    Ok(Listen { first: address(authority(&first))?, others: urls.collect() })
}

fn address(authority: &str) -> Result<SocketAddr, ValueError> {
    if let Ok(address) = authority.parse() {
        return Ok(address);
    }
    let (host, port) = authority.rsplit_once(':').ok_or(ValueError::Url)?;
    let port = port.parse().map_err(|_| ValueError::Url)?;
    match host {
        "localhost" => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        _ => Err(ValueError::HostName),
    }
}

/// Name and peer URL of each member. Of several URLs the first counts.
pub(super) fn peers(text: &str) -> Result<BTreeMap<String, String>, ValueError> {
    let mut peers = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, url) = pair.split_once('=').ok_or(ValueError::Peers)?;
        if name.is_empty() {
            return Err(ValueError::Peers);
        }
        let url = url_of(url)?;
        peers.entry(name.to_owned()).or_insert(url);
    }
    Ok(peers)
}

/// What may do something; nothing is anything.
pub(super) fn allowed(text: &str) -> Vec<&str> {
    let named: Vec<_> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if named.is_empty() { vec![crate::config::ANY] } else { named }
}

pub(super) fn number(text: &str) -> Result<u64, ValueError> {
    text.parse().map_err(|_| ValueError::Number)
}

/// 0 is etcd's default of 2 GiB, less than that no limit. Ours has a least one.
pub(super) fn quota(text: &str) -> Result<u64, ValueError> {
    const LEAST: u64 = 1 << 20;
    match text.parse::<i64>().map_err(|_| ValueError::Number)? {
        0 => Ok(2 << 30),
        negative if negative < 0 => Ok(i64::MAX.unsigned_abs()),
        quota => Ok(quota.unsigned_abs().max(LEAST)),
    }
}

pub(super) fn log_level(level: &str) -> &str {
    match level {
        "dpanic" | "panic" | "fatal" => "error",
        level => level,
    }
}

/// A number is revisions or hours, by the mode.
pub(super) fn retention(mode: &str, text: &str) -> Result<Retention, ValueError> {
    match mode {
        "revision" | "1" => Ok(match number(text)? {
            0 => Retention::Off,
            count => Retention::Revisions(count),
        }),
        "periodic" | "0" | "" => {
            let seconds = match text.parse::<u64>() {
                Ok(hours) => hours.saturating_mul(3600),
                Err(_) => time(text)?,
            };
            Ok(if seconds == 0 { Retention::Off } else { Retention::Seconds(seconds) })
        }
        _ => Err(ValueError::Mode),
    }
}

/// Go's notation, in whole hours, minutes and seconds: `1h30m`.
fn time(text: &str) -> Result<u64, ValueError> {
    let (mut seconds, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(ValueError::Time)?;
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| ValueError::Time)?;
        let unit = match tail.as_bytes()[0] {
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return Err(ValueError::Time),
        };
        seconds = seconds.saturating_add(number.saturating_mul(unit));
        rest = &tail[1..];
    }
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_and_bare() {
        assert_eq!(urls("http://a:1/, http://b:2").unwrap(), ["http://a:1", "http://b:2"]);
        assert_eq!(urls("https://a:1"), Err(ValueError::Https));
        for bad in ["", "a:1", "http://a", "http://:1", "http://a:x", "http://a:1/v2"] {
            assert_eq!(urls(bad), Err(ValueError::Url), "{bad}");
        }
    }

    #[test]
    fn one_listens_on_addresses() {
        let both = listen("http://localhost:2379,http://10.0.0.1:2379").unwrap();
        assert_eq!(both.first, "127.0.0.1:2379".parse().unwrap());
        assert_eq!(both.others, ["http://10.0.0.1:2379"]);
        assert_eq!(listen("http://[::1]:2379").unwrap().first, "[::1]:2379".parse().unwrap());
        assert_eq!(listen("http://etcd-0:2379"), Err(ValueError::HostName));
    }

    #[test]
    fn history_is_kept_by_revisions_or_by_time() {
        assert_eq!(retention("revision", "1000"), Ok(Retention::Revisions(1000)));
        assert_eq!(retention("periodic", "2"), Ok(Retention::Seconds(7200)));
        assert_eq!(retention("periodic", "1h30m5s"), Ok(Retention::Seconds(5405)));
        assert_eq!(retention("periodic", "0"), Ok(Retention::Off));
        assert_eq!(retention("periodic", "1x"), Err(ValueError::Time));
        assert_eq!(retention("daily", "1"), Err(ValueError::Mode));
    }

    #[test]
    fn a_list_of_nobody_is_one_of_everybody() {
        assert_eq!(allowed("a, b,"), ["a", "b"]);
        assert_eq!(allowed(""), ["*"]);
    }

    #[test]
    fn a_quota_of_nothing_is_the_default_and_a_negative_one_none() {
        assert_eq!(quota("0"), Ok(2 << 30));
        assert_eq!(quota("-1"), Ok(i64::MAX as u64));
        assert_eq!(quota("5"), Ok(1 << 20));
    }
}
