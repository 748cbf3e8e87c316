//! What the heavy kernels do, counted by the emulator: instructions, sectors, bank conflicts depend on kernel and shape alone,
//! so they guard performance where there is no GPU. `GYRUS_UPDATE_COUNTERS=1` writes the table anew.

use gyrus::{
    machine::Emulated,
    ops::case::{Case, Fill, Operand},
    ops::{
        conv_transpose3d::{self, ConvTranspose3d, ConvTranspose3dDgrad, ConvTranspose3dWgrad},
        conv3d::{self, Conv3d, Conv3dDgrad, Conv3dWgrad},
    },
    selftest::{Device, Gpu, Operands, Single},
    tensor::{Shape, Volume},
};

const TABLE: &str = "kernels/counters.txt";

#[test]
fn heavy_kernels_do_what_the_committed_table_says() {
    let mut table = format!(
        "{:<26} {:>14} {:>13} {:>9} {:>10} {:>9} {:>9}\n",
        "kernel", "flops", "of the least", "fma share", "conflicts", "sectors", "of ideal"
    );
    for (case, least) in cases() {
        let machine = Emulated::default();
        let tally = machine.tally();
        Gpu::new(Box::new(machine)).run(&Single::new(&case, Operands::FromHost, 0)).unwrap();
        let tally = tally.lock().unwrap();
        let (kernel, (_, counters)) = tally.iter().max_by_key(|(_, (_, counters))| counters.scalar_flops).unwrap();
        let instructions: u64 = counters.instructions.iter().sum();
        let ideal = (counters.global_load_bytes + counters.global_store_bytes).div_ceil(32);
        table += &format!(
            "{kernel:<26} {:>14} {:>13.3} {:>9.3} {:>10.3} {:>9} {:>9.3}\n",
            counters.scalar_flops,
            counters.scalar_flops as f64 / least as f64,
            counters.scalar_flops as f64 / 64.0 / instructions as f64,
            counters.bank_conflicts as f64 / counters.shared_requests as f64,
            counters.global_sectors,
            counters.global_sectors as f64 / ideal as f64,
        );
    }
    if std::env::var("GYRUS_UPDATE_COUNTERS").is_ok_and(|value| value == "1") {
        std::fs::write(TABLE, &table).unwrap();
    }
    assert_eq!(std::fs::read_to_string(TABLE).unwrap(), table, "GYRUS_UPDATE_COUNTERS=1 cargo test writes it anew");
}

/// Layers of full tiles, with the operations that their definitions take.
fn cases() -> Vec<(Case, u64)> {
    let operand = |shape: Shape| Operand::new(shape, Fill::Uniform(-1.0, 1.0));
    let (x, kernel) = (Volume { n: 1, extent: [8, 16, 16], c: 32 }, [3; 3]);
    let filter = conv3d::filter_shape(kernel, 32, 32);
    let (small, up) = (Volume { n: 1, extent: [4, 8, 8], c: 64 }, conv_transpose3d::filter_shape(64, 32));
    let large = Volume { n: 1, extent: [8, 16, 16], c: 32 };
    let (vector, x, small, large) = (Shape::vector(32), x.shape(), small.shape(), large.shape());
    let (filter, up) = (operand(filter), operand(up));
    let cases = vec![
        Case::new(Conv3d { kernel, relu: true }, vec![operand(x), filter, operand(vector)]),
        Case::new(Conv3dDgrad { kernel }, vec![operand(x), filter]),
        Case::new(Conv3dWgrad { kernel }, vec![operand(x), operand(x)]),
        Case::new(ConvTranspose3d, vec![operand(small), up, operand(vector)]),
        Case::new(ConvTranspose3dDgrad, vec![operand(large), up]),
        Case::new(ConvTranspose3dWgrad, vec![operand(small), operand(large)]),
    ];
    let flops = |case: &Case| case.op.flops(&case.specs(), &case.op.infer(&case.specs()).unwrap());
    cases.into_iter().map(|case| (case.clone(), flops(&case))).collect()
}
