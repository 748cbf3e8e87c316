//! `wgmma` of every shape, format, layout and swizzle against the triple loop. The layouts in shared memory are written
//! here from the manual's description: atoms of eight rows, whose 16-byte chunks are permuted by the row.

use crate::common::Random;
use crate::harness::Table;
use crate::matrices::{Format, matrix};

#[derive(Clone, Copy)]
struct Case {
    format: Format,
    n: usize,
    /// Bytes of a swizzled row: 16 for none, 32, 64, 128.
    swizzle: usize,
    mn_major: [bool; 2],
    a_in_registers: bool,
    half: bool,
    accumulate: bool,
    scales: [i32; 2],
}

/// Byte offset of an element in a layout, with the leading and stride offsets that the descriptor needs.
struct Layout {
    swizzle: usize,
    mn_major: bool,
    bytes: usize,
    leading: usize,
    stride: usize,
}

impl Layout {
    fn new(case: &Case, rows: usize, mn_major: bool) -> Layout {
        let bytes = case.format.bytes();
        let atom = 8 * case.swizzle;
        let (leading, stride) = match (mn_major, case.swizzle) {
            // Two chunks along k stand side by side, groups of eight rows follow.
            (false, 16) => (128, 256),
            (false, _) => (16, atom),
            // Chunks along M or N stand side by side, then the next eight k.
            (true, 16) => (rows * bytes / 16 * 128, 128),
            // Whole atoms along M or N, then the next eight k.
            (true, _) => (atom, (rows * bytes).div_ceil(case.swizzle) * atom),
        };
        Layout { swizzle: case.swizzle, mn_major, bytes, leading, stride }
    }

    fn offset(&self, row: usize, k: usize) -> usize {
        let (line, along) = if self.mn_major { (k, row * self.bytes) } else { (row, k * self.bytes) };
        let (chunk, within) = (along / 16, along % 16);
        let chunks = self.swizzle / 16;
        if chunks == 1 {
            let [by_line, by_chunk] =
                if self.mn_major { [self.leading, self.stride] } else { [self.stride, self.leading] };
            return line / 8 * by_line + line % 8 * 16 + chunk * by_chunk + within;
        }
        let permuted = match chunks {
            8 => (chunk % 8) ^ (line % 8),
            4 => (chunk % 4) ^ (line / 2 % 4),
            _ => (chunk % 2) ^ (line / 4 % 2),
        };
        line / 8 * self.stride + line % 8 * self.swizzle + chunk / chunks * self.leading + permuted * 16 + within
    }

    /// The descriptor of a matrix that starts at byte 0.
    fn descriptor(&self) -> u64 {
        let mode = match self.swizzle {
            16 => 0u64,
            128 => 1,
            64 => 2,
            _ => 3,
        };
        mode << 62 | ((self.stride / 16) as u64) << 32 | ((self.leading / 16) as u64) << 16
    }
}

pub fn products(t: &mut Table) {
    let plain = Case {
        format: Format::Bf16,
        n: 64,
        swizzle: 128,
        mn_major: [false; 2],
        a_in_registers: false,
        half: false,
        accumulate: true,
        scales: [1, 1],
    };
    let mut random = Random(21);
    for format in Format::ALL {
        for n in (8..=256).step_by(8) {
            product(t, &mut random, Case { format, n, ..plain });
        }
    }
    for format in Format::ALL {
        for swizzle in [16, 32, 64, 128] {
            for major in 0..if format == Format::Tf32 { 1 } else { 4 } {
                let mn_major = [major & 1 != 0, major & 2 != 0];
                product(t, &mut random, Case { format, swizzle, mn_major, ..plain });
                if !mn_major[0] {
                    product(t, &mut random, Case { format, swizzle, mn_major, a_in_registers: true, ..plain });
                }
            }
        }
        for scales in [[-1, 1], [1, -1], [-1, -1]] {
            product(t, &mut random, Case { format, scales, accumulate: false, ..plain });
        }
    }
    for n in [8, 32, 96, 256] {
        product(t, &mut random, Case { format: Format::F16, half: true, n, ..plain });
    }
    product(t, &mut random, Case { format: Format::F16, half: true, a_in_registers: true, accumulate: false, ..plain });
}

fn product(t: &mut Table, random: &mut Random, case: Case) {
    let Case { format, n, half, .. } = case;
    let (k, bytes) = (32 / format.bytes(), format.bytes());
    let a = matrix(random, format, 64 * k, false);
    let b = matrix(random, format, n * k, false);
    let (la, lb) = (Layout::new(&case, 64, case.mn_major[0]), Layout::new(&case, n, case.mn_major[1]));
    // A from 0 and B from 8 KiB of shared memory, brought there as 128 columns of words.
    let mut shared = vec![0u32; 40960 / 4];
    let mut used = 0;
    let mut place = |at: usize, bits: u32| {
        shared[at / 4] |= bits << (at % 4 * 8);
        used = used.max(at / 4 + 1);
    };
    for row in 0..64 {
        (0..k).for_each(|i| place(la.offset(row, i), a[row * k + i]));
    }
    for column in 0..n {
        (0..k).for_each(|i| place(8192 + lb.offset(column, i), b[column * k + i]));
    }
    let mut inputs: Vec<Vec<u32>> = shared[..used.next_multiple_of(128)].chunks(128).map(<[u32]>::to_vec).collect();
    let words = inputs.len();
    // Warp w holds rows 16w to 16w + 15 of A, as the fragments of mma.sync.
    for r in 0..4 {
        let register = (0..128).map(|thread| {
            let (lane, first) = (thread % 32, thread / 32 * 16 + r % 2 * 8);
            (0..4 / bytes).fold(0, |word, part| {
                let column = lane % 4 * (4 / bytes) + part + r / 2 * (16 / bytes);
                word | a[(first + lane / 4) * k + column] << (16 * part)
            })
        });
        inputs.push(register.collect());
    }
    let start: Vec<f32> = (0..64 * n).map(|_| random.small()).collect();
    let outputs = if half { n / 4 } else { n / 2 };
    // Register i of a thread: rows alternate every two columns.
    let at = |thread: usize, i: usize| {
        let (lane, warp) = (thread % 32, thread / 32);
        (16 * warp + lane / 4 + i / 2 % 2 * 8, i / 4 * 8 + lane % 4 * 2 + i % 2)
    };
    for r in 0..outputs {
        let one = |thread: usize, i: usize| {
            let (row, column) = at(thread, i);
            start[row * n + column]
        };
        let register = (0..128).map(|thread| {
            if half {
                Format::F16.bits(one(thread, 2 * r)) | Format::F16.bits(one(thread, 2 * r + 1)) << 16
            } else {
                one(thread, r).to_bits()
            }
        });
        inputs.push(register.collect());
    }
    let list = |letter: char, from: usize, count: usize| {
        let all: Vec<String> = (from..from + count).map(|i| format!("{letter}{i}")).collect();
        format!("{{{}}}", all.join(","))
    };
    let mut line = String::from("shl.b32 row, t, 2; add.u32 row, row, sh;\n");
    for i in 0..words {
        line += &format!("st.shared.b32 [row+{}], x{i};\n", 512 * i);
    }
    for i in 0..outputs {
        line += &format!("mov.b32 y{i}, x{};\n", words + 4 + i);
    }
    let flags = match (format, case.a_in_registers) {
        (Format::Tf32, _) => String::new(),
        (_, true) => format!(", {}", case.mn_major[1] as u32),
        (_, false) => format!(", {}, {}", case.mn_major[0] as u32, case.mn_major[1] as u32),
    };
    let (ty, sum) = (format.name(), if half { "f16" } else { "f32" });
    let form = format!("wgmma.mma_async.sync.aligned.m64n{n}k{k}.{sum}.{ty}.{ty}");
    line += &format!(
        "fence.proxy.async; bar.sync 0; shr.u32 e, sh, 4; cvt.u64.u32 E, e; or.b64 F, E, {}; add.s64 F, F, 512; or.b64 E, E, {};
        setp.eq.u32 p, 1, {};
        wgmma.fence.sync.aligned;
        {form} {}, {}, F, p, {}, {}{flags};
        wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;",
        lb.descriptor(),
        la.descriptor(),
        case.accumulate as u32,
        list('y', 0, outputs),
        if case.a_in_registers { list('x', words, 4) } else { "E".into() },
        case.scales[0],
        case.scales[1],
    );
    t.fragments(&line, 128, &inputs, 0, outputs, |found| {
        for thread in 0..128 {
            for i in 0..n / 2 {
                let (row, column) = at(thread, i);
                let scale = (case.scales[0] * case.scales[1]) as f32;
                let first = if case.accumulate { start[row * n + column] } else { 0.0 };
                let wanted = (0..k).fold(first, |sum, i| {
                    sum + scale * format.value(a[row * k + i]) * format.value(b[column * k + i])
                });
                let value = if half {
                    Format::F16.value(found[i / 2][thread] >> (16 * (i % 2)) & 0xffff)
                } else {
                    f32::from_bits(found[i][thread])
                };
                let Case { swizzle, mn_major, a_in_registers, .. } = case;
                assert_eq!(
                    value, wanted,
                    "{form}, swizzle {swizzle}, MN-major {mn_major:?}, A in registers {a_in_registers}: row {row}, column {column}"
                );
            }
        }
    });
}
