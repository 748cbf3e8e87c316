//! Integers, bits, comparisons.

use crate::harness::Table;

pub fn integers_of_32_bits(t: &mut Table) {
    t.check32("add.s32 d, a, b;", |a, b, _| a.wrapping_add(b));
    t.check32("sub.u32 d, a, b;", |a, b, _| a.wrapping_sub(b));
    t.check32("add.sat.s32 d, a, b;", |a, b, _| (a as i32).saturating_add(b as i32) as u32);
    t.check32("sub.sat.s32 d, a, b;", |a, b, _| (a as i32).saturating_sub(b as i32) as u32);
    t.check32("mul.lo.s32 d, a, b;", |a, b, _| a.wrapping_mul(b));
    t.check32("mul.hi.u32 d, a, b;", |a, b, _| ((a as u64 * b as u64) >> 32) as u32);
    t.check32("mul.hi.s32 d, a, b;", |a, b, _| ((a as i32 as i64 * b as i32 as i64) >> 32) as u32);
    t.check32("mad.lo.u32 d, a, b, c;", |a, b, c| a.wrapping_mul(b).wrapping_add(c));
    t.check32("mad.hi.u32 d, a, b, c;", |a, b, c| (((a as u64 * b as u64) >> 32) as u32).wrapping_add(c));
    t.check32("min.s32 d, a, b;", |a, b, _| (a as i32).min(b as i32) as u32);
    t.check32("max.u32 d, a, b;", |a, b, _| a.max(b));
    t.check32("abs.s32 d, a;", |a, _, _| (a as i32).wrapping_abs() as u32);
    t.check32("neg.s32 d, a;", |a, _, _| a.wrapping_neg());
    t.check32("div.u32 d, a, b;", |a, b, _| a.checked_div(b).unwrap_or(u32::MAX));
    t.check32("rem.s32 d, a, b;", |a, b, _| if b == 0 { a } else { (a as i32).wrapping_rem(b as i32) as u32 });
    t.check32("sad.s32 d, a, b, c;", |a, b, c| (a as i32).abs_diff(b as i32).wrapping_add(c));
    t.check32("vmin: min.u32 d, a, b;", |a, b, _| a.min(b));
    t.check32("add.cc.u32 e, a, b; addc.u32 d, a, b;", |a, b, _| {
        a.wrapping_add(b).wrapping_add(a.checked_add(b).is_none() as u32)
    });
    t.check32("sub.cc.u32 e, a, b; subc.u32 d, a, b;", |a, b, _| a.wrapping_sub(b).wrapping_sub((a < b) as u32));
    t.check32("mad.lo.cc.u32 e, a, b, c; madc.hi.u32 d, a, b, 0;", |a, b, c| {
        ((a as u64 * b as u64 + c as u64) >> 32) as u32
    });
    t.check32("dp4a.s32.u32 d, a, b, c;", |a, b, c| {
        a.to_le_bytes()
            .iter()
            .zip(b.to_le_bytes())
            .fold(c, |s, (&x, y)| s.wrapping_add((x as i8 as i32 * y as i32) as u32))
    });
}

pub fn integers_of_64_and_16_bits(t: &mut Table) {
    t.check("add.s64 D, A, B;", |a, b, _| a.wrapping_add(b));
    t.check("mul.lo.u64 D, A, B;", |a, b, _| a.wrapping_mul(b));
    t.check("mul.hi.s64 D, A, B;", |a, b, _| ((a as i64 as i128 * b as i64 as i128) >> 64) as u64);
    t.check("mul.wide.s32 D, a, b;", |a, b, _| (a as i32 as i64 * b as i32 as i64) as u64);
    t.check("mad.wide.u32 D, a, b, C;", |a, b, c| (a as u32 as u64 * b as u32 as u64).wrapping_add(c));
    t.check("div.s64 D, A, B;", |a, b, _| if b == 0 { u64::MAX } else { (a as i64).wrapping_div(b as i64) as u64 });
    t.check("rem.u64 D, A, B;", |a, b, _| if b == 0 { a } else { a % b });
    t.check("max.s64 D, A, B;", |a, b, _| (a as i64).max(b as i64) as u64);
    t.check("add.s16 hd, ha, hb;", |a, b, _| (a as u16).wrapping_add(b as u16) as u64);
    t.check("mul.lo.s16 hd, ha, hb;", |a, b, _| (a as u16).wrapping_mul(b as u16) as u64);
    t.check("min.s16 hd, ha, hb;", |a, b, _| (a as i16).min(b as i16) as u16 as u64);
    t.check("mul.wide.u16 d, ha, hb;", |a, b, _| a as u16 as u64 * b as u16 as u64);
    t.check("mul.wide.s16 d, ha, hb;", |a, b, _| (a as i16 as i32 * b as i16 as i32) as u32 as u64);
    t.check("shr.s16 hd, ha, b;", |a, b, _| (a as i16 as i32 >> (b as u32).min(31)) as u16 as u64);
    t.check("shl.b16 hd, ha, b;", |a, b, _| if b as u32 > 15 { 0 } else { ((a as u16) << b as u32) as u64 });
}

pub fn bits_and_shifts(t: &mut Table) {
    t.check32("and.b32 d, a, b;", |a, b, _| a & b);
    t.check32("not.b32 d, a;", |a, _, _| !a);
    t.check32("shl.b32 d, a, b;", |a, b, _| a.checked_shl(b).unwrap_or(0));
    t.check32("shr.u32 d, a, b;", |a, b, _| a.checked_shr(b).unwrap_or(0));
    t.check32("shr.s32 d, a, b;", |a, b, _| ((a as i32 as i64) >> (b as u64).min(63)) as u32);
    t.check("shl.b64 D, A, b;", |a, b, _| a.checked_shl(b as u32).unwrap_or(0));
    t.check("shr.u64 D, A, b;", |a, b, _| a.checked_shr(b as u32).unwrap_or(0));
    t.check("shr.s64 D, A, b;", |a, b, _| ((a as i64) >> (b as u32).min(63)) as u64);
    t.check32("shf.l.wrap.b32 d, a, b, c;", |a, b, c| ((((b as u64) << 32 | a as u64) << (c & 31)) >> 32) as u32);
    t.check32("shf.r.clamp.b32 d, a, b, c;", |a, b, c| (((b as u64) << 32 | a as u64) >> c.min(32)) as u32);
    t.check32("popc.b32 d, a;", |a, _, _| a.count_ones());
    t.check("popc.b64 d, A;", |a, _, _| a.count_ones() as u64);
    t.check32("clz.b32 d, a;", |a, _, _| a.leading_zeros());
    t.check32("brev.b32 d, a;", |a, _, _| a.reverse_bits());
    t.check32("bfind.u32 d, a;", |a, _, _| a.checked_ilog2().unwrap_or(u32::MAX));
    t.check32("bfind.shiftamt.s32 d, a;", |a, _, _| {
        let a = if (a as i32) < 0 { !a } else { a };
        if a == 0 { u32::MAX } else { a.leading_zeros() }
    });
    for table in [0x96u32, 0xe8, 0x01, 0xca] {
        t.check32(&format!("lop3.b32 d, a, b, c, {table};"), |a, b, c| {
            (0..32).fold(0, |d, i| {
                let index = (a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1;
                d | (table >> index & 1) << i
            })
        });
    }
    t.check32("prmt.b32 d, a, b, c;", |a, b, c| {
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
    t.check32("bfe.u32 d, a, b, c;", |a, b, c| field(a, b, c, false));
    t.check32("bfe.s32 d, a, b, c;", |a, b, c| field(a, b, c, true));
    t.check32("bfi.b32 d, a, b, c, 5;", |a, b, c| {
        (0..5).fold(b, |f, i| {
            let at = (c & 255) + i;
            if at < 32 { f & !(1 << at) | (a >> i & 1) << at } else { f }
        })
    });
    t.check("mov.b64 {d, _}, A;", |a, _, _| a as u32 as u64);
    t.check("mov.b32 {hd, hb}, a;", |a, _, _| a as u16 as u64);
    t.check("mov.b64 D, {b, a};", |a, b, _| (a as u32 as u64) << 32 | b as u32 as u64);
}

pub fn comparisons_and_selection(t: &mut Table) {
    let f = |x: u64| f32::from_bits(x as u32);
    t.check("setp.lt.s32 q, a, b;", |a, b, _| ((a as i32) < b as i32) as u64);
    t.check("setp.hs.u32 q, a, b;", |a, b, _| (a as u32 >= b as u32) as u64);
    t.check("setp.ne.s64 q, A, B;", |a, b, _| (a != b) as u64);
    t.check("setp.gt.s16 q, ha, hb;", |a, b, _| (a as i16 > b as i16) as u64);
    t.check("setp.lt.f32 q, a, b;", |a, b, _| (f(a) < f(b)) as u64);
    t.check("setp.neu.f32 q, a, b;", |a, b, _| (f(a) != f(b)) as u64);
    t.check("setp.geu.f32 q, a, b;", |a, b, _| (f(a).partial_cmp(&f(b)) != Some(std::cmp::Ordering::Less)) as u64);
    t.check("setp.nan.f32 q, a, b;", |a, b, _| (f(a).is_nan() || f(b).is_nan()) as u64);
    t.check("setp.le.f64 q, A, B;", |a, b, _| (f64::from_bits(a) <= f64::from_bits(b)) as u64);
    t.check("setp.eq.and.s32 q|r, a, b, p;", |a, b, c| (a as u32 == b as u32 && c & 1 == 1) as u64);
    t.check("setp.eq.xor.s32 r|q, a, b, !p;", |a, b, c| ((a as u32 != b as u32) != (c & 1 == 0)) as u64);
    t.check("selp.b32 d, a, b, p;", |a, b, c| if c & 1 == 1 { a as u32 } else { b as u32 } as u64);
    t.check("slct.b32.s32 d, a, b, c;", |a, b, c| if c as i32 >= 0 { a as u32 } else { b as u32 } as u64);
    t.check("set.gt.u32.f32 d, a, b;", |a, b, _| if f(a) > f(b) { u32::MAX as u64 } else { 0 });
    t.check("@p mov.u32 d, a; @!p mov.u32 d, b;", |a, b, c| if c & 1 == 1 { a as u32 } else { b as u32 } as u64);
}
