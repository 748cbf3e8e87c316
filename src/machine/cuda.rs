//! NVIDIA GPUs through the driver, which is loaded when it is first asked for: the only file that names cudarc.
//!
//! Three traps are walked around here. Without a driver cudarc panics at its first call, so its presence is asked first.
//! Its error type calls the driver to print itself, so only the code's name is used. And memory copies on the default stream
//! would not wait for ours, so everything goes through one stream of our own.

use std::{
    collections::HashMap,
    ffi::{CString, c_void},
};

use cudarc::driver::{
    result::{self, DriverError, stream::StreamKind},
    sys,
};

use super::{Capabilities, Launch, Machine, Recording};
use crate::{Error, Result};

/// Oldest compute capability (times ten) that there are kernels for.
const OLDEST: u32 = 75;

/// A GPU with one context and one stream.
pub struct Cuda {
    name: String,
    capabilities: Capabilities,
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    modules: HashMap<&'static str, sys::CUmodule>,
    functions: HashMap<&'static str, sys::CUfunction>,
    recordings: Vec<sys::CUgraphExec>,
    allocations: Vec<u64>,
}

// SAFETY: the handles are the driver's own, which may be used from any thread as long as the context is current there;
// `enter` makes it current at the beginning of every method, and `&mut self` keeps calls from overlapping.
unsafe impl Send for Cuda {}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cuda")
            .field("name", &self.name)
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

/// The GPUs of this computer, in the driver's order.
///
/// # Errors
/// If there is no driver, or it does not answer.
pub fn devices() -> Result<Vec<Capabilities>> {
    initialise()?;
    let count = result::device::get_count().map_err(|error| failure("cuda", "counting the GPUs", error))?;
    (0..count).map(|ordinal| Ok(describe(ordinal)?.1)).collect()
}

impl Cuda {
    /// Opens the GPU of this number.
    ///
    /// # Errors
    /// If there is no driver, no such GPU, or the GPU is too old.
    pub fn open(ordinal: usize) -> Result<Self> {
        let found = devices()?.len();
        let name = format!("cuda:{ordinal}");
        if ordinal >= found {
            let cause = format!("there is no such GPU, the driver knows {found}");
            return Err(Error::Device { device: name, cause, advice: "see gyrus devices".to_owned() });
        }
        let (device, capabilities) = describe(ordinal as i32)?;
        if capabilities.compute < OLDEST {
            let (major, minor) = (capabilities.compute / 10, capabilities.compute % 10);
            let cause =
                format!("{} has compute capability {major}.{minor}, the oldest supported is 7.5", capabilities.name);
            return Err(Error::Device { device: name, cause, advice: "use --device cpu".to_owned() });
        }
        // SAFETY: `device` comes from the driver (`describe`).
        let context = unsafe { result::primary_ctx::retain(device) };
        let context = context.map_err(|error| failure(&name, "opening the GPU", error))?;
        // SAFETY: the context was just retained.
        let stream =
            unsafe { result::ctx::set_current(context) }.and_then(|()| result::stream::create(StreamKind::NonBlocking));
        let stream = stream.map_err(|error| failure(&name, "creating a stream", error))?;
        Ok(Self {
            name,
            capabilities,
            device,
            context,
            stream,
            modules: HashMap::new(),
            functions: HashMap::new(),
            recordings: Vec::new(),
            allocations: Vec::new(),
        })
    }

    /// Makes the context current on this thread.
    fn enter(&self) -> Result<()> {
        // SAFETY: the context is retained until `drop`.
        unsafe { result::ctx::set_current(self.context) }.map_err(|error| self.failure("entering the context", error))
    }

    fn failure(&self, doing: &str, error: DriverError) -> Error {
        failure(&self.name, doing, error)
    }

    fn function(&mut self, launch: &Launch) -> Result<sys::CUfunction> {
        if let Some(&function) = self.functions.get(launch.kernel) {
            return Ok(function);
        }
        let module = *self.modules.get(launch.family).ok_or_else(|| Error::Device {
            device: self.name.clone(),
            cause: format!("the kernels of {} were not loaded", launch.family),
            advice: "this is a bug in Gyrus".to_owned(),
        })?;
        let name = CString::new(launch.kernel).expect("kernel names hold no NUL");
        // SAFETY: modules stay loaded until `drop`.
        let function = unsafe { result::module::get_function(module, name) };
        let function =
            function.map_err(|error| self.failure(&format!("looking up the kernel {}", launch.kernel), error))?;
        self.functions.insert(launch.kernel, function);
        Ok(function)
    }

    fn start(&mut self, launch: &Launch) -> Result<()> {
        let function = self.function(launch)?;
        let ([x, y, z], [bx, by, bz]) = (launch.grid, launch.block);
        // The driver copies the parameter from here; words give the struct the alignment of its pointers.
        let mut words = vec![0u64; launch.arguments.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..launch.arguments.len()].copy_from_slice(&launch.arguments);
        let mut parameters = [words.as_mut_ptr().cast::<c_void>()];
        // SAFETY: the kernel takes one struct by value, of exactly these bytes (lowering built them from the repr(C) twin
        // of the kernel's struct; a test compares both with the PTX), and the driver copies them before it returns. All
        // addresses in them lie in allocations of this machine, which are freed only after the stream has been waited for.
        unsafe { result::launch_kernel(function, (x, y, z), (bx, by, bz), launch.shared, self.stream, &mut parameters) }
            .map_err(|error| self.failure(&format!("starting {}", launch.kernel), error))
    }
}

impl Machine for Cuda {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn load(&mut self, family: &'static str, ptx: &str) -> Result<()> {
        self.enter()?;
        let text = CString::new(ptx).expect("PTX holds no NUL");
        // SAFETY: the image is NUL-terminated PTX text, one of the forms that the driver takes.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) };
        let module = module.map_err(|error| self.failure(&format!("compiling the kernels of {family}"), error))?;
        self.modules.insert(family, module);
        Ok(())
    }

    fn is_loaded(&self, family: &str) -> bool {
        self.modules.contains_key(family)
    }

    fn allocate(&mut self, bytes: usize) -> Result<u64> {
        self.enter()?;
        // SAFETY: nobody reads the content before writing it: plans are verified, and the emulator checks kernels.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::Memory {
                cause: format!("{}: no {:.2} GiB are free on the GPU", self.name, bytes as f64 / (1u64 << 30) as f64),
                advice: "choose smaller extents, a smaller batch or a larger --unet-resize-factor".to_owned(),
            },
            _ => self.failure("allocating memory", error),
        })?;
        self.allocations.push(address);
        Ok(address)
    }

    fn free(&mut self, address: u64) -> Result<()> {
        self.synchronise()?;
        let position = self.allocations.iter().position(|&known| known == address);
        let position = position.expect("only addresses that this machine gave out come back");
        self.allocations.swap_remove(position);
        // SAFETY: it was allocated here, is given back once (it has just left the list), and the stream is idle.
        unsafe { result::free_sync(address) }.map_err(|error| self.failure("freeing memory", error))
    }

    fn upload(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        self.enter()?;
        // SAFETY: callers give ranges of their own allocations (the session's arena). From pageable memory the driver has
        // taken the bytes when the call returns, so the slice need not outlive it.
        unsafe { result::memcpy_htod_async(address, bytes, self.stream) }
            .map_err(|error| self.failure("copying to the GPU", error))
    }

    fn download(&mut self, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.enter()?;
        // SAFETY: the range lies in the caller's allocation, and the slice is borrowed until the stream has been waited for.
        unsafe { result::memcpy_dtoh_async(bytes, address, self.stream) }
            .map_err(|error| self.failure("copying from the GPU", error))?;
        self.synchronise()
    }

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        self.enter()?;
        self.start(launch)
    }

    fn capture(&mut self, launches: &[Launch]) -> Result<Recording> {
        self.enter()?;
        // Look-ups may load code, which is not allowed while capturing.
        launches.iter().try_for_each(|launch| self.function(launch).map(|_| ()))?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is ours and nothing is being captured on it.
        unsafe { result::stream::begin_capture(self.stream, mode) }
            .map_err(|error| self.failure("beginning a capture", error))?;
        let started = launches.iter().try_for_each(|launch| self.start(launch));
        // SAFETY: the capture was begun above; it is ended even when a launch was refused.
        let graph = unsafe { result::stream::end_capture(self.stream) };
        started?;
        let graph = graph.map_err(|error| self.failure("ending a capture", error))?;
        // SAFETY: the graph was just captured; it is destroyed once, after it has been instantiated.
        let executable = unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) };
        // SAFETY: as above.
        unsafe { result::graph::destroy(graph) }.map_err(|error| self.failure("releasing a capture", error))?;
        self.recordings.push(executable.map_err(|error| self.failure("preparing a captured step", error))?);
        Ok(Recording(self.recordings.len() - 1))
    }

    fn replay(&mut self, recording: Recording) -> Result<()> {
        self.enter()?;
        // SAFETY: recordings live until `drop`; their launches touch memory as those of `start` do.
        unsafe { result::graph::launch(self.recordings[recording.0], self.stream) }
            .map_err(|error| self.failure("running a captured step", error))
    }

    fn synchronise(&mut self) -> Result<()> {
        self.enter()?;
        // SAFETY: the stream lives until `drop`.
        unsafe { result::stream::synchronize(self.stream) }.map_err(|error| self.failure("waiting for the GPU", error))
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        if self.synchronise().is_err() {
            // The context is lost and its resources with it; the process is about to report why.
            return;
        }
        // Failures while releasing have nobody left to act on them.
        for &recording in &self.recordings {
            // SAFETY: instantiated by `capture`, destroyed once; the stream is idle.
            let _ = unsafe { result::graph::exec_destroy(recording) };
        }
        for &address in &self.allocations {
            // SAFETY: allocated by `allocate` and not freed since (the list says so); the stream is idle.
            let _ = unsafe { result::free_sync(address) };
        }
        for &module in self.modules.values() {
            // SAFETY: loaded by `load`, unloaded once; the stream is idle.
            let _ = unsafe { result::module::unload(module) };
        }
        // SAFETY: created and retained by `open`, released once, after everything in them.
        let _ =
            unsafe { result::stream::destroy(self.stream).and_then(|()| result::primary_ctx::release(self.device)) };
    }
}

/// Loads and starts the driver.
fn initialise() -> Result<()> {
    let absent = |cause: &str| Error::Device {
        device: "cuda".to_owned(),
        cause: cause.to_owned(),
        advice: "install NVIDIA's driver, release 580 or newer, or use --device cpu".to_owned(),
    };
    // SAFETY: opening the driver's library runs its initialisers, which are made for that.
    if !unsafe { sys::is_culib_present() } {
        return Err(absent("this computer has no NVIDIA driver"));
    }
    // Asked again it is a no-op.
    result::init().map_err(|error| match error.0 {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => absent("there is a driver, but no NVIDIA GPU"),
        _ => failure("cuda", "starting the driver", error),
    })
}

fn describe(ordinal: i32) -> Result<(sys::CUdevice, Capabilities)> {
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

fn failure(device: &str, doing: &str, error: DriverError) -> Error {
    // Not `{error}`: that asks the driver, which may be what failed.
    let cause = format!("{doing} failed: {:?}", error.0);
    let advice = match error.0 {
        sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION | sys::CUresult::CUDA_ERROR_INVALID_PTX => {
            "the driver is too old: install release 580 or newer"
        }
        _ => "see the driver's log, for example dmesg, and try gyrus selftest",
    };
    Error::Device { device: device.to_owned(), cause, advice: advice.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_computer_without_a_driver_gets_a_sentence_and_no_panic() {
        // On a computer with a GPU the same call must find it.
        match devices() {
            Ok(list) => assert!(list.iter().all(|device| device.compute >= 10)),
            Err(error) => {
                assert_eq!(error.exit_code(), 1);
                let sentence = error.to_string();
                assert!(sentence.starts_with("cuda: ") && sentence.contains("--device cpu"), "{sentence}");
            }
        }
    }
}
