//! Plants known bugs and demands that a test fails: `cargo test -p storage --features mutants`.

use std::panic::catch_unwind;

use storage::mutants::{Mutant, plant};

use crate::{crash, disk_matrix, full_disk};

/// True if `test` fails with this bug in the log.
fn catches(mutant: Mutant, test: fn()) -> bool {
    plant(Some(mutant));
    let outcome = catch_unwind(test);
    plant(None);
    outcome.is_err()
}

macro_rules! caught {
    ($($name:ident: $mutant:ident by $test:path;)*) => {
        $(
            #[test]
            fn $name() {
                assert!(catches(Mutant::$mutant, $test), "{:?} lives", Mutant::$mutant);
            }
        )*
    };
}

caught! {
    m01_ack_before_sync: AckBeforeSync by crash::nothing_acknowledged_is_lost_in_a_power_cut;
    m02_no_directory_sync: NoDirectorySync by crash::nothing_acknowledged_is_lost_in_a_power_cut;
    m03_no_sync_on_open: NoSyncOnOpen by crash::what_a_start_has_read_survives_the_next_power_cut;
    m04_retried_sync: RetriedSync by full_disk::the_first_failed_sync_is_the_last;
    m05_damage_cut: DamageCut by disk_matrix::zeroed_sectors_in_the_middle_are_damage_and_not_a_torn_tail;
    m06_no_chain_check: NoChainCheck by disk_matrix::a_batch_in_the_place_of_another_is_noticed;
    m07_payload_unchecked: PayloadUnchecked by disk_matrix::a_bit_that_flips_under_an_open_log_is_not_served;
    m08_kept_dropped: KeptDropped by crash::nothing_acknowledged_is_lost_in_a_power_cut;
    m14_reset_drops_kept: ResetDropsKept by crash::nothing_acknowledged_is_lost_in_a_power_cut;
    m15_filling_forgotten: FillingForgotten by crash::nothing_acknowledged_is_lost_in_a_power_cut;
    m16_refill_no_split: RefillNoSplit by crash::nothing_acknowledged_is_lost_in_a_power_cut;
    m09_compact_one_more: CompactOneMore by crash::nothing_acknowledged_is_lost_in_a_power_cut;
    m10_move_not_logged: MoveNotLogged by crash::nothing_acknowledged_is_lost_in_a_power_cut;
    m11_no_split: NoSplit by crash::nothing_acknowledged_is_lost_in_a_power_cut;
    m12_no_reserve: NoReserve by full_disk::a_full_disk_refuses_entries_and_takes_what_frees_space;
    m13_no_confirm: NoConfirm by disk_matrix::at_rest_no_flipped_bit_is_taken_for_a_torn_write;
}
