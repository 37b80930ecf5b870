//! Who answers: the id in `/v3` headers, the name in `/v1`.

use crate::member::Member;

#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) member_id: u64,
    pub(crate) name: String,
}

impl Identity {
    pub(crate) fn new(member: &Member) -> Self {
        Self { member_id: member.groups.node().0, name: member.entrance.own().name.clone() }
    }
}
