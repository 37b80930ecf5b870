//! `/v3/kv/{range,put,deleterange,compaction}`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::error::{self, EtcdError};
use super::Header;
use super::codec::{Blob, Enum, Int, Named, nullable, zero};
use crate::store::{
    Delete, KeyRange, LeaseId, Put, RangeQuery, RangeResult, Record, Revision, RevisionFilter,
    SortOrder, SortTarget,
};

impl Named for SortOrder {
    const VALUES: &[(&'static str, Self)] =
        &[("NONE", Self::None), ("ASCEND", Self::Ascend), ("DESCEND", Self::Descend)];
}

impl Named for SortTarget {
    const VALUES: &[(&'static str, Self)] = &[
        ("KEY", Self::Key),
        ("VERSION", Self::Version),
        ("CREATE", Self::Create),
        ("MOD", Self::Mod),
        ("VALUE", Self::Value),
    ];
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RangeRequest {
    key: Blob,
    #[serde(alias = "rangeEnd")]
    range_end: Blob,
    limit: Int,
    revision: Int,
    #[serde(alias = "sortOrder")]
    sort_order: Enum<SortOrder>,
    #[serde(alias = "sortTarget")]
    sort_target: Enum<SortTarget>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) serializable: bool,
    #[serde(alias = "keysOnly", deserialize_with = "nullable")]
    keys_only: bool,
    #[serde(alias = "countOnly", deserialize_with = "nullable")]
    count_only: bool,
    #[serde(alias = "minModRevision")]
    min_mod_revision: Int,
    #[serde(alias = "maxModRevision")]
    max_mod_revision: Int,
    #[serde(alias = "minCreateRevision")]
    min_create_revision: Int,
    #[serde(alias = "maxCreateRevision")]
    max_create_revision: Int,
}

impl RangeRequest {
    pub(crate) fn query(self) -> Result<RangeQuery, EtcdError> {
        Ok(RangeQuery {
            range: required_range(self.key, self.range_end)?,
            revision: positive(self.revision),
            limit: u64::try_from(self.limit.0).unwrap_or(0),
            order: self.sort_order.0,
            target: self.sort_target.0,
            keys_only: self.keys_only,
            count_only: self.count_only,
            filter: RevisionFilter {
                min_mod: positive(self.min_mod_revision),
                max_mod: positive(self.max_mod_revision),
                min_create: positive(self.min_create_revision),
                max_create: positive(self.max_create_revision),
            },
        })
    }
}

/// Zero and below is "not given".
pub(super) fn positive(revision: Int) -> Option<Revision> {
    u64::try_from(revision.0).ok().filter(|revision| 0 < *revision).map(Revision)
}

/// A range end of one zero byte is "from the key on", none is the key itself.
pub(crate) fn key_range(key: Bytes, range_end: Bytes) -> KeyRange {
    match &range_end[..] {
        [] => KeyRange::One(key),
        [0] => KeyRange::From(key),
        _ => KeyRange::Between { start: key, end: range_end },
    }
}

pub(super) fn required_range(key: Blob, range_end: Blob) -> Result<KeyRange, EtcdError> {
    if key.0.is_empty() {
        return Err(error::EMPTY_KEY);
    }
    Ok(key_range(key.0, range_end.0))
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PutRequest {
    key: Blob,
    value: Blob,
    lease: Int,
    #[serde(alias = "prevKv", deserialize_with = "nullable")]
    prev_kv: bool,
    #[serde(alias = "ignoreValue", deserialize_with = "nullable")]
    ignore_value: bool,
    #[serde(alias = "ignoreLease", deserialize_with = "nullable")]
    ignore_lease: bool,
}

impl PutRequest {
    pub(crate) fn put(self) -> Result<Put, EtcdError> {
        if self.key.0.is_empty() {
            return Err(error::EMPTY_KEY);
        }
        if self.ignore_value && !self.value.0.is_empty() {
            return Err(error::VALUE_PROVIDED);
        }
        if self.ignore_lease && self.lease.0 != 0 {
            return Err(error::LEASE_PROVIDED);
        }
        Ok(Put {
            key: self.key.0,
            value: (!self.ignore_value).then_some(self.value.0),
            lease: (!self.ignore_lease).then_some(LeaseId(self.lease.0)),
            previous: self.prev_kv,
        })
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DeleteRangeRequest {
    key: Blob,
    #[serde(alias = "rangeEnd")]
    range_end: Blob,
    #[serde(alias = "prevKv", deserialize_with = "nullable")]
    prev_kv: bool,
}

impl DeleteRangeRequest {
    pub(crate) fn delete(self) -> Result<Delete, EtcdError> {
        let range = required_range(self.key, self.range_end)?;
        Ok(Delete { range, previous: self.prev_kv })
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CompactionRequest {
    revision: Int,
}

impl CompactionRequest {
    pub(crate) fn revision(self) -> Revision {
        positive(self.revision).unwrap_or_default()
    }
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct KeyValue {
    #[serde(skip_serializing_if = "zero")]
    key: Blob,
    #[serde(skip_serializing_if = "zero")]
    create_revision: Int,
    #[serde(skip_serializing_if = "zero")]
    mod_revision: Int,
    #[serde(skip_serializing_if = "zero")]
    version: Int,
    #[serde(skip_serializing_if = "zero")]
    value: Blob,
    #[serde(skip_serializing_if = "zero")]
    lease: Int,
}

impl From<&Record> for KeyValue {
    fn from(record: &Record) -> Self {
        Self {
            key: Blob(record.key.to_bytes()),
            create_revision: int(record.create_revision),
            mod_revision: int(record.mod_revision),
            version: Int(record.version.cast_signed()),
            value: Blob(record.value.clone()),
            lease: Int(record.lease.0),
        }
    }
}

pub(crate) const fn int(revision: Revision) -> Int {
    Int(revision.0.cast_signed())
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct RangeResponse {
    header: Header,
    #[serde(skip_serializing_if = "zero")]
    kvs: Vec<KeyValue>,
    #[serde(skip_serializing_if = "zero")]
    more: bool,
    #[serde(skip_serializing_if = "zero")]
    count: Int,
}

impl RangeResponse {
    pub(crate) fn new(header: Header, result: &RangeResult) -> Self {
        let mut kvs: Vec<KeyValue> =
            result.records.iter().map(|record| KeyValue::from(&**record)).collect();
        if result.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Blob::default());
        }
        Self { header, kvs, more: result.more, count: Int(result.count.cast_signed()) }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct PutResponse {
    pub(crate) header: Header,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) prev_kv: Option<KeyValue>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct DeleteRangeResponse {
    pub(crate) header: Header,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) deleted: Int,
    #[serde(skip_serializing_if = "zero")]
    pub(crate) prev_kvs: Vec<KeyValue>,
}
