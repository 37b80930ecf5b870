//! What a broker does around a group: it leads, proposes, passes on and answers, as the service
//! does, step by step, so that anything may come between two steps.

use bytes::Bytes;
use consensus::{Entry, GroupId, Index, ReadId, Term};
use messaging::catalog::{CATALOG, CatalogCommand};
use messaging::frame;
use messaging::ids::Epoch;
use messaging::placement::GroupView;

use super::Bug;
use super::clients::Handed;
use super::machine::Reply;
use super::world::{Check, What, Wire, World};

/// A term in which a node leads a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Led {
    pub(super) term: Term,
    /// A majority has confirmed it, and everything before it is applied.
    pub(super) is_ready: bool,
    /// Something is being given up until then.
    pub(super) busy_until: u64,
    pub(super) since: u64,
}

/// Who wants to know what came of a command.
#[derive(Clone, Debug)]
pub(super) enum Tag {
    Client(u64),
    Remote {
        node: usize,
        token: u64,
    },
    /// These are stored in the dead-letter queue; then they are settled.
    DeadLetter {
        group: GroupId,
        term: Term,
        settle: Bytes,
    },
    /// They are settled.
    GivenUp(GroupId),
    /// Reported.
    Progress(GroupId, Term),
    Nobody,
}

/// What came of a command.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Reply(Reply),
    NotDone,
    Unknown,
}

/// What is done when a read may be served.
#[derive(Clone, Debug)]
pub(super) enum Then {
    Lead(Term),
    Deliver {
        op: u64,
        term: Term,
        handed: Vec<Handed>,
    },
    /// The catalog says what is to be done about a group that was looked at.
    Judge {
        group: GroupId,
        term: Term,
        view: Box<GroupView>,
    },
    /// A move is over, if this node still leads.
    End {
        term: Term,
        command: Box<CatalogCommand>,
    },
}

impl World {
    pub(super) fn notice_later(&mut self, node: usize, group: GroupId) {
        let most = if self.is_calm { 1 } else { self.plan.notice_ms };
        let delay = self.rng.range(0..most + 1);
        let Some(copy) = self.copy(node, group) else { return };
        if !std::mem::replace(&mut copy.is_noticed, true) {
            self.later(node, delay, What::Notice(group));
        }
    }

    pub(super) fn leads(&self, node: usize, group: GroupId) -> Option<Term> {
        let raft = self.raft(node, group)?;
        raft.is_leader().then(|| raft.term())
    }

    /// The term in which the host leads.
    pub(super) fn led(&self, node: usize, group: GroupId) -> Option<Term> {
        let led = self.nodes[node].up.as_ref()?.copies.get(&group)?.led?;
        led.is_ready.then_some(led.term)
    }

    pub(super) fn notice(&mut self, node: usize, group: GroupId) -> Check {
        let leads = self.leads(node, group);
        let (bug, now) = (self.bug, self.now);
        let Some(copy) = self.copy(node, group) else { return Ok(()) };
        copy.is_noticed = false;
        if let Some(led) = copy.led
            && leads != Some(led.term)
        {
            copy.led = None;
            if bug != Bug::NoFollow {
                copy.machine.follow();
            }
        }
        if let (Some(term), None) = (leads, copy.led) {
            copy.led = Some(Led { term, is_ready: false, busy_until: 0, since: now });
            if bug == Bug::LeadsAtOnce {
                return self.run(node, group, Then::Lead(term));
            }
            self.read(node, group, Then::Lead(term));
        }
        Ok(())
    }

    pub(super) fn read(&mut self, node: usize, group: GroupId, then: Then) {
        let Some(up) = &mut self.nodes[node].up else { return };
        let id = up.next_read(group, then);
        match up.multi.touch(group) {
            Some(raft) => raft.read(id),
            None => drop(up.reads.remove(&id)),
        }
    }

    pub(super) fn reads_ready(&mut self, node: usize, reads: &[ReadId], index: Index) -> Check {
        for id in reads {
            let Some(up) = &mut self.nodes[node].up else { return Ok(()) };
            let Some((group, then)) = up.reads.remove(id) else { continue };
            match up.copies.get(&group) {
                Some(copy) if index <= copy.applied => self.run(node, group, then)?,
                Some(_) => up.parked.push((group, index, then)),
                None => (),
            }
        }
        Ok(())
    }

    pub(super) fn unpark(&mut self, node: usize, group: GroupId) -> Check {
        let Some(up) = &mut self.nodes[node].up else { return Ok(()) };
        let Some(applied) = up.copies.get(&group).map(|copy| copy.applied) else { return Ok(()) };
        let parked = std::mem::take(&mut up.parked);
        let (ready, rest): (Vec<_>, Vec<_>) =
            parked.into_iter().partition(|(of, index, _)| *of == group && *index <= applied);
        up.parked = rest;
        for (group, _, then) in ready {
            self.run(node, group, then)?;
        }
        Ok(())
    }

    pub(super) fn reads_failed(&mut self, node: usize, reads: &[ReadId]) -> Check {
        for id in reads {
            let Some(up) = &mut self.nodes[node].up else { return Ok(()) };
            match up.reads.remove(id) {
                Some((group, Then::Lead(_))) => {
                    if let Some(copy) = up.copies.get_mut(&group) {
                        copy.led = None;
                        self.later(node, 50, What::Notice(group));
                    }
                }
                Some((group, Then::Deliver { op, handed, .. })) => {
                    self.take_back(node, group, &handed);
                    self.answer(op, Outcome::NotDone)?;
                }
                Some((_, Then::Judge { .. } | Then::End { .. })) | None => (),
            }
        }
        Ok(())
    }

    fn run(&mut self, node: usize, group: GroupId, then: Then) -> Check {
        let leads = self.leads(node, group);
        match then {
            Then::Lead(term) if leads == Some(term) => self.lead(node, group, term),
            Then::Deliver { op, term, handed } => {
                let confirmed = leads == Some(term) && self.led(node, group) == Some(term);
                if confirmed || self.bug == Bug::NoBarrier {
                    return self.hand_over(node, (group, op), handed);
                }
                self.counts.deposed_answers += 1;
                self.take_back(node, group, &handed);
                self.answer(op, Outcome::NotDone)
            }
            Then::Judge { group, term, view } => self.judge(node, (group, term), &view),
            Then::End { term, command } if leads == Some(term) => {
                let payload = frame::encode(self.wall(node), &*command, &Default::default());
                self.propose(node, CATALOG, payload, Tag::Nobody)
            }
            Then::Lead(_) | Then::End { .. } => Ok(()),
        }
    }

    fn lead(&mut self, node: usize, group: GroupId, term: Term) -> Check {
        let at = &mut self.nodes[node];
        let up = at.up.as_mut().expect("it reads");
        let Some(copy) = up.copies.get_mut(&group) else { return Ok(()) };
        let Some(led) = copy.led.as_mut().filter(|led| led.term == term) else { return Ok(()) };
        let missing = at.disks[&group].missing(&copy.machine.retained(copy.applied));
        if !missing.is_empty() {
            return Err(format!("{} leads {group} without {missing:?}", at.id));
        }
        led.is_ready = true;
        copy.machine.lead(if self.bug == Bug::OneEpoch { Epoch(1) } else { Epoch(term.0) });
        self.counts.leads += 1;
        self.later(node, 0, What::Tend(group));
        Ok(())
    }

    /// By the leader of this term, or by nobody.
    pub(super) fn place(
        &mut self,
        node: usize,
        (group, term): (GroupId, Term),
        payload: Bytes,
        tag: Tag,
    ) -> Check {
        if self.bug == Bug::Forwards {
            return self.propose(node, group, payload, tag);
        }
        match self.leads(node, group) == Some(term) {
            true => self.propose(node, group, payload, tag),
            false => self.finish(node, tag, Outcome::NotDone),
        }
    }

    /// Soon: anything may come between a look at the machine and the command that follows from it.
    pub(super) fn place_later(
        &mut self,
        node: usize,
        (group, term): (GroupId, Term),
        payload: Bytes,
        tag: Tag,
    ) {
        let most = if self.is_calm { 1 } else { self.plan.notice_ms };
        let delay = self.rng.range(0..most + 1);
        self.later(node, delay, What::Place { group, term, payload, tag });
    }

    pub(super) fn propose(
        &mut self,
        node: usize,
        group: GroupId,
        payload: Bytes,
        tag: Tag,
    ) -> Check {
        let placed = self.nodes[node].up.as_ref().and_then(|up| up.copies.get(&CATALOG)).is_some();
        let placement =
            self.catalog(node).and_then(|catalog| catalog.groups().get(&group).cloned());
        let up = self.nodes[node].up.as_mut().filter(|_| placed).expect("it proposes");
        let Some(raft) = up.multi.touch(group) else {
            let nodes: Vec<_> = placement.iter().flat_map(|placement| placement.nodes()).collect();
            let Some(to) = self.rng.pick(&nodes).filter(|to| **to != self.nodes[node].id) else {
                return self.finish(node, tag, Outcome::NotDone);
            };
            return self.send(node, (to.0 as usize - 1, group), tag, |token| Wire::Call {
                group,
                token,
                payload,
            });
        };
        if raft.is_leader() {
            return match raft.propose(vec![payload]) {
                Ok(placed) => {
                    if self.bug == Bug::EarlyAnswer
                        && let Tag::Client(op) = tag
                    {
                        return self.believe(op);
                    }
                    up.waiters.push((group, placed.term, placed.first, tag));
                    Ok(())
                }
                Err(_) => self.finish(node, tag, Outcome::NotDone),
            };
        }
        match raft.leader() {
            Some(leader) => {
                self.counts.forwards += 1;
                let to = (leader.0 as usize - 1, group);
                self.send(node, to, tag, |token| Wire::Forward { group, token, payload })
            }
            None => self.finish(node, tag, Outcome::NotDone),
        }
    }

    fn send(
        &mut self,
        node: usize,
        (to, group): (usize, GroupId),
        tag: Tag,
        wire: impl FnOnce(u64) -> Wire,
    ) -> Check {
        self.next_token += 1;
        let up = self.nodes[node].up.as_mut().expect("it sends");
        up.forwards.insert(self.next_token, (group, tag));
        self.network.send(self.now, node, to, wire(self.next_token));
        Ok(())
    }

    pub(super) fn hear(&mut self, from: usize, to: usize, wire: Wire) -> Check {
        let wall = self.wall(to);
        let up = self.nodes[to].up.as_mut().expect("it hears");
        match wire {
            Wire::Forward { group, token, payload } if up.seen_tokens.insert(token) => {
                let raft = up.multi.touch(group).filter(|raft| raft.is_leader());
                let payload = frame::restamp(payload, wall);
                let placed = raft.and_then(|raft| raft.propose(vec![payload]).ok());
                let at = placed.map(|placed| (placed.term, placed.first));
                self.network.send(self.now, to, from, Wire::Placed { token, at });
            }
            Wire::Placed { token, at } => {
                let Some((group, tag)) = up.forwards.remove(&token) else { return Ok(()) };
                let Some((term, index)) = at else {
                    return self.finish(to, tag, Outcome::NotDone);
                };
                let applied = up.copies.get(&group).map(|copy| copy.applied);
                let outcome = match up.recent.get(&(group, index)) {
                    Some((by, reply)) if *by == term => Outcome::Reply(reply.clone()),
                    Some(_) => Outcome::NotDone,
                    None if applied.is_none_or(|applied| index <= applied) => Outcome::Unknown,
                    None => {
                        up.waiters.push((group, term, index, tag));
                        return Ok(());
                    }
                };
                return self.finish(to, tag, outcome);
            }
            Wire::Call { group, token, payload } if up.seen_tokens.insert(token) => {
                let payload = frame::restamp(payload, wall);
                let tag = Tag::Remote { node: from, token };
                return match up.copies.contains_key(&group) {
                    true => self.propose(to, group, payload, tag),
                    false => self.finish(to, tag, Outcome::NotDone),
                };
            }
            Wire::Answer { token, reply } => {
                let Some((_, tag)) = up.forwards.remove(&token) else { return Ok(()) };
                return self.finish(to, tag, reply.map_or(Outcome::Unknown, Outcome::Reply));
            }
            Wire::Forward { .. } | Wire::Call { .. } | Wire::Raft(..) | Wire::Beat(_) => (),
        }
        Ok(())
    }

    /// An entry is applied.
    pub(super) fn replied(
        &mut self,
        node: usize,
        group: GroupId,
        entry: &Entry,
        reply: Reply,
    ) -> Check {
        let up = self.nodes[node].up.as_mut().expect("it applies");
        let (here, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut up.waiters)
            .into_iter()
            .partition(|(of, _, index, _)| (*of, *index) == (group, entry.index));
        up.waiters = rest;
        up.recent.insert((group, entry.index), (entry.term, reply.clone()));
        for (_, term, _, tag) in here {
            let outcome = match term == entry.term {
                true => Outcome::Reply(reply.clone()),
                false => Outcome::NotDone,
            };
            self.finish(node, tag, outcome)?;
        }
        Ok(())
    }

    /// A snapshot has taken the place of entries: nobody will see their replies here.
    pub(super) fn skipped(&mut self, node: usize, group: GroupId) {
        let up = self.nodes[node].up.as_mut().expect("it installs");
        let applied = up.copies[&group].applied;
        up.waiters.retain(|(of, _, index, _)| *of != group || applied < *index);
    }

    pub(super) fn finish(&mut self, node: usize, tag: Tag, outcome: Outcome) -> Check {
        match tag {
            Tag::Client(op) => return self.answer(op, outcome),
            Tag::Remote { node: to, token } => {
                let reply = match outcome {
                    Outcome::Reply(reply) => Some(reply),
                    _ => None,
                };
                self.network.send(self.now, node, to, Wire::Answer { token, reply });
            }
            Tag::DeadLetter { group, term, settle } => {
                use messaging::queue::QueueReply;
                match outcome {
                    Outcome::Reply(Reply::Queue(QueueReply::Sent(_))) => {
                        self.place_later(node, (group, term), settle, Tag::GivenUp(group));
                    }
                    _ => self.is_free(node, group),
                }
            }
            Tag::GivenUp(group) => self.is_free(node, group),
            Tag::Progress(group, term) => {
                if !matches!(outcome, Outcome::Reply(_)) && self.led(node, group) == Some(term) {
                    self.counts.deposed_answers += 1;
                }
            }
            Tag::Nobody => (),
        }
        Ok(())
    }

    fn is_free(&mut self, node: usize, group: GroupId) {
        if let Some(led) = self.copy(node, group).and_then(|copy| copy.led.as_mut()) {
            led.busy_until = 0;
        }
    }
}
