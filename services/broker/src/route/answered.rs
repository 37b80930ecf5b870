//! Which broker answered a request: the one that had the group, if there was one such.

use std::cell::RefCell;
use std::sync::Arc;

tokio::task_local! {
    static ANSWERED: RefCell<Answered>;
}

#[derive(Default)]
enum Answered {
    #[default]
    Nobody,
    One(Arc<str>),
    Several,
}

/// Part of the answer came from this broker.
pub(super) fn note(name: &Arc<str>) {
    // Work of the keepers belongs to no request.
    let _ = ANSWERED.try_with(|answered| {
        let mut answered = answered.borrow_mut();
        *answered = match std::mem::take(&mut *answered) {
            Answered::Nobody => Answered::One(name.clone()),
            Answered::One(one) if one == *name => Answered::One(one),
            _ => Answered::Several,
        };
    });
}

/// Does some work, and says which broker answered if it was a single one.
pub(crate) async fn who_answers<T>(work: impl Future<Output = T>) -> (T, Option<Arc<str>>) {
    let work = async { (work.await, ANSWERED.with(RefCell::take)) };
    let (done, answered) = ANSWERED.scope(RefCell::default(), work).await;
    let one = match answered {
        Answered::One(name) => Some(name),
        Answered::Nobody | Answered::Several => None,
    };
    (done, one)
}
