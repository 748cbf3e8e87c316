//! The GPU's kernels on the emulator: every case against the definition, the same bits in any order of CTAs, the argument
//! structs of both languages compared, and nothing in the compiled code that the emulator would skip.

use std::{collections::BTreeMap, fs};

use gyrus::{
    machine::{Emulated, Field, Machine, TensorCores, images},
    ops::{self, case::Case, catalogue},
    peaks,
    selftest::{Gpu, Operands, Runner, Single},
    tensor::DType,
};
use ptx_emulator::{Config, coverage};

mod common;
use common::single::{bits, can_work_in_place, check_against_definition, check_casts};

/// An emulated GPU whose CTAs and warps run in an order drawn from the seed, if there is one.
fn emulated(seed: Option<u64>) -> Gpu {
    Gpu::new(Box::new(Emulated::new(Config { seed, ..Config::default() })))
}

#[test]
fn emulated_results_are_at_most_twice_as_far_from_the_truth_as_plain_loops() {
    let machine = Emulated::default();
    let tally = machine.tally().unwrap();
    let mut device = Gpu::new(Box::new(machine));
    runnable().iter().for_each(|case| check_against_definition(case, &mut device));
    let tally = tally.lock().unwrap();
    let idle: Vec<&str> =
        ops::kernels().iter().map(|kernel| kernel.name).filter(|name| !tally.contains_key(name)).collect();
    assert!(idle.is_empty(), "no case runs {idle:?}");
}

/// The cases that the GPU has kernels for; says which kinds it lacks.
fn runnable() -> Vec<Case> {
    let (runnable, skipped): (Vec<Case>, Vec<Case>) = catalogue().into_iter().partition(Case::has_gpu_kernel);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for case in skipped {
        *kinds.entry(format!("{} {}", case.op.kind(), case.dtype())).or_default() += 1;
    }
    println!("no GPU kernel for {} kinds: {kinds:?}", kinds.len());
    assert!(kinds.len() <= KINDS_WITHOUT_KERNEL, "{} kinds have no kernel", kinds.len());
    runnable
}

/// Fused convolutions in fp32, and in 16 bits by filters that are no cubes; the pool's gradient in batch norm's backward pass. It
/// only ever shrinks: the pass that makes fused operations leaves out what has no kernel.
const KINDS_WITHOUT_KERNEL: usize = 14;

#[test]
fn casts_round_each_element_to_the_nearest_on_the_emulator() {
    check_casts(&mut emulated(None));
}

/// compute_75 multiplies in other pieces and copies through registers.
#[test]
fn fp16_on_an_older_gpu_is_at_most_twice_as_far_from_the_truth_as_plain_loops() {
    let mut device = Gpu::new(Box::new(Emulated::like(75, 0)));
    let is_small = |case: &&Case| case.dtype() == DType::F16 && !case.large;
    runnable().iter().filter(is_small).for_each(|case| check_against_definition(case, &mut device));
}

/// The quick convolutions in these types on a GPU of this compute capability whose tensor cores add like this.
fn check_convolutions(compute_capability: u32, tensor_cores: TensorCores, dtypes: &[DType]) {
    let config = Config { compute_capability, tensor_cores, ..Config::default() };
    let mut device = Gpu::new(Box::new(Emulated::new(config)));
    let is_meant = |case: &&Case| dtypes.contains(&case.dtype()) && !case.large && case.op.kind().starts_with("conv");
    let cases = runnable();
    let cases: Vec<&Case> = cases.iter().filter(is_meant).collect();
    assert!(cases.len() > 50, "{} cases", cases.len());
    cases.into_iter().for_each(|case| check_against_definition(case, &mut device));
}

/// Groups of four terms without extra bits: there are no kernels for compute capability 7.0, but no tensor cores are worse.
#[test]
fn convolutions_that_add_like_volta_are_at_most_twice_as_far_from_the_truth_as_plain_products() {
    check_convolutions(75, TensorCores::Volta, &[DType::F16]);
}

/// compute_90a multiplies by warpgroups; 8.0 to 8.9, and whatever is newer than 9.0, by warps.
#[test]
fn convolutions_that_add_like_ampere_are_at_most_twice_as_far_from_the_truth_as_plain_products() {
    check_convolutions(80, TensorCores::Ampere, &[DType::Bf16, DType::F16]);
}

#[test]
fn convolutions_that_add_like_hopper_are_at_most_twice_as_far_from_the_truth_as_plain_products() {
    check_convolutions(90, TensorCores::Hopper, &[DType::Bf16, DType::F16]);
}

#[test]
fn bf16_on_an_older_gpu_is_refused_by_name() {
    let mut device = Gpu::new(Box::new(Emulated::new(Config { compute_capability: 75, ..Config::default() })));
    let cases = catalogue();
    let case = |kind: &str| cases.iter().find(|case| case.op.kind() == kind && case.dtype() == DType::Bf16).unwrap();
    let error = device.run(&Single::new(case("relu"), Operands::FromHost, 0)).unwrap_err().to_string();
    assert!(error.contains("relu_bf16 needs compute capability 8.0, this GPU has 7.5"), "{error}");
}

#[test]
fn emulated_results_have_the_same_bits_in_any_order_of_ctas() {
    let (mut straight, mut shuffled) = (emulated(None), emulated(Some(20)));
    for case in runnable().iter().filter(|case| !case.large) {
        let single = Single::new(case, Operands::FromHost, 0);
        assert_eq!(bits(&mut straight, &single), bits(&mut shuffled, &single), "{}", case.name);
    }
}

#[test]
fn working_in_place_changes_no_bit_on_the_emulator() {
    let mut device = emulated(None);
    let is_in_place = |case: &&Case| !case.large && can_work_in_place(case);
    for case in runnable().iter().filter(is_in_place) {
        let [apart, together] = [Operands::FromHost, Operands::FromNodes].map(|from| Single::new(case, from, 0));
        assert_eq!(bits(&mut device, &apart), bits(&mut device, &together), "{}", case.name);
    }
}

#[test]
fn every_instruction_of_the_compiled_kernels_is_one_that_the_emulator_executes() {
    for image in images::all() {
        let missing = coverage(&image.ptx()).unwrap();
        assert!(missing.is_empty(), "{} {}: {missing:?}", image.family, image.target);
    }
}

#[test]
fn argument_structs_are_the_same_in_rust_and_in_cuda() {
    let structs = cuda_structs();
    let mut device = ptx_emulator::Device::new(Config::default());
    let mut modules = BTreeMap::new();
    for image in images::all() {
        let module = device.load_module(&image.ptx()).unwrap();
        modules.entry(image.family).or_insert_with(Vec::new).push((image.number(), module));
    }
    for kernel in ops::kernels().into_iter().chain(peaks::kernels()) {
        let declared = &structs[&(kernel.family.to_owned(), kernel.arguments.to_owned())];
        assert_eq!(declared.1, kernel.bytes, "{}: bytes of {}", kernel.name, kernel.arguments);
        let fields = |list: &[Field]| -> Vec<(String, usize, usize)> {
            list.iter()
                .map(|field| (field.name.trim_start_matches("r#").to_owned(), field.offset, field.bytes))
                .collect()
        };
        assert_eq!(declared.0, fields(kernel.fields), "{}: fields of {}", kernel.name, kernel.arguments);
        for (_, module) in modules[kernel.family].iter().filter(|(compute, _)| *compute >= kernel.compute) {
            let function = module.function(kernel.name).unwrap_or_else(|| panic!("{} is not compiled", kernel.name));
            assert_eq!(function.parameter_bytes() as usize, kernel.bytes, "{}: parameter", kernel.name);
            assert_eq!(function.max_block(), Some([kernel.threads, 1, 1]), "{}: threads", kernel.name);
        }
    }
}

#[test]
fn every_compiled_kernel_is_started_by_somebody() {
    let all = ops::kernels().into_iter().chain(peaks::kernels());
    let known: Vec<(&str, &str)> = all.map(|kernel| (kernel.family, kernel.name)).collect();
    let mut device = ptx_emulator::Device::new(Config::default());
    for image in images::all() {
        for name in device.load_module(&image.ptx()).unwrap().names() {
            assert!(known.contains(&(image.family, name)), "{name} of {} is dead code", image.family);
        }
    }
}

type Layout = (Vec<(String, usize, usize)>, usize);

/// Layouts of all structs in the CUDA sources, by family and name; those of headers count for every family.
fn cuda_structs() -> BTreeMap<(String, String), Layout> {
    let read = |folder: &str, extension: &str| -> Vec<(String, String)> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.filter(|path| path.extension().is_some_and(|found| found == extension));
        files
            .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap()))
            .collect()
    };
    let headers: String = read("kernels/common", "cuh").into_iter().map(|(_, text)| text).collect();
    let mut layouts = BTreeMap::new();
    for (family, text) in read("kernels", "cu") {
        let text = format!("{headers}{text}");
        // Templates are no arguments, nor are tags without fields.
        let parts: Vec<&str> = text.split("\nstruct ").collect();
        let is_plain = |pair: &&[&str]| !pair[0].lines().last().is_some_and(|line| line.starts_with("template"));
        let plain = parts.windows(2).filter(is_plain).map(|pair| pair[1].split_once(" {").unwrap());
        let fielded = plain.filter(|(_, rest)| !rest.starts_with('}'));
        let mut waiting: Vec<(&str, &str)> =
            fielded.map(|(name, rest)| (name, rest.split_once("\n}").unwrap().0)).collect();
        let mut known: BTreeMap<String, Layout> = BTreeMap::new();
        // Headers come in any order: structs within structs are known after a few rounds.
        while !waiting.is_empty() {
            let before = waiting.len();
            waiting.retain(|(name, body)| match layout(body, &known) {
                Some(layout) => {
                    known.insert((*name).to_owned(), layout);
                    false
                }
                None => true,
            });
            assert!(waiting.len() < before, "{family}: unknown types in {waiting:?}");
        }
        layouts.extend(known.into_iter().map(|(name, layout)| ((family.clone(), name), layout)));
    }
    layouts
}

/// The fields of a C struct of scalars, pointers and such structs, by C's rules of alignment; none if it has others.
fn layout(body: &str, known: &BTreeMap<String, Layout>) -> Option<Layout> {
    let (mut fields, mut end, mut widest) = (Vec::new(), 0usize, 1);
    let lines = body.lines().map(|line| line.split("//").next().unwrap().trim()).filter(|line| !line.is_empty());
    for line in lines {
        let declaration = line.trim_end_matches(';');
        let (first, more) = declaration.split_once(',').unwrap_or((declaration, ""));
        let (kind, first) = first.rsplit_once(' ').unwrap();
        let (bytes, alignment) = match kind {
            _ if kind.ends_with('*') => (8, 8),
            "long long" | "double" => (8, 8),
            "int" | "unsigned" | "float" => (4, 4),
            other => {
                let (inner, bytes) = known.get(other)?;
                (*bytes, if inner.iter().any(|field| field.2 == 8) { 8 } else { 4 })
            }
        };
        for name in [first].into_iter().chain(more.split(',').map(str::trim)).filter(|name| !name.is_empty()) {
            end = end.next_multiple_of(alignment);
            fields.push((name.to_owned(), end, bytes));
            end += bytes;
            widest = widest.max(alignment);
        }
    }
    Some((fields, end.next_multiple_of(widest)))
}
