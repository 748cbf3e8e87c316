//! Whole programs from nvcc, unmodified, against plain Rust.

mod common;

use common::{Bench, Random};

#[test]
fn saxpy_equals_the_formula() {
    let mut bench = Bench::new(include_str!("programs/saxpy.ptx"));
    let x: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let y: Vec<f32> = (0..1000).map(|i| 1.0 / (i + 1) as f32).collect();
    let (dx, dy) = (bench.array(&x), bench.array(&y));
    let counters = bench.launch("saxpy", [4, 1, 1], [256, 1, 1], &[&2.5f32, &dx, &dy, &1000i32]).unwrap();
    let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| 2.5f32.mul_add(*x, *y)).collect();
    assert_eq!(bench.read::<f32>(dy, 1000), expected);
    assert_eq!(counters.global_load_bytes, 8000);
    assert_eq!(counters.global_store_bytes, 4000);
    // 31 full warps of four sectors and one of a quarter, three requests each.
    assert_eq!(counters.global_sectors, 3 * 125);
}

#[test]
fn reduction_in_the_last_block_sees_every_partial_sum() {
    let mut bench = Bench::new(include_str!("programs/reduction.ptx"));
    let x: Vec<f32> = (0..10_000).map(|i| (i % 13) as f32).collect();
    let dx = bench.array(&x);
    let (partial, total) = (bench.empty::<f32>(7), bench.empty::<f32>(1));
    bench.launch("sum", [7, 1, 1], [256, 1, 1], &[&dx, &10_000i32, &partial, &total]).unwrap();
    assert_eq!(bench.read::<f32>(total, 1)[0], x.iter().sum::<f32>());
}

#[test]
fn scan_gives_prefix_sums_per_block() {
    let mut bench = Bench::new(include_str!("programs/scan.ptx"));
    let x: Vec<i32> = (0..500).map(|i| (i * 7 % 23) - 11).collect();
    let dx = bench.array(&x);
    let dy = bench.empty::<i32>(500);
    bench.launch("scan", [4, 1, 1], [128, 1, 1], &[&dx, &dy, &500i32]).unwrap();
    let mut expected = Vec::new();
    for block in x.chunks(128) {
        expected.extend(block.iter().scan(0, |sum, v| {
            *sum += v;
            Some(*sum)
        }));
    }
    assert_eq!(bench.read::<i32>(dy, 500), expected);
}

#[test]
fn histogram_counts_every_byte() {
    let mut bench = Bench::new(include_str!("programs/histogram.ptx"));
    let mut random = Random(1);
    let x: Vec<u8> = (0..5000).map(|_| random.bits() as u8 & 0x3f).collect();
    let dx = bench.array(&x);
    let counts = bench.array(&[0u32; 256]);
    bench.launch("histogram", [5, 1, 1], [128, 1, 1], &[&dx, &5000i32, &counts]).unwrap();
    let mut expected = vec![0u32; 256];
    x.iter().for_each(|&b| expected[b as usize] += 1);
    assert_eq!(bench.read::<u32>(counts, 256), expected);
}

#[test]
fn convolution_is_bit_identical_to_the_loops() {
    let (n, d, h, w, c, k) = (1usize, 3usize, 5usize, 7usize, 3usize, 8usize);
    let mut random = Random(2);
    let x: Vec<f32> = (0..n * d * h * w * c).map(|_| random.bits() as f32 / 4e9).collect();
    let f: Vec<f32> = (0..27 * c * k).map(|_| random.bits() as f32 / 4e9 - 0.5).collect();
    let mut bench = Bench::new(include_str!("programs/convolution.ptx"));
    let (dx, df) = (bench.array(&x), bench.array(&f));
    let dy = bench.empty::<f32>(n * d * h * w * k);
    let shape = [n, d, h, w, c, k].map(|e| e as i32);
    let voxels = n * d * h * w;
    bench
        .launch("convolution", [voxels.div_ceil(128) as u32, k as u32 / 4, 1], [128, 1, 1], &[&dx, &df, &dy, &shape])
        .unwrap();
    let mut expected = vec![0f32; voxels * k];
    for (voxel, out) in expected.chunks_mut(k).enumerate() {
        let (q, p, z) = (voxel % w, voxel / w % h, voxel / (w * h) % d);
        for t in 0..27 {
            let at = [z as i32 + t / 9 - 1, p as i32 + t / 3 % 3 - 1, q as i32 + t % 3 - 1];
            if at.iter().zip([d, h, w]).any(|(&i, extent)| i < 0 || i >= extent as i32) {
                continue;
            }
            let row = ((at[0] as usize * h + at[1] as usize) * w + at[2] as usize) * c;
            for ci in 0..c {
                for (ki, out) in out.iter_mut().enumerate() {
                    *out = x[row + ci].mul_add(f[(t as usize * c + ci) * k + ki], *out);
                }
            }
        }
    }
    assert_eq!(bench.read::<f32>(dy, voxels * k), expected);
}

fn bf16(values: &[f32]) -> Vec<u16> {
    values.iter().map(|&v| half::bf16::from_f32(v).to_bits()).collect()
}

#[test]
fn tiled_matmul_on_tensor_cores_equals_the_triple_loop() {
    let (m, n, k) = (128usize, 64usize, 96usize);
    let mut random = Random(3);
    let a: Vec<f32> = (0..m * k).map(|_| random.small()).collect();
    let b: Vec<f32> = (0..k * n).map(|_| random.small()).collect();
    let mut bench = Bench::new(include_str!("programs/matmul.ptx"));
    let (da, db) = (bench.array(&bf16(&a)), bench.array(&bf16(&b)));
    let dc = bench.empty::<f32>(m * n);
    let grid = [n as u32 / 64, m as u32 / 64, 1];
    let counters =
        bench.launch("matmul", grid, [128, 1, 1], &[&da, &db, &dc, &(m as i32), &(n as i32), &(k as i32)]).unwrap();
    let mut expected = vec![0f32; m * n];
    for row in 0..m {
        for column in 0..n {
            expected[row * n + column] = (0..k).map(|i| a[row * k + i] * b[i * n + column]).sum();
        }
    }
    assert_eq!(bench.read::<f32>(dc, m * n), expected);
    assert_eq!(counters.tensor_flops, 2 * (m * n * k) as u64);
    // Only the copies into A conflict: eight lanes cover two rows of 80 bytes, and the last chunk meets the first.
    assert_eq!(counters.bank_conflicts, 192);
}
