//! Where a publish would go, without it going anywhere.

use api::broker::{WouldDeliver, WouldPublish};
use consensus::NodeId;
use messaging::frame::Envelope;
use messaging::ids::Name;

use crate::broker::Broker;
use crate::directory::TopicHandle;
use crate::error::MessageError;
use crate::message::NewMessage;
use crate::publish::pick;

impl Broker {
    /// What would become of each of these messages of one request. Those without a key go by what
    /// the request is `remembered` under.
    pub(crate) fn would_publish(
        &self,
        topic: &Name,
        messages: Vec<NewMessage>,
        remembered: Option<&str>,
    ) -> Result<Vec<WouldPublish>, MessageError> {
        let topic = self.directory().topic(topic)?;
        let partitions = topic.partition_count();
        let keyless =
            remembered.map_or_else(|| topic.coming_partition(), |text| pick(text, partitions));
        let would = messages.into_iter().map(|message| {
            let by_key = message.key.is_some();
            let partition = message.key.as_deref().map_or(keyless, |key| pick(key, partitions));
            let port = &topic.partition(partition)?.port;
            let subscriptions = wanted(&topic, message);
            Ok(WouldPublish {
                partition,
                by_key,
                leader: port.leader(self.node()).map(|node| self.name_of(node)),
                replicas: port.placement().nodes().map(|node| self.name_of(node)).collect(),
                subscriptions,
            })
        });
        would.collect()
    }

    fn name_of(&self, node: NodeId) -> String {
        if node == self.node() {
            return self.shared.name.to_string();
        }
        self.shared.peers.name(node).map_or_else(|| node.to_string(), |name| name.to_string())
    }
}

fn wanted(topic: &TopicHandle, message: NewMessage) -> Vec<WouldDeliver> {
    let NewMessage { key, content_type, attributes, .. } = message;
    let envelope = Envelope { key, content_type, attributes, dead_letter: None };
    let would = topic.subscriptions.values().map(|subscription| {
        let config = &subscription.entry.config;
        WouldDeliver {
            name: subscription.name.to_string(),
            wanted: config.filter.matches(&envelope),
            dead_letter: config.dead_letter.as_ref().map(|queue| format!("queue/{queue}")),
        }
    });
    would.collect()
}
