//! The groups in which streams live.

use std::sync::Arc;

use super::{CatalogRefused, CatalogReply, Changed};
use crate::catalog::{Catalog, Copies, Kind, MAX_STREAM_GROUPS, StreamsEntry, Touched};

impl Catalog {
    /// A path's group follows from how many there are, so that never changes.
    pub(super) fn found_streams(&mut self, groups: u32, copies: Copies) -> CatalogReply {
        if self.state.streams.is_some() {
            return Ok(Changed::Unchanged);
        }
        if !(1..=MAX_STREAM_GROUPS).contains(&groups) {
            let max = MAX_STREAM_GROUPS as usize;
            return Err(CatalogRefused::Limit { what: "groups of streams", max });
        }
        let replicas = self.wanted(copies, None)?;
        self.check_groups(groups as usize)?;
        let groups = (0..groups).map(|number| self.found(Kind::Streams { number }, replicas));
        let groups = groups.collect();
        self.state.streams = Some(Arc::new(StreamsEntry { groups, replicas }));
        self.touch(Touched::Streams);
        Ok(Changed::Created)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{apply, founded};
    use super::*;
    use crate::catalog::CatalogCommand;

    #[test]
    fn the_groups_of_streams_are_founded_once() {
        let found = |groups| CatalogCommand::FoundStreams { groups, copies: Copies::default() };
        let mut catalog = founded(3);
        assert!(apply(&mut catalog, &found(0)).is_err());
        assert!(apply(&mut catalog, &found(MAX_STREAM_GROUPS + 1)).is_err());
        assert_eq!(apply(&mut catalog, &found(16)), Ok(Changed::Created));
        let groups = catalog.streams().unwrap().groups.clone();
        assert_eq!(groups.len(), 16);
        for (number, group) in (0..).zip(&groups) {
            assert_eq!(catalog.groups()[group].kind, Kind::Streams { number });
        }
        assert_eq!(apply(&mut catalog, &found(4)), Ok(Changed::Unchanged));
        assert_eq!(catalog.streams().unwrap().groups, groups);
    }
}
