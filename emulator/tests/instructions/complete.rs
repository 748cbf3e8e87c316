//! No form that the decoder takes goes without a test: the forms of the manual, written out from patterns, are offered to
//! the decoder, and each that it accepts must stand in a table here or in a test program.

use std::collections::BTreeSet;

use ptx_emulator::{coverage, forms};

/// The forms of the manual. Braces give alternatives, as a shell would expand them. Cache hints, memory orders and
/// `.ftz` variants, which share the code of their plain forms, are left out.
const MANUAL: &[&str] = &[
    "{add,sub}.{u16,s16,u32,s32,u64,s64,f16,f16x2,bf16,bf16x2,f32,f64}",
    "mul.{lo,hi,wide}.{u16,s16,u32,s32,u64,s64}",
    "mul.{f16,f16x2,bf16,bf16x2,f32,f64}",
    "mad.{lo,wide}.{u16,s16,u32,s32,u64,s64}",
    "fma.{rn,rz,rm,rp}.{f32,f64}",
    "fma.rn.{f16,f16x2,bf16,bf16x2}",
    "{div,rem}.{u16,s16,u32,s32,u64,s64}",
    "{min,max}.{u16,s16,u32,s32,u64,s64,f16,f16x2,bf16,bf16x2,f32,f64}",
    "{abs,neg}.{s16,s32,s64,f16,f16x2,bf16,bf16x2,f32,f64}",
    "sad.{u16,s16,u32,s32,u64,s64}",
    "{and,or,xor,not,cnot,shl,shr}.{b16,b32,b64}",
    "shr.{u16,s16,u32,s32,u64,s64}",
    "setp.{eq,ne,lt,le,gt,ge}.{u16,s16,u32,s32,u64,s64}",
    "setp.{eq,ne,lt,le,gt,ge,equ,neu,ltu,leu,gtu,geu,num,nan}.{f16,bf16,f32,f64}",
    "selp.{b16,b32,b64}",
    "cvt{,.sat}.{u8,s8,u16,s16,u32,s32,u64,s64}.{u8,s8,u16,s16,u32,s32,u64,s64}",
    "cvt.{rn,rz,rm,rp}.{f16,bf16,f32}.{u8,s8,u16,s16,u32,s32,u64,s64}",
    "cvt.{rni,rzi,rmi,rpi}.{u8,s8,u16,s16,u32,s32,u64,s64}.{f16,bf16,f32,f64}",
    "cvt.rn.satfinite{,.relu}.{e4m3x2,e5m2x2}.{f32,f16x2}",
    "cvt.rn{,.relu}.f16x2.{e4m3x2,e5m2x2}",
    "{rcp,sqrt,rsqrt,sin,cos,lg2,ex2,tanh}.approx.f32",
    "{ex2,tanh}.approx{,.ftz}.{f16,f16x2,bf16,bf16x2}",
    "{rcp,rsqrt}.approx.ftz.f64",
    "atom.{global,shared}.{add,min,max,inc,dec,and,or,xor,exch,cas}.{b16,b32,b64,u32,s32,u64,s64,f32,f64}",
    "{atom,red}.{global,shared}.add.noftz.{f16,f16x2,bf16,bf16x2}",
    "red.{global,shared}.{add,min,max,inc,dec,and,or,xor}.{b32,b64,u32,s32,u64,s64,f32,f64}",
    "redux.sync.{add,min,max,and,or,xor}.{b32,u32,s32}",
    "vote.sync.{all,any,uni}.pred",
    "vote.sync.ballot.b32",
    "match.{any,all}.sync.{b32,b64}",
    "shfl.sync.{up,down,bfly,idx}.b32",
    "mma.sync.aligned.m16n8k{4,8,16}.row.col.{f16,f32}.{f16,bf16,tf32}.{f16,bf16,tf32}.{f16,f32}",
    "{ldmatrix,stmatrix}.sync.aligned.m8n8.x{1,2,4}{,.trans}.shared.b16",
    "movmatrix.sync.aligned.m8n8.trans.b16",
    "wgmma.mma_async.sync.aligned.m64n{8,16,24,32,40,48,56,64,96,128,160,192,224,256}k{8,16}.f32.{bf16,tf32}.{bf16,tf32}",
    "wgmma.mma_async.sync.aligned.m64n{8,32,64,96,256}k16.{f16,f32}.f16.f16",
    "cp.async.{ca,cg}.{shared,shared::cta}.global",
    "cp.async.mbarrier.arrive{,.noinc}.{shared,shared::cta}.b64",
    "cp.async.{commit_group,wait_all,wait_group}",
    "bar.{sync,arrive}",
    "bar.red.popc.u32",
    "bar.red.{and,or}.pred",
    "barrier{,.cta}.{sync,arrive}{,.aligned}",
];

/// Operands to offer, until some fit.
const OPERANDS: &[&str] = &[
    "a, b",
    "a, b, c",
    "a, b, c, e",
    "D, A",
    "D, A, B",
    "D, A, B, C",
    "d, A",
    "D, a",
    "D, a, b",
    "D, a, b, C",
    "hd, ha",
    "hd, ha, hb",
    "hd, ha, hb, hc",
    "hd, a",
    "hd, A",
    "hd, a, b",
    "d, ha",
    "D, ha",
    "d, ha, hb",
    "d, ha, hb, c",
    "D, A, b",
    "hd, ha, b",
    "q, a, b",
    "q, A, B",
    "q, ha, hb",
    "d, a, b, p",
    "D, A, B, p",
    "hd, ha, hb, p",
    "d, [A], b",
    "D, [A], B",
    "hd, [A], hb",
    "d, [A], b, c",
    "D, [A], B, C",
    "hd, [A], hb, hc",
    "[A], b",
    "[A], B",
    "[A], hb",
    "d, a, -1",
    "q, p, -1",
    "d, p, -1",
    "d, A, -1",
    "d, a, b, c, -1",
    "d, [a]",
    "{d,e}, [a]",
    "{d,e,f,g}, [a]",
    "[a], d",
    "[a], {d,e}",
    "[a], {d,e,f,g}",
    "{d,e}, {a,b}, {c}, {d,e}",
    "{d,e}, {a,b,c,f}, {d,e}, {a,b}",
    "{d,e,f,g}, {a,b}, {c}, {a,b,c,d}",
    "{d,e,f,g}, {a,b,c,d}, {e,f}, {a,b,c,d}",
    "[a], [A], 16",
    "[a]",
    "",
    "0",
    "0, 64",
    "d, 0, p",
    "q, 0, p",
];

fn expand(pattern: &str) -> Vec<String> {
    let Some(open) = pattern.find('{') else { return vec![pattern.to_owned()] };
    let close = open + pattern[open..].find('}').expect("braces are closed");
    let parts = pattern[open + 1..close].split(',');
    parts.flat_map(|part| expand(&format!("{}{part}{}", &pattern[..open], &pattern[close + 1..]))).collect()
}

/// Whether the decoder takes the form with some operands.
fn is_taken(form: &str) -> bool {
    let listed = wgmma_operands(form);
    let operands = listed.iter().map(String::as_str).chain(OPERANDS.iter().copied());
    let mut tried = operands.take(if listed.is_empty() { usize::MAX } else { listed.len() });
    tried.any(|operands| {
        let ptx = format!(
            ".version 9.0\n.target sm_90a\n.address_size 64\n.visible .entry form() {{
            .reg .b32 a, b, c, d, e, f, g; .reg .b64 A, B, C, D; .reg .b16 ha, hb, hc, hd; .reg .pred p, q;
            {form} {operands}; ret; }}"
        );
        coverage(&ptx).is_ok_and(|missing| missing.is_empty())
    })
}

/// Products of a warpgroup have as many results as their shape says.
fn wgmma_operands(form: &str) -> Vec<String> {
    let Some(shape) = form.strip_prefix("wgmma.mma_async.sync.aligned.m64n") else { return Vec::new() };
    let n: usize = shape[..shape.find('k').expect("it has a depth")].parse().expect("a number");
    let list = |count: usize| vec!["d"; count].join(",");
    let flags = if form.contains("tf32") { "1, 1" } else { "1, 1, 0, 0" };
    [n / 2, n / 4].map(|count| format!("{{{}}}, A, B, p, {flags}", list(count))).to_vec()
}

#[test]
fn every_form_that_the_decoder_takes_has_a_test() {
    let mut tested = BTreeSet::new();
    for program in crate::all_programs() {
        tested.extend(forms(&program).unwrap_or_else(|error| panic!("{error}: {program}")).into_keys());
    }
    for program in [include_str!("../programs/checks.ptx"), include_str!("../programs/hopper.ptx")] {
        tested.extend(forms(program).expect("it parses").into_keys());
    }
    let offered: Vec<String> = MANUAL.iter().flat_map(|pattern| expand(pattern)).collect();
    let taken: Vec<&String> = offered.iter().filter(|form| is_taken(form)).collect();
    assert!(
        taken.len() > 500,
        "only {} of {} forms were taken: the operands no longer fit",
        taken.len(),
        offered.len()
    );
    let untested: Vec<&&String> = taken.iter().filter(|form| !tested.contains(**form)).collect();
    assert!(untested.is_empty(), "{} of {} forms without a test: {untested:?}", untested.len(), taken.len());
}
