//! Registration: a leased key in the coordinator says where this node is reached.
//!
//! The coordinator may be away, now or later: the node serves all the same, and tries again.

use std::net::SocketAddr;

use api::coordinator::InstanceValue;
use client::Url;
use client::etcd::{Etcd, Registration, RegistrationConfig};

use crate::config::{Coordinator, ServiceConfig};
use crate::context::{Context, StartError};

/// Begins to register, if a coordinator is configured. The registration ends with the drain, so
/// that callers leave before the listener does.
pub(crate) fn register<C: ServiceConfig>(
    context: &Context<C>,
) -> Result<Option<Registration>, StartError> {
    let base = context.config.base();
    let Some(etcd) = coordinator(&base.coordinator)? else { return Ok(None) };
    let (address, port) = advertised(&base.advertise, context.listen)?;
    let value = InstanceValue {
        address,
        port,
        tags: Vec::new(),
        meta: context.config.meta(),
        check: None,
        status: None,
    };
    let config = RegistrationConfig::new(C::SERVICE, &context.node, value);
    let (tasks, stop) = (&context.tasks, context.draining.clone());
    Ok(Some(Registration::start(etcd, config, tasks, stop)))
}

/// A client of the configured coordinator; `None` if a node runs alone.
pub fn coordinator(settings: &Coordinator) -> Result<Option<Etcd>, StartError> {
    if settings.endpoints.is_empty() {
        return Ok(None);
    }
    let urls = settings.endpoints.iter().map(|text| {
        let message = format!("coordinator.endpoints: `{text}` is not a URL");
        Url::parse(text).map_err(|error| StartError::with_source(message, error))
    });
    let urls = urls.collect::<Result<Vec<_>, _>>()?;
    let failed = |error| StartError::with_source("coordinator.endpoints", error);
    Etcd::new(urls).map(Some).map_err(failed)
}

/// `host:port` as others reach it.
fn advertised(advertise: &str, listen: SocketAddr) -> Result<(String, u16), StartError> {
    if advertise.is_empty() && listen.ip().is_unspecified() {
        let message = format!(
            "listen = {listen} is every address: say with `advertise` which one \
                               others reach this node at, such as broker:7070"
        );
        return Err(StartError::new(message));
    }
    if advertise.is_empty() {
        return Ok((listen.ip().to_string(), listen.port()));
    }
    let parts = advertise.rsplit_once(':');
    let parsed = parts.and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    parsed.ok_or_else(|| {
        StartError::new(format!("advertise = `{advertise}`: write host:port, such as broker:7070"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_told_an_address_that_they_can_reach() {
        let on = |listen: &str, advertise: &str| advertised(advertise, listen.parse().unwrap());
        assert_eq!(on("127.0.0.1:7", "").unwrap(), ("127.0.0.1".to_owned(), 7));
        assert_eq!(on("0.0.0.0:7", "broker:70").unwrap(), ("broker".to_owned(), 70));
        assert!(on("0.0.0.0:7", "").is_err());
        assert!(on("127.0.0.1:7", "broker").is_err());
    }
}
