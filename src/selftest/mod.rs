//! Judges a device by the operations' definitions: every case of the catalogue, with guard bytes behind every range.
//!
//! The rule of tolerance: the error against double precision is at most twice that of plain loops in single precision, which
//! round 16-bit results once. Tensor cores cut the terms of a sum off where fp32 rounds them, and their errors have one
//! direction, so that they grow with the number of terms, not with its root. What a straightforward computation strays there
//! is what plain loops of their instructions would: so on a device with tensor cores, the plain loops of 16-bit convolutions
//! take their sums in the groups and bits of its generation ([`TensorCores`](crate::machine::TensorCores)). Since half of the last place times two is the whole last place, that alone would pass results
//! that are cut off instead of rounded; so of 16-bit results most must be the nearest numbers to the truth as well.
//! The tests use it for the CPU and the emulated GPU, `gyrus selftest` for the user's own GPU.

mod single;
pub mod steps;

pub use single::{Cpu, Gpu, Operands, Runner, Single, decode, encode};

use crate::{Result, graph::reference::round_to, ops::case::Case, tensor::DType};

/// How one case went.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The case's name.
    pub case: String,
    /// The largest error of a result as a share of what is allowed: up to 1 is good. Infinite if a result is not a number.
    pub share: f64,
    /// That error, in units of the result.
    pub error: f64,
    /// What is allowed there.
    pub allowed: f64,
    /// Seconds that the device took, copies included.
    pub seconds: f64,
}

impl Outcome {
    /// Whether every result is near enough to the truth.
    pub fn is_good(&self) -> bool {
        self.share <= 1.0
    }
}

/// Runs one case.
///
/// # Errors
/// If the device fails.
pub fn judge(case: &Case, device: &mut dyn Runner) -> Result<Outcome> {
    // The worst over several draws: with a few elements, a single draw may be lucky for the yardstick.
    let elements: usize = case.specs().iter().map(|spec| spec.shape.elements()).sum();
    let draws = if elements < 4000 { 16 } else { 1 };
    let dtypes = Single::new(case, Operands::FromHost, 0).result_types();
    let outputs = dtypes.len();
    let (mut allowed, mut error) = (vec![0.0f64; outputs], vec![0.0f64; outputs]);
    let mut misrounded = vec![Misrounded::default(); outputs];
    let mut seconds = 0.0;
    for draw in 0..draws {
        let single = Single::new(case, Operands::FromHost, draw);
        let (truth, plain) = (single.reference::<f64>(), single.reference_on(device.tensor_cores()));
        let start = std::time::Instant::now();
        let results = device.run(&single)?;
        seconds += start.elapsed().as_secs_f64();
        for (output, fast) in results.into_iter().enumerate() {
            let (truth, plain) = (&truth[output], &plain[output]);
            allowed[output] = allowed[output].max(2.0 * distance(truth, plain) + ulp(truth));
            let distance = distance(truth, &fast);
            error[output] = if distance.is_nan() { f64::INFINITY } else { error[output].max(distance) };
            misrounded[output].add(dtypes[output], truth, plain, &fast);
        }
    }
    let share = |output: usize| {
        let of_error = if error[output] == 0.0 { 0.0 } else { error[output] / allowed[output] };
        of_error.max(misrounded[output].share())
    };
    let shares: Vec<f64> = (0..outputs).map(share).collect();
    let worst = (0..outputs).max_by(|&a, &b| shares[a].total_cmp(&shares[b])).expect("operations have results");
    let (share, error, allowed) = (shares[worst], error[worst], allowed[worst]);
    Ok(Outcome { case: case.name.clone(), share, error, allowed, seconds })
}

/// Counts 16-bit results that are not the numbers nearest to the truth.
#[derive(Clone, Copy, Debug, Default)]
struct Misrounded {
    results: usize,
    plain: usize,
    fast: usize,
}

impl Misrounded {
    fn add(&mut self, dtype: DType, truth: &[f64], plain: &[f64], fast: &[f64]) {
        if !matches!(dtype, DType::Bf16 | DType::F16) {
            return;
        }
        let wrong = |results: &[f64]| {
            let is_wrong = |(&truth, &result): (&f64, &f64)| f64::from(round_to(dtype, truth as f32)) != result;
            truth.iter().zip(results).filter(|&pair| is_wrong(pair)).count()
        };
        self.results += truth.len();
        self.plain += wrong(plain);
        self.fast += wrong(fast);
    }

    /// Up to 1 is good: twice as many as plain loops have, and an eighth of all, for sums in another order.
    fn share(&self) -> f64 {
        if self.fast == 0 { 0.0 } else { self.fast as f64 / (2 * self.plain + self.results / 8 + 1) as f64 }
    }
}

/// The largest difference of two lists of numbers; NaN if there is one.
pub fn distance(truth: &[f64], other: &[f64]) -> f64 {
    truth
        .iter()
        .zip(other)
        .map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() })
        .fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

/// One unit in the last place of the largest number: what rounding the truth itself may cost.
pub fn ulp(truth: &[f64]) -> f64 {
    truth.iter().fold(0.0, |a: f64, b| a.max(b.abs())) * f64::from(f32::EPSILON)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{machine::TensorCores, ops::catalogue};

    /// The CPU, but the last element of every result is off by a thousandth of the largest.
    struct Slipping;

    impl Runner for Slipping {
        fn run(&mut self, single: &Single) -> Result<Vec<Vec<f64>>> {
            let mut results = Cpu(1).run(single)?;
            for result in &mut results {
                let largest = result.iter().fold(1.0, |a: f64, b| a.max(b.abs()));
                *result.last_mut().expect("results have elements") += 1e-3 * largest;
            }
            Ok(results)
        }
    }

    /// The CPU, but 16-bit results are cut off where they should be rounded.
    struct CuttingOff;

    impl Runner for CuttingOff {
        fn run(&mut self, single: &Single) -> Result<Vec<Vec<f64>>> {
            let exact = single.reference::<f64>();
            let cut = |x: f64| f64::from(f32::from_bits((x as f32).to_bits() & 0xffff_0000));
            Ok(exact.into_iter().map(|result| result.into_iter().map(cut).collect()).collect())
        }
    }

    /// The same on a device whose tensor cores add like this.
    struct SlippingOn(TensorCores);

    impl Runner for SlippingOn {
        fn tensor_cores(&self) -> TensorCores {
            self.0
        }

        fn run(&mut self, single: &Single) -> Result<Vec<Vec<f64>>> {
            Slipping.run(single)
        }
    }

    #[test]
    fn one_wrong_element_of_a_filter_gradient_fails_on_every_generation_of_tensor_cores() {
        let is_meant = |case: &&Case| {
            case.op.kind().ends_with("wgrad") && matches!(case.dtype(), DType::Bf16 | DType::F16) && !case.large
        };
        let cases = catalogue();
        for cores in TensorCores::ALL {
            let mut found = 0;
            for case in cases.iter().filter(is_meant).step_by(3) {
                assert!(!judge(case, &mut SlippingOn(cores)).unwrap().is_good(), "{cores:?}: {}", case.name);
                found += 1;
            }
            assert!(found > 20, "{found} cases");
        }
    }

    #[test]
    fn results_that_are_cut_off_instead_of_rounded_fail() {
        let is_sum = |case: &&Case| case.op.kind() == "axpy" && case.dtype() == DType::Bf16;
        let cases = catalogue();
        let case = cases.iter().filter(is_sum).max_by_key(|case| case.specs()[0].bytes()).expect("sums in bf16");
        assert!(judge(case, &mut Cpu(1)).unwrap().is_good());
        assert!(!judge(case, &mut CuttingOff).unwrap().is_good());
    }

    #[test]
    fn one_wrong_element_fails_a_case_and_the_cpu_passes_it() {
        for case in catalogue().iter().filter(|case| !case.large).take(40) {
            assert!(judge(case, &mut Cpu(1)).unwrap().is_good(), "{}", case.name);
            assert!(!judge(case, &mut Slipping).unwrap().is_good(), "{}", case.name);
        }
    }
}
