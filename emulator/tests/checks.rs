//! Every check: a launch with the fault planted, and the same kernel without it.

mod common;

use common::{Argument, Bench};
use ptx_emulator::{Access, Checks, Config, Device, DevicePointer, Fault, FaultKind, LaunchConfig};

const PTX: &str = include_str!("programs/checks.ptx");

fn line_of(text: &str) -> u32 {
    let source = include_str!("programs/checks.cu");
    source.lines().position(|line| line.contains(text)).expect("the line exists") as u32 + 1
}

/// Asserts the kind, and that the diagnostic names the source line that contains `text`.
fn assert_fault(result: Result<ptx_emulator::Counters, Box<Fault>>, kind: FaultKind, text: &str) -> Box<Fault> {
    let fault = result.expect_err("the fault is found");
    assert_eq!(fault.kind, kind, "{fault}");
    let site = fault.site.as_ref().expect("the place is known");
    assert_eq!(site.source, Some(("checks.cu".to_owned(), line_of(text))), "{fault}");
    assert!(site.ptx_line > 0);
    fault
}

/// Runs a kernel of one output array and the flag.
fn run(name: &str, grid: u32, block: u32, broken: i32) -> Result<ptx_emulator::Counters, Box<Fault>> {
    let mut bench = Bench::new(PTX);
    let y = bench.empty::<f32>(256);
    bench.launch(name, [grid, 1, 1], [block, 1, 1], &[&y, &broken])
}

#[test]
fn reading_one_element_past_the_end_is_found() {
    let run = |broken: i32| {
        let mut bench = Bench::new(PTX);
        let (x, y) = (bench.array(&[1f32; 100]), bench.empty::<f32>(100));
        bench.launch("bounds", [2, 1, 1], [64, 1, 1], &[&x, &y, &100i32, &broken])
    };
    run(0).unwrap();
    let fault = assert_fault(run(1), FaultKind::OutOfBounds, "y[i < n ? i : 0] = x[i]");
    let site = fault.site.unwrap();
    assert_eq!((site.cta, site.thread), ([1, 0, 0], [36, 0, 0]));
    assert!(fault.message.contains("offset 400 of an allocation of 400 bytes"), "{}", fault.message);
}

#[test]
fn touching_freed_memory_is_found() {
    let mut bench = Bench::new(PTX);
    let (x, y) = (bench.array(&[1f32; 100]), bench.empty::<f32>(100));
    bench.launch("bounds", [2, 1, 1], [64, 1, 1], &[&x, &y, &100i32, &0i32]).unwrap();
    bench.device.free(x).unwrap();
    let result = bench.launch("bounds", [2, 1, 1], [64, 1, 1], &[&x, &y, &100i32, &0i32]);
    assert_fault(result, FaultKind::UseAfterFree, "y[i < n ? i : 0] = x[i]");
}

#[test]
fn leaving_the_declared_ranges_is_found() {
    let mut bench = Bench::new(PTX);
    let arena = bench.array(&[1f32; 200]);
    let (x, y) = (arena, arena.offset(400));
    let mut launch = LaunchConfig::new([2, 1, 1], [64, 1, 1]);
    launch.access = Some(vec![Access::read(x.0, 400, "x"), Access::write(y.0, 400, "y")]);
    let args: [&dyn Argument; 4] = [&x, &y, &100i32, &0i32];
    bench.launch_with("bounds", &launch, &args).unwrap();
    // One element further is still inside the arena, but not inside x.
    let args: [&dyn Argument; 4] = [&x, &y, &100i32, &1i32];
    let fault = bench.launch_with("bounds", &launch, &args).unwrap_err();
    assert_eq!(fault.kind, FaultKind::AccessDenied, "{fault}");
    launch.access = Some(vec![Access::read(x.0, 400, "x"), Access::read(y.0, 400, "y")]);
    let args: [&dyn Argument; 4] = [&x, &y, &100i32, &0i32];
    let fault = bench.launch_with("bounds", &launch, &args).unwrap_err();
    assert!(fault.message.contains("`y`") && fault.message.contains("read only"), "{fault}");
}

#[test]
fn misaligned_vectors_are_found() {
    let run = |broken: i32| {
        let mut bench = Bench::new(PTX);
        let (x, y) = (bench.array(&[1f32; 80]), bench.empty::<f32>(64));
        bench.launch("misaligned", [1, 1, 1], [32, 1, 1], &[&x, &y, &broken])
    };
    run(0).unwrap();
    run(2).unwrap();
    assert_fault(run(1), FaultKind::Misaligned, "y[threadIdx.x] = *reinterpret_cast");
}

#[test]
fn uninitialised_global_memory_is_found() {
    let mut bench = Bench::new(PTX);
    let (x, y) = (bench.array(&[1f32; 100]), bench.empty::<f32>(100));
    bench.launch("bounds", [2, 1, 1], [64, 1, 1], &[&x, &y, &100i32, &0i32]).unwrap();
    bench.device.poison(x.offset(4 * 70), 4).unwrap();
    let result = bench.launch("bounds", [2, 1, 1], [64, 1, 1], &[&x, &y, &100i32, &0i32]);
    let fault = assert_fault(result, FaultKind::Uninitialised, "y[i < n ? i : 0] = x[i]");
    assert_eq!(fault.site.unwrap().thread, [6, 0, 0]);
}

#[test]
fn uninitialised_shared_memory_is_found() {
    run("uninitialised_shared", 1, 64, 0).unwrap();
    assert_fault(
        run("uninitialised_shared", 1, 64, 1),
        FaultKind::Uninitialised,
        "y[threadIdx.x] = s[63 - threadIdx.x];",
    );
}

#[test]
fn missing_barriers_are_found() {
    // Without the check for uninitialised reads, which a read that comes too early also trips.
    let checks = Checks { uninitialised: false, ..Checks::ALL };
    for (name, threads) in [("shared_race", 64), ("lane_race", 32), ("shared_overwrite", 64)] {
        let run = |broken: i32| {
            let mut bench = Bench::with(Config { checks, ..Config::default() }, PTX);
            let y = bench.empty::<f32>(256);
            bench.launch(name, [1, 1, 1], [threads, 1, 1], &[&y, &broken])
        };
        run(0).unwrap_or_else(|fault| panic!("{fault}"));
        let fault = run(1).expect_err("the race is found");
        assert_eq!(fault.kind, FaultKind::SharedRace, "{fault}");
    }
}

#[test]
fn blocks_that_write_the_same_bytes_are_found() {
    run("global_race", 4, 64, 0).unwrap();
    let fault = run("global_race", 4, 64, 1).expect_err("the race is found");
    assert_eq!(fault.kind, FaultKind::GlobalRace, "{fault}");
}

#[test]
fn reading_an_unfinished_copy_is_found() {
    let run = |broken: i32| {
        let mut bench = Bench::new(PTX);
        let (x, y) = (bench.array(&[1f32; 128]), bench.empty::<f32>(128));
        bench.launch("in_flight", [1, 1, 1], [32, 1, 1], &[&x, &y, &broken])
    };
    run(0).unwrap();
    assert_fault(run(1), FaultKind::AsyncInFlight, "y[threadIdx.x] = s[threadIdx.x];");
}

#[test]
fn a_barrier_that_half_a_warp_misses_is_found() {
    run("divergent_barrier", 1, 64, 0).unwrap();
    assert_fault(run("divergent_barrier", 1, 64, 1), FaultKind::BarrierDivergence, "if (threadIdx.x >= 16 || !broken)");
}

#[test]
fn a_shuffle_whose_mask_names_absent_lanes_is_found() {
    run("wrong_mask", 1, 32, 0).unwrap();
    let fault = run("wrong_mask", 1, 32, 1).expect_err("the mask is wrong");
    assert_eq!(fault.kind, FaultKind::SyncMask, "{fault}");
}

#[test]
fn a_block_larger_than_declared_is_refused() {
    let run = |threads| {
        let mut bench = Bench::new(PTX);
        let y = bench.empty::<f32>(256);
        bench.launch("small_block", [1, 1, 1], [threads, 1, 1], &[&y])
    };
    run(64).unwrap();
    assert_eq!(run(65).unwrap_err().kind, FaultKind::LaunchTooLarge);
}

#[test]
fn outputs_that_stay_unwritten_are_found_on_request() {
    let run = |broken: i32| {
        let mut bench = Bench::new(PTX);
        let y = bench.array(&[0f32; 100]);
        let mut launch = LaunchConfig::new([2, 1, 1], [64, 1, 1]);
        launch.must_write = vec![Access::write(y.0, 400, "y")];
        bench.launch_with("holes", &launch, &[&y, &100i32, &broken])
    };
    run(0).unwrap();
    let fault = run(1).unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotWritten);
    assert_eq!(fault.message, "`y`: 4 of 400 bytes, the first at offset 308");
}

#[test]
fn endless_loops_and_traps_end() {
    let mut bench = Bench::new(PTX);
    let flag = bench.array(&[0i32]);
    let fault = bench.launch("forever", [1, 1, 1], [1, 1, 1], &[&flag]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::StepLimit);
    run("asserts", 1, 32, 0).unwrap();
    assert_eq!(run("asserts", 1, 32, 1).unwrap_err().kind, FaultKind::Trap);
}

#[test]
fn any_order_of_blocks_and_warps_gives_the_same_result() {
    let results: Vec<Vec<f32>> = [None, Some(1), Some(2), Some(3)]
        .into_iter()
        .map(|seed| {
            let mut bench = Bench::with(Config { seed, ..Config::default() }, PTX);
            let y = bench.empty::<f32>(64);
            bench.launch("shared_overwrite", [1, 1, 1], [64, 1, 1], &[&y, &0i32]).unwrap();
            bench.read(y, 64)
        })
        .collect();
    assert!(results.iter().all(|r| *r == results[0]));
}

#[test]
fn bytes_that_a_copy_to_the_host_would_take_unwritten_are_counted() {
    let mut device = Device::new(Config::default());
    let at = device.allocate(64).unwrap();
    let count = |device: &Device, offset, bytes| device.count_unwritten(at.offset(offset), bytes).unwrap();
    assert_eq!(count(&device, 0, 64), 64);
    // Bytes 5 to 21: neither end on a word.
    device.copy_to_device(at.offset(5), &[1; 17]).unwrap();
    let is_written = |i: u64| (5..22).contains(&i);
    for start in 0..30 {
        for end in start..40 {
            let expected = (start..end).filter(|&i| !is_written(i)).count() as u64;
            assert_eq!(count(&device, start, end - start), expected, "{start}..{end}");
        }
    }
    assert!(device.count_unwritten(at, 65).is_err());
}

#[test]
#[cfg_attr(debug_assertions, ignore = "unoptimised builds touch all of it")]
fn an_arena_costs_only_what_is_used() {
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
    };
    let before = resident();
    let mut device = Device::new(Config::default());
    let arena = device.allocate(4 << 30).unwrap();
    let last = DevicePointer(arena.0 + (4 << 30) - 8);
    device.copy_to_device(last, &[7; 8]).unwrap();
    let mut found = [0; 8];
    device.copy_to_host(&mut found, last).unwrap();
    assert_eq!(found, [7; 8]);
    let cost = resident().saturating_sub(before);
    assert!(cost < 64 << 20, "4 GiB that nothing uses occupy {cost} bytes");
}
