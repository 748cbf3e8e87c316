//! The driver itself: whether it is there, which GPUs it knows, and what its error codes mean.

#![allow(unsafe_code)]

use cudarc::driver::{
    result::{self, DriverError},
    sys,
};

use super::super::Capabilities;
use crate::{Error, Result};

/// The CUDA version that the kernels' PTX (ISA 9.0) and the driver's functions are taken from, as the driver counts it.
const OLDEST_DRIVER: i32 = 13_000;

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
    let version = version(device)?;
    if version < OLDEST_DRIVER {
        // Newer functions would be missing from its library, which is a panic and not an error.
        let (major, minor) = (version / 1000, version % 1000 / 10);
        return Err(absent(device, &format!("the NVIDIA driver is too old: it knows CUDA {major}.{minor}")));
    }
    // Asked again it is a no-op.
    result::init().map_err(|error| match error.0 {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => absent(device, "there is an NVIDIA driver, but no GPU"),
        _ => failure(device, "starting the driver", error),
    })
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
    let advice = "install NVIDIA's driver, release 580 or newer, or use `device = cpu`";
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
    let update = "install release 580 or newer of NVIDIA's driver";
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
    fn codes_become_sentences_without_asking_the_driver() {
        let error = DriverError(sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
        let sentence = failure("cuda:0", "waiting for the GPU", error).to_string();
        let start =
            "cuda:0: waiting for the GPU failed: a kernel did something illegal, error 700 (CUDA_ERROR_ILLEGAL_";
        assert!(sentence.starts_with(start), "{sentence}");
    }
}
