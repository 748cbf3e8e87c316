//! `gyrus devices`: what can be named after `--device`.

use clap::Args;
use serde_json::{Value, json};

use super::flags::{in_flags, sentence};
use crate::{
    Error, Result,
    cpu::{Isa, memory::available},
    machine::{self, Capabilities, images},
};

/// List what there is to compute on, and what each can do.
///
/// JSON keys: devices: a list of {device, usable, name, why_not}; the CPU's also {threads, instruction_sets, free_bytes},
/// a GPU's {compute_capability, memory_bytes, multiprocessors}; driver: the CUDA version that NVIDIA's driver brings; auto:
/// the device that --device auto stands for.
#[derive(Debug, Args)]
pub struct Options {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(options: Options) -> Result<()> {
    let mut devices = vec![cpu()];
    devices.extend(machine::list().into_iter().map(|(device, found)| match found {
        Ok(gpu) => describe(&device, &gpu),
        Err(error) => json!({"device": device, "usable": false, "why_not": reason(error)}),
    }));
    let auto = machine::first_usable().map_or_else(|_| "cpu".to_owned(), |ordinal| format!("cuda:{ordinal}"));
    let driver = machine::driver_version().ok();
    if options.json {
        return super::output::print_json(&json!({"devices": devices, "driver": driver, "auto": auto}));
    }
    for device in &devices {
        let text = |key: &str| device[key].as_str().unwrap_or_default().to_owned();
        let what = if device["usable"] == true { details(device) } else { format!("not usable: {}", text("why_not")) };
        say!("{:<10} {what}", text("device"));
    }
    say!("");
    say!("driver     {}", driver.map_or("none".to_owned(), |version| format!("CUDA {version}")));
    say!("auto       {auto}");
    Ok(())
}

fn cpu() -> Value {
    let sets: Vec<String> = Isa::ALL.iter().filter(|isa| isa.is_available()).map(Isa::to_string).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    json!({
        "device": "cpu",
        "usable": true,
        "name": "the processor",
        "threads": threads,
        "instruction_sets": sets,
        "free_bytes": available(),
    })
}

fn describe(device: &str, gpu: &Capabilities) -> Value {
    let refusal = if device == "emulated" { None } else { machine::check_usable(gpu).err().map(reason) };
    // The emulated GPU needs the kernels, too.
    let refusal = refusal.or_else(|| images::check(gpu.compute).err().map(reason));
    json!({
        "device": device,
        "usable": refusal.is_none(),
        "name": gpu.name,
        "why_not": refusal,
        "compute_capability": gpu.compute_capability(),
        "memory_bytes": gpu.memory,
        "multiprocessors": gpu.multiprocessors,
    })
}

fn details(device: &Value) -> String {
    let gib = |key: &str| device[key].as_f64().map(|bytes| format!("{:.1} GiB", bytes / (1u64 << 30) as f64));
    let name = device["name"].as_str().unwrap_or_default();
    match device["compute_capability"].as_str() {
        Some(capability) => {
            let memory = gib("memory_bytes").unwrap_or_default();
            format!("{name}, compute capability {capability}, {memory}, {} multiprocessors", device["multiprocessors"])
        }
        None => {
            let sets: Vec<&str> =
                device["instruction_sets"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let free = gib("free_bytes").map_or(String::new(), |free| format!(", {free} free"));
            format!("{name}, {} threads, {}{free}", device["threads"], sets.join(", "))
        }
    }
}

/// The cause and the advice, without the option that was not given.
fn reason(error: Error) -> String {
    match error {
        Error::Usage { cause, advice, .. } => in_flags(&format!("{cause} ({advice})")),
        other => sentence(&other),
    }
}
