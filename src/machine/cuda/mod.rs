//! NVIDIA GPUs through the driver, which is loaded when it is first asked for: the only folder that names cudarc.
//!
//! Five traps are walked around here. Without a driver cudarc panics at its first call, so its presence is asked first; with
//! an old one it panics at the first function that is missing, so its version is asked second, and its bindings are those of
//! the oldest driver that is let in (`cuda-12000`): a function that it lacks does not compile. Its error type calls the
//! driver to print itself, so only the code is used, and explained here. Work on the default stream would not wait for
//! ours, so everything goes through two streams of our own: one computes, one uploads beside it. And whoever waits for the
//! GPU would spin, on a core that the threads that load data need, so all waits are made to block.

#![allow(unsafe_code)]

mod driver;
mod host;
mod jit;
mod machine;

use std::{collections::HashMap, ffi::CString};

use cudarc::driver::{
    result::{self, DriverError, stream::StreamKind},
    sys,
};

use self::{
    driver::{block_when_waiting, describe, failure, initialise},
    host::{Bounce, Staging, plain_event},
};
use super::{Capabilities, Launch, check_usable};
use crate::{Error, Result};
pub use driver::{devices, driver_version};

/// Dynamic shared memory that every kernel may have without asking.
const SHARED_FOR_ALL: u32 = 48 << 10;

type Event = sys::CUevent;

/// A kernel, and the most dynamic shared memory that it has been allowed.
#[derive(Clone, Copy)]
struct Function {
    handle: sys::CUfunction,
    shared: u32,
}

/// A GPU with one context and two streams.
pub struct Cuda {
    name: String,
    capabilities: Capabilities,
    device: sys::CUdevice,
    context: sys::CUcontext,
    /// Everything in the order of the calls.
    stream: sys::CUstream,
    /// Uploads ahead.
    uploads: sys::CUstream,
    /// The point of `stream` that uploads ahead wait for.
    marked: Event,
    /// The end of the newest upload ahead.
    uploaded: Event,
    /// Whether `stream` has yet to wait for `uploaded`.
    is_uploading: bool,
    /// What is uploaded ahead, by where it goes.
    staging: HashMap<u64, Staging>,
    bounce: Bounce,
    stamps: Vec<Event>,
    stamped: usize,
    modules: HashMap<&'static str, sys::CUmodule>,
    functions: HashMap<&'static str, Function>,
    recordings: Vec<sys::CUgraphExec>,
    allocations: Vec<u64>,
}

// SAFETY: the handles are the driver's own, which may be used from any thread as long as the context is current there;
// `enter` makes it current at the beginning of every method, and `&mut self` keeps calls from overlapping. Pinned memory
// is plain memory.
unsafe impl Send for Cuda {}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cuda")
            .field("name", &self.name)
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

impl Cuda {
    /// Opens the GPU of this number.
    ///
    /// # Errors
    /// If there is no driver, no such GPU, or the GPU is too old.
    pub fn open(ordinal: usize) -> Result<Self> {
        let name = format!("cuda:{ordinal}");
        initialise(&name)?;
        let found = devices()?.len();
        if ordinal >= found {
            let cause = format!("there is no such GPU, the driver knows {found}");
            return Err(Error::usage(format_args!("device = {name}"), cause, "see gyrus devices"));
        }
        let (device, capabilities) = describe(ordinal as i32)?;
        check_usable(&capabilities)?;
        block_when_waiting(&name, device)?;
        // SAFETY: `device` comes from the driver (`describe`).
        let context = unsafe { result::primary_ctx::retain(device) };
        let context = context.map_err(|error| failure(&name, "opening the GPU", error))?;
        let prepare = || {
            // SAFETY: the context was just retained.
            unsafe { result::ctx::set_current(context) }?;
            let stream = || result::stream::create(StreamKind::NonBlocking);
            Ok((stream()?, stream()?, plain_event()?, plain_event()?, Bounce::new()?))
        };
        // After a failure here the process ends with a message, and the driver takes everything back.
        let (stream, uploads, marked, uploaded, bounce) =
            prepare().map_err(|error| failure(&name, "preparing the GPU", error))?;
        Ok(Self {
            name,
            capabilities,
            device,
            context,
            stream,
            uploads,
            marked,
            uploaded,
            is_uploading: false,
            staging: HashMap::new(),
            bounce,
            stamps: Vec::new(),
            stamped: 0,
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

    /// Lets the computing stream wait for what was uploaded ahead.
    fn join_uploads(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_uploading) {
            let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
            // SAFETY: stream and event live until `drop`.
            unsafe { result::stream::wait_event(self.stream, self.uploaded, flags) }
                .map_err(|error| self.failure("waiting for an upload", error))?;
        }
        Ok(())
    }

    /// The kernel, loaded and allowed the shared memory of this launch.
    fn function(&mut self, launch: &Launch) -> Result<sys::CUfunction> {
        let mut function = match self.functions.get(launch.kernel) {
            Some(&function) => function,
            None => Function { handle: self.look_up(launch)?, shared: SHARED_FOR_ALL },
        };
        if launch.shared > function.shared {
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the handle is a kernel of a loaded module.
            unsafe { result::function::set_function_attribute(function.handle, attribute, launch.shared as i32) }
                .map_err(|error| self.failure(&format!("giving {} its shared memory", launch.kernel), error))?;
            function.shared = launch.shared;
        }
        self.functions.insert(launch.kernel, function);
        Ok(function.handle)
    }

    fn look_up(&self, launch: &Launch) -> Result<sys::CUfunction> {
        let module = *self.modules.get(launch.family).ok_or_else(|| Error::Device {
            device: self.name.clone(),
            cause: format!("the kernels of {} were not loaded", launch.family),
            advice: "this is a bug in Gyrus".to_owned(),
        })?;
        let name = CString::new(launch.kernel).expect("kernel names hold no NUL");
        // The driver loads code when it is needed, which must not be within a capture. Looking a kernel up loads it; and how
        // many threads it may have is an answer that is refused of code that is not loaded.
        let loaded = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK;
        let mut threads = 0;
        // SAFETY: modules stay loaded until `drop`; the function was just found in one, and one number is written.
        let found = unsafe {
            result::module::get_function(module, name).and_then(|function| {
                sys::cuFuncGetAttribute(&mut threads, loaded, function).result().map(|()| function)
            })
        };
        found.map_err(|error| self.failure(&format!("loading the kernel {}", launch.kernel), error))
    }

    fn start(&mut self, launch: &Launch) -> Result<()> {
        let function = self.function(launch)?;
        let ([x, y, z], [bx, by, bz]) = (launch.grid, launch.block);
        // The driver copies the parameter from here; words give the struct the alignment of its pointers.
        let mut words = vec![0u64; launch.arguments.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..launch.arguments.len()].copy_from_slice(&launch.arguments);
        let mut parameters = [words.as_mut_ptr().cast::<std::ffi::c_void>()];
        // SAFETY: the kernel takes one struct by value, of exactly these bytes (lowering built them from the repr(C) twin
        // of the kernel's struct; a test compares both with the PTX), and the driver copies them before it returns. All
        // addresses in them lie in allocations of this machine, which are freed only after the stream has been waited for.
        unsafe { result::launch_kernel(function, (x, y, z), (bx, by, bz), launch.shared, self.stream, &mut parameters) }
            .map_err(|error| self.failure(&format!("starting {}", launch.kernel), error))
    }

    /// Waits for both streams.
    fn wait(&mut self) -> Result<()> {
        self.enter()?;
        for stream in [self.uploads, self.stream] {
            // SAFETY: the streams live until `drop`.
            unsafe { result::stream::synchronize(stream) }
                .map_err(|error| self.failure("waiting for the GPU", error))?;
        }
        self.is_uploading = false;
        Ok(())
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        if self.wait().is_err() {
            // The context is lost and its resources with it; the process is about to report why.
            return;
        }
        // Failures while releasing have nobody left to act on them.
        for &recording in &self.recordings {
            // SAFETY: instantiated by `capture`, destroyed once; the streams are idle.
            let _ = unsafe { result::graph::exec_destroy(recording) };
        }
        for &address in &self.allocations {
            // SAFETY: allocated by `allocate` and not freed since (the list says so); the streams are idle.
            let _ = unsafe { result::free_sync(address) };
        }
        for &module in self.modules.values() {
            // SAFETY: loaded by `load`, unloaded once; the streams are idle.
            let _ = unsafe { result::module::unload(module) };
        }
        for staging in self.staging.values() {
            // SAFETY: the context is current, the streams are idle, and the machine is dropped once.
            unsafe { staging.free() };
        }
        for chunk in &self.bounce.chunks {
            // SAFETY: as above.
            unsafe { chunk.free() };
        }
        let own = [self.marked, self.uploaded];
        for &event in own.iter().chain(&self.bounce.filled).chain(&self.stamps) {
            // SAFETY: created by `event::create`, destroyed once.
            let _ = unsafe { result::event::destroy(event) };
        }
        for stream in [self.uploads, self.stream] {
            // SAFETY: created by `open`, destroyed once, after everything in them.
            let _ = unsafe { result::stream::destroy(stream) };
        }
        // SAFETY: retained by `open`, released once, after everything that lives in it.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}
