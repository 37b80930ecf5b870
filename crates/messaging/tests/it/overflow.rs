//! What a queue that drops its oldest does with what does not fit.

use messaging::config::{Overflow, QueueConfig};
use messaging::queue::{Outgoing, QueueCommand, QueueReply, Refused};
use messaging::subscription::SettleReply;

use crate::host::QueueHost;

fn queue(max_messages: u64, max_bytes: u64) -> QueueHost {
    let mut host = QueueHost::new();
    let overflow = Overflow::DropOldest;
    let config = QueueConfig { max_messages, max_bytes, overflow, ..QueueConfig::default() };
    host.propose(&QueueCommand::Configure { version: 1, config });
    host
}

fn send(host: &mut QueueHost, priority: u8, bodies: &[u64]) -> Result<(), Refused> {
    match host.send(bodies, &Outgoing { priority, ..Outgoing::default() }) {
        QueueReply::Sent(_) => Ok(()),
        QueueReply::Refused(refused) => Err(refused),
        other => panic!("a send answers {other:?}"),
    }
}

fn left(host: &mut QueueHost) -> Vec<u64> {
    let receipts = host.receive(usize::MAX);
    receipts.iter().map(|receipt| host.body(receipt)).collect()
}

#[test]
fn the_oldest_of_the_lowest_priority_go_first_and_none_above_the_new_one() {
    let mut host = queue(4, u64::MAX);
    for (priority, body) in [(5, 1), (0, 2), (5, 3), (0, 4)] {
        send(&mut host, priority, &[body]).unwrap();
    }
    send(&mut host, 5, &[5, 6, 7]).unwrap();
    assert_eq!(send(&mut host, 4, &[8]), Err(Refused::TooMany { len: 4, max: 4 }));
    assert_eq!(send(&mut host, 9, &[9; 5]), Err(Refused::TooMany { len: 4, max: 4 }));
    assert_eq!(host.queue.counters().dropped, 3);
    assert_eq!(left(&mut host), [3, 5, 6, 7]);
}

#[test]
fn bytes_are_made_room_for_as_well() {
    let mut host = queue(100, 100);
    let body = |bytes: usize| 10_u64.pow(u32::try_from(bytes).unwrap() - 1);
    while host.queue.counters().dropped == 0 {
        send(&mut host, 0, &[body(1)]).unwrap();
    }
    let small = host.queue.bytes() / host.queue.len();
    send(&mut host, 0, &[body(19)]).unwrap();
    assert!(host.queue.bytes() <= 100 && 100 < host.queue.bytes() + small);
    assert_eq!(left(&mut host).last(), Some(&body(19)));
}

#[test]
fn what_was_dropped_cannot_be_acked_and_does_not_block_its_group() {
    let mut host = queue(2, u64::MAX);
    let outgoing = Outgoing { group: Some(1), ..Outgoing::default() };
    host.send(&[1, 2], &outgoing);
    let held = host.receive(9);
    assert_eq!(held.len(), 1);
    host.send(&[3], &outgoing);
    let id = host.ack_id(&held[0]);
    assert_eq!(host.ack(&id), SettleReply::Unknown);
    assert_eq!(left(&mut host), [2]);
}

#[test]
fn a_change_of_the_settings_counts_what_is_there() {
    let mut host = QueueHost::new();
    host.send(&[1, 2, 3], &Outgoing::default());
    let config =
        QueueConfig { max_messages: 3, overflow: Overflow::DropOldest, ..QueueConfig::default() };
    host.propose(&QueueCommand::Configure { version: 2, config });
    send(&mut host, 0, &[4]).unwrap();
    host.propose(&QueueCommand::Purge);
    send(&mut host, 0, &[5, 6, 7]).unwrap();
    assert_eq!(left(&mut host), [5, 6, 7]);
}
