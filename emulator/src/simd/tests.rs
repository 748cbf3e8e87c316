//! All ways to compute a product agree bit for bit, whichever this host would choose.

use super::*;
use crate::decode::Few;
use crate::tensor::Input;

const C: u32 = 6;
const D: u32 = 10;

/// Registers with numbers of every kind in them: small ones, and now and then zeros, infinities, NaNs, denormals and the
/// largest of the format.
fn registers(mut seed: u64) -> Vec<W> {
    let special = [0, 0x8000, 0x7f80, 0xff80, 0x7fc1, 0x7c00, 0xfc00, 0x7e01, 0x0001, 0x8001, 0x7f7f, 0x7bff];
    let mut half = || {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let bits = (seed >> 33) as u32;
        if bits.is_multiple_of(61) {
            special[(bits >> 8) as usize % special.len()]
        } else {
            0x3c00 + (bits & 0x3ff) + (bits >> 5 & 0x8000)
        }
    };
    (0..14).map(|_| std::array::from_fn(|_| half() | half() << 16)).collect()
}

fn few(first: u32, count: usize) -> Few {
    Few::new(&[first, first + 1, first + 2, first + 3][..count]).expect("one to four registers")
}

#[test]
fn every_way_to_multiply_matrices_gives_the_same_bits() {
    // Input, k, registers of A and of B, fp16 sums.
    let shapes = [
        (Input::F16, 16, 4, 2, false),
        (Input::F16, 8, 2, 1, false),
        (Input::F16, 16, 4, 2, true),
        (Input::Bf16, 16, 4, 2, false),
        (Input::Bf16, 8, 2, 1, false),
        (Input::Tf32, 8, 4, 2, false),
        (Input::Tf32, 4, 2, 1, false),
    ];
    for (input, k, a, b, half) in shapes {
        let sums = if half { 2 } else { 4 };
        let multiply = Multiply { input, k, a: few(0, a), b: few(4, b), c: few(C, sums), d: few(D, sums), half };
        for seed in 0..50 {
            let before = registers(seed);
            let mut portable = before.clone();
            multiply.apply(&mut Scratch::default(), &mut portable, accumulate);
            assert_ne!(portable, before);

            let mut chosen = before.clone();
            product(&multiply, TensorCores::Sequential, &mut Scratch::default(), &mut chosen);
            assert_eq!(chosen, portable, "{input:?} k{k} half {half}: the way that this host takes");

            #[cfg(target_arch = "x86_64")]
            if has_fma() {
                let mut avx2 = before.clone();
                // SAFETY: the host has AVX2, as just asked.
                unsafe { product_avx2(&multiply, &mut Scratch::default(), &mut avx2) };
                assert_eq!(avx2, portable, "{input:?} k{k} half {half}: AVX2");
            }
        }
    }
}
