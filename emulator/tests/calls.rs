//! Functions that are not inlined, pointers to them, and what the system provides: printing and assertions.

mod common;

use common::Bench;
use ptx_emulator::{Config, Device, FaultKind, LoadError, coverage};

const PTX: &str = include_str!("programs/calls.ptx");

#[test]
fn functions_call_functions_where_lanes_diverge() {
    let mut bench = Bench::new(PTX);
    let input: Vec<f32> = (0..64).map(|i| i as f32 / 8.0 - 3.0).collect();
    let x = bench.array(&input);
    bench.launch("nested", [1, 1, 1], [64, 1, 1], &[&x]).unwrap();
    let square = |a: f32, b: f32| a.mul_add(a, b);
    let expected = input.iter().enumerate().map(|(i, &a)| {
        let a = match (i % 3, a < 0.0) {
            (0, true) => 1.0,
            (0, false) => square(a, 1.0) + square(1.0, a),
            _ => a,
        };
        square(a, 0.5)
    });
    assert_eq!(bench.read::<f32>(x, 64), expected.collect::<Vec<_>>());
}

#[test]
fn each_lane_calls_the_function_that_its_pointer_names() {
    let mut bench = Bench::new(PTX);
    let x = bench.array(&(0..32).map(|i| i as f32).collect::<Vec<_>>());
    let which = bench.array(&(0..32).map(|i| (i / 2) % 3).collect::<Vec<i32>>());
    bench.launch("by_pointer", [1, 1, 1], [32, 1, 1], &[&x, &which]).unwrap();
    let expected = (0..32).map(|i| match (i / 2) % 3 {
        0 => i as f32 + 1.0,
        1 => -(i as f32),
        _ => i as f32 / 2.0,
    });
    assert_eq!(bench.read::<f32>(x, 32), expected.collect::<Vec<_>>());
}

#[test]
fn a_function_may_have_shared_memory_and_barriers() {
    let mut bench = Bench::new(PTX);
    let x = bench.array(&(0..64).collect::<Vec<i32>>());
    bench.launch("shared_within", [1, 1, 1], [64, 1, 1], &[&x]).unwrap();
    assert_eq!(bench.read::<i32>(x, 64), (0..64).map(|i| (i + 2) % 64).collect::<Vec<_>>());
}

#[test]
fn double_precision_mathematics_calls_its_slow_paths() {
    let mut bench = Bench::new(PTX);
    // Large ones need the slow reduction of their argument.
    let input = [0.0, 0.5, -1.0, 3.0, 1e5, -1e9, 1e22, 2.0f64.powi(100)];
    let x = bench.array(&input);
    bench.launch("doubles", [1, 1, 1], [8, 1, 1], &[&x]).unwrap();
    for (found, x) in bench.read::<f64>(x, 8).into_iter().zip(input) {
        let expected = x.sin() + x.abs().powf(2.5);
        assert!((found - expected).abs() <= 4.0 * f64::EPSILON * expected.abs(), "{x}: {found} and {expected}");
    }
}

#[test]
fn a_kernel_that_calls_itself_refuses_itself_and_not_its_module() {
    let mut device = Device::new(Config::default());
    let module = device.load_module(PTX).unwrap();
    assert!(module.function("recursive").is_none() && module.function("nested").is_some());
    assert!(module.missing("nested").is_none());
    let missing = module.missing("recursive").unwrap();
    assert!(missing[0].form.starts_with("recursive call of "), "{missing:?}");
    assert_eq!(coverage(PTX).unwrap().len(), 1);
    // Where no kernel is left, the module says why.
    let alone = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k() { tex.1d.v4.f32.s32 {a,b,c,d}, [t, {x}]; ret; }";
    assert!(matches!(device.load_module(alone), Err(LoadError::Unsupported(_))));
}

#[test]
fn what_kernels_print_comes_thread_by_thread_in_the_order_of_blocks() {
    for (seed, threads) in [(None, 1), (None, 2), (Some(3), 2)] {
        let mut bench = Bench::with(Config { seed, threads, ..Config::default() }, PTX);
        let x = bench.array(&[1.5f32, -2.25, 1e3, 0.0]);
        bench.launch("prints", [2, 1, 1], [2, 1, 1], &[&x, &4i32]).unwrap();
        let expected = "0 of many:  1.50, 0, 100%\n1 of many: -2.25, -5000000000, 100%\n\
            2 of many: 1000.00, -10000000000, 100%\n3 of many:  0.00, -15000000000, 100%\n";
        assert_eq!(bench.device.take_printed(), expected);
        assert_eq!(bench.device.take_printed(), "");
    }
}

#[test]
fn a_failed_assertion_names_its_file_and_line() {
    let mut bench = Bench::new(PTX);
    let x = bench.empty::<i32>(64);
    bench.launch("asserts_below", [1, 1, 1], [64, 1, 1], &[&x, &64i32]).unwrap();
    let fault = bench.launch("asserts_below", [1, 1, 1], [64, 1, 1], &[&x, &40i32]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Trap);
    let line = include_str!("programs/calls.cu").lines().position(|line| line.contains("assert(i < n)")).unwrap() + 1;
    assert!(fault.message.contains(&format!("calls.cu:{line}: ")), "{fault}");
    assert!(fault.message.contains("assertion `i < n` failed"), "{fault}");
    assert_eq!(fault.site.unwrap().thread, [40, 0, 0]);
}
