use super::*;
use crate::config::Backoff;

const LIFE: Epoch = Epoch(7);

fn policy(max_deliveries: Option<u32>, initial_ms: u64) -> Policy {
    Policy {
        max_deliveries,
        backoff: Backoff::Doubling { initial_ms, max_ms: 10_000 },
        ..Policy::default()
    }
}

fn held(attempts: u32, epoch: Epoch) -> Progress {
    let (failed, until, held) = (0, 100, true);
    let (first_ms, since_ms, reason, group) = (0, 0, None, None);
    Progress { attempts, failed, epoch, until, held, first_ms, since_ms, reason, group }
}

fn take(dispatcher: &mut Dispatcher, max: usize, until: Millis) -> Vec<u64> {
    dispatcher.take(max, until, LIFE).into_iter().map(|taken| taken.id).collect()
}

#[test]
fn higher_priorities_go_first_and_equal_ones_in_order() {
    let mut dispatcher = Dispatcher::default();
    for (id, priority) in [(1, 0), (2, 9), (3, 5), (4, 9)] {
        dispatcher.add(id, Spec { priority, ..Spec::default() });
    }
    assert_eq!(take(&mut dispatcher, 10, 100), [2, 4, 3, 1]);
}

#[test]
fn a_group_blocks_only_itself() {
    let mut dispatcher = Dispatcher::default();
    for (id, group) in [(1, Some(1)), (2, Some(1)), (3, Some(2)), (4, None)] {
        dispatcher.add(id, Spec { group, ..Spec::default() });
    }
    assert_eq!(take(&mut dispatcher, 10, 100), [1, 3, 4]);
    dispatcher.release(1, Release::Failed { delay_ms: None, reason: None }, &policy(None, 0));
    assert_eq!(take(&mut dispatcher, 10, 100), [1], "again the same one");
    dispatcher.forget(1);
    assert_eq!(take(&mut dispatcher, 10, 100), [2]);
}

#[test]
fn what_is_held_too_long_waits_and_goes_again_until_it_is_given_up() {
    let policy = policy(Some(2), 50);
    let mut dispatcher = Dispatcher::default();
    dispatcher.add(1, Spec::default());
    assert_eq!(take(&mut dispatcher, 1, 100), [1]);
    dispatcher.advance(100, &policy, LIFE);
    assert_eq!(take(&mut dispatcher, 1, 300), [0; 0], "backs off");
    dispatcher.advance(150, &policy, LIFE);
    assert_eq!(take(&mut dispatcher, 1, 300), [1]);
    dispatcher.advance(300, &policy, LIFE);
    let (reason, failure) = (Reason::MaxDeliveries, None);
    let doomed = Doomed { id: 1, reason, attempts: 2, failure };
    assert_eq!(dispatcher.doomed(9), [doomed]);
    assert_eq!(dispatcher.next_due(), None);
}

#[test]
fn only_the_latest_delivery_in_time_is_the_consumers() {
    let policy = policy(None, 0);
    let mut dispatcher = Dispatcher::default();
    dispatcher.add(1, Spec::default());
    take(&mut dispatcher, 1, 100);
    assert_eq!(dispatcher.verdict(1, 1, LIFE), Verdict::Held);
    assert_eq!(dispatcher.verdict(1, 1, Epoch(6)), Verdict::Late, "of an earlier life");
    assert_eq!(dispatcher.verdict(2, 1, LIFE), Verdict::Unknown);
    dispatcher.advance(100, &policy, LIFE);
    assert_eq!(dispatcher.verdict(1, 1, LIFE), Verdict::Late, "its time was over");
    take(&mut dispatcher, 1, 200);
    assert_eq!(dispatcher.verdict(1, 1, LIFE), Verdict::Late, "delivered again");
    assert_eq!(dispatcher.verdict(1, 2, LIFE), Verdict::Held);
}

#[test]
fn an_expired_message_is_not_handed_out_but_one_in_flight_may_finish() {
    let policy = policy(None, 0);
    let mut dispatcher = Dispatcher::default();
    dispatcher.add(1, Spec { expires: 100, ..Spec::default() });
    dispatcher.add(2, Spec { expires: 100, ..Spec::default() });
    assert_eq!(take(&mut dispatcher, 1, 150), [1]);
    dispatcher.advance(120, &policy, LIFE);
    assert_eq!(take(&mut dispatcher, 9, 150), [0; 0]);
    assert_eq!(dispatcher.verdict(1, 1, LIFE), Verdict::Held);
    dispatcher.advance(150, &policy, LIFE);
    let ids: Vec<_> = dispatcher.doomed(9).iter().map(|doomed| doomed.id).collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn a_delivery_that_was_settled_at_once_needs_no_report() {
    let mut dispatcher = Dispatcher::default();
    dispatcher.add(1, Spec::default());
    dispatcher.add(2, Spec::default());
    take(&mut dispatcher, 2, 100);
    dispatcher.forget(1);
    let progress = dispatcher.take_progress(9, LIFE);
    let held = held(1, LIFE);
    assert_eq!(progress, [(2, held)]);
    assert!(!dispatcher.has_progress());
}

#[test]
fn a_restart_keeps_what_was_reported() {
    let mut dispatcher = Dispatcher::default();
    let held = held(3, Epoch(6));
    dispatcher.restore(1, Spec::default(), &held);
    dispatcher.restore(2, Spec::default(), &Progress { held: false, ..held.clone() });
    dispatcher.advance(99, &policy(None, 0), LIFE);
    assert_eq!(take(&mut dispatcher, 9, 500), [0; 0]);
    assert_eq!(dispatcher.verdict(1, 3, Epoch(6)), Verdict::Held, "the old holder may still ack");
    dispatcher.advance(100, &policy(None, 0), LIFE);
    let deliveries: Vec<_> =
        dispatcher.take(9, 500, LIFE).iter().map(|taken| taken.delivery).collect();
    assert_eq!(deliveries, [4, 4]);
}

#[test]
fn what_did_not_reach_its_consumer_does_not_count() {
    let mut dispatcher = Dispatcher::default();
    dispatcher.add(1, Spec::default());
    let taken = dispatcher.take(1, 100, LIFE);
    dispatcher.untake(&taken);
    assert_eq!(dispatcher.attempts(1), 0);
    assert_eq!(dispatcher.take(1, 100, LIFE)[0].delivery, 1);
}

#[test]
fn what_is_given_back_untried_comes_as_often_as_it_takes() {
    let policy = policy(Some(2), 0);
    let mut dispatcher = Dispatcher::default();
    dispatcher.add(1, Spec::default());
    for delivery in 1..10 {
        dispatcher.advance(delivery, &policy, LIFE);
        assert_eq!(dispatcher.take(1, 100, LIFE)[0].delivery, u32::try_from(delivery).unwrap());
        dispatcher.release(1, Release::Free { delay_ms: 1 }, &policy);
        assert_eq!(take(&mut dispatcher, 1, 100), [0; 0], "not before its delay is over");
    }
    for delivery in 10..12 {
        assert_eq!(dispatcher.doomed(1), []);
        dispatcher.advance(delivery, &policy, LIFE);
        take(&mut dispatcher, 1, 100);
        dispatcher.release(1, Release::Failed { delay_ms: None, reason: None }, &policy);
    }
    assert_eq!(dispatcher.doomed(1)[0].reason, Reason::MaxDeliveries);
    let progress = &dispatcher.take_progress(1, LIFE)[0].1;
    assert_eq!((progress.attempts, progress.failed, progress.first_ms), (11, 2, 1));
}

#[test]
fn what_was_said_of_a_failure_is_kept_until_more_is_said_and_told_to_later_leaders() {
    let policy = policy(Some(3), 0);
    let mut dispatcher = Dispatcher::default();
    dispatcher.add(1, Spec::default());
    for reason in [Some("no such account".to_owned()), None] {
        take(&mut dispatcher, 1, 100);
        dispatcher.release(1, Release::Failed { delay_ms: None, reason }, &policy);
    }
    let (id, progress) = dispatcher.take_progress(9, LIFE).remove(0);
    assert_eq!(progress.reason.as_deref(), Some("no such account"));

    let mut next = Dispatcher::default();
    next.restore(id, Spec::default(), &progress);
    take(&mut next, 1, 100);
    let reason = Some("é".repeat(MAX_REASON_BYTES));
    next.release(1, Release::Failed { delay_ms: None, reason }, &policy);
    let failure = next.doomed(1).remove(0).failure.unwrap();
    assert_eq!(&*failure, "é".repeat(MAX_REASON_BYTES / 2));
    next.forget(1);
    assert_eq!(next.reasons.len(), 0);
}

#[test]
fn a_delivery_is_not_held_for_ever_however_often_it_is_extended() {
    let mut dispatcher = Dispatcher::default();
    dispatcher.advance(1_000, &policy(None, 0), LIFE);
    dispatcher.add(1, Spec::default());
    take(&mut dispatcher, 1, 2_000);
    for until in [3_000, MAX_HOLD_MS, MAX_HOLD_MS * 2] {
        dispatcher.extend(1, until);
    }
    let held = Held { since: 1_000, until: 1_000 + MAX_HOLD_MS, delivery: 1 };
    assert_eq!(dispatcher.held(1), Some(held));
    let progress = dispatcher.take_progress(1, LIFE).remove(0).1;
    let mut next = Dispatcher::default();
    next.restore(1, Spec::default(), &progress);
    next.extend(1, MAX_HOLD_MS * 2);
    assert_eq!(next.held(1), Some(held), "nor over a change of leaders");
}
