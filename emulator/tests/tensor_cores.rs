//! `mma` and `wgmma` add as the tensor cores of the chosen generation do: products for which published experiments, or the
//! rules that they found, have another result on each.

mod common;

use common::{Argument, Bench};
use ptx_emulator::{Config, Element, Swizzle, TensorCores, TensorMap};

/// One warp multiplies an A whose rows are all alike by a B whose columns are, and adds C everywhere.
const MMA: &str = ".version 8.0\n.target sm_80\n.address_size 64\n\
    .visible .entry k(.param .u64 from, .param .u64 to, .param .f32 start) {
        .reg .b32 a, b, e, t; .reg .f32 c, d, f, g, h; .reg .b64 x, y, o;
        ld.param.u64 x, [from]; ld.param.u64 y, [to]; ld.param.f32 c, [start];
        mov.u32 t, %tid.x; mul.wide.u32 o, t, 16; add.s64 y, y, o;
        and.b32 t, t, 3; mul.wide.u32 o, t, 4; add.s64 x, x, o;
        ld.global.b32 a, [x]; ld.global.b32 b, [x+16];
        mov.b32 e, 0x3c003c00;
        mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {d, f, g, h}, {a, a, b, b}, {e, e}, {c, c, c, c};
        st.global.v4.f32 [y], {d, f, g, h};
        ret; }";

/// C plus the sum of sixteen fp16 numbers, each times one.
fn sum_by_mma(cores: TensorCores, terms: [f32; 16], c: f32) -> f32 {
    let mut bench = Bench::with(Config { tensor_cores: cores, ..Config::default() }, MMA);
    let halves: Vec<u16> = terms.iter().map(|&x| half::f16::from_f32(x).to_bits()).collect();
    let (x, y) = (bench.array(&halves), bench.empty::<f32>(128));
    bench.launch("k", [1, 1, 1], [32, 1, 1], &[&x, &y, &c]).unwrap();
    let found = bench.read::<f32>(y, 128);
    assert!(found.iter().all(|&x| x == found[0]), "rows and columns are all alike: {found:?}");
    found[0]
}

#[test]
fn each_generation_adds_the_products_of_an_mma_in_its_own_groups_with_its_own_bits() {
    let ulp = 2f32.powi(-23);
    let all = |x: f32| [x; 16];
    let at = |pairs: &[(usize, f32)]| {
        let mut terms = [0.0; 16];
        pairs.iter().for_each(|&(i, x)| terms[i] = x);
        terms
    };
    // The terms and C; the results of sums in fp32, Volta, Turing, Ampere, Hopper.
    let cases = [
        // Half of C's last place each: a tie in fp32, nothing with 23 bits, kept with 24.
        (all(2f32.powi(-24)), 1.0, [1.0, 1.0, 1.0 + 8.0 * ulp, 1.0 + 8.0 * ulp, 1.0 + 8.0 * ulp]),
        // Cut off towards zero, whatever the sign.
        (at(&[(0, -(2f32.powi(-24)))]), -1.0, [-1.0; 5]),
        (at(&[(0, -3.0 * 2f32.powi(-24))]), -1.0, {
            let (near, cut) = (-1.0 - 2.0 * ulp, -1.0 - ulp);
            [near, cut, cut, cut, cut]
        }),
        // What is small beside a product of its own group is lost, even if that cancels: groups of 4, 8 and 16.
        (at(&[(0, 1024.0), (1, -1024.0), (3, 2f32.powi(-20))]), 0.0, [2f32.powi(-20), 0.0, 0.0, 0.0, 0.0]),
        (at(&[(0, 1024.0), (1, -1024.0), (4, 2f32.powi(-20))]), 0.0, {
            let kept = 2f32.powi(-20);
            [kept, kept, 0.0, 0.0, 0.0]
        }),
        (at(&[(0, 1024.0), (1, -1024.0), (8, 2f32.powi(-20))]), 0.0, {
            let kept = 2f32.powi(-20);
            [kept, kept, kept, kept, 0.0]
        }),
    ];
    for (terms, c, expected) in cases {
        for (cores, expected) in TensorCores::ALL.into_iter().zip(expected) {
            assert_eq!(sum_by_mma(cores, terms, c), expected, "{cores:?}: {c} + {terms:?}");
        }
    }
    // A quarter of C's last place: four of them are seen with 25 bits alone.
    let quarters = all(2f32.powi(-23)).map(|x| x / 2.0);
    for (cores, expected) in TensorCores::ALL.into_iter().zip([2.0, 2.0, 2.0, 2.0, 2.0 + 8.0 * ulp]) {
        assert_eq!(sum_by_mma(cores, quarters, 2.0), expected, "{cores:?}");
    }
}

struct Bytes(Vec<u8>);

impl Argument for Bytes {
    fn argument(&self) -> Vec<u8> {
        self.0.clone()
    }
}

#[test]
fn wgmma_adds_like_mma() {
    let (m, n, k) = (64usize, 64usize, 128usize);
    let bf16 = |x: f32| half::bf16::from_f32(x).to_bits();
    // One, and then 127 times a quarter of its last place.
    let a: Vec<u16> = (0..m * k).map(|i| bf16(if i % k == 0 { 1.0 } else { 2f32.powi(-25) })).collect();
    let run = |cores: TensorCores| {
        let config = Config { tensor_cores: cores, ..Config::default() };
        let mut bench = Bench::with(config, include_str!("programs/hopper.ptx"));
        let (da, db) = (bench.array(&a), bench.array(&vec![bf16(1.0); n * k]));
        let dc = bench.empty::<f32>(m * n);
        let map = |address: u64| {
            let map = TensorMap {
                element: Element::Bf16,
                address,
                dims: vec![k as u64, 64],
                strides: vec![2 * k as u64],
                box_dims: vec![64, 64],
                swizzle: Swizzle::Bytes128,
                nan_fill: false,
            };
            Bytes(map.encode().unwrap().to_vec())
        };
        let args: [&dyn Argument; 6] = [&map(da.0), &map(db.0), &dc, &(n as i32), &(k as i32), &0i32];
        bench.launch("matmul", [1, 1, 1], [128, 1, 1], &args).unwrap();
        let found = bench.read::<f32>(dc, m * n);
        assert!(found.iter().all(|&x| x == found[0]), "rows and columns are all alike");
        found[0]
    };
    // Fifteen quarters in the first group, of which three places stay, and four places in each of seven more.
    assert_eq!(run(TensorCores::Hopper), 1.0 + 31.0 * f32::EPSILON);
    assert_eq!(run(TensorCores::Ampere), 1.0);
    assert_eq!(run(TensorCores::Sequential), 1.0);
}
