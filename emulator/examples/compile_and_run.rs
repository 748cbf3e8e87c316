//! Compiles `compile_and_run.cu` with nvcc, runs it on the emulator, checks the result and prints the counters:
//! `cargo run --release -p ptx-emulator --example compile_and_run`.
//!
//! nvcc is the one that `NVCC` names, or in `CUDA_HOME`, `CUDA_PATH`, on the `PATH`, in `/usr/local/cuda` or in `.cuda` of
//! this folder or one above.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use ptx_emulator::{Config, Device, LaunchConfig, coverage};

/// The first nvcc that exists.
fn find_nvcc() -> Option<PathBuf> {
    let named = env::var_os("NVCC").map(PathBuf::from);
    let homes =
        ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(|home| Path::new(&home).join("bin/nvcc"));
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = env::split_paths(&path).map(|folder| folder.join("nvcc")).collect();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let local = here.ancestors().map(|folder| folder.join(".cuda/bin/nvcc"));
    let installed = [PathBuf::from("/usr/local/cuda/bin/nvcc")];
    named.into_iter().chain(homes).chain(on_path).chain(installed).chain(local).find(|nvcc| nvcc.is_file())
}

fn compile(nvcc: &Path, source: &Path) -> Result<String, Box<dyn Error>> {
    let target = env::temp_dir().join(format!("compile_and_run-{}.ptx", std::process::id()));
    // -lineinfo lets faults name the line of the source.
    let run =
        Command::new(nvcc).args(["-ptx", "-lineinfo", "-arch=compute_80", "-o"]).arg(&target).arg(source).output();
    let output = run.map_err(|error| format!("{}: {error}", nvcc.display()))?;
    if !output.status.success() {
        return Err(format!("{}: {}", source.display(), String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = fs::read_to_string(&target)?;
    fs::remove_file(&target)?;
    Ok(text)
}

fn run() -> Result<(), Box<dyn Error>> {
    let nvcc = find_nvcc().ok_or("nvcc: not found (set NVCC to its path, or CUDA_HOME to the toolkit's folder)")?;
    let ptx = compile(&nvcc, &Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/compile_and_run.cu"))?;
    // What the emulator lacks shows before anything runs.
    if let Some(missing) = coverage(&ptx)?.first() {
        return Err(format!("PTX line {}: {} is not supported", missing.first_line, missing.form).into());
    }

    let (rows, columns) = (100usize, 77usize);
    let matrix: Vec<f32> = (0..rows * columns).map(|i| (i % 13) as f32).collect();
    let bytes: Vec<u8> = matrix.iter().flat_map(|x| x.to_le_bytes()).collect();

    let mut device = Device::new(Config::default());
    let module = device.load_module(&ptx)?;
    let row_sums = module.function("row_sums").ok_or("the module has no kernel `row_sums`")?;
    let (from, to) = (device.allocate(bytes.len() as u64)?, device.allocate(4 * rows as u64)?);
    device.copy_to_device(from, &bytes)?;
    let launch = LaunchConfig::new([rows.div_ceil(4) as u32, 1, 1], [128, 1, 1]);
    let arguments: [&[u8]; 4] =
        [&from.0.to_le_bytes(), &to.0.to_le_bytes(), &(rows as i32).to_le_bytes(), &(columns as i32).to_le_bytes()];
    let counters = device.launch(&row_sums, &launch, &arguments)?;

    let mut sums = vec![0; 4 * rows];
    device.copy_to_host(&mut sums, to)?;
    for (row, (sum, values)) in sums.as_chunks::<4>().0.iter().zip(matrix.chunks(columns)).enumerate() {
        // Sums of small integers are exact in any order.
        let (found, expected) = (f32::from_le_bytes(*sum), values.iter().sum::<f32>());
        if found != expected {
            return Err(format!("row {row}: {found} instead of {expected}").into());
        }
    }
    println!("{rows} rows of {columns}: all sums are right\n\n{counters}");
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
