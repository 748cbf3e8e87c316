//! How tensor cores add the terms of a product up, by generation of the hardware.
//!
//! NVIDIA does not document it. Published experiments agree on the rules, and differ by generation in two numbers only. A
//! group of exact products and the accumulator, each with the sum of its factors' exponents (the accumulator with its
//! own), are shifted to the largest of these exponents and cut off behind so many bits; what is left is added exactly.
//! An fp32 sum is cut off, an fp16 sum rounded to nearest even, and the next group starts from there.
//!
//! - M. Fasi, N. J. Higham, M. Mikaitis, S. Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ Computer Science
//!   7:e330, 2021: the V100, T4 and A100, their truncation, carries and first extra bit.
//! - P. Xie, Y. Wang, F. Yang, M. Yang, "MMA-Sim: Bit-Accurate Reference Model of Tensor Cores and Matrix Cores",
//!   arXiv:2511.10909, 2025: groups and bits of every generation, compared with the hardware bit for bit. The numbers of
//!   [`TensorCores`] are theirs.
//! - F. A. Khattak, M. Mikaitis, "Generalized Methodology for Determining Numerical Features of Hardware Floating-Point
//!   Matrix Multipliers: Part I", arXiv:2510.15884, 2025: consumer cards of the Ampere generation equal the A100.

use super::product::{Input, Left, Right, Sums};
use crate::numeric::half::{f16_to_f32, f32_to_f16};

/// How the tensor cores of an emulated device add up, for `mma` and `wgmma` alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum TensorCores {
    /// No hardware's way, but the fastest: sums in f32, one term after the other in ascending k, each rounded to nearest.
    #[default]
    Sequential,
    /// Compute capability 7.0: four terms, 23 bits.
    Volta,
    /// 7.5: eight terms, 24 bits.
    Turing,
    /// 8.0 to 8.9: eight terms (four of tf32), 24 bits.
    Ampere,
    /// 9.0 and newer: sixteen terms (eight of tf32), 25 bits.
    Hopper,
}

impl TensorCores {
    /// Every way that there is.
    pub const ALL: [TensorCores; 5] =
        [TensorCores::Sequential, TensorCores::Volta, TensorCores::Turing, TensorCores::Ampere, TensorCores::Hopper];

    /// The generation of a compute capability, such as 86; those without tensor cores count as the oldest with them.
    pub fn of(compute_capability: u32) -> TensorCores {
        match compute_capability {
            ..75 => TensorCores::Volta,
            75..80 => TensorCores::Turing,
            80..90 => TensorCores::Ampere,
            90.. => TensorCores::Hopper,
        }
    }

    /// How many products of this format are added at once.
    pub fn terms(self, input: Input) -> usize {
        let terms = match self {
            TensorCores::Sequential => return 1,
            TensorCores::Volta => 4,
            TensorCores::Turing | TensorCores::Ampere => 8,
            TensorCores::Hopper => 16,
        };
        if input == Input::Tf32 { terms / 2 } else { terms }
    }

    /// Bits behind the point of the largest addend that take part.
    fn bits(self) -> i32 {
        match self {
            TensorCores::Sequential | TensorCores::Volta => 23,
            TensorCores::Turing | TensorCores::Ampere => 24,
            TensorCores::Hopper => 25,
        }
    }

    /// Adds products to fp32 sums as one instruction after the other would: `sums[j]` gains the products of
    /// `left[i]` and `right[i][j]` in ascending i, in groups.
    ///
    /// # Panics
    ///
    /// If a row of `right` is shorter than the sums, or `left` has fewer elements than `right` has rows.
    pub fn multiply_add(self, input: Input, left: &[f32], right: &[&[f32]], sums: &mut [f32]) {
        for (group, left) in right.chunks(self.terms(input)).zip(left.chunks(self.terms(input))) {
            let mut rows = [([0.0; LANES], [0.0; LANES]); MOST_TERMS];
            for (at, chunk) in sums.chunks_mut(LANES).enumerate() {
                for (row, (&factor, right)) in rows.iter_mut().zip(left.iter().zip(group)) {
                    row.0 = [factor; LANES];
                    row.1[..chunk.len()].copy_from_slice(&right[LANES * at..][..chunk.len()]);
                }
                let mut lanes = [0.0; LANES];
                lanes[..chunk.len()].copy_from_slice(chunk);
                crate::simd::add_group(&Rule { cores: self, input, half: false }, &rows[..group.len()], &mut lanes);
                chunk.copy_from_slice(&lanes[..chunk.len()]);
            }
        }
    }
}

/// Sums that are computed side by side.
pub(crate) const LANES: usize = 8;

/// The most terms of any generation.
const MOST_TERMS: usize = 16;

/// Factors of a term, for sums side by side.
pub(crate) type Factors = ([f32; LANES], [f32; LANES]);

/// Everything that the result of a group depends on beside its numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub cores: TensorCores,
    pub input: Input,
    /// Whether the sums are fp16.
    pub half: bool,
}

/// The exponent of a finite number of a format whose smallest normal one has the exponent `least`; more than any for those
/// that are not finite.
#[inline(always)]
fn exponent(x: f32, least: i32) -> i32 {
    ((x.to_bits() >> 23 & 0xff) as i32 - 127).max(least)
}

/// Two to this power, of which f64 has all that occur.
#[inline(always)]
fn power(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// Cut off to fp32; beyond its range, infinite.
#[inline(always)]
fn toward_zero(x: f64) -> f32 {
    let nearest = x as f32;
    let is_beyond = f64::from(nearest).abs() > x.abs() && x.abs() < power(128);
    f32::from_bits(nearest.to_bits() - u32::from(is_beyond))
}

/// To fp16, to nearest even: by way of an fp32 number whose last bit says whether something was cut off.
#[inline(always)]
fn to_half(x: f64) -> f32 {
    let cut = toward_zero(x);
    let is_inexact = f64::from(cut) != x && x.abs() < power(128);
    f16_to_f32(f32_to_f16(f32::from_bits(cut.to_bits() | u32::from(is_inexact))))
}

/// Adds one group of products to sums. Infinities and NaNs come through the arithmetic as IEEE 754 has them.
#[inline(always)]
pub(crate) fn add_group(rule: &Rule, terms: &[Factors], sums: &mut [f32; LANES]) {
    /// Zeros do not push others out: they are taken for the smallest normal number.
    const OF_ZERO: i32 = -126;
    if rule.cores == TensorCores::Sequential {
        for (left, right) in terms {
            for lane in 0..LANES {
                sums[lane] += left[lane] * right[lane];
            }
        }
        return;
    }
    let of_input = if rule.input == Input::F16 { -14 } else { -126 };
    let of_sum = if rule.half { -14 } else { -126 };
    let mut products = [[0.0f64; LANES]; MOST_TERMS];
    let mut largest = [OF_ZERO; LANES];
    for lane in 0..LANES {
        let own = if sums[lane] == 0.0 { OF_ZERO } else { exponent(sums[lane], of_sum) };
        largest[lane] = largest[lane].max(own);
    }
    for ((left, right), product) in terms.iter().zip(&mut products) {
        for lane in 0..LANES {
            product[lane] = f64::from(left[lane]) * f64::from(right[lane]);
            let sum = exponent(left[lane], of_input) + exponent(right[lane], of_input);
            largest[lane] = largest[lane].max(if product[lane] == 0.0 { OF_ZERO } else { sum });
        }
    }
    // In units of the last bit that takes part, everything that is left is a whole number, and f64 adds them exactly.
    let bits = rule.cores.bits();
    let mut units = [0.0; LANES];
    let mut total = [0.0; LANES];
    for lane in 0..LANES {
        units[lane] = power(bits - largest[lane]);
        total[lane] = (f64::from(sums[lane]) * units[lane]).trunc();
    }
    for product in &products[..terms.len()] {
        for lane in 0..LANES {
            total[lane] += (product[lane] * units[lane]).trunc();
        }
    }
    for lane in 0..LANES {
        let exact = total[lane] * power(largest[lane] - bits);
        sums[lane] = if rule.half { to_half(exact) } else { toward_zero(exact) };
    }
}

/// C += A B for the first `k` columns of A, group by group. `simd` has it for hosts with wider registers.
#[inline(always)]
pub(crate) fn accumulate(rule: &Rule, a: &Left, b: &Right, c: &mut Sums, k: usize) {
    let (packed, group) = (rule.input.packed(), rule.cores.terms(rule.input));
    let mut terms = [([0.0; LANES], [0.0; LANES]); MOST_TERMS];
    for (a, c) in a.iter().zip(c) {
        for (odd, c) in c.iter_mut().enumerate() {
            for (p, sums) in c.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                for first in (0..k).step_by(group) {
                    let columns = first..(first + group).min(k);
                    let count = columns.len();
                    for (term, column) in terms.iter_mut().zip(columns) {
                        let (part, q) = (column / (4 * packed) * packed + column % packed, column / packed % 4);
                        let (x, y) = (a[part][8 * p + q], a[part][8 * p + 4 + q]);
                        *term = ([x, x, x, x, y, y, y, y], b[column][odd]);
                    }
                    add_group(rule, &terms[..count], sums);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::half::bf16_to_f32;

    /// Significand, its exponent, and the exponent by which the number is aligned.
    fn parts(x: f32, least: i32) -> (i128, i32, i32) {
        let (bits, field) = (x.to_bits(), (x.to_bits() >> 23 & 0xff) as i32);
        let significand = i128::from(bits & 0x7f_ffff) | if field == 0 { 0 } else { 1 << 23 };
        let sign = if x.is_sign_negative() { -1 } else { 1 };
        (sign * significand, field.max(1) - 150, (field.max(1) - 127).max(least))
    }

    /// `number` times two to the `exponent`, cut off to fp32, in whole numbers only.
    fn compose(number: i128, exponent: i32) -> f32 {
        let magnitude = number.unsigned_abs();
        let top = 127 - magnitude.leading_zeros() as i32;
        let shift = (top - 23).max(-149 - exponent);
        let kept = if shift >= 0 { magnitude >> shift } else { magnitude << -shift };
        let sign = if number < 0 { -1.0 } else { 1.0 };
        if magnitude == 0 { 0.0 } else { (sign * kept as f64 * 2f64.powi(exponent + shift)) as f32 }
    }

    /// The rules in whole numbers, for fp32 sums and finite numbers.
    fn by_the_rules(cores: TensorCores, input: Input, terms: &[(f32, f32)], sum: f32) -> f32 {
        let least = if input == Input::F16 { -14 } else { -126 };
        let product = |&(x, y): &(f32, f32)| {
            let ((a, p, e), (b, q, f)) = (parts(x, least), parts(y, least));
            (a * b, p + q, if a * b == 0 { -126 } else { e + f })
        };
        let own = parts(sum, -126);
        let own = (own.0, own.1, if own.0 == 0 { -126 } else { own.2 });
        let addends: Vec<(i128, i32, i32)> = terms.iter().map(product).chain([own]).collect();
        let unit = addends.iter().map(|addend| addend.2).max().unwrap() - cores.bits();
        let cut = |&(number, exponent, _): &(i128, i32, i32)| match exponent - unit {
            shift @ 0.. => number << shift,
            shift if shift < -126 => 0,
            shift => number.signum() * (number.abs() >> -shift),
        };
        compose(addends.iter().map(cut).sum(), unit)
    }

    /// Numbers of a format: mostly of like size, now and then of any.
    fn draw(input: Input, seed: &mut u64) -> f32 {
        *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let bits = (*seed >> 33) as u32;
        let any = bits & 0x700 == 0;
        match input {
            Input::F16 if any => f16_to_f32(if bits & 0x7c00 == 0x7c00 { bits & 0x83ff } else { bits & 0xffff }),
            Input::F16 => f16_to_f32(0x3800 + (bits & 0x7ff) + (bits >> 5 & 0x8000)),
            // Products that overflow fp32 are another matter.
            _ if any => bf16_to_f32(bits & 0xbfff),
            _ => bf16_to_f32(0x3f00 + (bits & 0x1ff) + (bits >> 5 & 0x8000)),
        }
    }

    #[test]
    fn a_group_is_aligned_cut_off_and_added_as_whole_numbers() {
        let mut seed = 7;
        let mut unlike = [0; 5];
        for (index, cores) in TensorCores::ALL.into_iter().enumerate().skip(1) {
            for input in [Input::F16, Input::Bf16, Input::Tf32] {
                for _ in 0..4000 {
                    let terms: Vec<(f32, f32)> =
                        (0..cores.terms(input)).map(|_| (draw(input, &mut seed), draw(input, &mut seed))).collect();
                    let sum = draw(input, &mut seed) * 1.7;
                    let (left, right): (Vec<f32>, Vec<f32>) = terms.iter().copied().unzip();
                    let rows: Vec<&[f32]> = right.chunks(1).collect();
                    let [mut found, mut plain] = [[sum], [sum]];
                    cores.multiply_add(input, &left, &rows, &mut found);
                    TensorCores::Sequential.multiply_add(input, &left, &rows, &mut plain);
                    let expected = by_the_rules(cores, input, &terms, sum);
                    assert_eq!(found[0], expected, "{cores:?} {input:?} {terms:?} {sum}");
                    unlike[index] += usize::from(found != plain);
                }
            }
        }
        assert!(unlike[1..].iter().all(|&count| count > 1000), "{unlike:?}");
    }

    #[test]
    fn infinities_and_nans_are_those_of_ieee_754() {
        let one = |cores: TensorCores, left: &[f32], right: &[f32], sum: f32| {
            let mut sums = [sum];
            cores.multiply_add(Input::Bf16, left, &right.chunks(1).collect::<Vec<_>>(), &mut sums);
            sums[0]
        };
        let big = f32::from_bits(0x7f00_0000); // 2^127
        for cores in TensorCores::ALL.into_iter().skip(1) {
            assert_eq!(one(cores, &[f32::INFINITY, 1.0], &[2.0, 1.0], 1.0), f32::INFINITY);
            assert_eq!(one(cores, &[1.0], &[1.0], f32::NEG_INFINITY), f32::NEG_INFINITY);
            assert!(one(cores, &[f32::INFINITY], &[0.0], 1.0).is_nan());
            assert!(one(cores, &[f32::INFINITY, 1.0], &[1.0, f32::NEG_INFINITY], 1.0).is_nan());
            assert!(one(cores, &[f32::NAN], &[0.0], 1.0).is_nan());
            // What overflows on the way back is infinite, what cancels before is not.
            assert_eq!(one(cores, &[big, big], &[2.0, -2.0], 1.0), 0.0);
            assert_eq!(one(cores, &[-big], &[2.0], 1.0), f32::NEG_INFINITY);
        }
    }

    #[test]
    fn fp16_sums_are_rounded_once_to_nearest_even() {
        let rule = |cores| Rule { cores, input: Input::F16, half: true };
        for cores in TensorCores::ALL.into_iter().skip(1) {
            let mut sums = [1.0, 1.0, 1.0, 65504.0, 0.0, 0.0, -1.0, 0.0];
            let tiny = 2f32.powi(-24);
            // A tie, a tie and something, almost a tie; too large; half of the smallest number, three halves.
            let first = [2f32.powi(-11), 2f32.powi(-11), 2f32.powi(-11), 32.0, tiny, tiny, -(2f32.powi(-11)), 0.0];
            let second = [0.0, 2f32.powi(-20), -(2f32.powi(-20)), 0.0, 0.0, tiny, 0.0, 0.0];
            let ones = [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 1.0, 1.0];
            add_group(
                &rule(cores),
                &[(first, ones), (second, ones.map(|x| if x == 0.5 { 1.0 } else { x }))],
                &mut sums,
            );
            let ulp = 2f32.powi(-10);
            assert_eq!(sums, [1.0, 1.0 + ulp, 1.0, f32::INFINITY, 0.0, 2.0 * tiny, -1.0, 0.0], "{cores:?}");
        }
    }
}
