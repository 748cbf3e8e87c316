//! Any text may be refused, fault or finish; it may not panic or hang.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ptx_emulator::{Config, Device, LaunchConfig};

fuzz_target!(|text: &str| {
    let mut device = Device::new(Config { threads: 1, step_limit: 5_000, ..Config::default() });
    let Ok(module) = device.load_module(text) else { return };
    let names: Vec<String> = module.names().map(str::to_owned).collect();
    for name in names {
        let Some(function) = module.function(&name) else { continue };
        if function.parameter_bytes() > 4096 || function.local_bytes() > 1 << 16 {
            continue;
        }
        let arguments = vec![0; function.parameter_bytes() as usize];
        let _ = device.launch_block(&function, &LaunchConfig::new([2, 1, 1], [64, 1, 1]), &arguments);
    }
});
