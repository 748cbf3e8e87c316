//! The library's harness for single operations, with assertions.

#![allow(dead_code)] // each test binary uses its own part of this module

use gyrus::{
    ops::{case::Case, catalogue},
    selftest::{Operands, Runner, Single, judge},
};

/// Asserts that each result of the case is at most twice as far from the truth as plain loops.
pub fn check_against_definition(case: &Case, device: &mut dyn Runner) {
    let outcome = judge(case, device).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    assert!(outcome.is_good(), "{}: error {:e}, allowed {:e}", case.name, outcome.error, outcome.allowed);
}

/// Asserts that casts give the very numbers that plain loops give: that they round to nearest even.
pub fn check_casts(device: &mut dyn Runner) {
    let casts: Vec<Case> = catalogue().into_iter().filter(|case| case.op.kind() == "cast").collect();
    assert!(casts.len() >= 12, "{} casts", casts.len());
    for case in casts {
        let single = Single::new(&case, Operands::FromHost, 0);
        assert_eq!(device.run(&single).unwrap(), single.reference::<f32>(), "{}", case.name);
    }
}

/// Whether an output of the case may take over an operand's bytes: they have the same number.
pub fn can_work_in_place(case: &Case) -> bool {
    let (inputs, outputs) = (case.specs(), case.op.infer(&case.specs()).expect("a case fits its operation"));
    case.op.in_place().iter().any(|&(input, output)| inputs[input].bytes() == outputs[output].bytes())
}

/// The bits of the results on this device.
pub fn bits(device: &mut dyn Runner, single: &Single) -> Vec<Vec<u64>> {
    let results =
        device.run(single).unwrap_or_else(|error| panic!("{:?}: {error}", single.graph.nodes[single.node].op));
    results.iter().map(|values| values.iter().map(|x| x.to_bits()).collect()).collect()
}
