//! Which brokers there are, as operators see and change it.

use consensus::NodeId;
use messaging::catalog::{CATALOG, Catalog, CatalogCommand, CatalogRefused};
use raft_node::{MemberEntry, MemberError, MemberList, MemberRequest, Members};

use crate::broker::Broker;
use crate::error::AdminError;

impl Broker {
    /// The catalog as this broker has it, and the members of its group.
    pub(crate) async fn cluster(&self) -> Result<(Catalog, MemberList), AdminError> {
        let catalog = self.shared.catalog.local(|machine| machine.0.clone()).await?;
        Ok((catalog, self.members().list().await?))
    }

    /// Makes a place for a broker that comes later.
    pub(crate) async fn add_broker(
        &self,
        name: String,
        peer_url: String,
    ) -> Result<(NodeId, MemberList), AdminError> {
        let node = Members::draw();
        let peer_urls = vec![peer_url];
        // It becomes a voter when the catalog should have more.
        let add = MemberRequest::Add { node, name, peer_urls, votes: false };
        let changed = self.members().ask(&add).await?;
        Ok((node, changed.list))
    }

    /// Removes a broker for good. Refused while it has copies.
    pub(crate) async fn remove_broker(&self, node: NodeId) -> Result<(), AdminError> {
        let forget = self.payload(&CatalogCommand::Forget { node });
        match self.shared.catalog.propose_freeing(forget).await?.reply {
            // One that never came, or a repeat.
            Ok(_) | Err(CatalogRefused::NoBroker(_)) => (),
            Err(refused) => return Err(refused.into()),
        }
        self.members().ask(&MemberRequest::Remove { node, force: false }).await?;
        Ok(())
    }

    /// Moves everything off a broker, or lets it have copies again.
    pub(crate) async fn drain_broker(&self, node: NodeId, on: bool) -> Result<(), AdminError> {
        let drain = self.payload(&CatalogCommand::SetDraining { node, on });
        self.shared.catalog.propose_freeing(drain).await?.reply?;
        Ok(())
    }

    /// The broker of this id or name.
    pub(crate) async fn find_broker(&self, text: &str) -> Result<MemberEntry, AdminError> {
        let list = self.members().list().await?;
        let is_meant =
            |member: &MemberEntry| member.info.name == text || member.node.to_string() == text;
        let found = list.members.into_iter().find(is_meant);
        Ok(found.ok_or_else(|| MemberError::NoSuchName { name: text.to_owned() })?)
    }

    fn members(&self) -> Members {
        self.shared.groups.members(CATALOG)
    }
}
