//! A table of instruction forms: each line of PTX runs over edge values and is compared with plain Rust. A table can also
//! be read without running anything, to see which forms it covers.

use crate::common::{Argument, Bench};

/// Integers around every boundary, and floats of every kind and width.
const EDGES: [u32; 36] = [
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
    0x3c00_7c00,
    0x7bff_fc00,
    0xbc00_03ff,
    0x0400_8001,
    0x3f80_7f80,
    0x7f7f_ff80,
    0x3555_4248,
    0x477f_f000,
    0x3300_0001,
    0x43e0_0000,
];

fn triples() -> Vec<[u64; 3]> {
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

pub fn nan32(x: f32) -> u32 {
    if x.is_nan() { 0x7fff_ffff } else { x.to_bits() }
}

pub fn nan64(x: f64) -> u64 {
    if x.is_nan() { 0x7ff8_0000_0000_0000 } else { x.to_bits() }
}

/// What every kernel starts with.
const HEAD: &str = ".version 9.0\n.target sm_90a\n.address_size 64\n";

/// Runs forms, or only collects their programs.
pub struct Table {
    collected: Option<Vec<String>>,
}

impl Table {
    pub fn running() -> Table {
        Table { collected: None }
    }

    pub fn collecting() -> Table {
        Table { collected: Some(Vec::new()) }
    }

    /// The programs of all forms so far.
    pub fn programs(self) -> Vec<String> {
        self.collected.unwrap_or_default()
    }

    /// Runs `form` of a program made of `body`, which follows the parameters' declaration, unless only collecting.
    fn program(&mut self, body: &str, run: impl FnOnce(&mut Bench)) {
        let ptx = format!("{HEAD}.visible .entry form({body}");
        match &mut self.collected {
            Some(list) => list.push(ptx),
            None => run(&mut Bench::new(&ptx)),
        }
    }

    /// Runs one line of PTX for every triple. It may use a, b, c (32 bits), A, B, C (64), ha, hb, hc (16), p (a predicate
    /// that holds where the low bit of c is set), t (the thread), [out] (8 bytes of its own), and leaves its result in d, D,
    /// hd or q.
    pub fn judge(&mut self, line: &str, accept: impl Fn([u64; 3], u64) -> Result<(), u64>) {
        let body = format!(
            ".param .u64 pin, .param .u64 pout, .param .u32 n) {{
  .reg .b32 t, s, u, m, a, b, c, d, e; .reg .b64 A, B, C, D, E, in, out, off; .reg .b16 ha, hb, hc, hd, he;
  .reg .pred p, q, r, k;
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
        self.program(&body, |bench| {
            let inputs = triples();
            let flat: Vec<u64> = inputs.iter().flatten().copied().collect();
            let input = bench.array(&flat);
            let output = bench.empty::<u64>(inputs.len());
            let blocks = inputs.len().div_ceil(128) as u32;
            bench
                .launch("form", [blocks, 1, 1], [128, 1, 1], &[&input, &output, &(inputs.len() as u32)])
                .unwrap_or_else(|fault| panic!("{line}: {fault}"));
            for (input, found) in inputs.iter().zip(bench.read::<u64>(output, inputs.len())) {
                if let Err(wanted) = accept(*input, found) {
                    panic!("{line} of {input:x?}: {found:x} instead of {wanted:x}");
                }
            }
        });
    }

    pub fn check(&mut self, line: &str, expected: impl Fn(u64, u64, u64) -> u64) {
        self.judge(line, |[a, b, c], found| {
            let wanted = expected(a, b, c);
            if found == wanted { Ok(()) } else { Err(wanted) }
        });
    }

    /// 32-bit operands and result.
    pub fn check32(&mut self, line: &str, expected: impl Fn(u32, u32, u32) -> u32) {
        self.check(line, |a, b, c| expected(a as u32, b as u32, c as u32) as u64);
    }

    /// f32 operands and result.
    pub fn check_float(&mut self, line: &str, expected: impl Fn(f32, f32, f32) -> f32) {
        self.check32(line, |a, b, c| nan32(expected(f32::from_bits(a), f32::from_bits(b), f32::from_bits(c))));
    }

    /// One warp; lane t has v = 7t mod 16, w the same in 64 bits, p = v > 6; the result is in d.
    pub fn warp(&mut self, line: &str, expected: &[u32]) {
        let body = format!(
            ".param .u64 pout) {{
  .reg .b32 t, v, d; .reg .b64 out, off, w; .reg .pred p, q;
  ld.param.u64 out, [pout]; mov.u32 t, %tid.x; mul.wide.u32 off, t, 4; add.s64 out, out, off;
  mul.lo.u32 v, t, 7; and.b32 v, v, 15; setp.gt.u32 p, v, 6; cvt.u64.u32 w, v; mov.u32 d, 0;
  {line}
  st.global.u32 [out], d; ret; }}"
        );
        self.program(&body, |bench| {
            let output = bench.empty::<u32>(32);
            bench.launch("form", [1, 1, 1], [32, 1, 1], &[&output]).unwrap_or_else(|fault| panic!("{line}: {fault}"));
            assert_eq!(bench.read::<u32>(output, 32), expected, "{line}");
        });
    }

    /// `threads` threads, thread t with registers x0.. of its own column of `inputs` and the results y0..; `in` points at
    /// its first input, `sh` at 40 KiB of shared memory, `row` at the thread's 16 bytes of that, `z` is a 64-bit parameter.
    pub fn fragments(
        &mut self,
        line: &str,
        threads: usize,
        inputs: &[Vec<u32>],
        z: u64,
        outputs: usize,
        judge: impl FnOnce(Vec<Vec<u32>>),
    ) {
        let rows = |letter: char, count: usize, pattern: &str| -> String {
            (0..count)
                .map(|i| pattern.replace('#', &format!("{letter}{i}")).replace('@', &(i * threads * 4).to_string()))
                .collect()
        };
        let body = format!(
            ".param .u64 pin, .param .u64 pout, .param .u64 pz) {{
  .reg .b32 t, sh, row, e, x<{}>, y<{}>; .reg .b64 in, out, off, z, E, F; .reg .pred p, q; .reg .b16 h;
  .shared .align 1024 .b8 buffer[40960];
  ld.param.u64 in, [pin]; ld.param.u64 out, [pout]; ld.param.u64 z, [pz];
  mov.u32 t, %tid.x; mul.wide.u32 off, t, 4; add.s64 in, in, off; add.s64 out, out, off;
  mov.u32 sh, buffer; shl.b32 row, t, 4; add.u32 row, row, sh;
  {}{}
  {line}
  {} ret; }}",
            inputs.len().max(1),
            outputs.max(1),
            rows('x', inputs.len(), "ld.global.b32 #, [in+@]; "),
            rows('y', outputs, "mov.b32 #, 0; "),
            rows('y', outputs, "st.global.b32 [out+@], #; "),
        );
        self.program(&body, |bench| {
            let flat: Vec<u32> = inputs.iter().flatten().copied().collect();
            let input = bench.array(&flat);
            let output = bench.empty::<u32>(outputs * threads);
            let arguments: [&dyn Argument; 3] = [&input, &output, &z];
            bench
                .launch("form", [1, 1, 1], [threads as u32, 1, 1], &arguments)
                .unwrap_or_else(|fault| panic!("{line}: {fault}"));
            judge(bench.read::<u32>(output, outputs * threads).chunks(threads).map(<[u32]>::to_vec).collect());
        });
    }
}
