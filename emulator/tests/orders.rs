//! What volatile, relaxed, acquiring and releasing accesses, fences and atomics order within a CTA and between CTAs, and races
//! that stay races.

mod common;

use common::Bench;
use ptx_emulator::{Config, Fault, FaultKind};

/// Runs a kernel of `ctas` times `threads` threads with a word `flag` and a word `data` in shared memory (`sf`, `sd`) and in
/// global memory (`gf`, `gd`), all zero; d of each thread is stored.
fn run(body: &str, ctas: u32, threads: u32, seed: Option<u64>) -> Result<Vec<u32>, Box<Fault>> {
    let ptx = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 to, .param .u64 words) {{
        .reg .b32 t, c, d, e, f, sf, sd; .reg .b64 y, o, gf, gd; .reg .pred p, q; .shared .b32 room[2];
        ld.param.u64 y, [to]; ld.param.u64 gf, [words]; add.s64 gd, gf, 128;
        mov.u32 t, %tid.x; mov.u32 c, %ctaid.x; mov.u32 e, %ntid.x; mad.lo.u32 e, c, e, t;
        mul.wide.u32 o, e, 4; add.s64 y, y, o; mov.u32 sf, room; add.u32 sd, sf, 4; mov.u32 d, 0;
        setp.eq.u32 p, t, 0; @p st.shared.u32 [sf], d; @p st.shared.u32 [sd], d; bar.sync 0;
        {body}
        st.global.u32 [y], d; ret; }}"
    );
    let mut bench = Bench::with(Config { seed, step_limit: 1 << 24, ..Config::default() }, &ptx);
    let (to, words) = (bench.empty::<u32>((ctas * threads) as usize), bench.array(&[0u32; 64]));
    bench.launch("k", [ctas, 1, 1], [threads, 1, 1], &[&to, &words])?;
    Ok(bench.read(to, (ctas * threads) as usize))
}

const SEEDS: [Option<u64>; 5] = [None, Some(1), Some(2), Some(3), Some(4)];

fn passes(body: &str, ctas: u32, threads: u32, of: impl Fn(u32) -> u32) {
    for seed in SEEDS {
        let found = run(body, ctas, threads, seed).unwrap_or_else(|fault| panic!("{seed:?}: {body}: {fault}"));
        assert_eq!(found, (0..ctas * threads).map(&of).collect::<Vec<_>>(), "{seed:?}: {body}");
    }
}

fn races(body: &str, ctas: u32, threads: u32, kind: FaultKind) {
    for seed in SEEDS {
        let Err(fault) = run(body, ctas, threads, seed) else { panic!("{seed:?}: nothing is found in {body}") };
        assert_eq!(fault.kind, kind, "{seed:?}: {body}: {fault}");
    }
}

/// The first warp's first thread writes data and raises a flag; the second warp waits for the flag and reads the data.
fn message(before: &str, raise: &str, look: &str, after: &str, space: &str) -> String {
    let (flag, data) = if space == "shared" { ("sf", "sd") } else { ("gf", "gd") };
    format!(
        "setp.ge.u32 q, t, 32; @q bra WAIT;
        @!p bra DONE; mov.u32 e, 42; mov.u32 f, 1; st.{space}.u32 [{data}], e; {before} {raise}.u32 [{flag}], f; bra DONE;
        WAIT: {look}.u32 f, [{flag}]; setp.eq.u32 q, f, 0; @q bra WAIT; {after} ld.{space}.u32 d, [{data}];
        DONE: "
    )
}

#[test]
fn a_flag_orders_what_was_written_before_it_is_raised() {
    let fence = "fence.acq_rel.cta;";
    for space in ["shared", "global"] {
        let st = |order: &str| format!("st.{order}.{space}").replace("st.volatile.", "st.volatile.");
        let ld = |order: &str| format!("ld.{order}.{space}");
        let read = |t: u32| if t < 32 { 0 } else { 42 };
        for (before, raise, look, after) in [
            ("membar.cta;", st("volatile"), ld("volatile"), "membar.cta;"),
            (fence, st("relaxed.cta"), ld("relaxed.cta"), fence),
            ("", st("release.cta"), ld("acquire.cta"), ""),
            (fence, st("relaxed.cta"), ld("acquire.cta"), ""),
            ("", st("release.cta"), ld("relaxed.cta"), fence),
        ] {
            passes(&message(before, &raise, &look, after, space), 1, 64, read);
        }
    }
}

#[test]
fn a_flag_without_its_fences_orders_nothing() {
    let fence = "fence.acq_rel.cta;";
    let (raise, look) = ("st.relaxed.cta.shared", "ld.relaxed.cta.shared");
    races(&message("", raise, look, fence, "shared"), 1, 64, FaultKind::SharedRace);
    races(&message(fence, raise, look, "", "shared"), 1, 64, FaultKind::SharedRace);
    races(&message("", raise, look, "", "shared"), 1, 64, FaultKind::SharedRace);
    // The fence on the wrong side of the store.
    let late = message(fence, raise, look, fence, "shared");
    let late = late.replace(&format!("st.shared.u32 [sd], e; {fence}"), &format!("{fence} st.shared.u32 [sd], e;"));
    assert_ne!(late, message(fence, raise, look, fence, "shared"));
    races(&late, 1, 64, FaultKind::SharedRace);
}

#[test]
fn a_plain_store_beside_strong_loads_is_a_race() {
    let body = "setp.ge.u32 q, t, 32; @q bra READ; @p st.shared.u32 [sf], t; bra DONE;
        READ: ld.volatile.shared.u32 e, [sf]; DONE: ";
    // Found where the store comes first.
    assert_eq!(run(body, 1, 64, None).unwrap_err().kind, FaultKind::SharedRace);
}

#[test]
fn a_fence_does_not_let_the_lanes_of_a_warp_meet() {
    let body = "setp.eq.u32 q, t, 1; @p st.shared.u32 [sd], t; membar.cta; @q ld.shared.u32 d, [sd];";
    races(body, 1, 32, FaultKind::SharedRace);
}

/// The loop of the programming guide that adds one by exchanging: its first read is plain.
fn exchange_loop(space: &str, address: &str) -> String {
    format!(
        "ld.{space}.u32 e, [{address}];
        AGAIN: mov.u32 f, e; add.u32 d, f, 1; atom.{space}.cas.b32 e, [{address}], f, d;
        setp.ne.u32 q, e, f; @q bra AGAIN; mov.u32 d, 0;"
    )
}

#[test]
fn a_loop_that_exchanges_may_begin_with_a_plain_read() {
    for threads in [1, 32, 64, 96] {
        let sum = format!("{} bar.sync 0; ld.shared.u32 d, [sf];", exchange_loop("shared", "sf"));
        passes(&sum, 1, threads, |_| threads);
        passes(&exchange_loop("global", "gf"), 3, threads, |_| 0);
    }
}

#[test]
fn a_plain_read_beside_atomics_that_nobody_exchanges_is_a_race() {
    let shared = "setp.ge.u32 q, t, 32; @q bra READ; red.shared.add.u32 [sf], 1; bra DONE;
        READ: ld.shared.u32 d, [sf]; DONE: ";
    assert_eq!(run(shared, 1, 64, None).unwrap_err().kind, FaultKind::SharedRace);
    let fault = run(
        "ld.global.u32 e, [gf]; atom.global.add.u32 e, [gd], 1; red.global.add.u32 [gf], 1; ld.global.u32 d, [gf];",
        2,
        1,
        None,
    );
    assert_eq!(fault.unwrap_err().kind, FaultKind::GlobalRace);
}
