//! The library's harness for single operations, with assertions.

#![allow(dead_code)] // each test binary uses its own part of this module

use gyrus::{
    ops::case::Case,
    selftest::{Device, Single, judge},
};

/// Asserts that each result of the case is at most twice as far from the truth as plain loops.
pub fn check_against_definition(case: &Case, device: &mut dyn Device) {
    let outcome = judge(case, device).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    assert!(outcome.is_good(), "{}: error {:e}, allowed {:e}", case.name, outcome.error, outcome.allowed);
}

/// The bits of the results on this device.
pub fn bits(device: &mut dyn Device, single: &Single) -> Vec<Vec<u64>> {
    let results =
        device.run(single).unwrap_or_else(|error| panic!("{:?}: {error}", single.graph.nodes[single.node].op));
    results.iter().map(|values| values.iter().map(|x| x.to_bits()).collect()).collect()
}
