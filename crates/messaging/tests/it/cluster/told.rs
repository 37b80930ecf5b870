//! What clients are told, and what they make of it.

use consensus::GroupId;
use messaging::partition::{PartitionReply, Producer};
use messaging::queue::QueueReply;
use messaging::subscription::SettleReply;

use super::clients::{Act, Ask, Numbered, Op};
use super::host::Outcome;
use super::machine::Reply;
use super::world::{Check, World};

impl World {
    /// A client is told what came of its request.
    pub(super) fn answer(&mut self, op: u64, outcome: Outcome) -> Check {
        let Some(Op { ask, .. }) = self.clients.ops.remove(&op) else { return Ok(()) };
        let now = self.now;
        let clients = &mut self.clients;
        if matches!(outcome, Outcome::Unknown) {
            clients.done.unknown += 1;
        }
        match (ask, outcome) {
            (Ask::Send { group, body, .. }, Outcome::Reply(Reply::Queue(reply))) => match reply {
                QueueReply::Sent(replies) => {
                    clients.done.sends += 1;
                    self.log.sent(group, body, replies[0].id.0)
                }
                QueueReply::Refused(_) => {
                    clients.done.refused += 1;
                    Ok(())
                }
                other => Err(format!("a send answers {other:?}")),
            },
            (
                Ask::Send { dedup: false, body, .. } | Ask::Publish { producer: None, body, .. },
                Outcome::NotDone,
            ) => self.log.denied(body),
            (ask @ Ask::Send { dedup: true, .. }, _) => {
                clients.repeats.push(ask);
                Ok(())
            }
            (
                Ask::Publish { group, body, producer, .. },
                Outcome::Reply(Reply::Partition(reply)),
            ) => {
                clients.done.publishes += 1;
                let first = match reply {
                    PartitionReply::Published(published) => Some(published.first.0),
                    PartitionReply::Repeated { result, .. } => {
                        result.map(|published| published.first.0)
                    }
                    PartitionReply::Fenced(_) => return self.fenced(group, producer),
                    other => return Err(format!("a publish answers {other:?}")),
                };
                if let Some(Producer { epoch, seq, .. }) = producer {
                    let one = clients.numbered.entry(group).or_default();
                    if (one.epoch, one.seq) == (epoch, seq) {
                        *one = Numbered { epoch, seq: seq + 1, open: None };
                    }
                }
                first.map_or(Ok(()), |first| self.log.sent(group, body, first))
            }
            (Ask::Settle { handed, act: Act::Ack }, Outcome::Reply(reply)) => {
                let settled = match reply {
                    Reply::Queue(QueueReply::Settled(replies))
                    | Reply::Partition(PartitionReply::Settled(replies)) => replies[0],
                    other => return Err(format!("an ack answers {other:?}")),
                };
                if settled == SettleReply::Settled {
                    clients.done.acks += 1;
                    return self.log.acked(&handed, now);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Only what belongs to an older instance is kept out.
    fn fenced(&mut self, group: GroupId, producer: Option<Producer>) -> Check {
        let one = &self.clients.numbered[&group];
        match producer {
            Some(producer) if producer.epoch < one.epoch => Ok(()),
            other => Err(format!("{other:?} was kept out of {group}, now at {one:?}")),
        }
    }

    /// A planted bug: a client is told that it is done before anybody knows.
    pub(super) fn believe(&mut self, op: u64) -> Check {
        let Some(Op { ask, .. }) = self.clients.ops.remove(&op) else { return Ok(()) };
        if let Ask::Send { group, body, .. } | Ask::Publish { group, body, .. } = ask {
            self.log.believed(group, body);
            if let Some(one) = self.clients.numbered.get_mut(&group)
                && let Some(Ask::Publish { body: open, .. }) = &one.open
                && *open == body
            {
                one.open = None;
                one.seq += 1;
            }
        }
        Ok(())
    }
}
