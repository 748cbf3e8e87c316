//! Products of matrices on hosts with AVX-512: a fragment's register is two vectors, and from C to D all sums stay in
//! vector registers. The same products and sums in the same order as `tensor::accumulate`.

use std::arch::x86_64::{
    __m512, __m512i, _CMP_UNORD_Q, _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_cmp_ps_mask, _mm512_cvtepi32_epi16, _mm512_cvtph_ps, _mm512_loadu_si512, _mm512_mask_mov_epi32,
    _mm512_mul_ps, _mm512_permute_ps, _mm512_permutex2var_ps, _mm512_set1_epi32, _mm512_setr4_epi32, _mm512_setzero_ps,
    _mm512_slli_epi32, _mm512_srli_epi32, _mm512_storeu_si512,
};

use crate::decode::{Few, Slot};
use crate::memory::W;
use crate::numeric::single::NAN;
use crate::tensor::{Input, Left, Multiply, PendingMatrix};

/// A value of each lane of a warp.
type Lanes = [__m512; 2];

/// C and D: `[half of the rows][even or odd columns]`.
type Sums = [[Lanes; 2]; 2];

/// Where the fragments of A and B are.
enum Factors<'a> {
    Registers(&'a Few, &'a Few),
    /// A widened before, because several blocks of B meet it; the registers of a block of B.
    Widened(&'a Left, &'a [W; 2]),
}

/// `mma.sync` with f32 sums.
#[target_feature(enable = "avx512f")]
pub(super) fn product(multiply: &Multiply, w: &mut [W]) {
    let factors = Factors::Registers(&multiply.a, &multiply.b);
    let registers = multiply.b.len();
    let (c, d) = (Some(multiply.c.places()), multiply.d.places());
    accumulate(multiply.input, &factors, registers, c, d, w);
}

/// Eight columns of a `wgmma` with f32 sums.
#[target_feature(enable = "avx512f")]
pub(super) fn block(product: &PendingMatrix, block: usize, columns: &[W; 2], a: &Left, w: &mut [W]) {
    let &[d0, d1, d2, d3] = product.sums_of(block) else {
        unreachable!("f32 sums of eight columns are four registers")
    };
    let d = [d0, d1, d2, d3];
    let c = product.accumulates().then_some(d);
    accumulate(product.input(), &Factors::Widened(a, columns), 2, c, d, w);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load<T>(half: &[T; 16]) -> __m512i {
    const { assert!(size_of::<T>() == 4) };
    // SAFETY: the pointer comes from a reference to 64 bytes without padding, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(half.as_ptr().cast()) }
}

/// The two halves of a row of 32 lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_row<T>(row: &[T; 32]) -> [__m512i; 2] {
    let [low, high] = row.as_chunks::<16>().0 else { unreachable!("32 lanes are twice sixteen") };
    [load(low), load(high)]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_floats<T>(row: &[T; 32]) -> Lanes {
    load_row(row).map(|half| _mm512_castsi512_ps(half))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_sums([a, b, c, d]: [&W; 4]) -> Sums {
    [[load_floats(a), load_floats(b)], [load_floats(c), load_floats(d)]]
}

/// Writes a row, every NaN the canonical one.
#[inline]
#[target_feature(enable = "avx512f")]
fn store(sums: Lanes, row: &mut W) {
    for (sum, half) in sums.into_iter().zip(row.as_chunks_mut::<16>().0) {
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(sum, sum);
        let bits = _mm512_mask_mov_epi32(_mm512_castps_si512(sum), nan, _mm512_set1_epi32(NAN as i32));
        // SAFETY: the pointer comes from a reference to 64 bytes, and the store needs no alignment.
        unsafe { _mm512_storeu_si512(half.as_mut_ptr().cast(), bits) };
    }
}

/// Value `part` of each register, as `Input::widen` has it; NaNs may differ in what no result shows.
#[inline]
#[target_feature(enable = "avx512f")]
fn widen(input: Input, part: usize, words: __m512i) -> __m512 {
    match (input, part) {
        (Input::Bf16, 0) => _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)),
        (Input::Bf16, _) => _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000u32 as i32))),
        (Input::F16, 0) => _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)),
        (Input::F16, _) => _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(words))),
        (Input::Tf32, _) => _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(0xffff_e000u32 as i32))),
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn widen_row(input: Input, part: usize, row: &W) -> Lanes {
    load_row(row).map(|half| widen(input, part, half))
}

/// D = A B + C, where B has so many registers and C may be zero.
#[inline]
#[target_feature(enable = "avx512f")]
fn accumulate(input: Input, factors: &Factors, registers: usize, c: Option<[Slot; 4]>, d: [Slot; 4], w: &mut [W]) {
    match input {
        Input::F16 => accumulate_of::<2>(Input::F16, factors, registers, c, d, w),
        Input::Bf16 => accumulate_of::<2>(Input::Bf16, factors, registers, c, d, w),
        Input::Tf32 => accumulate_of::<1>(Input::Tf32, factors, registers, c, d, w),
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn accumulate_of<const PACKED: usize>(
    input: Input,
    factors: &Factors,
    registers: usize,
    c: Option<[Slot; 4]>,
    [d0, d1, d2, d3]: [Slot; 4],
    w: &mut [W],
) {
    let mut sums: Sums = match c {
        Some(slots) => load_sums(slots.map(|slot| &w[slot as usize])),
        None => [[[_mm512_setzero_ps(); 2]; 2]; 2],
    };
    // Each register of B goes with four columns of A per part.
    for r in 0..registers {
        let mut left = [[[_mm512_setzero_ps(); 2]; 2]; PACKED];
        let mut right = [[_mm512_setzero_ps(); 2]; PACKED];
        for part in 0..PACKED {
            let register = match factors {
                Factors::Registers(_, b) => &w[b.places()[r] as usize],
                Factors::Widened(_, columns) => &columns[r],
            };
            right[part] = widen_row(input, part, register);
            for half in 0..2 {
                left[part][half] = match factors {
                    Factors::Registers(a, _) => widen_row(input, part, &w[a.places()[2 * r + half] as usize]),
                    Factors::Widened(a, _) => load_floats(&a[half][r * PACKED + part]),
                };
            }
        }
        for part in 0..PACKED {
            add::<0x00>(0, &left[part], right[part], &mut sums);
        }
        for part in 0..PACKED {
            add::<0x55>(1, &left[part], right[part], &mut sums);
        }
        for part in 0..PACKED {
            add::<0xaa>(2, &left[part], right[part], &mut sums);
        }
        for part in 0..PACKED {
            add::<0xff>(3, &left[part], right[part], &mut sums);
        }
    }
    store(sums[0][0], &mut w[d0 as usize]);
    store(sums[0][1], &mut w[d1 as usize]);
    store(sums[1][0], &mut w[d2 as usize]);
    store(sums[1][1], &mut w[d3 as usize]);
}

/// Adds the products of column q of A, which `Q` spreads over its four lanes, with row q of B: lanes q of every four.
#[inline]
#[target_feature(enable = "avx512f")]
fn add<const Q: i32>(q: i32, left: &[Lanes; 2], [low, high]: Lanes, sums: &mut Sums) {
    // Columns 0, 2, 4, 6 stand in lanes 0, 8, 16, 24, the odd ones four further.
    let four = _mm512_setr4_epi32(q, q + 8, q + 16, q + 24);
    let odd_four = _mm512_setr4_epi32(q + 4, q + 12, q + 20, q + 28);
    let even = _mm512_permutex2var_ps(low, four, high);
    let odd = _mm512_permutex2var_ps(low, odd_four, high);
    for half in 0..2 {
        for i in 0..2 {
            let row = _mm512_permute_ps::<Q>(left[half][i]);
            // No fused multiply-add: the products are exact, and all hosts shall agree.
            sums[half][0][i] = _mm512_add_ps(sums[half][0][i], _mm512_mul_ps(row, even));
            sums[half][1][i] = _mm512_add_ps(sums[half][1][i], _mm512_mul_ps(row, odd));
        }
    }
}
