//! Service instances: keys under `quartet/services/<service>/<instance>`.
//!
//! Whoever writes such a key through any face has registered an instance; what is here keeps the
//! lease of those that send heartbeats, and reads the keys back.

use std::sync::Arc;

use api::coordinator::{Instance, InstanceValue, SERVICE_PREFIX};
use bytes::Bytes;

use crate::coordinator::{CommandError, Coordinator, Failure};
use crate::store::{
    Compare, Delete, GrantError, KeyRange, LeaseId, LeaseNotFound, Op, OpResult, Operand, Put,
    Record, Relation, Revision, Store, Txn, TxnError,
};

/// How often a registration that meets another one is tried.
const ATTEMPTS: usize = 5;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    #[error(
        "instance `{instance}` of service `{service}` is not registered or its time is over; \
         register it with PUT /v1/services/{service}/{instance}"
    )]
    NotFound { service: String, instance: String },
    #[error("instance `{instance}` has no TTL check, so it needs no heartbeat")]
    NoHeartbeat { instance: String },
    #[error("others keep registering instance `{instance}`; give each its own name")]
    Contended { instance: String },
    #[error("{0}")]
    Lease(GrantError),
    #[error("{0}")]
    Store(TxnError),
    #[error("{0}")]
    Failed(#[from] Failure),
}

/// Names one instance. Both parts were checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InstanceName {
    pub(crate) service: String,
    pub(crate) instance: String,
}

/// What became of a registration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) revision: Revision,
    pub(crate) lease: LeaseId,
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
    coordinator: &Coordinator,
    name: &InstanceName,
    value: &InstanceValue,
) -> Result<Entry, RegistryError> {
    let encoded = serde_json::to_vec(value).expect("plain data with string keys");
    let encoded = Bytes::from(encoded);
    let ttl = value.check.as_ref().and_then(|check| check.ttl_seconds);
    let mut granted = None;
    for _ in 0..ATTEMPTS {
        let current = current(coordinator, name.key()).await?;
        let lease = match (ttl, granted) {
            (None, _) => LeaseId::NONE,
            (Some(_), Some(granted)) => granted,
            (Some(ttl), None) => renew_or_grant(coordinator, current.as_ref(), ttl).await?,
        };
        granted = Some(lease);
        let seen = current.as_ref().map_or(Revision(0), |current| current.record.mod_revision);
        match put_if(coordinator, name.key(), seen, encoded.clone(), Some(lease)).await {
            Ok(Some(revision)) => {
                drop_old_lease(coordinator, current, lease).await;
                return Ok(Entry { revision, lease });
            }
            // Somebody was faster, or the lease ended meanwhile: look again.
            Ok(None) => {}
            Err(CommandError::Refused(TxnError::LeaseNotFound(_))) => granted = None,
            Err(error) => return Err(error.into()),
        }
    }
    Err(RegistryError::Contended { instance: name.instance.clone() })
}

/// Keeps an instance registered for another TTL.
pub(crate) async fn heartbeat(
    coordinator: &Coordinator,
    name: &InstanceName,
) -> Result<(Entry, u64), RegistryError> {
    let current = current(coordinator, name.key()).await?.ok_or_else(|| name.not_found())?;
    let lease = current.record.lease;
    if lease == LeaseId::NONE {
        return Err(RegistryError::NoHeartbeat { instance: name.instance.clone() });
    }
    match coordinator.keep_alive(lease).await {
        Ok(renewed) => {
            let entry = Entry { revision: current.record.mod_revision, lease };
            Ok((entry, renewed.ttl_seconds))
        }
        Err(CommandError::Refused(LeaseNotFound(_))) => Err(name.not_found()),
        Err(CommandError::Failed(failure)) => Err(failure.into()),
    }
}

/// Removes an instance now.
pub(crate) async fn deregister(
    coordinator: &Coordinator,
    name: &InstanceName,
) -> Result<Revision, RegistryError> {
    let current = current(coordinator, name.key()).await?;
    let delete = Delete { range: KeyRange::One(name.key()), previous: false };
    let result = coordinator.txn(Txn::always(Op::Delete(delete))).await?;
    drop_old_lease(coordinator, current, LeaseId::NONE).await;
    match result.results.first() {
        Some(OpResult::Delete { deleted: 1.., .. }) => Ok(result.revision),
        _ => Err(name.not_found()),
    }
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

struct Current {
    record: Arc<Record>,
    /// The TTL of its lease, if the lease was made for it by a registration of ours.
    own_ttl: Option<u64>,
}

async fn current(coordinator: &Coordinator, key: Bytes) -> Result<Option<Current>, Failure> {
    coordinator
        .query(move |store| {
            let record = store.mvcc.get(&key)?;
            let has_ttl = instance(record)
                .and_then(|instance| instance.check)
                .is_some_and(|check| check.ttl_seconds.is_some());
            let lease = store.leases.get(record.lease);
            // Others may hang more on a lease than this key.
            let own = lease.filter(|lease| has_ttl && lease.keys.len() == 1);
            let own_ttl = own.map(|lease| lease.ttl_seconds);
            Some(Current { record: Arc::clone(record), own_ttl })
        })
        .await
}

/// A repeated registration goes on with its lease, so that repeating costs no new ones.
async fn renew_or_grant(
    coordinator: &Coordinator,
    current: Option<&Current>,
    ttl: u64,
) -> Result<LeaseId, RegistryError> {
    if let Some(current) = current.filter(|current| current.own_ttl == Some(ttl)) {
        match coordinator.keep_alive(current.record.lease).await {
            Ok(lease) => return Ok(lease.id),
            Err(CommandError::Refused(LeaseNotFound(_))) => {}
            Err(CommandError::Failed(failure)) => return Err(failure.into()),
        }
    }
    match coordinator.grant(LeaseId::NONE, ttl).await {
        Ok(lease) => Ok(lease.id),
        Err(CommandError::Refused(error)) => Err(RegistryError::Lease(error)),
        Err(CommandError::Failed(failure)) => Err(failure.into()),
    }
}

/// The lease of a registration that was replaced. If this fails it ends by itself.
async fn drop_old_lease(coordinator: &Coordinator, old: Option<Current>, kept: LeaseId) {
    if let Some(old) = old
        && old.own_ttl.is_some()
        && old.record.lease != kept
        && let Err(error) = coordinator.revoke(old.record.lease).await
    {
        tracing::debug!(%error, "the lease of a former registration was not revoked");
    }
}

impl From<CommandError<TxnError>> for RegistryError {
    fn from(error: CommandError<TxnError>) -> Self {
        match error {
            CommandError::Refused(refusal) => Self::Store(refusal),
            CommandError::Failed(failure) => Self::Failed(failure),
        }
    }
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
