//! Races between CTAs, for every width of access, with and without declared ranges.

mod common;

use common::Bench;
use ptx_emulator::{Access, Counters, Fault, FaultKind, LaunchConfig};

/// Each thread copies one element of so many bytes from `from` to `to`.
fn copy(bytes: u32) -> String {
    let (ty, registers) = match bytes {
        1 => ("u8", "a"),
        2 => ("u16", "a"),
        4 => ("u32", "a"),
        8 => ("v2.u32", "{a,b}"),
        _ => ("v4.u32", "{a,b,c,d}"),
    };
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry copy(.param .u64 source, .param .u64 target) {{
        .reg .b32 t, n, k, a, b, c, d; .reg .b64 from, to, offset;
        ld.param.u64 from, [source]; ld.param.u64 to, [target];
        mov.u32 t, %tid.x; mov.u32 n, %ntid.x; mov.u32 k, %ctaid.x; mad.lo.u32 t, k, n, t;
        mul.wide.u32 offset, t, {bytes}; add.s64 from, from, offset; add.s64 to, to, offset;
        ld.global.{ty} {registers}, [from]; st.global.{ty} [to], {registers}; ret; }}"
    )
}

struct Case {
    bytes: u64,
    threads: u32,
    /// Elements from the array's start.
    from: u64,
    to: u64,
    declared: bool,
}

impl Case {
    /// Four CTAs copy within one array of 512 elements.
    fn run(&self) -> Result<Counters, Box<Fault>> {
        let mut bench = Bench::new(&copy(self.bytes as u32));
        let array = bench.array(&vec![7u8; 512 * self.bytes as usize]);
        let (from, to) = (array.offset(self.from * self.bytes), array.offset(self.to * self.bytes));
        let mut launch = LaunchConfig::new([4, 1, 1], [self.threads, 1, 1]);
        if self.declared {
            let size = 4 * self.threads as u64 * self.bytes;
            launch.access = Some(vec![Access::read(from.0, size, "from"), Access::write(to.0, size, "to")]);
        }
        bench.launch_with("copy", &launch, &[&from, &to])
    }
}

#[test]
fn copies_within_one_array_race_exactly_where_blocks_overlap() {
    for bytes in [1, 2, 4, 8, 16] {
        for declared in [false, true] {
            // Odd blocks put the border of two CTAs inside a word.
            for threads in [32, 33, 61] {
                let run = |from: u64, to: u64| Case { bytes, threads, from, to, declared }.run();
                let size = 4 * threads as u64;
                for (from, to) in [(0, size), (size, 0), (1, size + 1), (3, 3)] {
                    // In place, a range that is both read and written must be declared as such.
                    if from == to && declared {
                        continue;
                    }
                    run(from, to)
                        .unwrap_or_else(|fault| panic!("{bytes} bytes, {threads} threads, {from} to {to}: {fault}"));
                }
                // Each CTA writes what another one reads, whichever comes first.
                for (from, to) in [(0, threads as u64), (threads as u64, 0), (0, 1), (2, 0)] {
                    let Err(fault) = run(from, to) else {
                        panic!("{bytes} bytes, {threads} threads, {from} to {to}, {declared}")
                    };
                    assert_eq!(fault.kind, FaultKind::GlobalRace, "{bytes} bytes, {threads} threads: {fault}");
                }
            }
        }
    }
}

#[test]
fn many_blocks_may_read_the_same_and_none_may_write_it() {
    for ty in ["u8", "u16", "u32", "v2.u32", "v4.u32"] {
        let registers = match ty {
            "v2.u32" => "{a,b}",
            "v4.u32" => "{a,b,c,d}",
            _ => "a",
        };
        let ptx = format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 array, .param .u32 writer) {{
            .reg .b32 t, k, w, a, b, c, d; .reg .b64 x, offset; .reg .pred p;
            ld.param.u64 x, [array]; ld.param.u32 w, [writer]; mov.u32 t, %tid.x; mov.u32 k, %ctaid.x;
            mul.wide.u32 offset, t, 16; add.s64 x, x, offset; ld.global.{ty} {registers}, [x];
            setp.eq.u32 p, k, w; @p st.global.{ty} [x], {registers}; ret; }}"
        );
        let run = |writer: u32| {
            let mut bench = Bench::new(&ptx);
            let x = bench.array(&[1u32; 256]);
            bench.launch("k", [5, 1, 1], [64, 1, 1], &[&x, &writer])
        };
        run(99).unwrap_or_else(|fault| panic!("{ty}: {fault}"));
        for writer in [0, 2, 4] {
            let fault = run(writer).expect_err("one writes what all read");
            assert_eq!(fault.kind, FaultKind::GlobalRace, "{ty}: {fault}");
        }
    }
}

/// Every CTA reads sixteen bytes per thread in pieces of `ty`; the CTA `writer` stores to the last of them as `write` says.
fn read_by_all(ty: &str, write: &str) -> String {
    let (bytes, registers) = match ty {
        "v2.u32" => (8, "{a,b}"),
        "v4.u32" => (16, "{a,b,c,d}"),
        "u32" => (4, "a"),
        "u16" => (2, "a"),
        _ => (1, "a"),
    };
    let reads: String = (0..16 / bytes).map(|i| format!("ld.global.{ty} {registers}, [x+{}];\n", i * bytes)).collect();
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 array, .param .u32 writer) {{
        .reg .b32 t, k, w, a, b, c, d; .reg .b64 x, offset; .reg .pred p;
        ld.param.u64 x, [array]; ld.param.u32 w, [writer]; mov.u32 t, %tid.x; mov.u32 k, %ctaid.x;
        mul.wide.u32 offset, t, 16; add.s64 x, x, offset; mov.u32 b, 0; mov.u32 c, 0; mov.u32 d, 0;
        {reads} setp.eq.u32 p, k, w; @p {write} ret; }}"
    )
}

#[test]
fn a_write_to_what_several_blocks_have_read_whole_is_found_at_every_width() {
    let writes = [
        "st.global.u8 [x+15], a;",
        "st.global.u16 [x+14], a;",
        "st.global.u32 [x+12], a;",
        "st.global.v2.u32 [x+8], {a,b};",
        "st.global.v4.u32 [x], {a,b,c,d};",
        "red.global.add.u32 [x+12], a;",
    ];
    for ty in ["u8", "u16", "u32", "v2.u32", "v4.u32"] {
        for write in writes {
            let mut bench = Bench::new(&read_by_all(ty, write));
            let x = bench.array(&[1u32; 4 * 64]);
            let mut run = |writer: u32| bench.launch("k", [7, 1, 1], [64, 1, 1], &[&x, &writer]);
            run(99).unwrap_or_else(|fault| panic!("{ty}, {write}: {fault}"));
            for writer in [0, 3, 6] {
                let fault = run(writer).expect_err("one writes what all read");
                assert_eq!(fault.kind, FaultKind::GlobalRace, "{ty}, {write}: {fault}");
            }
            run(99).unwrap_or_else(|fault| panic!("{ty}, {write}, once more: {fault}"));
        }
    }
}

#[test]
fn what_blocks_read_many_launches_ago_hides_no_race() {
    // The records tell launches apart by a number of eight bits; it comes round within these.
    let mut bench = Bench::new(&read_by_all("v4.u32", "st.global.v4.u32 [x], {a,b,c,d};"));
    let x = bench.array(&[1u32; 4 * 32]);
    let y = bench.array(&[1u32; 4 * 32]);
    let mut run = |array, writer: u32| bench.launch("k", [5, 1, 1], [32, 1, 1], &[&array, &writer]);
    run(x, 99).unwrap();
    for later in 0..300 {
        if (250..260).contains(&later) {
            // The first block writes, the others read.
            assert_eq!(run(x, 0).unwrap_err().kind, FaultKind::GlobalRace, "{later} launches later");
        } else {
            run(y, 99).unwrap();
        }
    }
}

#[test]
fn reading_what_is_not_written_is_found_beside_what_many_have_read() {
    let mut bench = Bench::new(&read_by_all("u32", "st.global.u32 [x+12], a;"));
    // The last of the four words of each thread has no value.
    let x = bench.empty::<u32>(4 * 32);
    for thread in 0..32 {
        bench.device.copy_to_device(x.offset(16 * thread), &[7; 12]).unwrap();
    }
    let fault = bench.launch("k", [5, 1, 1], [32, 1, 1], &[&x, &99u32]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Uninitialised, "{fault}");
}

#[test]
fn stores_of_the_same_value_do_not_race_and_those_of_others_do() {
    for (space, ty) in [
        ("global", "u8"),
        ("global", "u16"),
        ("global", "u32"),
        ("global", "u64"),
        ("shared", "u16"),
        ("shared", "u32"),
    ] {
        let value = if ty == "u64" { "w" } else { "v" };
        let ptx = format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 to, .param .u32 differ) {{
            .reg .b32 t, k, v, d, s; .reg .b64 y, w; .reg .pred p; .shared .align 8 .b8 room[8];
            ld.param.u64 y, [to]; ld.param.u32 d, [differ]; mov.u32 t, %tid.x; mov.u32 k, %ctaid.x; mad.lo.u32 t, k, 64, t;
            mov.u32 s, room; setp.eq.u32 p, t, d; selp.b32 v, 9, 7, p; cvt.u64.u32 w, v;
            st.{space}.{ty} [{}], {value}; ret; }}",
            if space == "shared" { "s" } else { "y" }
        );
        for seed in [None, Some(1), Some(2)] {
            let run = |differ: u32| {
                let mut bench = Bench::with(ptx_emulator::Config { seed, ..ptx_emulator::Config::default() }, &ptx);
                let y = bench.empty::<u64>(1);
                bench.launch("k", [if space == "shared" { 1 } else { 40 }, 1, 1], [64, 1, 1], &[&y, &differ])
            };
            run(9999).unwrap_or_else(|fault| panic!("{space} {ty} {seed:?}: {fault}"));
            let kind = if space == "shared" { FaultKind::SharedRace } else { FaultKind::GlobalRace };
            // In global memory blocks race, not threads: what a block leaves is its last thread's.
            for differ in if space == "shared" { [0, 1, 63] } else { [63, 127, 64 * 39 + 63] } {
                assert_eq!(run(differ).unwrap_err().kind, kind, "{space} {ty} {seed:?} {differ}");
            }
        }
    }
}
