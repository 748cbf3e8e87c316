//! The committed compiled kernels: they are the files that the manifest lists, the oldest driver knows their version, and
//! what they promise of a multiprocessor is true on every generation.

use std::{collections::BTreeMap, fs, path::Path};

use gyrus::machine::images;

#[path = "../build/manifest.rs"]
mod manifest;
#[path = "../build/ptx.rs"]
mod ptx;

const COMPILED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/compiled");

fn listed() -> manifest::Manifest {
    manifest::parse(&fs::read_to_string(Path::new(COMPILED).join(manifest::FILE)).unwrap()).unwrap()
}

#[test]
fn every_compiled_file_is_the_one_that_the_manifest_lists_and_there_is_no_other() {
    let manifest = listed();
    for (name, entry) in &manifest {
        manifest::check(Path::new(COMPILED), name, entry).unwrap();
    }
    let mut there: Vec<String> =
        fs::read_dir(COMPILED).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    there.retain(|file| file != manifest::FILE);
    there.sort();
    assert_eq!(there, manifest.keys().map(|name| manifest::file(name)).collect::<Vec<_>>());
}

#[test]
fn a_compiled_file_that_was_damaged_exchanged_or_lost_is_refused_by_name() {
    let manifest = listed();
    let folder = tempfile::tempdir().unwrap();
    let (name, entry) = manifest.iter().next().unwrap();
    let other = manifest.keys().nth(1).unwrap();
    let path = folder.path().join(manifest::file(name));
    let check = || manifest::check(folder.path(), name, entry);
    assert!(check().unwrap_err().contains(&manifest::file(name)));
    let bytes = fs::read(Path::new(COMPILED).join(manifest::file(name))).unwrap();
    fs::write(&path, &bytes).unwrap();
    assert_eq!(check(), Ok(()));
    for place in [0, bytes.len() / 2, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1;
        fs::write(&path, damaged).unwrap();
        let refusal = check().unwrap_err();
        assert!(refusal.contains(&manifest::file(name)) && refusal.contains("not the file"), "{refusal}");
    }
    fs::copy(Path::new(COMPILED).join(manifest::file(other)), &path).unwrap();
    assert!(check().is_err());
}

#[test]
fn a_manifest_survives_printing_and_a_line_without_a_digest_is_refused() {
    let manifest = listed();
    assert_eq!(manifest::parse(&manifest::print(&manifest)).unwrap(), manifest);
    let refusal = manifest::parse("# title\nrelu.compute_75 0123\n").unwrap_err();
    assert!(refusal.contains("line 2"), "{refusal}");
}

#[test]
fn compiled_kernels_have_the_lowest_version_that_their_text_needs() {
    for image in images::all() {
        let text = image.ptx();
        assert_eq!(ptx::lower(&text), text, "{} {}", image.family, image.target);
        assert!(text.contains("\n.version 8.0\n"), "{} {}", image.family, image.target);
    }
}

#[test]
fn the_version_is_raised_by_what_needs_it_and_by_nothing_else() {
    let text = |target: &str, line: &str| format!("// nvcc\n.version 9.0\n.target {target}\n\t{line}\n");
    let version = |target: &str, line: &str| {
        let lowered = ptx::lower(&text(target, line));
        lowered.lines().find_map(|line| line.strip_prefix(".version ")).unwrap().to_owned()
    };
    assert_eq!(ptx::OLDEST, (8, 0));
    assert_eq!(version("sm_75", "mov.u32 %r1, %r2;"), "8.0");
    assert_eq!(version("sm_90a", "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {};"), "8.0");
    assert_eq!(version("sm_90", "st.async.weak.shared::cluster.b32 [%r1], %r2, [%r3];"), "8.1");
    assert_eq!(version("sm_100", "fma.rn.f32x2 %rd1, %rd2, %rd3, %rd4;"), "8.6");
    assert_eq!(version("sm_120", "ret;"), "8.7");
    assert_eq!(version("sm_80", "ret; // unlike tcgen05.mma"), "8.0");
    // The hint goes, the load and other pragmas stay.
    let hinted = text("sm_80", ".pragma \"used_bytes_mask 4095\";\n\tld.v4.u32 {};\n\t.pragma \"nounroll\";");
    let plain = text("sm_80", "ld.v4.u32 {};\n\t.pragma \"nounroll\";").replace("9.0", "8.0");
    assert_eq!(ptx::lower(&hinted), plain);
}

/// What a multiprocessor of a generation has, as NVIDIA's tables of compute capabilities and of occupancy state it.
struct Multiprocessor {
    threads: u32,
    ctas: u32,
    /// Bytes of shared memory for all its CTAs.
    shared: u32,
    /// Bytes that the system takes of it for each.
    reserved: u32,
}

const REGISTERS: u32 = 64 << 10;

fn multiprocessor(device: &str) -> Multiprocessor {
    let (threads, ctas, kib, reserved) = match device {
        "sm_75" => (1024, 16, 64, 0),
        "sm_80" => (2048, 32, 164, 1024),
        "sm_86" => (1536, 16, 100, 1024),
        "sm_89" => (1536, 24, 100, 1024),
        "sm_90a" | "sm_100" => (2048, 32, 228, 1024),
        "sm_120" => (1536, 24, 100, 1024),
        other => panic!("{other}: no such generation here"),
    };
    Multiprocessor { threads, ctas, shared: kib << 10, reserved }
}

impl Multiprocessor {
    /// How many CTAs of a kernel fit at once.
    fn resident(&self, threads: u32, registers: u32, shared: u32) -> u32 {
        // Registers are given to warps in pieces of 256, shared memory in pieces of 128 bytes.
        let warps = threads.div_ceil(32);
        let by_registers = REGISTERS / ((32 * registers).next_multiple_of(256) * warps);
        let each = (shared + self.reserved).next_multiple_of(128);
        let by_shared = self.shared.checked_div(each).unwrap_or(u32::MAX);
        by_registers.min(by_shared).min(self.threads / threads).min(self.ctas)
    }
}

/// A line of kernels/ptxas.txt.
struct Line {
    kernel: String,
    device: String,
    registers: u32,
    spills: u32,
    shared: u32,
}

fn report() -> Vec<Line> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/ptxas.txt");
    let text = fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| words[index].parse().unwrap();
        let (kernel, device) = (words[0].to_owned(), words[1].to_owned());
        Line { kernel, device, registers: number(2), spills: number(4), shared: number(5) }
    };
    text.lines().skip(1).map(line).collect()
}

/// Threads of a CTA, and CTAs that a multiprocessor is to hold, by kernel: the launch bounds in the text.
fn launch_bounds(text: &str) -> BTreeMap<String, (u32, u32)> {
    let mut bounds = BTreeMap::new();
    let mut kernel = String::new();
    for line in text.lines() {
        if let Some(entry) = line.strip_prefix(".visible .entry ") {
            kernel = entry.trim_end_matches('(').to_owned();
        }
        let number = |directive: &str| {
            let rest = line.trim_start().strip_prefix(directive)?;
            rest.split([',', ' ']).find_map(|word| word.parse::<u32>().ok())
        };
        if let Some(threads) = number(".maxntid ") {
            bounds.insert(kernel.clone(), (threads, 1));
        }
        if let Some(ctas) = number(".minnctapersm ") {
            bounds.get_mut(&kernel).expect("threads come first").1 = ctas;
        }
    }
    bounds
}

#[test]
fn a_multiprocessor_of_every_generation_holds_the_ctas_that_the_launch_bounds_promise() {
    // Four CTAs of 25 KiB each, as k32 once asked for, do not fit into the 100 KiB of 8.6.
    assert_eq!(multiprocessor("sm_86").resident(128, 128, 25_600), 3);
    assert_eq!(multiprocessor("sm_80").resident(128, 128, 25_600), 4);
    let lines = report();
    let mut promises = 0;
    for device in ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120"] {
        let compute = device.trim_start_matches("sm_").trim_end_matches('a').parse().unwrap();
        let families: Vec<&str> = images::all().iter().map(|image| image.family).collect();
        let loaded = families.iter().filter_map(|family| images::find(family, compute).ok());
        let bounds: BTreeMap<String, (u32, u32)> = loaded.flat_map(|image| launch_bounds(&image.ptx())).collect();
        let of_device = || lines.iter().filter(|line| line.device == device);
        let reported: Vec<&str> = of_device().map(|line| line.kernel.as_str()).collect();
        for kernel in bounds.keys() {
            assert!(reported.contains(&kernel.as_str()), "ptxas.txt has no line for {kernel} on {device}");
        }
        for line in of_device() {
            let Some(&(threads, promised)) = bounds.get(&line.kernel) else { continue };
            let resident = multiprocessor(device).resident(threads, line.registers, line.shared);
            assert!(
                resident >= promised,
                "{} on {device}: {promised} CTAs of {threads} threads are promised, {resident} fit \
                 ({} registers, {} bytes of shared memory)",
                line.kernel,
                line.registers,
                line.shared
            );
            promises += usize::from(promised > 1);
        }
    }
    assert!(promises > 100, "only {promises} launch bounds were looked at");
}

/// Stores and loads of spilled registers, of all kernels on all generations, in bytes: k64 of the 3x3x3 correlation on 12.0, 84
/// in each precision, where ptxas wants a few more than the 128 registers with which two CTAs fit; one CTA without spills
/// would be half the threads. And 8 of max_pool_backward_fp16 on 10.0. It only ever shrinks.
const SPILLED_BYTES: u32 = 176;

#[test]
fn no_kernel_keeps_registers_in_memory_but_those_that_are_known_to() {
    let spilling: Vec<String> = report()
        .iter()
        .filter(|line| line.spills > 0)
        .map(|line| format!("{} {} {}", line.kernel, line.device, line.spills))
        .collect();
    let bytes: u32 = report().iter().map(|line| line.spills).sum();
    assert_eq!(bytes, SPILLED_BYTES, "{bytes} bytes: {spilling:?}");
}
