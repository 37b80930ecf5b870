//! Registration: a leased key in the coordinator says where this node is reached.
//!
//! The coordinator may be away, now or later: the node serves all the same, and tries again.

use std::net::SocketAddr;

use api::coordinator::InstanceValue;
use client::Url;
use client::etcd::{Credentials, Etcd, Registration, RegistrationConfig};

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
    let etcd = Etcd::new(urls).map_err(failed)?;
    Ok(Some(match credentials(settings)? {
        Some(user) => etcd.acting_for(user),
        None => etcd,
    }))
}

/// Whom this node asks as; `None` is nobody.
fn credentials(settings: &Coordinator) -> Result<Option<Credentials>, StartError> {
    let Coordinator { user, password_file, password, .. } = settings;
    if user.is_empty() {
        return Ok(None);
    }
    if password_file.is_empty() {
        return Ok(Some(Credentials::new(user, password.reveal())));
    }
    let read = std::fs::read_to_string(password_file).map_err(|error| {
        let message = format!("coordinator.password_file: {password_file} cannot be read");
        StartError::with_source(message, error)
    })?;
    let password = read.strip_suffix('\n').unwrap_or(&read);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        let message = format!("coordinator.password_file: {password_file} is empty");
        return Err(StartError::new(message));
    }
    Ok(Some(Credentials::new(user, password)))
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
    fn a_password_comes_from_a_file_or_from_the_settings() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        let path = file.to_str().unwrap().to_owned();
        let from_file = Coordinator {
            user: "gateway".into(),
            password_file: path.clone(),
            ..Coordinator::default()
        };
        let refused = credentials(&from_file).unwrap_err().to_string();
        assert!(refused.contains("password_file") && refused.contains(&path), "{refused}");
        std::fs::write(&file, "hunter2\r\n").unwrap();
        let expected = Some(Credentials::new("gateway", "hunter2"));
        assert_eq!(credentials(&from_file).unwrap(), expected);
        std::fs::write(&file, "\n").unwrap();
        assert!(credentials(&from_file).unwrap_err().to_string().contains("is empty"));
        let password = String::from("hunter2").into();
        let in_place = Coordinator { password_file: String::new(), password, ..from_file };
        assert_eq!(credentials(&in_place).unwrap(), expected);
        assert!(!format!("{in_place:?}").contains("hunter2"), "{in_place:?}");
        assert_eq!(credentials(&Coordinator::default()).unwrap(), None);
    }

    #[test]
    fn others_are_told_an_address_that_they_can_reach() {
        let on = |listen: &str, advertise: &str| advertised(advertise, listen.parse().unwrap());
        assert_eq!(on("127.0.0.1:7", "").unwrap(), ("127.0.0.1".to_owned(), 7));
        assert_eq!(on("0.0.0.0:7", "broker:70").unwrap(), ("broker".to_owned(), 70));
        assert!(on("0.0.0.0:7", "").is_err());
        assert!(on("127.0.0.1:7", "broker").is_err());
    }
}
