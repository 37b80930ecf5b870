//! Service instances: keys under `quartet/services/<service>/<instance>`.
//!
//! Whoever writes such a key through any face has registered an instance; what is here keeps the
//! lease of those that send heartbeats, and reads the keys back.

use api::coordinator::{Instance, InstanceValue, SERVICE_PREFIX};
use bytes::Bytes;

use crate::coordinator::{Change, CommandError, Coordinator, Failure};
use crate::store::{
    Compare, GrantError, KeyRange, LeaseId, LeaseNotFound, Op, Operand, Put, Record, Registered,
    Registration, Relation, Revision, Store, Txn, TxnError,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    #[error(
        "instance `{instance}` of service `{service}` is not registered or its time is over; \
         register it with PUT /v1/services/{service}/{instance}"
    )]
    NotFound { service: String, instance: String },
    #[error("instance `{instance}` has no TTL check, so it needs no heartbeat")]
    NoHeartbeat { instance: String },
    #[error("{0}")]
    Lease(GrantError),
    #[error("{0}")]
    Failed(#[from] Failure),
}

/// Names one instance. Both parts were checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InstanceName {
    pub(crate) service: String,
    pub(crate) instance: String,
}

impl InstanceName {
    pub(crate) fn key(&self) -> Bytes {
        format!("{SERVICE_PREFIX}{}/{}", self.service, self.instance).into()
    }

    fn not_found(&self) -> RegistryError {
        let Self { service, instance } = self.clone();
        RegistryError::NotFound { service, instance }
    }
}

/// The keys of all services, or of one.
pub(crate) fn keys_of(service: Option<&str>) -> KeyRange {
    let prefix = match service {
        Some(service) => format!("{SERVICE_PREFIX}{service}/"),
        None => SERVICE_PREFIX.to_owned(),
    };
    KeyRange::prefix(prefix.into())
}

/// Reads a record as an instance; `None` for what somebody else put there.
pub(crate) fn instance(record: &Record) -> Option<Instance> {
    let key = str::from_utf8(&record.key).ok()?;
    let (service, instance) = key.strip_prefix(SERVICE_PREFIX)?.split_once('/')?;
    let value: InstanceValue = serde_json::from_slice(&record.value).ok()?;
    Some(Instance {
        service: service.to_owned(),
        instance: instance.to_owned(),
        address: value.address,
        port: value.port,
        tags: value.tags,
        meta: value.meta,
        check: value.check,
        status: value.status.unwrap_or_default(),
        lease: (record.lease != LeaseId::NONE).then_some(api::coordinator::LeaseId(record.lease.0)),
        revision: record.mod_revision.0,
    })
}

/// Every instance of one service or of all, in key order.
pub(crate) fn instances(store: &Store, service: Option<&str>) -> Vec<Instance> {
    let range = keys_of(service);
    store.mvcc.scan(&range, None).filter_map(|record| instance(record)).collect()
}

/// Writes an instance, under a lease if it shall send heartbeats.
pub(crate) async fn register(
    change: Change<'_>,
    name: &InstanceName,
    value: &InstanceValue,
) -> Result<Registered, RegistryError> {
    let encoded = serde_json::to_vec(value).expect("plain data with string keys");
    let registration = Registration {
        key: name.key(),
        value: encoded.into(),
        ttl_seconds: value.check.as_ref().and_then(|check| check.ttl_seconds),
        own: own_lease(change.coordinator(), name.key()).await?,
    };
    change.register(registration).await.map_err(|error| match error {
        CommandError::Refused(refusal) => RegistryError::Lease(refusal),
        CommandError::Failed(failure) => RegistryError::Failed(failure),
    })
}

/// Keeps an instance registered for another TTL.
pub(crate) async fn heartbeat(
    coordinator: &Coordinator,
    name: &InstanceName,
) -> Result<(Registered, u64), RegistryError> {
    let key = name.key();
    let store = coordinator.snapshot().await?;
    coordinator.may_write(&store, &KeyRange::One(key.clone()))?;
    let record = store.mvcc.get(&key).cloned();
    let record = record.ok_or_else(|| name.not_found())?;
    let lease = record.lease;
    if lease == LeaseId::NONE {
        return Err(RegistryError::NoHeartbeat { instance: name.instance.clone() });
    }
    match coordinator.keep_alive(lease).await {
        Ok(renewed) => {
            let registered = Registered { revision: record.mod_revision, lease };
            Ok((registered, renewed.ttl_seconds))
        }
        Err(CommandError::Refused(LeaseNotFound(_))) => Err(name.not_found()),
        Err(CommandError::Failed(failure)) => Err(failure.into()),
    }
}

/// Removes an instance now.
pub(crate) async fn deregister(
    change: Change<'_>,
    name: &InstanceName,
) -> Result<Revision, RegistryError> {
    let own = own_lease(change.coordinator(), name.key()).await?;
    let deregistered = change.deregister(name.key(), own).await?;
    if deregistered.existed { Ok(deregistered.revision) } else { Err(name.not_found()) }
}

/// Puts a value if the key is still at `seen`. `lease: None` keeps the one it has.
pub(crate) async fn put_if(
    coordinator: &Coordinator,
    key: Bytes,
    seen: Revision,
    value: Bytes,
    lease: Option<LeaseId>,
) -> Result<Option<Revision>, CommandError<TxnError>> {
    let unchanged = Compare {
        range: KeyRange::One(key.clone()),
        relation: Relation::Equal,
        operand: Operand::Mod(seen.0.cast_signed()),
    };
    let put = Put { key, value: Some(value), lease, previous: false };
    let txn = Txn { compares: vec![unchanged], success: vec![Op::Put(put)], failure: vec![] };
    let result = coordinator.txn(txn).await?;
    Ok(result.succeeded.then_some(result.revision))
}

/// The lease that a registration of ours made for this key: one with a TTL check has one, others
/// may hang the key on a lease of their own.
async fn own_lease(coordinator: &Coordinator, key: Bytes) -> Result<LeaseId, Failure> {
    let has_ttl = |record: &Record| {
        let check = instance(record).and_then(|instance| instance.check);
        check.is_some_and(|check| check.ttl_seconds.is_some())
    };
    let record = coordinator.snapshot().await?.mvcc.get(&key).cloned();
    let own = record.filter(|record| has_ttl(record));
    Ok(own.map_or(LeaseId::NONE, |record| record.lease))
}

#[cfg(test)]
mod tests {
    use api::coordinator::InstanceStatus;

    use super::*;

    fn record(key: &'static str, value: &'static str) -> Record {
        Record {
            key: key.into(),
            value: value.into(),
            create_revision: Revision(2),
            mod_revision: Revision(3),
            version: 1,
            lease: LeaseId(7),
            order: 0,
        }
    }

    #[test]
    fn what_another_wrote_is_an_instance_if_it_looks_like_one() {
        let value = r#"{"address":"127.0.0.1","port":7070,"zone":"a"}"#;
        let found = instance(&record("quartet/services/broker/b-1", value)).unwrap();
        assert_eq!((found.service.as_str(), found.instance.as_str()), ("broker", "b-1"));
        assert_eq!((found.port, found.status), (7070, InstanceStatus::Passing));
        assert_eq!(found.lease, Some(api::coordinator::LeaseId(7)));
        for (key, value) in [
            ("quartet/services/broker", value),
            ("quartet/services/broker/b-1", "not json"),
            ("quartet/services/broker/b-1", r#"{"address":"x","port":70000}"#),
        ] {
            assert!(instance(&record(key, value)).is_none(), "{key} {value}");
        }
    }
}
