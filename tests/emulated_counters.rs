//! What the heavy kernels do, counted by the emulator: instructions, sectors, bank conflicts depend on kernel and shape alone,
//! so they guard performance where there is no GPU. `GYRUS_UPDATE_COUNTERS=1` writes the table anew.

use gyrus::{
    machine::{Emulated, Machine},
    ops::{
        case::{Case, Fill, Operand},
        conv_transpose3d::{self, ConvTranspose3d, ConvTranspose3dDgrad, ConvTranspose3dWgrad},
        conv3d::{self, Conv3d, Conv3dDgrad, Conv3dWgrad},
    },
    selftest::{Gpu, Operands, Runner, Single},
    tensor::{DType, Shape, Volume},
};
use ptx_emulator::{Config, Counters};

const TABLE: &str = "kernels/counters.txt";

#[test]
fn heavy_kernels_do_what_the_committed_table_says() {
    let mut table = format!(
        "{:<38} {:<6} {:>11} {:>12} {:>10} {:>9} {:>9} {:>8}\n",
        "kernel", "device", "flops", "of the least", "math share", "conflicts", "sectors", "of ideal"
    );
    let dtypes = [(DType::F32, 90), (DType::Bf16, 90), (DType::Bf16, 80), (DType::F16, 75)];
    for (dtype, compute) in dtypes {
        for (case, least) in cases() {
            let case = if dtype == DType::F32 { case } else { case.narrowed(dtype).expect("a case of activations") };
            let (kernel, counters) = count(&case, compute);
            let flops = work(&counters);
            assert!(flops * 9 <= least * 10, "{kernel}: {flops} operations where {least} are enough");
            table += &row(kernel, compute, &counters, least);
        }
    }
    if std::env::var("GYRUS_UPDATE_COUNTERS").is_ok_and(|value| value == "1") {
        std::fs::write(TABLE, &table).unwrap();
    }
    assert_eq!(std::fs::read_to_string(TABLE).unwrap(), table, "GYRUS_UPDATE_COUNTERS=1 cargo test writes it anew");
}

/// The kernel that does the case's work, and what it did.
fn count(case: &Case, compute_capability: u32) -> (&'static str, Counters) {
    let machine = Emulated::new(Config { compute_capability, ..Config::default() });
    let tally = machine.tally().unwrap();
    Gpu::new(Box::new(machine)).run(&Single::new(case, Operands::FromHost, 0)).unwrap();
    let tally = tally.lock().unwrap();
    let (kernel, (_, counters)) = tally.iter().max_by_key(|(_, (_, counters))| work(counters)).unwrap();
    (kernel, counters.clone())
}

/// Floating-point operations where the case has its products: on the tensor cores, if they did anything.
fn work(counters: &Counters) -> u64 {
    if counters.tensor_flops > 0 { counters.tensor_flops } else { counters.scalar_flops }
}

fn row(kernel: &str, compute: u32, counters: &Counters, least: u64) -> String {
    // Operations of one warp instruction: a multiply-add of each lane, or a product of 16 x 8 x 8 or 16 x 8 x 16. A
    // warp's part of a warpgroup's product is several of the latter, so that its share can exceed one.
    let each = match (counters.tensor_flops > 0, compute >= 80) {
        (false, _) => 64.0,
        (true, false) => 2048.0,
        (true, true) => 4096.0,
    };
    let flops = work(counters) as f64;
    let ideal = (counters.global_load_bytes + counters.global_store_bytes).div_ceil(32);
    format!(
        "{kernel:<38} {:<6} {flops:>11} {:>12.3} {:>10.3} {:>9.3} {:>9} {:>8.3}\n",
        format!("sm_{compute}"),
        flops / least as f64,
        flops / each / counters.total_instructions() as f64,
        counters.bank_conflicts as f64 / counters.shared_requests as f64,
        counters.global_sectors,
        counters.global_sectors as f64 / ideal as f64,
    )
}

/// Layers of full tiles, with the operations that their definitions take.
fn cases() -> Vec<(Case, u64)> {
    let operand = |shape: Shape| Operand::new(shape, Fill::Uniform(-1.0, 1.0));
    let (x, kernel) = (Volume { n: 1, extent: [8, 16, 16], c: 32 }, [3; 3]);
    let filter = conv3d::filter_shape(kernel, 32, 32);
    let (small, up) = (Volume { n: 1, extent: [4, 8, 8], c: 64 }, conv_transpose3d::filter_shape(64, 32));
    let large = Volume { n: 1, extent: [8, 16, 16], c: 32 };
    // Two groups of warps share a tile of voxels.
    let wide = Volume { n: 1, extent: [4, 8, 16], c: 16 };
    let wide = vec![operand(wide.shape()), operand(conv3d::filter_shape(kernel, 16, 64)), operand(Shape::vector(64))];
    let (vector, x, small, large) = (Shape::vector(32), x.shape(), small.shape(), large.shape());
    let (filter, up) = (operand(filter), operand(up));
    let cases = vec![
        Case::new(Conv3d { kernel, relu: true }, vec![operand(x), filter, operand(vector)]),
        Case::new(Conv3d { kernel, relu: true }, wide),
        Case::new(Conv3dDgrad { kernel }, vec![operand(x), filter]),
        Case::new(Conv3dWgrad { kernel }, vec![operand(x), operand(x)]),
        Case::new(ConvTranspose3d, vec![operand(small), up, operand(vector)]),
        Case::new(ConvTranspose3dDgrad, vec![operand(large), up]),
        Case::new(ConvTranspose3dWgrad, vec![operand(small), operand(large)]),
    ];
    let flops = |case: &Case| case.op.flops(&case.specs(), &case.op.infer(&case.specs()).unwrap());
    cases.into_iter().map(|case| (case.clone(), flops(&case))).collect()
}
