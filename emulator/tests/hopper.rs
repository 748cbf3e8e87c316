//! Tensor copies, mbarriers and warpgroup products of the 9.0a target.

mod common;

use common::{Argument, Bench, Random};
use ptx_emulator::{Element, Fault, FaultKind, Swizzle, TensorMap};

const PTX: &str = include_str!("programs/hopper.ptx");

struct Bytes(Vec<u8>);

impl Argument for Bytes {
    fn argument(&self) -> Vec<u8> {
        self.0.clone()
    }
}

fn map(element: Element, address: u64, columns: u64, rows: u64, window: [u32; 2], swizzle: Swizzle) -> Bytes {
    let map = TensorMap {
        element,
        address,
        dims: vec![columns, rows],
        strides: vec![columns * element.bytes()],
        box_dims: window.to_vec(),
        swizzle,
        nan_fill: false,
    };
    Bytes(map.encode().unwrap().to_vec())
}

#[test]
fn warpgroup_products_of_swizzled_tiles_equal_the_triple_loop() {
    let (m, n, k) = (128usize, 64usize, 128usize);
    let mut random = Random(5);
    let a: Vec<f32> = (0..m * k).map(|_| random.small()).collect();
    let b: Vec<f32> = (0..n * k).map(|_| random.small()).collect();
    let bf16 = |v: &[f32]| v.iter().map(|&x| half::bf16::from_f32(x).to_bits()).collect::<Vec<u16>>();
    let run = |broken: i32| {
        let mut bench = Bench::new(PTX);
        let (da, db) = (bench.array(&bf16(&a)), bench.array(&bf16(&b)));
        let dc = bench.empty::<f32>(m * n);
        let a_map = map(Element::Bf16, da.0, k as u64, m as u64, [64, 64], Swizzle::Bytes128);
        let b_map = map(Element::Bf16, db.0, k as u64, n as u64, [64, 64], Swizzle::Bytes128);
        let grid = [n as u32 / 64, m as u32 / 64, 1];
        let args: [&dyn Argument; 6] = [&a_map, &b_map, &dc, &(n as i32), &(k as i32), &broken];
        bench.launch("matmul", grid, [128, 1, 1], &args).map(|counters| (counters, bench.read::<f32>(dc, m * n)))
    };
    let (counters, found) = run(0).unwrap_or_else(|fault| panic!("{fault}"));
    for row in 0..m {
        for column in 0..n {
            let wanted: f32 = (0..k).map(|i| a[row * k + i] * b[column * k + i]).sum();
            assert_eq!(found[row * n + column], wanted, "row {row}, column {column}");
        }
    }
    assert_eq!(counters.tensor_flops, 2 * (m * n * k) as u64);
    let fault = run(1).expect_err("the products read tiles that nobody waited for");
    assert_eq!(fault.kind, FaultKind::AsyncInFlight, "{fault}");
}

#[test]
fn boxes_over_the_edge_are_filled_and_clipped() {
    let mut bench = Bench::new(PTX);
    let x: Vec<f32> = (0..20 * 12).map(|i| i as f32 + 1.0).collect();
    let from = bench.array(&x);
    let to = bench.array(&[-1f32; 20 * 12]);
    let from_map = map(Element::F32, from.0, 20, 12, [16, 8], Swizzle::None);
    let to_map = map(Element::F32, to.0, 20, 12, [16, 8], Swizzle::None);
    let args: [&dyn Argument; 6] = [&from_map, &to_map, &-3i32, &7i32, &9i32, &-2i32];
    bench.launch("move", [1, 1, 1], [32, 1, 1], &args).unwrap_or_else(|fault| panic!("{fault}"));
    let found = bench.read::<f32>(to, 20 * 12);
    for row in 0..12i32 {
        for column in 0..20i32 {
            let (i, j) = (column - 9, row + 2);
            let inside = (0..16).contains(&i) && (0..8).contains(&j);
            let (u, v) = (i - 3, j + 7);
            let wanted = match (inside, (0..20).contains(&u) && (0..12).contains(&v)) {
                (false, _) => -1.0,
                (true, false) => 0.0,
                (true, true) => x[(v * 20 + u) as usize],
            };
            assert_eq!(found[(row * 20 + column) as usize], wanted, "row {row}, column {column}");
        }
    }
}

/// Stores a row to shared memory and lets a bulk copy take it away; `writer` stands after the store, `reader` after the
/// barrier.
fn stored_row(writer: &str, reader: &str) -> Result<Vec<u32>, Box<Fault>> {
    let ptx = format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry row(.param .u64 target) {{
        .reg .b32 t, a; .reg .b64 to; .reg .pred p; .shared .align 128 .b8 s[128];
        ld.param.u64 to, [target]; mov.u32 t, %tid.x; mov.u32 a, s; mad.lo.s32 a, t, 4, a;
        st.shared.b32 [a], t; {writer} bar.sync 0; {reader} setp.ne.u32 p, t, 0; @p bra DONE;
        mov.u32 a, s; cp.async.bulk.global.shared::cta.bulk_group [to], [a], 128;
        cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;
        DONE: ret; }}"
    );
    let mut bench = Bench::new(&ptx);
    let to = bench.empty::<u32>(32);
    bench.launch("row", [1, 1, 1], [32, 1, 1], &[&to])?;
    Ok(bench.read::<u32>(to, 32))
}

#[test]
fn a_missing_proxy_fence_before_a_bulk_copy_is_found() {
    let row: Vec<u32> = (0..32).collect();
    // By those who wrote, or by those who read.
    assert_eq!(stored_row("fence.proxy.async;", "").unwrap(), row);
    assert_eq!(stored_row("fence.proxy.async.shared::cta;", "").unwrap(), row);
    assert_eq!(stored_row("", "fence.proxy.async;").unwrap(), row);
    for (writer, reader) in [("", ""), ("fence.proxy.async.global;", ""), ("", "membar.cta;")] {
        let fault = stored_row(writer, reader).expect_err("no fence for shared memory");
        assert_eq!(fault.kind, FaultKind::ProxyFence, "{fault}");
    }
}

#[test]
fn a_missing_proxy_fence_before_a_warpgroup_product_is_found() {
    let product = |fill: &str, fence: &str| {
        let ptx = format!(
            ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry product(.param .u64 source) {{
            .reg .b32 t, a, z; .reg .b64 from, d; .reg .f32 c<4>; .reg .pred p; .shared .align 128 .b8 s[2048];
            ld.param.u64 from, [source]; mov.u32 t, %tid.x; mov.u32 a, s; mad.lo.s32 a, t, 16, a; mov.u32 z, 0;
            mad.wide.u32 from, t, 16, from;
            {fill} {fence} bar.sync 0; mov.u32 a, s; shr.u32 a, a, 4; cvt.u64.u32 d, a;
            or.b64 d, d, {}; setp.ne.u32 p, z, 0; wgmma.fence.sync.aligned;
            wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {{c0,c1,c2,c3}}, d, d, p, 1, 1, 0, 0;
            wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0; ret; }}",
            8u64 << 16 | 16 << 32
        );
        let mut bench = Bench::new(&ptx);
        let from = bench.array(&[0u32; 512]);
        bench.launch("product", [1, 1, 1], [128, 1, 1], &[&from]).map(|_| ())
    };
    let store = "st.shared.v4.b32 [a], {z,z,z,z};";
    let copy = "cp.async.cg.shared.global [a], [from], 16; cp.async.wait_all;";
    for fill in [store, copy] {
        product(fill, "fence.proxy.async;").unwrap_or_else(|fault| panic!("{fault}"));
        let fault = product(fill, "").expect_err("no fence");
        assert_eq!(fault.kind, FaultKind::ProxyFence, "{fill}: {fault}");
    }
}

#[test]
fn registers_of_a_product_that_nothing_has_waited_for_are_out_of_reach() {
    let run = |between: &str, after: &str| {
        let ptx = format!(
            ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry product(.param .u64 target) {{
            .reg .b32 t, a, z, x<4>; .reg .b64 to, d; .reg .f32 c<4>; .reg .pred p; .shared .align 128 .b8 s[2048];
            ld.param.u64 to, [target]; mov.u32 t, %tid.x; mov.u32 a, s; mad.lo.s32 a, t, 16, a; mov.u32 z, 0;
            mov.b32 x0, z; mov.b32 x1, z; mov.b32 x2, z; mov.b32 x3, z; mad.wide.u32 to, t, 4, to;
            st.shared.v4.b32 [a], {{z,z,z,z}}; fence.proxy.async; bar.sync 0;
            mov.u32 a, s; shr.u32 a, a, 4; cvt.u64.u32 d, a; or.b64 d, d, {}; setp.ne.u32 p, z, 0;
            wgmma.fence.sync.aligned;
            wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {{c0,c1,c2,c3}}, {{x0,x1,x2,x3}}, d, p, 1, 1, 0;
            {between} wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0; {after} ret; }}",
            8u64 << 16 | 16 << 32
        );
        let mut bench = Bench::new(&ptx);
        let to = bench.empty::<f32>(128);
        bench.launch("product", [1, 1, 1], [128, 1, 1], &[&to]).map(|_| ())
    };
    let next = "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {c0,c1,c2,c3}, {x0,x1,x2,x3}, d, p, 1, 1, 0;";
    for fine in ["", "add.s32 t, t, 1;", next] {
        run(fine, "st.global.f32 [to], c0; mov.b32 x1, t;").unwrap_or_else(|fault| panic!("{fine}: {fault}"));
    }
    for broken in ["st.global.f32 [to], c0;", "mov.f32 c3, 0f00000000;", "mov.b32 x1, t;", "@!p add.f32 c1, c1, c1;"] {
        let fault = run(broken, "").expect_err(broken);
        assert_eq!(fault.kind, FaultKind::AsyncInFlight, "{broken}: {fault}");
    }
}

#[test]
fn a_dimension_of_extent_one_may_have_stride_zero() {
    let map = |dims: Vec<u64>, stride: u64| TensorMap {
        element: Element::F32,
        address: 1 << 20,
        dims,
        strides: vec![stride, 1024],
        box_dims: vec![4, 1, 1],
        swizzle: Swizzle::None,
        nan_fill: false,
    };
    assert!(map(vec![16, 1, 4], 0).encode().is_ok());
    assert!(map(vec![16, 2, 4], 0).encode().is_err());
    assert!(map(vec![16, 1, 4], 8).encode().is_err());
}
