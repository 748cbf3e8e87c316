//! Every counter against a number worked out by hand.

mod common;

use common::Bench;
use ptx_emulator::{Class, Counters};

/// Runs `body` with `t` the thread, `g` a global array and `s` 16 KiB of shared memory that `fill` has written.
fn run(threads: u32, body: &str) -> Counters {
    let ptx = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 array) {{
        .reg .b32 t, s, a, b, c, d, e; .reg .b64 g, x; .reg .pred p; .shared .align 128 .b8 memory[16384];
        ld.param.u64 g, [array]; mov.u32 t, %tid.x; mov.u32 s, memory; mov.u32 a, 0;
        {body} ret; }}"
    );
    let mut bench = Bench::new(&ptx);
    let g = bench.array(&[0u32; 4096]);
    bench.launch("k", [1, 1, 1], [threads, 1, 1], &[&g]).unwrap_or_else(|fault| panic!("{body}: {fault}"))
}

/// Bank conflicts of a store at `address`, of so many bytes per lane.
fn conflicts(threads: u32, address: &str, bytes: u32) -> u64 {
    let store = match bytes {
        1 => "st.shared.u8 [e], a;",
        4 => "st.shared.b32 [e], a;",
        8 => "st.shared.v2.b32 [e], {a,a};",
        _ => "st.shared.v4.b32 [e], {a,a,a,a};",
    };
    let counters = run(threads, &format!("{address} add.s32 e, e, s; {store}"));
    assert_eq!(counters.shared_requests, u64::from(threads.div_ceil(32)));
    counters.bank_conflicts
}

#[test]
fn bank_conflicts_are_the_passes_beyond_the_first() {
    let stride = |bytes: u32| format!("mul.lo.s32 e, t, {bytes};");
    // Words at a stride of w words meet in gcd(w, 32) of 32 banks.
    for (words, expected) in [(1, 0), (2, 1), (3, 0), (4, 3), (8, 7), (12, 3), (16, 15), (32, 31), (33, 0)] {
        assert_eq!(conflicts(32, &stride(4 * words), 4), expected, "a stride of {words} words");
    }
    // Pairs go by half warps, quads by quarters: at a stride of their own width there are none.
    for (words, expected) in [(2, 0), (4, 2), (6, 0), (32, 2 * 15)] {
        assert_eq!(conflicts(32, &stride(4 * words), 8), expected, "pairs at a stride of {words} words");
    }
    for (words, expected) in [(4, 0), (8, 4), (12, 0), (20, 0), (32, 4 * 7)] {
        assert_eq!(conflicts(32, &stride(4 * words), 16), expected, "quads at a stride of {words} words");
    }
    // Part of a warp, lanes in reverse, two rows of four quads at several pitches, as matrix tiles have them.
    assert_eq!(conflicts(5, &stride(128), 4), 4);
    assert_eq!(conflicts(32, "xor.b32 e, t, 31; shl.b32 e, e, 2;", 4), 0);
    assert_eq!(conflicts(8, "shr.u32 e, t, 2; mul.lo.s32 e, e, 64; and.b32 b, t, 3; mad.lo.s32 e, b, 16, e;", 16), 0);
    assert_eq!(conflicts(8, "shr.u32 e, t, 2; mul.lo.s32 e, e, 80; and.b32 b, t, 3; mad.lo.s32 e, b, 16, e;", 16), 1);
    assert_eq!(conflicts(8, "shr.u32 e, t, 2; mul.lo.s32 e, e, 128; and.b32 b, t, 3; mad.lo.s32 e, b, 16, e;", 16), 1);
    // Bytes of one word are one access to its bank.
    assert_eq!(conflicts(32, &stride(1), 1), 0);
}

#[test]
fn lanes_that_read_one_word_do_not_conflict() {
    let counters = run(32, "st.shared.b32 [s], a; bar.warp.sync -1; ld.shared.b32 a, [s]; ld.shared.b32 b, [s];");
    assert_eq!((counters.shared_requests, counters.bank_conflicts), (3, 0));
}

#[test]
fn sectors_are_the_distinct_32_bytes_of_each_request() {
    let sectors = |threads: u32, offset: &str, load: &str| {
        let counters = run(threads, &format!("{offset} cvt.u64.u32 x, e; add.s64 x, x, g; {load}"));
        (counters.global_requests, counters.global_sectors, counters.global_load_bytes)
    };
    let load = "ld.global.b32 a, [x];";
    assert_eq!(sectors(32, "shl.b32 e, t, 2;", load), (1, 4, 128));
    assert_eq!(sectors(32, "mad.lo.s32 e, t, 4, 16;", load), (1, 5, 128));
    assert_eq!(sectors(32, "xor.b32 e, t, 31; shl.b32 e, e, 2;", load), (1, 4, 128));
    assert_eq!(sectors(32, "shl.b32 e, t, 5;", load), (1, 32, 128));
    // Lanes that alternate between two sectors.
    assert_eq!(sectors(32, "and.b32 e, t, 1; shl.b32 e, e, 6; add.s32 e, e, t; and.b32 e, e, -4;", load).1, 2);
    assert_eq!(sectors(40, "mov.u32 e, 64;", load), (2, 2, 160));
    assert_eq!(sectors(32, "shl.b32 e, t, 4;", "ld.global.v4.b32 {a,b,c,d}, [x];"), (1, 16, 512));
    assert_eq!(sectors(32, "shl.b32 e, t, 1;", "ld.global.u16 a, [x];"), (1, 2, 64));
}

#[test]
fn divergence_barriers_and_classes_are_counted_by_warp() {
    let body = "setp.lt.u32 p, t, 40; @p bra LOW; add.s32 a, a, 1; LOW: bar.sync 0; fma.rn.f32 b, a, a, a;";
    let counters = run(64, body);
    // The first warp goes one way as a whole; the second splits at thread 40.
    assert_eq!(counters.divergent_branches, 1);
    assert_eq!(counters.barriers, 2);
    assert_eq!((counters.ctas, counters.warps), (1, 2));
    assert_eq!(counters.of(Class::Float32), 2);
    assert_eq!(counters.scalar_flops, 2 * 64);
    let lanes = counters.lanes[Class::Integer as usize] - run(64, "bar.sync 0;").lanes[Class::Integer as usize];
    assert_eq!(lanes, 24, "the addition ran on the threads from 40");
}

#[test]
fn lanes_whose_code_lies_behind_a_barrier_are_awaited_there() {
    // Threads from 16 on go through code that comes back to the barrier.
    let body =
        "setp.ge.u32 p, t, 16; @p bra FAR; NEAR: bar.sync 0; bra.uni END; FAR: add.s32 a, a, 1; bra.uni NEAR; END:";
    let counters = run(32, body);
    assert_eq!((counters.barriers, counters.divergent_branches), (1, 1));
}

#[test]
fn the_table_and_the_json_have_every_counter_in_a_fixed_order() {
    let counters = run(32, "st.shared.b32 [s], a;");
    let rows = counters.rows();
    let names: Vec<&str> = rows.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), 2 + 2 * Class::ALL.len() + 12);
    assert_eq!(&names[..4], ["instructions", "lane_instructions", "instructions.integer", "lanes.integer"]);
    assert_eq!(names.last(), Some(&"warps"));
    let json = counters.to_json();
    assert!(json.starts_with("{\"instructions\": 6, \"lane_instructions\": 192, "), "{json}");
    assert!(json.ends_with("\"ctas\": 1, \"warps\": 1}"), "{json}");
    let table = counters.to_string();
    assert_eq!(table.lines().count(), rows.iter().filter(|(_, value)| *value > 0).count());
    assert_eq!(table.lines().last(), Some(format!("{:<32} {:>16}", "warps", 1).as_str()));
    let mut twice = counters.clone();
    twice.add(&counters);
    assert!(twice.rows().iter().zip(&rows).all(|((_, two), (_, one))| *two == 2 * one));
}
