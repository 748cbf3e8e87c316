//! Threads that wait for each other, in a warp, in a CTA and across CTAs, all come forward; what waits for nobody ends.

mod common;

use std::time::Duration;

use common::Bench;
use ptx_emulator::{Config, Fault, FaultKind};

/// Runs a kernel on words of global memory that are zero at first, and returns them.
fn run(body: &str, ctas: u32, threads: u32, config: Config) -> Result<Vec<u32>, Box<Fault>> {
    let ptx = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 words) {{
        .reg .b32 t, c, n, d, e; .reg .b64 x, o; .reg .pred p, q;
        ld.param.u64 x, [words]; mov.u32 t, %tid.x; mov.u32 c, %ctaid.x; mov.u32 n, %nctaid.x;
        {body} ret; }}"
    );
    let mut bench = Bench::with(config, &ptx);
    let words = bench.array(&[0u32; 64]);
    bench.launch("k", [ctas, 1, 1], [threads, 1, 1], &[&words])?;
    Ok(bench.read(words, 64))
}

fn seeded(seed: Option<u64>) -> Config {
    Config { seed, step_limit: 1 << 28, ..Config::default() }
}

/// Every thread takes the lock at word 0, adds one to word 1 with plain accesses, and gives it back.
const LOCK: &str = "AGAIN: atom.acquire.gpu.global.cas.b32 d, [x], 0, 1; setp.ne.u32 p, d, 0; @p bra AGAIN;
    ld.global.u32 e, [x+4]; add.u32 e, e, 1; st.global.u32 [x+4], e;
    st.release.gpu.global.u32 [x], 0;";

#[test]
fn lanes_of_a_warp_take_a_lock_one_after_the_other() {
    for seed in [None, Some(1)] {
        let found = run(LOCK, 1, 8, seeded(seed)).unwrap_or_else(|fault| panic!("{seed:?}: {fault}"));
        assert_eq!(found[..2], [0, 8], "{seed:?}");
        let found = run(LOCK, 3, 34, seeded(seed));
        assert_eq!(found.unwrap_or_else(|fault| panic!("{seed:?}: {fault}"))[..2], [0, 102], "{seed:?}");
    }
}

#[test]
fn a_block_may_wait_for_a_later_one() {
    // Block c waits for word c + 1, which block c + 1 sets; the last waits for nobody.
    let body = "add.u32 e, c, 1; mul.wide.u32 o, c, 4; add.s64 x, x, o; setp.eq.u32 q, e, n; @q bra SET;
        WAIT: ld.acquire.gpu.global.u32 d, [x+4]; setp.eq.u32 p, d, 0; @p bra WAIT;
        SET: st.release.gpu.global.u32 [x], e;";
    for seed in [None, Some(1), Some(2)] {
        let found = run(body, 6, 1, seeded(seed)).unwrap_or_else(|fault| panic!("{seed:?}: {fault}"));
        assert_eq!(found[..7], [1, 2, 3, 4, 5, 6, 0], "{seed:?}");
    }
}

#[test]
fn all_blocks_of_a_grid_meet_at_a_barrier_of_their_own() {
    // Each adds itself to word 0 and waits for all; then each sees what all others stored before.
    let body = "mul.wide.u32 o, c, 4; add.s64 o, o, x; add.u32 e, c, 5; st.global.u32 [o+16], e;
        atom.add.acq_rel.gpu.global.u32 d, [x], 1;
        WAIT: ld.acquire.gpu.global.u32 d, [x]; setp.ne.u32 p, d, n; @p bra WAIT;
        add.u32 e, c, 1; rem.u32 e, e, n; mul.wide.u32 o, e, 4; add.s64 o, o, x; ld.global.u32 d, [o+16];
        mul.wide.u32 o, c, 4; add.s64 o, o, x; st.global.u32 [o+96], d;";
    for seed in [None, Some(1), Some(2)] {
        let found = run(body, 5, 1, seeded(seed)).unwrap_or_else(|fault| panic!("{seed:?}: {fault}"));
        assert_eq!(found[24..29], [6, 7, 8, 9, 5], "{seed:?}");
    }
}

#[test]
fn a_wait_for_nobody_ends_at_the_limit_that_comes_first() {
    let body = "WAIT: ld.volatile.global.u32 d, [x]; setp.eq.u32 p, d, 0; @p bra WAIT;";
    let steps = Config { step_limit: 1 << 18, ..Config::default() };
    assert_eq!(run(body, 3, 33, steps).unwrap_err().kind, FaultKind::StepLimit);
    let time = Config { time_limit: Some(Duration::from_millis(20)), ..Config::default() };
    assert_eq!(run(body, 3, 33, time).unwrap_err().kind, FaultKind::TimeLimit);
}
