//! `cp.async` in all sizes, its mbarrier arrival, and named barriers.

use crate::harness::Table;

pub fn lane_copies(t: &mut Table) {
    // Thread i copies from 16 i bytes behind `in`; the words there are numbered from 0.
    let inputs: Vec<Vec<u32>> =
        (0..4).map(|i| (32 * i..32 * i + 32).map(|x| 0x0101_0101 * (x + 1)).collect()).collect();
    let byte = |thread: usize, i: usize| (16 * thread + i) as u32 / 4 + 1;
    let judge = |line: &str, bytes: usize, kept: &dyn Fn(usize) -> usize, found: &[Vec<u32>]| {
        for thread in 0..32 {
            for i in 0..16 {
                let wanted = match i {
                    i if i >= bytes => 0xee,
                    i if i >= kept(thread) => 0,
                    i => byte(thread, i),
                };
                let stored = found[i / 4][thread] >> (i % 4 * 8) & 0xff;
                assert_eq!(stored, wanted, "{line} thread {thread}, byte {i}");
            }
        }
    };
    let before = "mul.wide.u32 off, t, 12; add.s64 in, in, off; mov.b32 e, 0xeeeeeeee;
        st.shared.v4.b32 [row], {e,e,e,e};";
    let after = "ld.shared.v4.b32 {y0,y1,y2,y3}, [row];";
    let waits = [
        "cp.async.commit_group; cp.async.wait_group 0;",
        "cp.async.wait_all;",
        "bar.sync 0; setp.eq.u32 p, t, 0; @p mbarrier.init.shared.b64 [sh+1024], 32; bar.sync 0;
        cp.async.mbarrier.arrive.noinc.SPACE.b64 [sh+1024];
        L: mbarrier.test_wait.parity.shared.b64 q, [sh+1024], 0; @!q bra L;",
        "bar.sync 0; setp.eq.u32 p, t, 0; @p mbarrier.init.shared.b64 [sh+1024], 32; bar.sync 0;
        cp.async.mbarrier.arrive.SPACE.b64 [sh+1024]; mbarrier.arrive.shared.b64 E, [sh+1024];
        L: mbarrier.try_wait.parity.shared.b64 q, [sh+1024], 0; @!q bra L;",
    ];
    for wait in waits {
        for (cache, bytes) in [("ca", 4), ("ca", 8), ("ca", 16), ("cg", 16)] {
            for space in ["shared", "shared::cta"] {
                let (wait, form) = (wait.replace("SPACE", space), format!("cp.async.{cache}.{space}.global"));
                let line = format!("{before} {form} [row], [in], {bytes}; {wait} {after}");
                t.fragments(&line, 32, &inputs, 0, 4, |found| judge(&line, bytes, &|_| bytes, &found));
                // Lane t reads t mod (size + 1) bytes, and the rest becomes zero.
                let line =
                    format!("{before} rem.u32 e, t, {}; {form} [row], [in], {bytes}, e; {wait} {after}", bytes + 1);
                t.fragments(&line, 32, &inputs, 0, 4, |found| judge(&line, bytes, &|t| t % (bytes + 1), &found));
                // Where the predicate holds, nothing is read.
                let line = format!(
                    "{before} and.b32 e, t, 1; setp.ne.u32 p, e, 0; {form}.L2::128B [row], [in], {bytes}, p; {wait} {after}"
                );
                t.fragments(&line, 32, &inputs, 0, 4, |found| {
                    judge(&line, bytes, &|t| if t % 2 == 1 { 0 } else { bytes }, &found)
                });
            }
        }
    }
}

pub fn barriers(t: &mut Table) {
    let input: Vec<Vec<u32>> = vec![(0..96).map(|i| 1000 + i).collect()];
    let other = "shl.b32 e, t, 2; add.u32 e, e, sh;";
    // Warp 0 produces and goes on, warp 1 waits for it; warp 2 takes no part.
    for (arrive, sync) in [
        ("bar.arrive 3, 64;", "bar.sync 3, 64;"),
        ("barrier.cta.arrive.aligned 3, 64;", "barrier.cta.sync.aligned 3, 64;"),
        ("barrier.arrive 3, 64;", "barrier.sync 3, 64;"),
        ("barrier.cta.arrive 3, 64;", "barrier.cta.sync 3, 64;"),
        ("barrier.arrive.aligned 3, 64;", "barrier.sync.aligned 3, 64;"),
    ] {
        let line = format!(
            "{other} setp.ge.u32 p, t, 32; @p bra L; st.shared.b32 [e], x0; {arrive} bra M;
            L: setp.ge.u32 p, t, 64; @p bra M; {sync} ld.shared.b32 y0, [e+-128]; M:"
        );
        t.fragments(&line, 96, &input, 0, 1, |found| {
            for thread in 0..96 {
                let wanted = if (32..64).contains(&thread) { 1000 + thread as u32 - 32 } else { 0 };
                assert_eq!(found[0][thread], wanted, "{sync} thread {thread}");
            }
        });
    }
    // All threads through one barrier, with and without a count.
    for sync in
        ["bar.sync 0;", "bar.sync 5, 96;", "barrier.sync 0;", "barrier.cta.sync 2;", "barrier.sync.aligned 15, 96;"]
    {
        let line = format!(
            "{other} st.shared.b32 [e], x0; {sync}
            sub.u32 e, 95, t; shl.b32 e, e, 2; add.u32 e, e, sh; ld.shared.b32 y0, [e];"
        );
        t.fragments(&line, 96, &input, 0, 1, |found| {
            (0..96).for_each(|thread| assert_eq!(found[0][thread], 1095 - thread as u32, "{sync} thread {thread}"));
        });
    }
    let reduce = [
        ("bar.red.popc.u32 y0, 0, p;", 32),
        ("bar.red.popc.u32 y0, 4, 96, p;", 32),
        ("bar.red.and.pred q, 0, p; selp.b32 y0, 7, 9, q;", 9),
        ("bar.red.or.pred q, 0, p; selp.b32 y0, 7, 9, q;", 7),
        ("barrier.red.popc.u32 y0, 0, p;", 32),
        ("barrier.cta.red.or.aligned.pred q, 1, 96, p; selp.b32 y0, 7, 9, q;", 7),
    ];
    for (form, wanted) in reduce {
        let line = format!("rem.u32 e, t, 3; setp.eq.u32 p, e, 0; {form}");
        t.fragments(&line, 96, &input, 0, 1, |found| {
            assert!(found[0].iter().all(|&y| y == wanted), "{form}: {:?}", found[0]);
        });
    }
}
