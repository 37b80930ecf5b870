//! Messages are found by what they answer, for as long as they are stored.

use messaging::ids::MessageId;
use messaging::queue::{Outgoing, QueueCommand, Why};

use crate::host::QueueHost;

fn answer(correlation: u64) -> Outgoing {
    Outgoing { correlation: Some(correlation), ..Outgoing::default() }
}

#[test]
fn the_first_answer_is_found_until_it_is_gone() {
    let mut host = QueueHost::new();
    host.send(&[1], &Outgoing::default());
    host.send(&[2], &answer(7));
    assert_eq!(host.queue.take_answered(), [7]);
    host.send(&[3, 4], &answer(7));
    host.send(&[5], &answer(8));
    assert_eq!(host.queue.take_answered(), [8]);
    let found = |host: &QueueHost, hash| host.queue.by_correlation(hash).map(|id| id.0);
    assert_eq!((found(&host, 7), found(&host, 8), found(&host, 9)), (Some(2), Some(5), None));

    let snapshot = host.queue.snapshot()();
    host.queue.restore(&snapshot).unwrap();
    assert_eq!(host.queue.by_correlation(7), Some(MessageId(2)));
    host.settle(2, 0, Why::Expired);
    assert_eq!((found(&host, 7), found(&host, 8)), (None, Some(5)));
    host.send(&[6], &answer(7));
    assert_eq!(found(&host, 7), Some(6));
    host.propose(&QueueCommand::Purge);
    assert_eq!((found(&host, 7), found(&host, 8)), (None, None));
}
