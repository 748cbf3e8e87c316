//! Faults in pairs: a kernel that is right is silent, and the same one with a line left out or moved is not.

mod common;

use common::Bench;
use ptx_emulator::{Config, Fault, FaultKind};

/// Runs a kernel with 64 words `x` that hold their indices and 64 words `y` that are empty, and shared memory at `s`.
fn run(body: &str, threads: u32, seed: Option<u64>) -> Result<Vec<u32>, Box<Fault>> {
    let ptx = format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 from, .param .u64 to) {{
        .reg .b32 t, d, e, s, m; .reg .b64 x, y, o, l; .reg .pred p, q;
        .shared .align 128 .b8 room[1024]; .local .align 8 .b8 own[32];
        ld.param.u64 x, [from]; ld.param.u64 y, [to]; mov.u32 t, %tid.x; mul.wide.u32 o, t, 4;
        mov.u32 s, room; shl.b32 e, t, 2; add.u32 m, s, e; mov.u32 d, t; setp.eq.u32 p, t, 0;
        {body} ret; }}"
    );
    let mut bench = Bench::with(Config { seed, step_limit: 1 << 22, ..Config::default() }, &ptx);
    let (x, y) = (bench.array(&(0..64).collect::<Vec<u32>>()), bench.empty::<u32>(64));
    bench.launch("k", [1, 1, 1], [threads, 1, 1], &[&x, &y])?;
    Ok(bench.read(y, 64))
}

/// The kernel is silent, and is not once `line` has become `planted`.
fn pair(body: &str, line: &str, planted: &str, threads: u32, kind: FaultKind) {
    assert!(body.contains(line), "{line}");
    for seed in [None, Some(1), Some(2), Some(3)] {
        run(body, threads, seed).unwrap_or_else(|fault| panic!("{seed:?}: {fault}"));
        let Err(fault) = run(&body.replace(line, planted), threads, seed) else {
            panic!("{seed:?}: {planted} is silent")
        };
        assert_eq!(fault.kind, kind, "{seed:?}: {fault}");
    }
}

#[test]
fn reading_local_memory_that_nothing_wrote_is_found_byte_by_byte() {
    let body = "st.local.u32 [own], t; st.local.u8 [own+4], t; st.local.v2.u32 [own+8], {t, t};
        ld.local.u32 d, [own]; ld.local.u8 d, [own+4]; ld.local.u64 o, [own+8];";
    pair(body, "st.local.u32 [own], t;", "", 32, FaultKind::Uninitialised);
    pair(body, "st.local.v2.u32 [own+8], {t, t};", "st.local.u32 [own+8], t;", 32, FaultKind::Uninitialised);
    pair(body, "ld.local.u8 d, [own+4];", "ld.local.u8 d, [own+5];", 32, FaultKind::Uninitialised);
    // Only the lanes that wrote may read.
    pair(body, "st.local.u32 [own], t;", "@p st.local.u32 [own], t;", 32, FaultKind::Uninitialised);
}

#[test]
fn changing_what_an_unfinished_copy_has_yet_to_read_is_found() {
    let body = "add.s64 x, x, o; cp.async.ca.shared.global [m], [x], 4; cp.async.wait_all; st.global.u32 [x], d;";
    let late = "st.global.u32 [x], d; cp.async.wait_all;";
    pair(body, "cp.async.wait_all; st.global.u32 [x], d;", late, 64, FaultKind::AsyncInFlight);
    let atomic = "red.global.add.u32 [x], d; cp.async.wait_all;";
    pair(body, "cp.async.wait_all; st.global.u32 [x], d;", atomic, 64, FaultKind::AsyncInFlight);
    // Beside it, anything may be written.
    run(
        "add.s64 y, y, o; add.s64 x, x, o; cp.async.ca.shared.global [m], [x], 4; st.global.u32 [y], d;
        cp.async.wait_all;",
        64,
        None,
    )
    .unwrap();
}

#[test]
fn a_read_only_read_of_what_the_launch_wrote_is_found() {
    let body = "add.s64 y, y, o; st.global.u32 [y], d; ld.global.u32 e, [y];
        add.s64 x, x, o; ld.global.nc.u32 e, [x];";
    pair(body, "ld.global.u32 e, [y];", "ld.global.nc.u32 e, [y];", 32, FaultKind::StaleRead);
    pair(body, "ld.global.u32 e, [y];", "ld.global.nc.L1::no_allocate.u32 e, [y];", 32, FaultKind::StaleRead);
}

#[test]
fn an_mbarrier_that_is_used_before_its_initialisation_is_known_is_found() {
    let body = "@p mbarrier.init.shared.b64 [s], 64; bar.sync 0; mbarrier.arrive.shared.b64 o, [s];
        WAIT: mbarrier.test_wait.shared.b64 q, [s], o; @!q bra WAIT;";
    // Which of the two is found depends on who comes first: nothing is there yet, or it is not known to be.
    for seed in [None, Some(1), Some(2), Some(3)] {
        run(body, 64, seed).unwrap_or_else(|fault| panic!("{seed:?}: {fault}"));
        let fault = run(&body.replace("bar.sync 0;", ""), 64, seed).unwrap_err();
        let is_meant = matches!(fault.kind, FaultKind::SharedRace | FaultKind::BadOperand | FaultKind::Uninitialised);
        assert!(is_meant, "{seed:?}: {fault}");
    }
    let fault = run(&body.replace("bar.sync 0;", ""), 64, None).unwrap_err();
    assert_eq!(fault.kind, FaultKind::SharedRace);
}

#[test]
fn a_block_that_ends_before_its_bulk_store_has_read_is_found() {
    let body = "st.shared.u32 [m], d; fence.proxy.async; bar.sync 0; @!p bra DONE;
        cp.async.bulk.global.shared::cta.bulk_group [y], [s], 256; cp.async.bulk.commit_group;
        cp.async.bulk.wait_group.read 0; DONE: ";
    assert_eq!(run(body, 64, None).unwrap(), (0..64).collect::<Vec<_>>());
    pair(body, "cp.async.bulk.wait_group.read 0;", "", 64, FaultKind::AsyncInFlight);
    pair(body, "cp.async.bulk.commit_group;", "", 64, FaultKind::AsyncInFlight);
}
