//! Operations among the lanes of a warp.

use crate::harness::Table;

pub fn lanes_together(t: &mut Table) {
    let v = |t: usize| (t as u32 * 7) & 15;
    let all = |f: &dyn Fn(usize) -> u32| (0..32).map(f).collect::<Vec<u32>>();
    t.warp("shfl.sync.down.b32 d, v, 3, 31, -1;", &all(&|t| v(if t + 3 < 32 { t + 3 } else { t })));
    t.warp("shfl.sync.up.b32 d, v, 3, 0, -1;", &all(&|t| v(if t >= 3 { t - 3 } else { t })));
    t.warp("shfl.sync.bfly.b32 d, v, 5, 31, -1;", &all(&|t| v(t ^ 5)));
    t.warp("shfl.sync.idx.b32 d|q, v, 9, 0x181f, -1;", &all(&|t| v(t / 8 * 8 + 1)));
    let ballot = (0..32).filter(|&t| v(t) > 6).fold(0, |m, t| m | 1u32 << t);
    t.warp("vote.sync.ballot.b32 d, p, -1;", &all(&|_| ballot));
    t.warp("vote.sync.any.pred q, p, -1; selp.u32 d, 1, 0, q;", &all(&|_| 1));
    t.warp("vote.sync.all.pred q, p, -1; selp.u32 d, 1, 0, q;", &all(&|_| 0));
    let same = |t: usize| (0..32).filter(|&o| v(o) == v(t)).fold(0, |m, o| m | 1u32 << o);
    t.warp("match.any.sync.b32 d, v, -1;", &all(&same));
    t.warp("match.any.sync.b64 d, w, -1;", &all(&same));
    t.warp("match.all.sync.b32 d|q, v, -1;", &all(&|_| 0));
    t.warp("redux.sync.add.s32 d, v, -1;", &all(&|_| (0..32).map(v).sum()));
    t.warp("redux.sync.max.u32 d, v, -1;", &all(&|_| 15));
    t.warp("activemask.b32 d;", &all(&|_| u32::MAX));
    t.warp("@p activemask.b32 d;", &all(&|t| if v(t) > 6 { ballot } else { 0 }));
    t.warp("bar.red.popc.u32 d, 0, p;", &all(&|_| ballot.count_ones()));
    t.warp("mov.u32 d, %lanemask_lt;", &all(&|t| (1u32 << t) - 1));
}

pub fn reduced_and_matched(t: &mut Table) {
    let v = |t: usize| (t as u32 * 7) & 15;
    let all = |x: u32| vec![x; 32];
    // Values whose top bits differ, so that signed and unsigned disagree.
    let wild = |t: usize| v(t).wrapping_sub(7).wrapping_mul(0x1234_5671);
    let values = || (0..32).map(wild);
    let signed = || values().map(|x| x as i32);
    let set = "sub.u32 v, v, 7; mul.lo.u32 v, v, 0x12345671;";
    let forms = [
        ("add.u32", values().fold(0, u32::wrapping_add)),
        ("add.s32", values().fold(0, u32::wrapping_add)),
        ("min.u32", values().min().unwrap()),
        ("max.u32", values().max().unwrap()),
        ("min.s32", signed().min().unwrap() as u32),
        ("max.s32", signed().max().unwrap() as u32),
        ("and.b32", values().fold(u32::MAX, |a, b| a & b)),
        ("or.b32", values().fold(0, |a, b| a | b)),
        ("xor.b32", values().fold(0, |a, b| a ^ b)),
    ];
    for (form, wanted) in forms {
        t.warp(&format!("{set} redux.sync.{form} d, v, -1;"), &all(wanted));
    }
    // A part of the warp: only its members count, and only they get the result.
    let some: Vec<u32> = (0..32).map(|t| if v(t) > 6 { (0..32).map(v).filter(|&x| x > 6).sum() } else { 0 }).collect();
    let mask = (0..32).filter(|&t| v(t) > 6).fold(0u32, |m, t| m | 1 << t);
    t.warp(&format!("@p redux.sync.add.u32 d, v, {mask};"), &some);
    let upper = |x: u32| (0..32).map(|t| if v(t) > 6 { x } else { 0 }).collect::<Vec<u32>>();
    t.warp(&format!("@p vote.sync.ballot.b32 d, p, {mask};"), &upper(mask));
    t.warp("vote.sync.uni.pred q, p, -1; selp.u32 d, 5, 6, q;", &all(6));
    t.warp("setp.lt.u32 p, v, 99; vote.sync.uni.pred q, p, -1; selp.u32 d, 5, 6, q;", &all(5));
    t.warp("setp.lt.u32 p, v, 99; vote.sync.all.pred q, !p, -1; selp.u32 d, 5, 6, q;", &all(6));
    t.warp("mov.u32 v, 9; match.all.sync.b32 d|q, v, -1; @!q mov.u32 d, 1;", &all(u32::MAX));
    t.warp("mov.u64 w, 9; match.all.sync.b64 d|q, w, -1; @!q mov.u32 d, 1;", &all(u32::MAX));
    t.warp("match.all.sync.b64 d|q, w, -1; @q mov.u32 d, 1;", &all(0));
    t.warp("elect.sync d|q, -1; @q mov.u32 d, 77;", &(0..32).map(|t| if t == 0 { 77 } else { 0 }).collect::<Vec<_>>());
    t.warp("bar.warp.sync -1; mov.u32 d, v;", &(0..32).map(v).collect::<Vec<_>>());
}
