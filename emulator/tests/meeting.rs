//! Lanes and warps that meet: sets of lanes with masks of their own, and those that have exited before.

mod common;

use common::Bench;
use ptx_emulator::{Config, Fault, FaultKind};

const HEAD: &str = ".version 8.0\n.target sm_80\n.address_size 64\n";

/// Runs a kernel of some threads, which leaves a word per thread in d; those that return early have 7.
fn run(body: &str, threads: u32, seed: Option<u64>) -> Result<Vec<u32>, Box<Fault>> {
    let ptx = format!(
        "{HEAD}.visible .entry k(.param .u64 to) {{
        .reg .b32 t, d, e, m, s; .reg .b64 y, o; .reg .pred p, q; .shared .b32 room[128];
        ld.param.u64 y, [to]; mov.u32 t, %tid.x; mul.wide.u32 o, t, 4; add.s64 y, y, o;
        mov.u32 s, room; shl.b32 e, t, 2; add.u32 s, s, e;
        {body}
        st.global.u32 [y], d; ret; }}"
    );
    let mut bench = Bench::with(Config { seed, ..Config::default() }, &ptx);
    let to = bench.array(&vec![7u32; threads as usize]);
    bench.launch("k", [1, 1, 1], [threads, 1, 1], &[&to])?;
    Ok(bench.read(to, threads as usize))
}

/// What the first `n` of so many threads compute; the others have returned.
fn first(n: u32, threads: u32, of: impl Fn(u32) -> u32) -> Vec<u32> {
    (0..threads).map(|t| if t < n { of(t) } else { 7 }).collect()
}

#[test]
fn converged_lanes_with_different_masks_meet_in_sets_of_their_own() {
    // Tiles of eight lanes add up by shuffles.
    let tiles = "and.b32 e, t, 24; shl.b32 m, 255, e; add.u32 d, t, 1;
        shfl.sync.bfly.b32 e, d, 4, 0x181f, m; add.u32 d, d, e;
        shfl.sync.bfly.b32 e, d, 2, 0x181f, m; add.u32 d, d, e;
        shfl.sync.bfly.b32 e, d, 1, 0x181f, m; add.u32 d, d, e;";
    let of_tile = |t: u32| (0..8).map(|i| t / 8 * 8 + i + 1).sum();
    assert_eq!(run(tiles, 32, None).unwrap(), first(32, 32, of_tile));
    // Lanes that hold the same number, found by a match, reduce together.
    let labels = "rem.u32 e, t, 3; match.any.sync.b32 m, e, 0xffffffff; redux.sync.add.u32 d, t, m;";
    let of_label = |t: u32| (0..32).filter(|other| other % 3 == t % 3).sum();
    assert_eq!(run(labels, 32, None).unwrap(), first(32, 32, of_label));
    // One set is whole, the other one comes in two parts.
    let parts = "setp.lt.u32 p, t, 8; selp.b32 m, 0xff, 0xffffff00, p; setp.lt.u32 q, t, 20; mov.b32 d, 0;
        @q bra MEET; add.u32 d, d, 0;
        MEET: vote.sync.ballot.b32 d, q, m;";
    let of_set = |t: u32| if t < 8 { 0xff } else { 0x000f_ff00 };
    assert_eq!(run(parts, 32, None).unwrap(), first(32, 32, of_set));
}

#[test]
fn a_lane_outside_its_own_mask_is_still_found() {
    let fault = run("mov.b32 m, 0xffff; redux.sync.add.u32 d, t, m;", 32, None).unwrap_err();
    assert_eq!(fault.kind, FaultKind::SyncMask);
    assert_eq!(fault.site.unwrap().thread, [16, 0, 0]);
}

#[test]
fn a_member_that_waits_elsewhere_is_still_found() {
    let body = "setp.lt.u32 p, t, 16; @p bra LOW; redux.sync.add.u32 d, t, 0xffffffff; bra.uni DONE;
        LOW: shfl.sync.idx.b32 d, t, 0, 31, 0xffffffff;
        DONE: ";
    assert_eq!(run(body, 32, None).unwrap_err().kind, FaultKind::SyncMask);
}

#[test]
fn nobody_waits_for_lanes_that_have_exited() {
    for seed in [None, Some(1), Some(2)] {
        for n in [1, 5, 31, 33, 63] {
            let early = format!("setp.ge.u32 p, t, {n}; @p bra OUT;");
            let late = " bra.uni STORE; OUT: ret; STORE: ";
            // The lanes that exit stand behind those that wait for them.
            let check = |middle: &str, of: &dyn Fn(u32) -> u32| {
                let found = run(&format!("{early} {middle} {late}"), 64, seed);
                assert_eq!(found.unwrap_or_else(|fault| panic!("{middle}: {fault}")), first(n, 64, of), "{middle} {n}");
            };
            let live = |t: u32| if t < 32 { n.min(32) } else { n - 32 };
            let mask = |t: u32| ((1u64 << live(t)) - 1) as u32;
            check("st.shared.u32 [s], t; bar.warp.sync 0xffffffff; ld.shared.u32 d, [s];", &|t| t);
            check("vote.sync.ballot.b32 d, !p, 0xffffffff;", &|t| mask(t));
            check("redux.sync.add.u32 d, 1, 0xffffffff;", &|t| live(t));
            check("bar.sync 0; mov.u32 d, t;", &|t| t);
            check("barrier.cta.red.popc.aligned.u32 d, 0, !p;", &|_| n);
        }
    }
}

#[test]
fn what_a_warp_wrote_before_it_exited_is_seen_behind_the_barrier() {
    let body = "st.shared.u32 [s], t; setp.ge.u32 p, t, 32; @p ret;
        bar.sync 0; ld.shared.u32 d, [s+128];";
    for seed in [None, Some(1), Some(2), Some(3), Some(4)] {
        let found = run(body, 64, seed).unwrap_or_else(|fault| panic!("{seed:?}: {fault}"));
        assert_eq!(found, first(32, 64, |t| t + 32), "{seed:?}");
    }
    // Without the barrier it is a race, or nothing has been written yet.
    let fault = run(&body.replace("bar.sync 0;", ""), 64, None).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::SharedRace | FaultKind::Uninitialised), "{fault}");
}

#[test]
fn dynamic_shared_memory_begins_where_its_declared_alignment_says() {
    for align in [4, 16, 64, 128, 1024] {
        let ptx = format!(
            "{HEAD}.extern .shared .align {align} .b8 dynamic[];
            .visible .entry k(.param .u64 to) {{
            .shared .align 4 .b8 fixed[20]; .reg .b32 a, b; .reg .b64 y;
            ld.param.u64 y, [to]; mov.u32 a, dynamic; mov.u32 b, fixed; st.shared.u32 [a], b; st.shared.u32 [b], a;
            st.global.u32 [y], a; ret; }}"
        );
        let mut bench = Bench::new(&ptx);
        let to = bench.empty::<u32>(1);
        let launch =
            ptx_emulator::LaunchConfig { dynamic_shared: 4, ..ptx_emulator::LaunchConfig::new([1; 3], [1; 3]) };
        bench.launch_with("k", &launch, &[&to]).unwrap();
        assert_eq!(bench.read::<u32>(to, 1)[0] % align, 0, "{align}");
    }
}

#[test]
fn lanes_that_go_round_an_instruction_and_on_behind_it_are_still_found() {
    let round = |middle: &str| {
        format!("setp.ge.u32 p, t, 16; mov.u32 d, t; @p bra BEHIND; {middle} BEHIND: st.global.u32 [y], d;")
    };
    for (middle, kind) in [
        ("bar.sync 0;", FaultKind::BarrierDivergence),
        ("bar.warp.sync 0xffffffff;", FaultKind::SyncMask),
        ("shfl.sync.idx.b32 d, t, 0, 31, 0xffffffff;", FaultKind::SyncMask),
    ] {
        let fault = run(&round(middle), 32, None).expect_err(middle);
        assert_eq!(fault.kind, kind, "{middle}: {fault}");
    }
    // What nobody does behind it may be done before leaving.
    let leave = "setp.ge.u32 p, t, 16; mov.u32 d, t; @p bra OUT; bar.sync 0; bra.uni STORE;
        OUT: mov.u32 d, 9; st.global.u32 [y], d; ret; STORE: ";
    assert_eq!(run(leave, 32, None).unwrap(), (0..32).map(|t| if t < 16 { t } else { 9 }).collect::<Vec<_>>());
}
