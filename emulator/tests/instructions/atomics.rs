//! Atomics and reductions of every type, in global and shared memory: the old value, the new one, and many lanes at once.

use crate::harness::Table;

type Apply = Box<dyn Fn(u64, u64, u64) -> u64>;

fn forms() -> Vec<(&'static str, u32, Apply)> {
    let mut list: Vec<(&'static str, u32, Apply)> = Vec::new();
    let mut add = |name, bits, apply: Apply| list.push((name, bits, apply));
    let signed = |x: u64| x as u32 as i32;
    add("add.u32", 32, Box::new(|a, b, _| (a as u32).wrapping_add(b as u32) as u64));
    add("add.s32", 32, Box::new(|a, b, _| (a as u32).wrapping_add(b as u32) as u64));
    add("add.u64", 64, Box::new(|a, b, _| a.wrapping_add(b)));
    add("min.u32", 32, Box::new(|a, b, _| a.min(b)));
    add("max.u32", 32, Box::new(|a, b, _| a.max(b)));
    add("min.s32", 32, Box::new(move |a, b, _| signed(a).min(signed(b)) as u32 as u64));
    add("max.s32", 32, Box::new(move |a, b, _| signed(a).max(signed(b)) as u32 as u64));
    add("min.u64", 64, Box::new(|a, b, _| a.min(b)));
    add("max.u64", 64, Box::new(|a, b, _| a.max(b)));
    add("min.s64", 64, Box::new(|a, b, _| (a as i64).min(b as i64) as u64));
    add("max.s64", 64, Box::new(|a, b, _| (a as i64).max(b as i64) as u64));
    add("inc.u32", 32, Box::new(|a, b, _| if a >= b { 0 } else { a + 1 }));
    add("dec.u32", 32, Box::new(|a, b, _| if a == 0 || a > b { b } else { a - 1 }));
    for bits in [32, 64] {
        let name = |short, long| if bits == 32 { short } else { long };
        add(name("and.b32", "and.b64"), bits, Box::new(|a, b, _| a & b));
        add(name("or.b32", "or.b64"), bits, Box::new(|a, b, _| a | b));
        add(name("xor.b32", "xor.b64"), bits, Box::new(|a, b, _| a ^ b));
        add(name("exch.b32", "exch.b64"), bits, Box::new(|_, b, _| b));
        add(name("cas.b32", "cas.b64"), bits, Box::new(|a, b, c| if a == b { c } else { a }));
    }
    add("cas.b16", 16, Box::new(|a, b, c| if a == b { c } else { a }));
    let f32 = |x: u64| f32::from_bits(x as u32);
    add("add.f32", 32, Box::new(move |a, b, _| crate::harness::nan32(f32(a) + f32(b)) as u64));
    let f64 = f64::from_bits;
    add("add.f64", 64, Box::new(move |a, b, _| crate::harness::nan64(f64(a) + f64(b))));
    let f16 = |a: u64, b: u64| {
        let x = half::f16::from_bits(a as u16).to_f64() + half::f16::from_bits(b as u16).to_f64();
        if x.is_nan() { 0x7fff } else { half::f16::from_f64(x).to_bits() as u64 }
    };
    // The sum of two bf16 is exact in f64 only if their exponents are near; rounding to odd in between keeps it right.
    let bf16 = |a: u64, b: u64| crate::sweeps::bf16_sum(a as u16, b as u16) as u64;
    add("add.noftz.f16", 16, Box::new(move |a, b, _| f16(a, b)));
    add("add.noftz.bf16", 16, Box::new(move |a, b, _| bf16(a, b)));
    add("add.noftz.f16x2", 32, Box::new(move |a, b, _| f16(a, b) | f16(a >> 16, b >> 16) << 16));
    add("add.noftz.bf16x2", 32, Box::new(move |a, b, _| bf16(a, b) | bf16(a >> 16, b >> 16) << 16));
    list
}

pub fn by_type(t: &mut Table) {
    let shared = ".shared .align 8 .b8 cell[1024]; .reg .b32 at; mov.u32 at, cell; mad.lo.u32 at, t, 8, at;";
    for (form, bits, apply) in forms() {
        let cover = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
        let (a, b, c, old, d) = match bits {
            64 => ("A", "B", "C", "E", "D"),
            32 => ("a", "b", "c", "e", "d"),
            _ => ("ha", "hb", "hc", "he", "hd"),
        };
        let more = if form.starts_with("cas") { format!(", {c}") } else { String::new() };
        let new = |a, b, c| apply(a & cover, b & cover, c & cover);
        let generic = "cvta.to.global.u64 off, out; cvta.global.u64 off, off;";
        for (setup, space, at) in [
            ("", ".global", "out"),
            (shared, ".shared", "at"),
            ("", ".relaxed.gpu.global", "out"),
            (generic, "", "off"),
        ] {
            let plain = if space.contains("shared") { ".shared" } else { ".global" };
            let at_plain = if at == "off" { "out" } else { at };
            // For b16 the whole word must hold a value.
            let begin = format!("{{ {setup} st{plain}.b64 [{at_plain}], 0; st{plain}.b{bits} [{at_plain}], {a};");
            let space = space.to_owned();
            t.check(&format!("{begin} atom{space}.{form} {d}, [{at}], {b}{more}; }}"), |a, _, _| a & cover);
            let read = format!("ld{plain}.b{bits} {d}, [{at_plain}];");
            t.check(&format!("{begin} atom{space}.{form} {old}, [{at}], {b}{more}; {read} }}"), new);
            if !form.starts_with("exch") && !form.starts_with("cas") {
                t.check(&format!("{begin} red{space}.{form} [{at}], {b}; {read} }}"), new);
            }
        }
    }
    // Lanes that meet at one address take turns: sums have all parts, and the old values are all different.
    let threads = 64u32;
    for form in ["atom.shared.add.u32 y0, [sh], 3;", "atom.shared::cta.add.s32 y0, [sh], 3;"] {
        let line = format!("{{ .reg .pred f; setp.eq.u32 f, t, 0; @f st.shared.b32 [sh], 0; bar.sync 0; {form} }}");
        t.fragments(&line, threads as usize, &[], 0, 1, |mut found| {
            found[0].sort_unstable();
            assert_eq!(found[0], (0..threads).map(|i| 3 * i).collect::<Vec<u32>>(), "{form}");
        });
    }
}
