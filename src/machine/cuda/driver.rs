//! The driver itself: whether it is there, which GPUs it knows, and what its error codes mean.

#![allow(unsafe_code)]

use cudarc::driver::{
    result::{self, DriverError},
    sys,
};

use super::super::Capabilities;
use crate::{Error, Result};

/// The CUDA version of the oldest driver that will do, as the driver counts it: the kernels' PTX is of version 8.0
/// (`build/ptx.rs`), and the bindings are those of `cuda-12000`. Both came with release 525.
const OLDEST_DRIVER: i32 = 12_000;

/// The GPUs of this computer, in the driver's order.
///
/// # Errors
/// If there is no driver, it is too old, it knows no GPU, or it does not answer.
pub fn devices() -> Result<Vec<Capabilities>> {
    initialise("cuda")?;
    let count = result::device::get_count().map_err(|error| failure("cuda", "counting the GPUs", error))?;
    (0..count).map(|ordinal| Ok(describe(ordinal)?.1)).collect()
}

/// The CUDA version that the driver brings, such as 13.0.
///
/// # Errors
/// If there is no driver, or it does not answer.
pub fn driver_version() -> Result<String> {
    let version = version("cuda")?;
    Ok(format!("{}.{}", version / 1000, version % 1000 / 10))
}

/// Loads and starts the driver. `device` is what the user asked for.
pub(super) fn initialise(device: &str) -> Result<()> {
    check_version(device, version(device)?)?;
    // Asked again it is a no-op.
    result::init().map_err(|error| match error.0 {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => absent(device, "there is an NVIDIA driver, but no GPU"),
        _ => failure(device, "starting the driver", error),
    })
}

/// Newer functions would be missing from an older driver's library, which is a panic and not an error.
fn check_version(device: &str, version: i32) -> Result<()> {
    if version >= OLDEST_DRIVER {
        return Ok(());
    }
    let (major, minor) = (version / 1000, version % 1000 / 10);
    Err(absent(device, &format!("the NVIDIA driver is too old: it knows CUDA {major}.{minor}")))
}

fn version(device: &str) -> Result<i32> {
    // SAFETY: opening the driver's library runs its initialisers, which are made for that.
    if !unsafe { sys::is_culib_present() } {
        return Err(absent(device, "this computer has no NVIDIA driver"));
    }
    let mut version = 0;
    // SAFETY: the library is there; the function is in every version of it, and writes one number.
    let code = unsafe { sys::cuDriverGetVersion(&mut version) };
    code.result().map_err(|error| match error.0 {
        sys::CUresult::CUDA_ERROR_STUB_LIBRARY => {
            absent(device, "this computer has no NVIDIA driver, only the stub of one that toolkits bring")
        }
        _ => failure(device, "asking the driver's version", error),
    })?;
    Ok(version)
}

fn absent(device: &str, cause: &str) -> Error {
    let advice = "install NVIDIA's driver, release 525 or newer, or use `device = cpu`";
    Error::usage(format_args!("device = {device}"), cause, advice)
}

/// A GPU's handle, and what it is.
pub(super) fn describe(ordinal: i32) -> Result<(sys::CUdevice, Capabilities)> {
    use sys::CUdevice_attribute as Attribute;
    let read = || {
        let device = result::device::get(ordinal)?;
        let attribute = |attribute| {
            // SAFETY: `device` comes from the driver.
            unsafe { result::device::get_attribute(device, attribute) }.map(|value| value as u32)
        };
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let capabilities = Capabilities {
            name: result::device::get_name(device)?,
            compute: 10 * major + minor,
            // SAFETY: as above.
            memory: unsafe { result::device::total_mem(device) }? as u64,
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        };
        Ok((device, capabilities))
    };
    read().map_err(|error| failure(&format!("cuda:{ordinal}"), "describing the GPU", error))
}

/// Lets this process sleep while it waits for the GPU. By default the driver spins where a computer has more cores than
/// contexts; the threads that load data need that core more than a step needs the microseconds.
pub(super) fn block_when_waiting(name: &str, device: sys::CUdevice) -> Result<()> {
    let flags = sys::CUctx_flags::CU_CTX_SCHED_BLOCKING_SYNC as u32;
    // SAFETY: `device` comes from the driver.
    match unsafe { sys::cuDevicePrimaryCtxSetFlags_v2(device, flags) } {
        // Somebody in this process holds the context already: it was opened here, with these flags.
        sys::CUresult::CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE => Ok(()),
        code => code.result().map_err(|error| failure(name, "setting how to wait for the GPU", error)),
    }
}

/// What the driver answered, in words. Not by its own words: asking for them calls the driver, which may be what failed.
pub(super) fn failure(device: &str, doing: &str, error: DriverError) -> Error {
    let (meaning, advice) = explain(error.0);
    let cause = format!("{doing} failed: {meaning}, error {} ({:?})", error.0 as u32, error.0);
    Error::Device { device: device.to_owned(), cause, advice: advice.to_owned() }
}

/// The codes that a user may meet: what each means, and what to do.
fn explain(code: sys::CUresult) -> (&'static str, &'static str) {
    use sys::CUresult as Code;
    let restart = "see the system's log (dmesg, Xid), then restart the program, and the computer if that does not help";
    let bug = "this is a bug in Gyrus: please report it with the output of `gyrus selftest` on this GPU";
    let update = "install release 525 or newer of NVIDIA's driver";
    match code {
        Code::CUDA_ERROR_OUT_OF_MEMORY => {
            ("the GPU's memory is used up", "end other programs on this GPU, or set a `memory_budget`")
        }
        Code::CUDA_ERROR_INVALID_PTX
        | Code::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
        | Code::CUDA_ERROR_JIT_COMPILER_NOT_FOUND
        | Code::CUDA_ERROR_NO_BINARY_FOR_GPU => ("the driver cannot compile the kernels for this GPU", update),
        Code::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
        | Code::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE
        | Code::CUDA_ERROR_SYSTEM_NOT_READY
        | Code::CUDA_ERROR_STUB_LIBRARY => {
            ("the driver's parts do not fit together", "install NVIDIA's driver anew and restart the computer")
        }
        Code::CUDA_ERROR_DEVICE_UNAVAILABLE | Code::CUDA_ERROR_DEVICE_NOT_LICENSED | Code::CUDA_ERROR_NOT_PERMITTED => {
            ("the GPU is not available to this program", "see nvidia-smi for its compute mode and for who uses it")
        }
        Code::CUDA_ERROR_ECC_UNCORRECTABLE | Code::CUDA_ERROR_HARDWARE_STACK_ERROR | Code::CUDA_ERROR_UNKNOWN => {
            ("the GPU reports a fault of its own", restart)
        }
        Code::CUDA_ERROR_LAUNCH_TIMEOUT => {
            ("a kernel ran longer than the display allows", "use a GPU that drives no display")
        }
        Code::CUDA_ERROR_ILLEGAL_ADDRESS
        | Code::CUDA_ERROR_MISALIGNED_ADDRESS
        | Code::CUDA_ERROR_INVALID_PC
        | Code::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | Code::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | Code::CUDA_ERROR_LAUNCH_FAILED => ("a kernel did something illegal", bug),
        Code::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES => ("a kernel wants more registers or threads than there are", bug),
        Code::CUDA_ERROR_INVALID_VALUE | Code::CUDA_ERROR_INVALID_HANDLE | Code::CUDA_ERROR_NOT_FOUND => {
            ("the driver was asked for something that does not exist", bug)
        }
        _ => ("the driver refuses", restart),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::images;

    #[test]
    fn a_computer_without_a_driver_gets_a_sentence_and_no_panic() {
        // On a computer with a GPU the same calls must find it.
        match devices() {
            Ok(list) => {
                assert!(list.iter().all(|device| device.compute >= 10));
                assert!(driver_version().unwrap().contains('.'));
            }
            Err(error) => {
                assert_eq!(error.exit_code(), 2);
                let sentence = error.to_string();
                assert!(sentence.starts_with("device = cuda: ") && sentence.contains("`device = cpu`"), "{sentence}");
            }
        }
    }

    #[test]
    fn a_driver_older_than_the_kernels_is_refused_with_the_release_that_will_do() {
        let refusal = check_version("cuda:0", 11_080).unwrap_err().to_string();
        assert!(refusal.contains("it knows CUDA 11.8") && refusal.contains("release 525 or newer"), "{refusal}");
        assert!(check_version("cuda:0", OLDEST_DRIVER).is_ok());
    }

    #[test]
    fn the_oldest_driver_that_is_let_in_knows_the_version_of_every_compiled_kernel() {
        for image in images::all() {
            let ptx = image.ptx();
            let version = ptx.lines().find_map(|line| line.strip_prefix(".version ")).unwrap();
            // CUDA 12.0 to 12.5 brought 8.0 to 8.5; what came after does not matter here.
            let (major, minor) = version.trim().split_once('.').unwrap();
            let came_with = match (major, minor.parse::<i32>().unwrap()) {
                ("8", minor @ 0..=5) => 12_000 + 10 * minor,
                _ => i32::MAX,
            };
            assert!(came_with <= OLDEST_DRIVER, "{} {}: PTX {version}", image.family, image.target);
        }
    }

    #[test]
    fn codes_become_sentences_without_asking_the_driver() {
        let error = DriverError(sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
        let sentence = failure("cuda:0", "waiting for the GPU", error).to_string();
        let start =
            "cuda:0: waiting for the GPU failed: a kernel did something illegal, error 700 (CUDA_ERROR_ILLEGAL_";
        assert!(sentence.starts_with(start), "{sentence}");
    }
}
