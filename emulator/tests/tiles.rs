//! Faults around tiles that `cp.async` fills and `ldmatrix` reads: each planted by leaving out one line of a kernel that is
//! silent as a whole.

mod common;

use common::Bench;
use ptx_emulator::{Checks, Config, Counters, Fault, FaultKind};

/// What to leave out of the kernel, or to do wrongly.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Plant {
    Nothing,
    /// The wait for the copies.
    Wait,
    /// The barrier between the copies and the matrix loads of the other warp.
    FirstBarrier,
    /// The barrier between these loads and the copies that reuse the tile.
    SecondBarrier,
    /// The copies of the second warp.
    Copies,
    /// Reads one row past the tile.
    Beyond,
    /// Reads rows that start between two.
    Skewed,
}

/// Two warps fill a tile of 64 rows of sixteen bytes, each loads the other's half as four matrices, and stores a register
/// of each; then they fill the tile again.
fn kernel(plant: Plant) -> String {
    let line = |without: Plant, text: &'static str| if plant == without { "" } else { text };
    let guard = if plant == Plant::Copies { "@first " } else { "" };
    let offset = match plant {
        Plant::Beyond => 16,
        Plant::Skewed => 8,
        _ => 0,
    };
    let wait = line(Plant::Wait, "cp.async.wait_all;");
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 from, .param .u64 to) {{
        .reg .b32 t, u, s, r, a, b, c, d, zero; .reg .b64 x, y, o; .reg .pred first;
        .shared .align 16 .b8 tile[1024];
        ld.param.u64 x, [from]; ld.param.u64 y, [to]; mov.u32 t, %tid.x; setp.lt.u32 first, t, 32;
        mul.wide.u32 o, t, 16; add.s64 x, x, o; add.s64 y, y, o;
        mov.u32 s, tile; shl.b32 u, t, 4; add.u32 r, s, u; xor.b32 u, u, 512; add.u32 s, s, u;
        {guard}cp.async.cg.shared.global [r], [x], 16;
        {wait}
        {}
        ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{a, b, c, d}}, [s+{offset}];
        st.global.v4.u32 [y], {{a, b, c, d}};
        {}
        cp.async.cg.shared.global [r], [x], 16;
        cp.async.wait_all;
        ret; }}",
        line(Plant::FirstBarrier, "bar.sync 0;"),
        line(Plant::SecondBarrier, "bar.sync 0;"),
    )
}

fn run(plant: Plant, checks: Checks, seed: Option<u64>) -> Result<(Counters, Vec<u32>), Box<Fault>> {
    let mut bench = Bench::with(Config { checks, seed, ..Config::default() }, &kernel(plant));
    let values: Vec<u32> = (0..256).map(|i| i * 0x0001_0003).collect();
    let (x, y) = (bench.array(&values), bench.empty::<u32>(256));
    let counters = bench.launch("k", [1, 1, 1], [64, 1, 1], &[&x, &y])?;
    Ok((counters, bench.read(y, 256)))
}

#[test]
fn the_whole_kernel_is_silent_in_any_order_and_loads_the_other_half() {
    let orders = std::iter::once(None).chain((0..16).map(Some));
    for (seed, checks) in orders.flat_map(|seed| [(seed, Checks::ALL), (seed, Checks::NONE)]) {
        let (_, found) = run(Plant::Nothing, checks, seed).unwrap_or_else(|fault| panic!("{seed:?}: {fault}"));
        for (i, &word) in found.iter().enumerate() {
            // Register k of lane 4r + q holds word q of row r of matrix k.
            let (thread, k) = (i / 4, i % 4);
            let row = ((thread / 32) ^ 1) * 32 + k * 8 + thread % 32 / 4;
            assert_eq!(word, (row * 4 + thread % 4) as u32 * 0x0001_0003, "thread {thread}, register {k}");
        }
    }
}

#[test]
fn every_line_left_out_is_found_in_any_order() {
    // Reads that come too early also meet bytes without a value.
    let races = Checks { uninitialised: false, ..Checks::ALL };
    let plants = [
        (Plant::Wait, Checks::ALL, FaultKind::AsyncInFlight),
        (Plant::FirstBarrier, races, FaultKind::SharedRace),
        (Plant::SecondBarrier, Checks::ALL, FaultKind::SharedRace),
        (Plant::Copies, Checks::ALL, FaultKind::Uninitialised),
        (Plant::Beyond, Checks::ALL, FaultKind::OutOfBounds),
        (Plant::Skewed, Checks::ALL, FaultKind::Misaligned),
    ];
    for (plant, checks, kind) in plants {
        for seed in std::iter::once(None).chain((0..16).map(Some)) {
            let Err(fault) = run(plant, checks, seed) else { panic!("{plant:?}, seed {seed:?}: nothing was found") };
            assert_eq!(fault.kind, kind, "{plant:?}, seed {seed:?}: {fault}");
        }
    }
}
