//! One instruction at a time over edge values, against plain Rust.

mod common;

use common::Bench;

/// Integers around every boundary, and floats of every kind.
const EDGES: [u32; 26] = [
    0,
    1,
    2,
    31,
    32,
    33,
    63,
    64,
    0x7f,
    0x80,
    0xffff,
    0x8000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1234_5678,
    0x3f80_0000,
    0xbf80_0000,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0x0080_0000,
    0x807f_ffff,
    0x7f7f_ffff,
    0x4b80_0001,
    0xc020_0000,
];

fn pairs() -> Vec<[u64; 3]> {
    let wide = |x: u32| (x as u64) << 32 | x.rotate_left(7) as u64 ^ x as u64;
    let mut list = Vec::new();
    for a in EDGES {
        for b in EDGES {
            list.push([a as u64, b as u64, 7]);
            list.push([wide(a), wide(b), wide(b ^ a)]);
            list.push([a as u64, b as u64, (a ^ b.rotate_left(3)) as u64]);
        }
    }
    list
}

/// Runs one line of PTX for every triple. It may use a, b, c (32 bits), A, B, C (64), ha, hb, hc (16), p (a predicate that
/// holds where the low bit of c is set), and leaves its result in d, D, hd or q.
fn run(line: &str, inputs: &[[u64; 3]]) -> Vec<u64> {
    let ptx = format!(
        ".version 9.0\n.target sm_90a\n.address_size 64\n.visible .entry form(.param .u64 pin, .param .u64 pout, .param .u32 n) {{
  .reg .b32 t, s, u, m, a, b, c, d, e; .reg .b64 A, B, C, D, E, in, out, off; .reg .b16 ha, hb, hc, hd; .reg .pred p, q, r, k;
  ld.param.u64 in, [pin]; ld.param.u64 out, [pout]; ld.param.u32 m, [n];
  mov.u32 t, %tid.x; mov.u32 s, %ctaid.x; mad.lo.u32 u, s, 128, t; setp.ge.u32 k, u, m; @k bra DONE;
  mul.wide.u32 off, u, 24; add.s64 in, in, off; mul.wide.u32 off, u, 8; add.s64 out, out, off;
  ld.global.b64 A, [in]; ld.global.b64 B, [in+8]; ld.global.b64 C, [in+16];
  cvt.u32.u64 a, A; cvt.u32.u64 b, B; cvt.u32.u64 c, C; cvt.u16.u64 ha, A; cvt.u16.u64 hb, B; cvt.u16.u64 hc, C;
  and.b32 e, c, 1; setp.ne.u32 p, e, 0;
  mov.u32 d, 0; mov.u64 D, 0; mov.u16 hd, 0; setp.ne.u32 q, e, e;
  {line}
  cvt.u64.u32 E, d; or.b64 D, D, E; cvt.u64.u16 E, hd; or.b64 D, D, E; selp.u64 E, 1, 0, q; or.b64 D, D, E;
  st.global.u64 [out], D;
DONE: ret; }}"
    );
    let mut bench = Bench::new(&ptx);
    let flat: Vec<u64> = inputs.iter().flatten().copied().collect();
    let input = bench.array(&flat);
    let output = bench.empty::<u64>(inputs.len());
    let blocks = inputs.len().div_ceil(128) as u32;
    bench
        .launch("form", [blocks, 1, 1], [128, 1, 1], &[&input, &output, &(inputs.len() as u32)])
        .unwrap_or_else(|fault| panic!("{line}: {fault}"));
    bench.read(output, inputs.len())
}

fn check(line: &str, expected: impl Fn(u64, u64, u64) -> u64) {
    let inputs = pairs();
    for (input, found) in inputs.iter().zip(run(line, &inputs)) {
        let wanted = expected(input[0], input[1], input[2]);
        assert_eq!(found, wanted, "{line} of {input:x?}: {found:x} instead of {wanted:x}");
    }
}

/// 32-bit operands and result.
fn check32(line: &str, expected: impl Fn(u32, u32, u32) -> u32) {
    check(line, |a, b, c| expected(a as u32, b as u32, c as u32) as u64);
}

fn nan32(x: f32) -> u32 {
    if x.is_nan() { 0x7fff_ffff } else { x.to_bits() }
}

fn nan64(x: f64) -> u64 {
    if x.is_nan() { 0x7ff8_0000_0000_0000 } else { x.to_bits() }
}

/// f32 operands and result.
fn check_float(line: &str, expected: impl Fn(f32, f32, f32) -> f32) {
    check32(line, |a, b, c| nan32(expected(f32::from_bits(a), f32::from_bits(b), f32::from_bits(c))));
}

#[test]
fn integers_of_32_bits() {
    check32("add.s32 d, a, b;", |a, b, _| a.wrapping_add(b));
    check32("sub.u32 d, a, b;", |a, b, _| a.wrapping_sub(b));
    check32("add.sat.s32 d, a, b;", |a, b, _| (a as i32).saturating_add(b as i32) as u32);
    check32("sub.sat.s32 d, a, b;", |a, b, _| (a as i32).saturating_sub(b as i32) as u32);
    check32("mul.lo.s32 d, a, b;", |a, b, _| a.wrapping_mul(b));
    check32("mul.hi.u32 d, a, b;", |a, b, _| ((a as u64 * b as u64) >> 32) as u32);
    check32("mul.hi.s32 d, a, b;", |a, b, _| ((a as i32 as i64 * b as i32 as i64) >> 32) as u32);
    check32("mad.lo.u32 d, a, b, c;", |a, b, c| a.wrapping_mul(b).wrapping_add(c));
    check32("mad.hi.u32 d, a, b, c;", |a, b, c| (((a as u64 * b as u64) >> 32) as u32).wrapping_add(c));
    check32("min.s32 d, a, b;", |a, b, _| (a as i32).min(b as i32) as u32);
    check32("max.u32 d, a, b;", |a, b, _| a.max(b));
    check32("abs.s32 d, a;", |a, _, _| (a as i32).wrapping_abs() as u32);
    check32("neg.s32 d, a;", |a, _, _| a.wrapping_neg());
    check32("div.u32 d, a, b;", |a, b, _| a.checked_div(b).unwrap_or(u32::MAX));
    check32("rem.s32 d, a, b;", |a, b, _| if b == 0 { a } else { (a as i32).wrapping_rem(b as i32) as u32 });
    check32("sad.s32 d, a, b, c;", |a, b, c| (a as i32).abs_diff(b as i32).wrapping_add(c));
    check32("vmin: min.u32 d, a, b;", |a, b, _| a.min(b));
    check32("add.cc.u32 e, a, b; addc.u32 d, a, b;", |a, b, _| {
        a.wrapping_add(b).wrapping_add(a.checked_add(b).is_none() as u32)
    });
    check32("sub.cc.u32 e, a, b; subc.u32 d, a, b;", |a, b, _| a.wrapping_sub(b).wrapping_sub((a < b) as u32));
    check32("mad.lo.cc.u32 e, a, b, c; madc.hi.u32 d, a, b, 0;", |a, b, c| {
        ((a as u64 * b as u64 + c as u64) >> 32) as u32
    });
    check32("dp4a.s32.u32 d, a, b, c;", |a, b, c| {
        a.to_le_bytes()
            .iter()
            .zip(b.to_le_bytes())
            .fold(c, |s, (&x, y)| s.wrapping_add((x as i8 as i32 * y as i32) as u32))
    });
}

#[test]
fn integers_of_64_and_16_bits() {
    check("add.s64 D, A, B;", |a, b, _| a.wrapping_add(b));
    check("mul.lo.u64 D, A, B;", |a, b, _| a.wrapping_mul(b));
    check("mul.hi.s64 D, A, B;", |a, b, _| ((a as i64 as i128 * b as i64 as i128) >> 64) as u64);
    check("mul.wide.s32 D, a, b;", |a, b, _| (a as i32 as i64 * b as i32 as i64) as u64);
    check("mad.wide.u32 D, a, b, C;", |a, b, c| (a as u32 as u64 * b as u32 as u64).wrapping_add(c));
    check("div.s64 D, A, B;", |a, b, _| if b == 0 { u64::MAX } else { (a as i64).wrapping_div(b as i64) as u64 });
    check("rem.u64 D, A, B;", |a, b, _| if b == 0 { a } else { a % b });
    check("max.s64 D, A, B;", |a, b, _| (a as i64).max(b as i64) as u64);
    check("add.s16 hd, ha, hb;", |a, b, _| (a as u16).wrapping_add(b as u16) as u64);
    check("mul.lo.s16 hd, ha, hb;", |a, b, _| (a as u16).wrapping_mul(b as u16) as u64);
    check("min.s16 hd, ha, hb;", |a, b, _| (a as i16).min(b as i16) as u16 as u64);
    check("mul.wide.u16 d, ha, hb;", |a, b, _| a as u16 as u64 * b as u16 as u64);
    check("mul.wide.s16 d, ha, hb;", |a, b, _| (a as i16 as i32 * b as i16 as i32) as u32 as u64);
    check("shr.s16 hd, ha, b;", |a, b, _| (a as i16 as i32 >> (b as u32).min(31)) as u16 as u64);
    check("shl.b16 hd, ha, b;", |a, b, _| if b as u32 > 15 { 0 } else { ((a as u16) << b as u32) as u64 });
}

#[test]
fn bits_and_shifts() {
    check32("and.b32 d, a, b;", |a, b, _| a & b);
    check32("not.b32 d, a;", |a, _, _| !a);
    check32("shl.b32 d, a, b;", |a, b, _| a.checked_shl(b).unwrap_or(0));
    check32("shr.u32 d, a, b;", |a, b, _| a.checked_shr(b).unwrap_or(0));
    check32("shr.s32 d, a, b;", |a, b, _| ((a as i32 as i64) >> (b as u64).min(63)) as u32);
    check("shl.b64 D, A, b;", |a, b, _| a.checked_shl(b as u32).unwrap_or(0));
    check("shr.u64 D, A, b;", |a, b, _| a.checked_shr(b as u32).unwrap_or(0));
    check("shr.s64 D, A, b;", |a, b, _| ((a as i64) >> (b as u32).min(63)) as u64);
    check32("shf.l.wrap.b32 d, a, b, c;", |a, b, c| ((((b as u64) << 32 | a as u64) << (c & 31)) >> 32) as u32);
    check32("shf.r.clamp.b32 d, a, b, c;", |a, b, c| (((b as u64) << 32 | a as u64) >> c.min(32)) as u32);
    check32("popc.b32 d, a;", |a, _, _| a.count_ones());
    check("popc.b64 d, A;", |a, _, _| a.count_ones() as u64);
    check32("clz.b32 d, a;", |a, _, _| a.leading_zeros());
    check32("brev.b32 d, a;", |a, _, _| a.reverse_bits());
    check32("bfind.u32 d, a;", |a, _, _| a.checked_ilog2().unwrap_or(u32::MAX));
    check32("bfind.shiftamt.s32 d, a;", |a, _, _| {
        let a = if (a as i32) < 0 { !a } else { a };
        if a == 0 { u32::MAX } else { a.leading_zeros() }
    });
    for table in [0x96u32, 0xe8, 0x01, 0xca] {
        check32(&format!("lop3.b32 d, a, b, c, {table};"), |a, b, c| {
            (0..32).fold(0, |d, i| {
                let index = (a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1;
                d | (table >> index & 1) << i
            })
        });
    }
    check32("prmt.b32 d, a, b, c;", |a, b, c| {
        let bytes: Vec<u8> = a.to_le_bytes().into_iter().chain(b.to_le_bytes()).collect();
        u32::from_le_bytes(std::array::from_fn(|i| {
            let selector = c >> (4 * i) & 15;
            let byte = bytes[selector as usize & 7];
            if selector > 7 { ((byte as i8) >> 7) as u8 } else { byte }
        }))
    });
    // The definition of the manual, bit by bit.
    let field = |a: u32, b: u32, c: u32, signed: bool| {
        let (p, n) = (b & 255, c & 255);
        let sign = if !signed || n == 0 { 0 } else { a >> (p + n - 1).min(31) & 1 };
        (0..32).fold(0, |d, i| d | (if i < n && p + i < 32 { a >> (p + i) & 1 } else { sign }) << i)
    };
    check32("bfe.u32 d, a, b, c;", |a, b, c| field(a, b, c, false));
    check32("bfe.s32 d, a, b, c;", |a, b, c| field(a, b, c, true));
    check32("bfi.b32 d, a, b, c, 5;", |a, b, c| {
        (0..5).fold(b, |f, i| {
            let at = (c & 255) + i;
            if at < 32 { f & !(1 << at) | (a >> i & 1) << at } else { f }
        })
    });
    check("mov.b64 {d, _}, A;", |a, _, _| a as u32 as u64);
    check("mov.b32 {hd, hb}, a;", |a, _, _| a as u16 as u64);
    check("mov.b64 D, {b, a};", |a, b, _| (a as u32 as u64) << 32 | b as u32 as u64);
}

#[test]
fn comparisons_and_selection() {
    let f = |x: u64| f32::from_bits(x as u32);
    check("setp.lt.s32 q, a, b;", |a, b, _| ((a as i32) < b as i32) as u64);
    check("setp.hs.u32 q, a, b;", |a, b, _| (a as u32 >= b as u32) as u64);
    check("setp.ne.s64 q, A, B;", |a, b, _| (a != b) as u64);
    check("setp.gt.s16 q, ha, hb;", |a, b, _| (a as i16 > b as i16) as u64);
    check("setp.lt.f32 q, a, b;", |a, b, _| (f(a) < f(b)) as u64);
    check("setp.neu.f32 q, a, b;", |a, b, _| (f(a) != f(b)) as u64);
    check("setp.geu.f32 q, a, b;", |a, b, _| (f(a).partial_cmp(&f(b)) != Some(std::cmp::Ordering::Less)) as u64);
    check("setp.nan.f32 q, a, b;", |a, b, _| (f(a).is_nan() || f(b).is_nan()) as u64);
    check("setp.le.f64 q, A, B;", |a, b, _| (f64::from_bits(a) <= f64::from_bits(b)) as u64);
    check("setp.eq.and.s32 q|r, a, b, p;", |a, b, c| (a as u32 == b as u32 && c & 1 == 1) as u64);
    check("setp.eq.xor.s32 r|q, a, b, !p;", |a, b, c| ((a as u32 != b as u32) != (c & 1 == 0)) as u64);
    check("selp.b32 d, a, b, p;", |a, b, c| if c & 1 == 1 { a as u32 } else { b as u32 } as u64);
    check("slct.b32.s32 d, a, b, c;", |a, b, c| if c as i32 >= 0 { a as u32 } else { b as u32 } as u64);
    check("set.gt.u32.f32 d, a, b;", |a, b, _| if f(a) > f(b) { u32::MAX as u64 } else { 0 });
    check("@p mov.u32 d, a; @!p mov.u32 d, b;", |a, b, c| if c & 1 == 1 { a as u32 } else { b as u32 } as u64);
}

#[test]
fn floats_of_32_bits() {
    let flush = |x: f32| if x.is_subnormal() { 0f32.copysign(x) } else { x };
    check_float("add.rn.f32 d, a, b;", |a, b, _| a + b);
    check_float("sub.f32 d, a, b;", |a, b, _| a - b);
    check_float("mul.f32 d, a, b;", |a, b, _| a * b);
    check_float("div.rn.f32 d, a, b;", |a, b, _| a / b);
    check_float("fma.rn.f32 d, a, b, c;", |a, b, c| a.mul_add(b, c));
    check_float("sqrt.rn.f32 d, a;", |a, _, _| a.sqrt());
    check_float("rcp.rn.f32 d, a;", |a, _, _| 1.0 / a);
    check_float("mul.ftz.f32 d, a, b;", |a, b, _| flush(flush(a) * flush(b)));
    check_float("add.sat.f32 d, a, b;", |a, b, _| if (a + b).is_nan() { 0.0 } else { (a + b).clamp(0.0, 1.0) + 0.0 });
    check_float("min.f32 d, a, b;", |a, b, _| match (a.is_nan(), b.is_nan(), a == b) {
        (true, _, _) => b,
        (_, true, _) => a,
        (_, _, true) => f32::from_bits(a.to_bits() | b.to_bits()),
        _ => a.min(b),
    });
    check_float("max.NaN.f32 d, a, b;", |a, b, _| match (a.is_nan() || b.is_nan(), a == b) {
        (true, _) => f32::NAN,
        (_, true) => f32::from_bits(a.to_bits() & b.to_bits()),
        _ => a.max(b),
    });
    check32("abs.f32 d, a;", |a, _, _| a & 0x7fff_ffff);
    check32("neg.f32 d, a;", |a, _, _| a ^ 0x8000_0000);
    check32("copysign.f32 d, a, b;", |a, b, _| a & 0x8000_0000 | b & 0x7fff_ffff);
    // Directed rounding: the result brackets the exact value, which f64 holds for products of f32.
    let product = |a: u32, b: u32| f32::from_bits(a) as f64 * f32::from_bits(b) as f64;
    for (line, up) in [("mul.rp.f32 d, a, b;", true), ("mul.rm.f32 d, a, b;", false)] {
        check32(line, |a, b, _| {
            let exact = product(a, b);
            let near = exact as f32;
            let wrong = if up { (near as f64) < exact } else { near as f64 > exact };
            nan32(match (wrong, up) {
                (false, _) => near,
                (_, true) => near.next_up(),
                (_, false) => near.next_down(),
            })
        });
    }
    check32("mul.rz.f32 d, a, b;", |a, b, _| {
        let exact = product(a, b);
        let near = exact as f32;
        let past = (near as f64).abs() > exact.abs();
        nan32(if past { f32::from_bits(near.to_bits() - 1) } else { near })
    });
}

#[test]
fn floats_of_64_bits() {
    let f = f64::from_bits;
    check("add.rn.f64 D, A, B;", |a, b, _| nan64(f(a) + f(b)));
    check("mul.f64 D, A, B;", |a, b, _| nan64(f(a) * f(b)));
    check("fma.rn.f64 D, A, B, C;", |a, b, c| nan64(f(a).mul_add(f(b), f(c))));
    check("div.rn.f64 D, A, B;", |a, b, _| nan64(f(a) / f(b)));
    check("sqrt.rn.f64 D, A;", |a, _, _| nan64(f(a).sqrt()));
    check("neg.f64 D, A;", |a, _, _| a ^ 1 << 63);
}

#[test]
fn conversions() {
    let f = |x: u64| f32::from_bits(x as u32);
    check("cvt.s64.s32 D, a;", |a, _, _| a as i32 as i64 as u64);
    check("cvt.u32.u8 d, a;", |a, _, _| a as u8 as u64);
    check("cvt.s32.s8 d, a;", |a, _, _| a as i8 as i32 as u32 as u64);
    check("cvt.sat.u8.s32 d, a;", |a, _, _| (a as i32).clamp(0, 255) as u64);
    check("cvt.sat.s16.s64 hd, A;", |a, _, _| (a as i64).clamp(-32768, 32767) as u16 as u64);
    check("cvt.rn.f32.s32 d, a;", |a, _, _| (a as i32 as f32).to_bits() as u64);
    check("cvt.rn.f32.u64 d, A;", |a, _, _| (a as f32).to_bits() as u64);
    check("cvt.rn.f64.s64 D, A;", |a, _, _| (a as i64 as f64).to_bits());
    check("cvt.rzi.s32.f32 d, a;", |a, _, _| f(a) as i32 as u32 as u64);
    check("cvt.rni.u32.f32 d, a;", |a, _, _| f(a).round_ties_even() as u32 as u64);
    check("cvt.rmi.s64.f32 D, a;", |a, _, _| f(a).floor() as i64 as u64);
    check("cvt.rpi.f32.f32 d, a;", |a, _, _| nan32(f(a).ceil()) as u64);
    check("cvt.f64.f32 D, a;", |a, _, _| nan64(f(a) as f64));
    check("cvt.rn.f32.f64 d, A;", |a, _, _| nan32(f64::from_bits(a) as f32) as u64);
    check("cvt.sat.f32.f32 d, a;", |a, _, _| if f(a) > 0.0 { f(a).min(1.0).to_bits() as u64 } else { 0 });
    let nan16 = |x: half::f16| if x.is_nan() { 0x7fff } else { x.to_bits() as u64 };
    let nan_b = |x: half::bf16| if x.is_nan() { 0x7fff } else { x.to_bits() as u64 };
    check("cvt.rn.f16.f32 hd, a;", |a, _, _| nan16(half::f16::from_f32(f(a))));
    check("cvt.rn.bf16.f32 hd, a;", |a, _, _| nan_b(half::bf16::from_f32(f(a))));
    check("cvt.f32.f16 d, ha;", |a, _, _| nan32(half::f16::from_bits(a as u16).to_f32()) as u64);
    check("cvt.f32.bf16 d, ha;", |a, _, _| nan32(half::bf16::from_bits(a as u16).to_f32()) as u64);
    check("cvt.rn.bf16x2.f32 d, a, b;", |a, b, _| {
        nan_b(half::bf16::from_f32(f(a))) << 16 | nan_b(half::bf16::from_f32(f(b)))
    });
    check("cvt.rn.f16x2.f32 d, a, b;", |a, b, _| {
        nan16(half::f16::from_f32(f(a))) << 16 | nan16(half::f16::from_f32(f(b)))
    });
}

#[test]
fn halves() {
    let h = |x: u64| half::f16::from_bits(x as u16);
    let nan16 = |x: f64| if x.is_nan() { 0x7fff } else { half::f16::from_f64(x).to_bits() as u64 };
    check("add.f16 hd, ha, hb;", |a, b, _| nan16(h(a).to_f64() + h(b).to_f64()));
    check("mul.f16 hd, ha, hb;", |a, b, _| nan16(h(a).to_f64() * h(b).to_f64()));
    let packed = |a: u64, b: u64, f: &dyn Fn(u64, u64) -> u64| {
        f(a >> 16 & 0xffff, b >> 16 & 0xffff) << 16 | f(a & 0xffff, b & 0xffff)
    };
    check("mul.f16x2 d, a, b;", |a, b, _| packed(a, b, &|a, b| nan16(h(a).to_f64() * h(b).to_f64())));
    check("fma.rn.relu.f16 hd, ha, hb, hc;", |a, b, c| {
        let x = h(a).to_f64() * h(b).to_f64() + h(c).to_f64();
        if x <= 0.0 { 0 } else { nan16(x) }
    });
    check("neg.f16x2 d, a;", |a, _, _| (a as u32 ^ 0x8000_8000) as u64);
}

/// Warp-wide operations: one warp, one value per lane.
fn warp(line: &str) -> Vec<u32> {
    let ptx = format!(
        ".version 9.0\n.target sm_90a\n.address_size 64\n.visible .entry form(.param .u64 pout) {{
  .reg .b32 t, v, d; .reg .b64 out, off, w; .reg .pred p, q;
  ld.param.u64 out, [pout]; mov.u32 t, %tid.x; mul.wide.u32 off, t, 4; add.s64 out, out, off;
  mul.lo.u32 v, t, 7; and.b32 v, v, 15; setp.gt.u32 p, v, 6; cvt.u64.u32 w, v; mov.u32 d, 0;
  {line}
  st.global.u32 [out], d; ret; }}"
    );
    let mut bench = Bench::new(&ptx);
    let output = bench.empty::<u32>(32);
    bench.launch("form", [1, 1, 1], [32, 1, 1], &[&output]).unwrap_or_else(|fault| panic!("{line}: {fault}"));
    bench.read(output, 32)
}

#[test]
fn lanes_together() {
    let v = |t: usize| (t as u32 * 7) & 15;
    let all = |f: &dyn Fn(usize) -> u32| (0..32).map(f).collect::<Vec<u32>>();
    assert_eq!(warp("shfl.sync.down.b32 d, v, 3, 31, -1;"), all(&|t| v(if t + 3 < 32 { t + 3 } else { t })));
    assert_eq!(warp("shfl.sync.up.b32 d, v, 3, 0, -1;"), all(&|t| v(if t >= 3 { t - 3 } else { t })));
    assert_eq!(warp("shfl.sync.bfly.b32 d, v, 5, 31, -1;"), all(&|t| v(t ^ 5)));
    assert_eq!(warp("shfl.sync.idx.b32 d|q, v, 9, 0x181f, -1;"), all(&|t| v(t / 8 * 8 + 1)));
    let ballot = (0..32).filter(|&t| v(t) > 6).fold(0, |m, t| m | 1u32 << t);
    assert_eq!(warp("vote.sync.ballot.b32 d, p, -1;"), all(&|_| ballot));
    assert_eq!(warp("vote.sync.any.pred q, p, -1; selp.u32 d, 1, 0, q;"), all(&|_| 1));
    assert_eq!(warp("vote.sync.all.pred q, p, -1; selp.u32 d, 1, 0, q;"), all(&|_| 0));
    let same = |t: usize| (0..32).filter(|&o| v(o) == v(t)).fold(0, |m, o| m | 1u32 << o);
    assert_eq!(warp("match.any.sync.b32 d, v, -1;"), all(&same));
    assert_eq!(warp("match.any.sync.b64 d, w, -1;"), all(&same));
    assert_eq!(warp("match.all.sync.b32 d|q, v, -1;"), all(&|_| 0));
    assert_eq!(warp("redux.sync.add.s32 d, v, -1;"), all(&|_| (0..32).map(v).sum()));
    assert_eq!(warp("redux.sync.max.u32 d, v, -1;"), all(&|_| 15));
    assert_eq!(warp("activemask.b32 d;"), all(&|_| u32::MAX));
    assert_eq!(warp("@p activemask.b32 d;"), all(&|t| if v(t) > 6 { ballot } else { 0 }));
    assert_eq!(warp("bar.red.popc.u32 d, 0, p;"), all(&|_| ballot.count_ones()));
    assert_eq!(warp("mov.u32 d, %lanemask_lt;"), all(&|t| (1u32 << t) - 1));
}
