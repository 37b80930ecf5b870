//! What types cannot say about the shared settings.

use super::base::Coordinator;
use super::{Base, ConfigError, ServiceConfig};

/// A node's name ends up in headers, metrics and paths.
const MAX_NODE_LEN: usize = 64;

pub(super) fn check<C: ServiceConfig>(config: &C) -> Result<(), ConfigError> {
    let base = config.base();
    let shared = check_node(base)
        .and_then(|()| check_listeners(base))
        .and_then(|()| check_limits(base))
        .and_then(|()| check_endpoints(base))
        .and_then(|()| check_user(&base.coordinator))
        .and_then(|()| check_telemetry(base));
    shared.and_then(|()| config.validate()).map_err(|message| ConfigError::Invalid { message })
}

fn check_node(base: &Base) -> Result<(), String> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    if (1..=MAX_NODE_LEN).contains(&base.node.len()) && base.node.bytes().all(allowed) {
        return Ok(());
    }
    Err(format!("node = {:?}: use 1 to {MAX_NODE_LEN} letters, digits, `.`, `_` or `-`", base.node))
}

fn check_listeners(base: &Base) -> Result<(), String> {
    for (key, address) in [("listen", base.listen), ("peer_listen", base.peer_listen)] {
        if !base.insecure && !address.ip().is_loopback() {
            return Err(format!(
                "{key} = {address} can be reached from other machines, and nothing asks callers who \
                 they are: listen on 127.0.0.1, or allow it with --insecure"
            ));
        }
    }
    if base.listen == base.peer_listen && base.listen.port() != 0 {
        return Err(format!("listen and peer_listen are both {}; choose two ports", base.listen));
    }
    Ok(())
}

fn check_limits(base: &Base) -> Result<(), String> {
    let limits = &base.limits;
    let positive = [
        ("limits.max_body_bytes", limits.max_body_bytes),
        ("limits.max_connections", limits.max_connections as u64),
        ("limits.max_in_flight", limits.max_in_flight as u64),
        ("limits.header_timeout_seconds", limits.header_timeout_seconds),
        ("limits.body_timeout_seconds", limits.body_timeout_seconds),
        ("limits.idle_timeout_seconds", limits.idle_timeout_seconds),
        ("limits.request_timeout_seconds", limits.request_timeout_seconds),
    ];
    match positive.into_iter().find(|(_, value)| *value == 0) {
        Some((key, _)) => Err(format!("{key} = 0: nothing would work; there is no `unlimited`")),
        None => Ok(()),
    }
}

fn check_endpoints(base: &Base) -> Result<(), String> {
    let wrong = |url: &&String| !url.starts_with("http://") && !url.starts_with("https://");
    match base.coordinator.endpoints.iter().find(wrong) {
        Some(url) => {
            Err(format!("coordinator.endpoints: `{url}` must begin with http:// or https://"))
        }
        None => Ok(()),
    }
}

fn check_user(coordinator: &Coordinator) -> Result<(), String> {
    let Coordinator { user, password_file, password, .. } = coordinator;
    let (in_file, in_place) = (!password_file.is_empty(), !password.reveal().is_empty());
    match (user.is_empty(), in_file, in_place) {
        (true, false, false) | (false, true, false) | (false, false, true) => Ok(()),
        (true, ..) => Err("coordinator: there is a password, but no coordinator.user".into()),
        (false, true, true) => Err("coordinator.password_file and coordinator.password are both \
                                    given; leave one of them out"
            .into()),
        (false, false, false) => Err(format!(
            "coordinator.user = {user:?} needs coordinator.password_file, or the variable \
             QUARTET_COORDINATOR__PASSWORD"
        )),
    }
}

fn check_telemetry(base: &Base) -> Result<(), String> {
    telemetry::check_level(&base.log.level).map_err(|error| format!("log.level: {error}"))?;
    let ratio = base.telemetry.sample_ratio;
    if (0.0..=1.0).contains(&ratio) {
        return Ok(());
    }
    Err(format!("telemetry.sample_ratio = {ratio} must be between 0 and 1"))
}
