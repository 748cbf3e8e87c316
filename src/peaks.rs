//! What a GPU does at its best right now: the yardsticks that its kernels are read against.

use serde::Serialize;

use crate::{
    Result,
    graph::{Role, Tape},
    machine::{Access, Kernel, KernelAbi, Launch, Machine, arguments, images},
    ops::copy::Copy,
    session::{self, Target},
    tensor::Spec,
};

const FMA: Kernel<RooflineArguments> = Kernel::new("roofline", "roofline_fma", 256);
const MMA: Kernel<RooflineArguments> = Kernel::new("roofline", "roofline_mma", 256);

/// Floating-point operations of a CTA in one round, as the kernels count them.
const ROUND: f64 = (1u64 << 23) as f64;

arguments!(RooflineArguments { sums: u64, rounds: i32, unused: i32 });

/// The kernels behind it.
pub fn kernels() -> Vec<KernelAbi> {
    vec![FMA.abi(), MMA.abi()]
}

/// The best of several short runs of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GpuPeaks {
    /// fp32 multiply-adds, GFLOP/s.
    pub fp32_gflops: f64,
    /// 16-bit matrix products with fp32 sums on the tensor cores, GFLOP/s.
    pub half_gflops: f64,
    /// Copying within device memory, GB/s; bytes read and written both count.
    pub copy_gbs: f64,
}

impl GpuPeaks {
    /// Measures a machine and gives it back; no figures if the machine has no clock.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn measure(mut machine: Box<dyn Machine>) -> Result<(Box<dyn Machine>, Option<Self>)> {
        let ctas = 8 * machine.capabilities().multiprocessors;
        let fp32 = flops(&mut *machine, &FMA, ctas, 64)?;
        let half = flops(&mut *machine, &MMA, ctas, 256)?;
        let (machine, copy) = copy(machine)?;
        let found = fp32.zip(half).zip(copy);
        let peaks = found.map(|((fp32_gflops, half_gflops), copy_gbs)| Self { fp32_gflops, half_gflops, copy_gbs });
        Ok((machine, peaks))
    }
}

/// Runs a kernel of the roofline's own family on so many CTAs; GFLOP/s.
fn flops(machine: &mut dyn Machine, kernel: &Kernel<RooflineArguments>, ctas: u32, rounds: i32) -> Result<Option<f64>> {
    if !machine.is_loaded(kernel.family()) {
        let image = images::find(kernel.family(), machine.capabilities().compute)?;
        machine.load(kernel.family(), &image.ptx())?;
    }
    let bytes = 4 * kernel.threads() as usize * ctas as usize;
    let sums = machine.allocate(bytes)?;
    let access = [Access { address: sums, bytes: bytes as u64, is_written: true }];
    let launch = Launch {
        family: kernel.family(),
        kernel: kernel.name(),
        compute: kernel.compute(),
        grid: [ctas, 1, 1],
        block: [kernel.threads(), 1, 1],
        shared: 0,
        arguments: bytemuck::bytes_of(&RooflineArguments { sums, rounds, unused: 0 }).to_vec(),
        access: access.into(),
    };
    const RUNS: usize = 6;
    let mut best: Option<f64> = None;
    machine.stamp()?;
    for _ in 0..RUNS {
        machine.launch(&launch)?;
        machine.stamp()?;
    }
    for pair in machine.stamps()?.iter().flat_map(|stamps| stamps.windows(2)) {
        let gflops = f64::from(ctas) * f64::from(rounds) * ROUND / (pair[1] - pair[0]) / 1e9;
        best = Some(best.map_or(gflops, |best| best.max(gflops)));
    }
    machine.free(sums)?;
    Ok(best)
}

/// GB/s of the operation that copies, over 256 MiB: more than any cache holds.
fn copy(machine: Box<dyn Machine>) -> Result<(Box<dyn Machine>, Option<f64>)> {
    const ELEMENTS: usize = 64 << 20;
    const RUNS: usize = 6;
    let mut tape = Tape::new();
    let x = tape.source("x", Spec::f32_vector(ELEMENTS), Role::Input);
    let y = tape.record1("copy", Copy, &[x])?;
    tape.keep_output(y, "y");
    let mut program = session::bind(&[tape.finish()], machine)?;
    let mut best: Option<f64> = None;
    for _ in 0..RUNS {
        program.run_timed(0, &mut |_, _, seconds| {
            let gbs = 8.0 * ELEMENTS as f64 / seconds / 1e9;
            best = Some(best.map_or(gbs, |best| best.max(gbs)));
        })?;
    }
    match program.release()? {
        Target::Machine(machine) => Ok((machine, best)),
        Target::Cpu(_) => unreachable!("it was bound to a machine"),
    }
}

#[cfg(test)]
mod tests {
    use ptx_emulator::Config;

    use super::*;
    use crate::machine::Emulated;

    #[test]
    fn a_round_is_as_many_operations_as_the_figures_assume_on_every_generation() {
        for compute_capability in [75, 80, 90] {
            let mut machine = Emulated::new(Config { compute_capability, ..Config::default() });
            let tally = machine.tally().unwrap();
            // The emulated GPU has no clock, so there is no figure.
            assert_eq!(flops(&mut machine, &FMA, 2, 3).unwrap(), None);
            assert_eq!(flops(&mut machine, &MMA, 2, 3).unwrap(), None);
            let tally = tally.lock().unwrap();
            let expected = 2.0 * 3.0 * ROUND;
            let per_launch = |kernel: &str, of: &dyn Fn(&ptx_emulator::Counters) -> u64| {
                let (launches, counters) = &tally[kernel];
                of(counters) as f64 / *launches as f64
            };
            assert_eq!(per_launch("roofline_mma", &|counters| counters.tensor_flops), expected, "{compute_capability}");
            // Beside the chains, a few operations make their operands and add them up.
            let fma = per_launch("roofline_fma", &|counters| counters.scalar_flops);
            assert!(fma >= expected && fma < 1.001 * expected, "{compute_capability}: {fma}");
        }
    }
}
