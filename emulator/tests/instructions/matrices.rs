//! `mma.sync`, `ldmatrix`, `stmatrix`, `movmatrix` against the fragment layouts of the PTX manual, element by element.

use crate::common::Random;
use crate::harness::{Table, nan32};

/// Number formats of A and B.
#[derive(Clone, Copy, PartialEq)]
pub enum Format {
    F16,
    Bf16,
    Tf32,
}

impl Format {
    pub const ALL: [Format; 3] = [Format::F16, Format::Bf16, Format::Tf32];

    pub fn name(self) -> &'static str {
        match self {
            Format::F16 => "f16",
            Format::Bf16 => "bf16",
            Format::Tf32 => "tf32",
        }
    }

    pub fn bits(self, x: f32) -> u32 {
        match self {
            Format::F16 => half::f16::from_f32(x).to_bits() as u32,
            Format::Bf16 => half::bf16::from_f32(x).to_bits() as u32,
            Format::Tf32 => x.to_bits() & 0xffff_e000,
        }
    }

    pub fn value(self, bits: u32) -> f32 {
        match self {
            Format::F16 => half::f16::from_bits(bits as u16).to_f32(),
            Format::Bf16 => half::bf16::from_bits(bits as u16).to_f32(),
            Format::Tf32 => f32::from_bits(bits & 0xffff_e000),
        }
    }

    pub fn bytes(self) -> usize {
        if self == Format::Tf32 { 4 } else { 2 }
    }
}

/// A matrix of bit patterns: small multiples of 1/8, so that sums are exact, and on request specials of the format.
pub fn matrix(random: &mut Random, format: Format, count: usize, specials: bool) -> Vec<u32> {
    let special = [0.0f32, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, -6e-8, 65504.0];
    (0..count)
        .map(|_| {
            let pick = random.bits();
            let x =
                if specials && pick.is_multiple_of(13) { special[(pick >> 8) as usize % 8] } else { random.small() };
            format.bits(x)
        })
        .collect()
}

/// Where the manual puts element i of thread `lane`'s A fragment: (row, k).
fn place_a(format: Format, i: usize, lane: usize) -> (usize, usize) {
    let (group, thread) = (lane / 4, lane % 4);
    if format == Format::Tf32 {
        return (if i.is_multiple_of(2) { group } else { group + 8 }, if i < 2 { thread } else { thread + 4 });
    }
    let row = if i < 2 || (4..6).contains(&i) { group } else { group + 8 };
    (row, thread * 2 + (i & 1) + if i >= 4 { 8 } else { 0 })
}

/// The same for B: (k, column).
fn place_b(format: Format, i: usize, lane: usize) -> (usize, usize) {
    let (group, thread) = (lane / 4, lane % 4);
    if format == Format::Tf32 {
        return (if i == 0 { thread } else { thread + 4 }, group);
    }
    (thread * 2 + (i & 1) + if i >= 2 { 8 } else { 0 }, group)
}

fn place_c(i: usize, lane: usize) -> (usize, usize) {
    (if i < 2 { lane / 4 } else { lane / 4 + 8 }, lane % 4 * 2 + (i & 1))
}

/// Registers of a fragment with `count` elements per lane.
pub fn fragment(format: Format, count: usize, element: impl Fn(usize, usize) -> u32) -> Vec<Vec<u32>> {
    let packed = 4 / format.bytes();
    (0..count / packed)
        .map(|r| {
            (0..32)
                .map(|lane| (0..packed).fold(0, |word, part| word | element(r * packed + part, lane) << (16 * part)))
                .collect()
        })
        .collect()
}

fn names(letter: char, from: usize, count: usize) -> String {
    let list: Vec<String> = (from..from + count).map(|i| format!("{letter}{i}")).collect();
    format!("{{{}}}", list.join(","))
}

pub fn products(t: &mut Table) {
    let shapes = [
        (Format::F16, 8),
        (Format::F16, 16),
        (Format::Bf16, 8),
        (Format::Bf16, 16),
        (Format::Tf32, 4),
        (Format::Tf32, 8),
    ];
    let mut random = Random(11);
    for (format, k) in shapes {
        for half in [false, true] {
            for specials in [false, true] {
                if !half || format == Format::F16 {
                    product(t, &mut random, format, k, half, specials);
                }
            }
        }
    }
}

fn product(t: &mut Table, random: &mut Random, format: Format, k: usize, half: bool, specials: bool) {
    let a = matrix(random, format, 16 * k, specials);
    let b = matrix(random, format, k * 8, false);
    let c_format = if half { Format::F16 } else { Format::Tf32 };
    let c = matrix(random, c_format, 16 * 8, specials);
    let at_a = |i: usize, lane: usize| {
        let (row, column) = place_a(format, i, lane);
        a[row * k + column]
    };
    let at_b = |i: usize, lane: usize| {
        let (row, column) = place_b(format, i, lane);
        b[row * 8 + column]
    };
    let at_c = |i: usize, lane: usize| {
        let (row, column) = place_c(i, lane);
        c[row * 8 + column]
    };
    let fa = fragment(format, 16 * k / 32, at_a);
    let fb = fragment(format, 8 * k / 32, at_b);
    let fc = fragment(c_format, 4, at_c);
    let (ty, sum) = (format.name(), if half { "f16" } else { "f32" });
    let line = format!(
        "mma.sync.aligned.m16n8k{k}.row.col.{sum}.{ty}.{ty}.{sum} {}, {}, {}, {};",
        names('y', 0, fc.len()),
        names('x', 0, fa.len()),
        names('x', fa.len(), fb.len()),
        names('x', fa.len() + fb.len(), fc.len()),
    );
    let inputs: Vec<Vec<u32>> = [&fa[..], &fb, &fc].concat();
    t.fragments(&line, 32, &inputs, 0, fc.len(), |found| {
        for lane in 0..32 {
            for i in 0..4 {
                let (row, column) = place_c(i, lane);
                let start = c_format.value(c[row * 8 + column]);
                let wanted =
                    (0..k).fold(start, |sum, i| sum + format.value(a[row * k + i]) * format.value(b[i * 8 + column]));
                let (bits, wanted) = if half {
                    let wanted = half::f16::from_f32(wanted);
                    let wanted = if wanted.is_nan() { 0x7fff } else { wanted.to_bits() as u32 };
                    (found[i / 2][lane] >> (16 * (i % 2)) & 0xffff, wanted)
                } else {
                    (found[i][lane], nan32(wanted))
                };
                assert_eq!(bits, wanted, "{line} row {row}, column {column}: {bits:x} instead of {wanted:x}");
            }
        }
    });
}

/// Element (row, column) of the 8x8 matrix that a fragment register holds.
fn element(register: &[u32], row: usize, column: usize) -> u32 {
    register[row * 4 + column / 2] >> (column % 2 * 16) & 0xffff
}

pub fn transfers(t: &mut Table) {
    let mut random = Random(3);
    // As rows in memory: thread 8i + r holds row r of matrix i; as fragments: register i holds matrix i.
    let data: Vec<Vec<u32>> = (0..4).map(|_| (0..32).map(|_| random.bits()).collect()).collect();
    let in_row =
        |matrix: usize, row: usize, column: usize| data[column / 2][8 * matrix + row] >> (column % 2 * 16) & 0xffff;
    let agree = |line: &str, count: usize, f: &dyn Fn(usize, usize, usize) -> [u32; 2]| {
        for matrix in 0..count {
            for row in 0..8 {
                for column in 0..8 {
                    let [found, wanted] = f(matrix, row, column);
                    assert_eq!(found, wanted, "{line} matrix {matrix}, row {row}, column {column}");
                }
            }
        }
    };
    for count in [1, 2, 4] {
        for (trans, space) in [("", ".shared"), (".trans", ".shared"), ("", ".shared::cta"), (".trans", "")] {
            let address = if space.is_empty() { "E" } else { "row" };
            let convert = "cvt.u64.u32 E, row; cvta.shared.u64 E, E;";
            let swap = !trans.is_empty();
            let line = format!(
                "{convert} st.shared.v4.b32 [row], {{x0,x1,x2,x3}}; bar.sync 0;
                ldmatrix.sync.aligned.m8n8.x{count}{trans}{space}.b16 {}, [{address}];",
                names('y', 0, count)
            );
            t.fragments(&line, 32, &data, 0, count, |found| {
                agree(&line, count, &|m, r, c| {
                    [element(&found[m], r, c), if swap { in_row(m, c, r) } else { in_row(m, r, c) }]
                });
            });
            let line = format!(
                "{convert} st.shared.v4.b32 [row], {{y0,y1,y2,y3}}; bar.sync 0;
                stmatrix.sync.aligned.m8n8.x{count}{trans}{space}.b16 [{address}], {}; bar.sync 0;
                ld.shared.v4.b32 {{y0,y1,y2,y3}}, [row];",
                names('x', 0, count)
            );
            t.fragments(&line, 32, &data, 0, 4, |found| {
                agree(&line, count, &|m, r, c| {
                    let stored = found[c / 2][8 * m + r] >> (c % 2 * 16) & 0xffff;
                    [stored, if swap { element(&data[m], c, r) } else { element(&data[m], r, c) }]
                });
            });
        }
    }
    let line = "movmatrix.sync.aligned.m8n8.trans.b16 y0, x0;";
    t.fragments(line, 32, &data[..1], 0, 1, |found| {
        agree(line, 1, &|_, r, c| [element(&found[0], r, c), element(&data[0], c, r)]);
    });
}
