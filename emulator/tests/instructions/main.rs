//! One instruction form at a time over edge values, against plain Rust; and that no form which the decoder takes is missing.

#![allow(clippy::needless_range_loop)] // Lanes and registers are named by their numbers here.

mod atomics;
#[path = "../common/mod.rs"]
mod common;
mod complete;
mod copies;
mod floats;
mod functions;
mod harness;
mod integers;
mod lanes;
mod matrices;
mod sweeps;
mod warpgroup;

use harness::Table;

macro_rules! tables {
    ($($name:ident: $table:path,)*) => {
        $(
            #[test]
            fn $name() {
                $table(&mut Table::running());
            }
        )*

        /// The programs of all tables.
        fn all_programs() -> Vec<String> {
            let mut table = Table::collecting();
            $($table(&mut table);)*
            table.programs()
        }
    };
}

tables! {
    integers_of_32_bits: integers::integers_of_32_bits,
    integers_of_64_and_16_bits: integers::integers_of_64_and_16_bits,
    bits_and_shifts: integers::bits_and_shifts,
    comparisons_and_selection: integers::comparisons_and_selection,
    floats_of_32_bits: floats::floats_of_32_bits,
    floats_of_64_bits: floats::floats_of_64_bits,
    conversions: floats::conversions,
    halves: floats::halves,
    eight_bit_floats: functions::eight_bit_floats,
    approximate_functions: functions::approximate,
    halves_of_both_kinds: functions::halves,
    integer_arithmetic_by_type: sweeps::integers,
    comparisons_by_type: sweeps::comparisons,
    conversions_by_type: sweeps::conversions,
    lanes_together: lanes::lanes_together,
    lanes_reduced_and_matched: lanes::reduced_and_matched,
    atomics_by_type: atomics::by_type,
    products_of_fragments: matrices::products,
    matrices_to_and_from_shared_memory: matrices::transfers,
    warpgroup_products: warpgroup::products,
    lane_copies: copies::lane_copies,
    named_barriers: copies::barriers,
}
