//! Which broker has which group: decided here, carried out elsewhere.
//!
//! | | run by | decides |
//! | --- | --- | --- |
//! | [`place`] | `apply` of the catalog | the founders of a new group |
//! | [`plan`] | the catalog's leader, every few seconds | which moves begin or are given up, who should lead |
//! | [`step`] | each group's leader | the next change of its members |
//!
//! All are functions of what they are given. A plan is only a proposal: every command in it names
//! the state it was made for, and does nothing in another.
//!
//! Rules, the first that applies:
//!
//! 1. copies leave brokers that are being emptied, that were silent for too long, or whose copy
//!    is damaged. Only while enough of the others are up that the group can decide it;
//! 2. groups with too few copies get more, those with too many get fewer;
//! 3. copies are kept in different zones;
//! 4. copies are spread evenly, where that costs no zone;
//! 5. so is leading.
//!
//! **Invariant:** no move of a plan leaves a group without a majority of brokers that are up.
//! **Invariant:** a plan that is carried out leads to another with less to do: see `even`.

mod choose;
mod even;
mod lead;
mod plan;
mod step;
mod view;

pub use choose::{place, target};
pub use plan::{PlanLimits, Seen, plan};
pub use step::{Step, step};
pub use view::GroupView;
