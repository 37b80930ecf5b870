//! Requests with keys against a naive model: a list of everything that was ever answered.

use bytes::Bytes;
use coordinator::store::{
    Command, LeaseId, Op, Put, REQUEST_WINDOW_MS, RepeatError, Reply, Request, Stamp, Store, Txn,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Step {
    key: u8,
    fingerprint: u8,
    /// The lease that the put asks for: only 0, none, exists.
    lease: u8,
    wait_ms: u64,
    restart: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let wait = prop_oneof![4 => 0..1_000_u64, 1 => 0..REQUEST_WINDOW_MS];
    (0..4_u8, 0..2_u8, 0..2_u8, wait, prop::bool::weighted(0.1)).prop_map(
        |(key, fingerprint, lease, wait_ms, restart)| Step {
            key,
            fingerprint,
            lease,
            wait_ms,
            restart,
        },
    )
}

struct Answered {
    at_ms: u64,
    key: u8,
    fingerprint: u8,
    revision: u64,
}

fn command(step: &Step) -> Command {
    let put = Put {
        key: "k".into(),
        value: Some(vec![step.fingerprint].into()),
        lease: Some(LeaseId(step.lease.into())),
        previous: false,
    };
    Command::Once {
        request: Request { key: Bytes::from(vec![step.key]), fingerprint: step.fingerprint.into() },
        command: Box::new(Command::Txn(Txn::always(Op::Put(put)))),
    }
}

/// The last answer under this key that is still remembered.
fn first(answered: &[Answered], key: u8, now_ms: u64) -> Option<&Answered> {
    answered.iter().rev().find(|one| one.key == key && now_ms < one.at_ms + REQUEST_WINDOW_MS)
}

proptest! {
    #[test]
    fn a_key_is_carried_out_once_per_window(steps in prop::collection::vec(step(), 1..80)) {
        let mut store = Store::default();
        let (mut answered, mut now_ms) = (Vec::<Answered>::new(), 0);
        for step in &steps {
            now_ms += step.wait_ms;
            if step.restart {
                store = Store::decode(&store.encode()).unwrap();
            }
            let before = store.revision().0;
            let reply = store.apply(Stamp { now_ms, quota_bytes: u64::MAX }, command(step));
            match first(&answered, step.key, now_ms) {
                Some(one) if one.fingerprint == step.fingerprint => {
                    let Reply::Txn(Ok(result)) = reply else { panic!("{reply:?}") };
                    prop_assert_eq!(result.revision.0, one.revision);
                    prop_assert_eq!(store.revision().0, before);
                }
                Some(_) => {
                    prop_assert_eq!(reply, Reply::NotRepeated(RepeatError::OtherRequest));
                    prop_assert_eq!(store.revision().0, before);
                }
                None if step.lease == 0 => {
                    prop_assert_eq!(store.revision().0, before + 1);
                    let Step { key, fingerprint, .. } = *step;
                    answered.push(Answered { at_ms: now_ms, key, fingerprint, revision: before + 1 });
                }
                None => {
                    prop_assert!(matches!(reply, Reply::Txn(Err(_))), "{:?}", reply);
                    prop_assert_eq!(store.revision().0, before);
                }
            }
        }
    }
}
