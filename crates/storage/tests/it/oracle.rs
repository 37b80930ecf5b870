//! The log against maps in memory, for any sequence of what a user and an operator can do.

use proptest::prelude::*;

use crate::world::{World, tiny};

#[derive(Clone, Copy, Debug)]
enum Action {
    Stage,
    Flush,
    Tidy,
    Check,
    Kill,
    Crash,
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        12 => Just(Action::Stage),
        6 => Just(Action::Flush),
        6 => Just(Action::Tidy),
        2 => Just(Action::Check),
        1 => Just(Action::Kill),
        1 => Just(Action::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_log_equals_the_oracle(
        seed in any::<u64>(),
        actions in proptest::collection::vec(any_action(), 1..250),
    ) {
        let mut world = World::new(seed, tiny());
        world.open_intact().map_err(TestCaseError::fail)?;
        for action in actions {
            match action {
                Action::Stage => {
                    world.stage().map_err(TestCaseError::fail)?;
                }
                Action::Flush => prop_assert!(world.flush()),
                Action::Tidy => prop_assert!(world.tidy()),
                Action::Check => world.check().map_err(TestCaseError::fail)?,
                Action::Kill => {
                    world.kill();
                    world.open_intact().map_err(TestCaseError::fail)?;
                }
                Action::Crash => {
                    world.crash();
                    world.open_intact().map_err(TestCaseError::fail)?;
                }
            }
        }
        world.check().map_err(TestCaseError::fail)?;
    }
}
