//! The id of this node: drawn once, kept with its data. Who loses the data comes back as another.
//! And what a node tells others about itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use consensus::{GroupId, Index, NodeId, NodeSet};
use serde::{Deserialize, Serialize};
use storage::FileSystem;

use crate::error::OpenError;
use crate::member::MemberInfo;

const FILE: &str = "node.json";

/// What a node says about itself to whoever asks: `GET /peer/v1/identity`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeCard {
    /// In hex.
    node: String,
    /// Name and addresses.
    pub(crate) info: MemberInfo,
    /// What it begins a group with, if it has no log yet and was given something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<String>,
    /// Whom it has met as a founder: digest of the first entry that it would write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) met: Option<String>,
    /// The members of each group that it has, in hex by decimal group id.
    groups: BTreeMap<String, Vec<String>>,
}

impl NodeCard {
    pub(crate) fn new(node: NodeId, info: MemberInfo) -> Self {
        Self {
            node: format!("{:016x}", node.0),
            info,
            seed: None,
            met: None,
            groups: BTreeMap::new(),
        }
    }

    pub(crate) fn node(&self) -> Option<NodeId> {
        parse_id(&self.node)
    }

    /// The members of a group, if the node has it.
    pub(crate) fn members(&self, group: GroupId) -> Option<BTreeSet<NodeId>> {
        let members = self.groups.get(&group.to_string())?;
        Some(members.iter().filter_map(|id| parse_id(id)).collect())
    }

    pub(crate) fn set_members(&mut self, group: GroupId, members: &NodeSet) {
        let ids = members.iter().map(|node| format!("{:016x}", node.0)).collect();
        self.groups.insert(group.to_string(), ids);
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("names, ids and addresses are plain data")
    }
}

/// Who this data directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    /// Since which entry the place of an added member belongs to this directory.
    pub(crate) joined: Option<Index>,
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    /// In hex, as etcd's tools show it.
    node: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    joined: Option<Index>,
}

/// Reads the id of this data directory, or draws one. The caller holds the directory.
pub(crate) fn load_or_draw(
    file_system: &dyn FileSystem,
    data_dir: &Path,
) -> Result<Identity, OpenError> {
    let path = data_dir.join(FILE);
    let failed = |source| OpenError::Identity { path: path.clone(), source };
    match file_system.open(&path) {
        Ok(file) => {
            let size = usize::try_from(file.size().map_err(failed)?).unwrap_or(0).min(4096);
            let mut bytes = vec![0; size];
            file.read_at(&mut bytes, 0).map_err(failed)?;
            parse(&bytes).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let identity = Identity { node: draw(), joined: None };
            store(file_system, data_dir, identity)?;
            Ok(identity)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Makes this the identity of the directory: the place that it was given.
pub(crate) fn store(
    file_system: &dyn FileSystem,
    data_dir: &Path,
    identity: Identity,
) -> Result<(), OpenError> {
    let path = data_dir.join(FILE);
    let written = write(file_system, data_dir, &path, identity);
    written.map_err(|source| OpenError::Identity { path, source })
}

fn parse(bytes: &[u8]) -> Option<Identity> {
    let OnDisk { node, joined } = serde_json::from_slice(bytes).ok()?;
    Some(Identity { node: parse_id(&node)?, joined })
}

fn parse_id(hex: &str) -> Option<NodeId> {
    u64::from_str_radix(hex, 16).ok().filter(|id| *id != 0).map(NodeId)
}

/// Positive as a signed number too, for clients that read ids as such.
pub(crate) fn draw() -> NodeId {
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    NodeId((random >> 1).max(1))
}

fn write(
    file_system: &dyn FileSystem,
    data_dir: &Path,
    path: &Path,
    Identity { node, joined }: Identity,
) -> io::Result<()> {
    let on_disk = OnDisk { node: format!("{:016x}", node.0), joined };
    let bytes = serde_json::to_vec(&on_disk).expect("an id is plain data");
    let temporary = path.with_extension("new");
    let file = file_system.create(&temporary)?;
    file.write_at(&bytes, 0)?;
    file.sync_data()?;
    file_system.rename(&temporary, path)?;
    file_system.sync_dir(data_dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::RealFileSystem;

    #[test]
    fn an_id_is_drawn_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_draw(&RealFileSystem, dir.path()).unwrap();
        assert_ne!(first.node.0, 0);
        assert_eq!(load_or_draw(&RealFileSystem, dir.path()).unwrap(), first);
    }

    #[test]
    fn a_place_that_was_given_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        load_or_draw(&RealFileSystem, dir.path()).unwrap();
        let given = Identity { node: NodeId(7), joined: Some(Index(9)) };
        store(&RealFileSystem, dir.path(), given).unwrap();
        assert_eq!(load_or_draw(&RealFileSystem, dir.path()).unwrap(), given);
    }

    #[test]
    fn a_damaged_id_is_an_error_and_not_a_new_id() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), b"{\"node\":\"\"}").unwrap();
        let error = load_or_draw(&RealFileSystem, dir.path()).unwrap_err();
        assert!(error.to_string().contains(FILE), "{error}");
    }
}
