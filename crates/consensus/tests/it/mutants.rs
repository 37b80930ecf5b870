//! Plants known bugs and demands that they are found: `cargo test -p consensus --features mutants
//! mutants`, or `scripts/mutants`, which prints a table.

use std::panic::{AssertUnwindSafe, catch_unwind};

use consensus::mutants::{Mutant, plant};

use crate::explore::{Cluster, clusters, explore, explore_whole, smallest};
use crate::scenario::{bugs, process};
use crate::simulation;

/// How many seeds a simulation gets.
const SEEDS: u64 = 300;
/// How many states every exploration gets.
const STATES: usize = 30_000;

/// What the first violation was; a panic is one as well.
fn first<T>(what: impl FnOnce() -> Option<T>) -> Option<Result<T, String>> {
    match catch_unwind(AssertUnwindSafe(what)) {
        Ok(found) => found.map(Ok),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            Some(Err(text.unwrap_or_else(|| "an assertion of the core".to_owned())))
        }
    }
}

/// The seed that notices, and what it says.
fn simulation(seeds: u64) -> Option<String> {
    (0..seeds).find_map(|seed| {
        let violation = first(|| simulation::run(seed).err())?;
        let text = violation.unwrap_or_else(|panic| panic);
        let line = text.lines().next().unwrap_or_default().to_owned();
        Some(format!("seed {seed}: {line}"))
    })
}

/// The cluster in which it shows, and how.
fn exploration() -> Option<String> {
    clusters().into_iter().find_map(|Cluster { name, first: state, order }| {
        let violation = first(|| explore(&state, STATES, order).violation)?;
        let text = violation.unwrap_or_else(|panic| panic);
        Some(format!("{name}: {}", text.lines().next().unwrap_or_default()))
    })
}

/// What a scenario says.
fn scenario(test: fn()) -> Option<String> {
    let panic = catch_unwind(test).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.unwrap_or_else(|| "the scenario fails".to_owned()))
}

fn is_found(mutant: Mutant, finder: impl FnOnce() -> Option<String>) {
    plant(Some(mutant));
    let found = finder();
    plant(None);
    match found {
        Some(how) => println!("{mutant:?} | {how}"),
        None => panic!("{mutant:?} lives"),
    }
}

macro_rules! found {
    ($($name:ident: $mutant:ident by $finder:expr;)*) => {
        $(
            #[test]
            fn $name() {
                is_found(Mutant::$mutant, || $finder);
            }
        )*
    };
}

found! {
    m01_commits_old_terms: CommitsOldTerms by simulation(SEEDS);
    m02_vote_too_early: VoteTooEarly by exploration();
    m03_two_records: TwoRecords by simulation(SEEDS);
    m04_forgets_vote: ForgetsVote by exploration();
    m05_confirms_too_early: ConfirmsTooEarly by exploration();
    m06_leader_counts_early: LeaderCountsEarly by exploration();
    m07_longer_log_wins: LongerLogWins by simulation(SEEDS);
    m08_truncates_always: TruncatesAlways by simulation(SEEDS);
    m09_match_goes_back: MatchGoesBack
        by scenario(bugs::b14_a_late_confirmation_takes_nothing_back);
    m10_old_writes_count: OldWritesCount by simulation(SEEDS);
    m11_membership_late: MembershipLate by simulation(SEEDS);
    m12_membership_kept: MembershipKept by simulation(SEEDS);
    m13_new_majority_only: NewMajorityOnly by simulation(SEEDS);
    m14_second_change: SecondChange by scenario(bugs::b01_one_change_at_a_time);
    m15_half_is_majority: HalfIsMajority by simulation(SEEDS);
    m16_learners_count: LearnersCount by simulation(SEEDS);
    m17_reads_too_early: ReadsTooEarly by simulation(SEEDS);
    m18_any_round_confirms: AnyRoundConfirms by simulation(SEEDS);
    m20_suffix_kept: SuffixKept by scenario(bugs::b13_a_snapshot_drops_what_contradicts_it);
    m21_old_snapshot_installed: OldSnapshotInstalled by simulation(SEEDS);
    m23_refusal_ignored: RefusalIgnored
        by scenario(bugs::b23_a_lower_term_with_the_better_log_wins);
    m24_probes_forever: ProbesForever by simulation(SEEDS);
    m27_votes_twice: VotesTwice by exploration();
    m28_commit_beyond_match: CommitBeyondMatch by simulation(SEEDS);
    m29_reads_unconfirmed: ReadsUnconfirmed by simulation(SEEDS);
    m30_no_check_quorum: NoCheckQuorum by scenario(process::a_leader_that_hears_nobody_ends);
    m31_reads_wait_for_the_gone: ReadsWaitForTheGone
        by scenario(bugs::reads_do_not_wait_for_a_voter_that_left);
    m32_follows_the_silent: FollowsTheSilent
        by scenario(process::a_late_append_of_the_silent_is_not_followed);
    m33_unreachable_kept: UnreachableKept
        by scenario(process::a_member_that_comes_back_is_tried_again);
    m34_strangers_ignored: StrangersIgnored by simulation(SEEDS);
    m36_leaving_forgets: LeavingForgets
        by scenario(bugs::who_comes_back_elects_nobody_who_has_less_than_it_had);
    m37_forgotten_ignored: ForgottenIgnored
        by scenario(bugs::who_comes_back_elects_nobody_who_has_less_than_it_had);
    m35_removed_keep_quiet: RemovedKeepQuiet
        by scenario(bugs::a_removed_leader_with_the_best_log_begins_once_more);
}

/// Both, or neither: what the reductions leave out would not have shown it.
#[test]
fn the_reduced_exploration_finds_what_the_whole_one_finds() {
    let (mut found, mut absent, mut undecided) = (0, 0, 0);
    for mutant in WITHIN_TWO {
        plant(Some(mutant));
        for Cluster { name, first: state, order } in smallest() {
            let whole = first(|| match explore_whole(state.clone(), STATES) {
                Some(Ok(())) => None,
                Some(Err(violation)) => Some(Some(violation)),
                None => Some(None),
            });
            let is_found = match whole {
                None => false,
                Some(Ok(Some(_)) | Err(_)) => true,
                // It has too many states without the reductions.
                Some(Ok(None)) => {
                    undecided += 1;
                    continue;
                }
            };
            let reduced = first(|| explore(&state, STATES, order).violation);
            assert_eq!(reduced.is_some(), is_found, "{mutant:?}, {name}");
            found += usize::from(is_found);
            absent += usize::from(!is_found);
        }
        plant(None);
    }
    println!(
        "both explorations | {found} found, {absent} not there, {undecided} too large for one"
    );
    assert!(0 < found && 0 < absent);
}

/// Bugs in what two nodes with a few timeouts do.
const WITHIN_TWO: [Mutant; 12] = [
    Mutant::CommitsOldTerms,
    Mutant::VoteTooEarly,
    Mutant::TwoRecords,
    Mutant::ForgetsVote,
    Mutant::VotesTwice,
    Mutant::ConfirmsTooEarly,
    Mutant::LeaderCountsEarly,
    Mutant::LongerLogWins,
    Mutant::MatchGoesBack,
    Mutant::HalfIsMajority,
    Mutant::ReadsTooEarly,
    Mutant::ReadsUnconfirmed,
];
