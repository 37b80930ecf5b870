//! Sets and maps of a few nodes: sorted, in one piece, without room to spare.
//!
//! Every group holds several, there are tens of thousands of groups, and a cluster has three to
//! seven nodes: a tree would take ten times the memory. Changing one copies it; reading, which is
//! all that happens as a rule, allocates nothing.

use std::collections::BTreeMap;
use std::{slice, vec};

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;

/// Nodes, each once, ascending. Encoded as a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<NodeId>")]
pub struct NodeSet(Box<[NodeId]>);

impl NodeSet {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ascending.
    pub fn iter(&self) -> slice::Iter<'_, NodeId> {
        self.0.iter()
    }

    /// It is one of them.
    #[must_use]
    pub fn contains(&self, node: &NodeId) -> bool {
        self.0.binary_search(node).is_ok()
    }

    /// False if it was one of them already.
    pub fn insert(&mut self, node: NodeId) -> bool {
        let Err(at) = self.0.binary_search(&node) else { return false };
        insert(&mut self.0, at, node);
        true
    }

    /// False if it was none of them.
    pub fn remove(&mut self, node: &NodeId) -> bool {
        let Ok(at) = self.0.binary_search(node) else { return false };
        remove(&mut self.0, at);
        true
    }

    /// Those that are not in `other`.
    pub fn difference<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a NodeId> {
        self.iter().filter(|node| !other.contains(node))
    }
}

impl From<Vec<NodeId>> for NodeSet {
    fn from(mut nodes: Vec<NodeId>) -> Self {
        nodes.sort_unstable();
        nodes.dedup();
        Self(nodes.into())
    }
}

impl FromIterator<NodeId> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        Vec::from_iter(nodes).into()
    }
}

impl IntoIterator for NodeSet {
    type Item = NodeId;
    type IntoIter = vec::IntoIter<NodeId>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a NodeSet {
    type Item = &'a NodeId;
    type IntoIter = slice::Iter<'a, NodeId>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Something about each of some nodes, by node. Encoded as a list of pairs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<(NodeId, V)>")]
pub struct NodeMap<V>(Box<[(NodeId, V)]>);

impl<V> NodeMap<V> {
    /// Of how many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Of nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By node, ascending.
    pub fn iter(&self) -> slice::Iter<'_, (NodeId, V)> {
        self.0.iter()
    }

    /// By node, ascending.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// By node, ascending, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// The nodes, ascending.
    pub fn keys(&self) -> impl Iterator<Item = NodeId> {
        self.iter().map(|(node, _)| *node)
    }

    fn find(&self, node: NodeId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&node, |(node, _)| *node)
    }

    /// There is something about it.
    #[must_use]
    pub fn contains_key(&self, node: &NodeId) -> bool {
        self.find(*node).is_ok()
    }

    /// What there is about it.
    #[must_use]
    pub fn get(&self, node: &NodeId) -> Option<&V> {
        self.find(*node).ok().map(|at| &self.0[at].1)
    }

    /// What there is about it, to be changed.
    pub fn get_mut(&mut self, node: &NodeId) -> Option<&mut V> {
        self.find(*node).ok().map(|at| &mut self.0[at].1)
    }

    /// Returns what it replaces.
    pub fn insert(&mut self, node: NodeId, value: V) -> Option<V> {
        match self.find(node) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                insert(&mut self.0, at, (node, value));
                None
            }
        }
    }

    /// Keeps what there is about it already.
    pub fn insert_new(&mut self, node: NodeId, value: V) {
        if let Err(at) = self.find(node) {
            insert(&mut self.0, at, (node, value));
        }
    }

    /// Returns what there was.
    pub fn remove(&mut self, node: &NodeId) -> Option<V> {
        self.find(*node).ok().map(|at| remove(&mut self.0, at).1)
    }

    /// Keeps those for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&NodeId, &V) -> bool) {
        let all = std::mem::take(&mut self.0).into_iter();
        self.0 = all.filter(|(node, value)| keep(node, value)).collect();
    }
}

impl<V> Default for NodeMap<V> {
    fn default() -> Self {
        Self(Box::default())
    }
}

/// Of several about one node the last one stays.
impl<V> From<Vec<(NodeId, V)>> for NodeMap<V> {
    fn from(pairs: Vec<(NodeId, V)>) -> Self {
        pairs.into_iter().collect()
    }
}

impl<V> FromIterator<(NodeId, V)> for NodeMap<V> {
    fn from_iter<I: IntoIterator<Item = (NodeId, V)>>(pairs: I) -> Self {
        Self(BTreeMap::from_iter(pairs).into_iter().collect())
    }
}

impl<'a, V> IntoIterator for &'a NodeMap<V> {
    type Item = &'a (NodeId, V);
    type IntoIter = slice::Iter<'a, (NodeId, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn insert<T>(all: &mut Box<[T]>, at: usize, new: T) {
    let mut rest = Vec::from(std::mem::take(all));
    rest.reserve_exact(1);
    rest.insert(at, new);
    *all = rest.into();
}

fn remove<T>(all: &mut Box<[T]>, at: usize) -> T {
    let mut rest = Vec::from(std::mem::take(all));
    let gone = rest.remove(at);
    *all = rest.into();
    gone
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the trees of the standard library, encoding included: what they have written is
        /// read.
        #[test]
        fn they_are_like_trees(steps in prop::collection::vec((any::<bool>(), 0u64..6, any::<u8>()), 0..40)) {
            let (mut set, mut set_model) = (NodeSet::default(), BTreeSet::new());
            let (mut map, mut map_model) = (NodeMap::default(), BTreeMap::new());
            for (adds, node, value) in steps {
                let node = NodeId(node);
                if adds {
                    prop_assert_eq!(set.insert(node), set_model.insert(node));
                    prop_assert_eq!(map.insert(node, value), map_model.insert(node, value));
                } else {
                    prop_assert_eq!(set.remove(&node), set_model.remove(&node));
                    prop_assert_eq!(map.remove(&node), map_model.remove(&node));
                }
                prop_assert!(set.iter().eq(&set_model));
                prop_assert!(map.iter().map(|(node, value)| (node, value)).eq(&map_model));
                prop_assert_eq!(set.contains(&node), set_model.contains(&node));
                prop_assert_eq!(map.get(&node), map_model.get(&node));
            }
            let bytes = postcard::to_allocvec(&(&set_model, &map_model)).unwrap();
            prop_assert_eq!(&postcard::to_allocvec(&(&set, &map)).unwrap(), &bytes);
            prop_assert_eq!(postcard::from_bytes::<(NodeSet, NodeMap<u8>)>(&bytes).unwrap(), (set, map));
        }
    }

    #[test]
    fn order_and_doubles_of_what_is_read_do_not_matter() {
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let bytes = postcard::to_allocvec(&nodes(&[3, 1, 3, 2])).unwrap();
        let set: NodeSet = postcard::from_bytes(&bytes).unwrap();
        assert!(set.iter().eq(&nodes(&[1, 2, 3])));
    }
}
