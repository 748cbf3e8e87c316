//! What a machine does, by calls to the driver.

#![allow(unsafe_code)]

use std::{ffi::CString, ptr};

use cudarc::driver::{result, sys};

use super::{
    Cuda, Staging, failure,
    jit::{JitLog, needs},
};
use crate::{
    Error, Result,
    machine::{Capabilities, Launch, Machine, Recording},
};

impl Machine for Cuda {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn load(&mut self, family: &'static str, ptx: &str) -> Result<()> {
        self.enter()?;
        let text = CString::new(ptx).expect("PTX holds no NUL");
        let mut log = JitLog::new();
        let (mut options, mut values) = log.options();
        let mut module = ptr::null_mut();
        // SAFETY: the image is NUL-terminated PTX text, one of the forms that the driver takes. Options and values are of the
        // given number; the buffers that they point to are `log`'s, of the lengths that are passed with them.
        let loaded = unsafe {
            let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
            sys::cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), JitLog::OPTIONS as u32, options, values)
        };
        loaded.result().map_err(|error| {
            let doing = format!("compiling the kernels of {family} ({})", needs(ptx));
            with_log(self.failure(&doing, error), &log.quote())
        })?;
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
                advice: "choose smaller extents, a smaller batch or a larger `unet_resize_factor`".to_owned(),
            },
            _ => self.failure("allocating memory", error),
        })?;
        self.allocations.push(address);
        Ok(address)
    }

    fn free(&mut self, address: u64) -> Result<()> {
        self.wait()?;
        let position = self.allocations.iter().position(|&known| known == address);
        let position = position.expect("only addresses that this machine gave out come back");
        self.allocations.swap_remove(position);
        // SAFETY: it was allocated here, is given back once (it has just left the list), and the streams are idle.
        unsafe { result::free_sync(address) }.map_err(|error| self.failure("freeing memory", error))
    }

    fn free_memory(&mut self) -> Result<u64> {
        self.enter()?;
        let (free, _) = result::mem_get_info().map_err(|error| self.failure("asking for free memory", error))?;
        Ok(free as u64)
    }

    fn upload(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        self.enter()?;
        self.join_uploads()?;
        // SAFETY: callers give ranges of their own allocations (the session's arena). From pageable memory the driver has
        // taken the bytes when the call returns, so the slice need not outlive it.
        unsafe { result::memcpy_htod_async(address, bytes, self.stream) }
            .map_err(|error| self.failure("copying to the GPU", error))
    }

    /// In chunks: the GPU fills one while the processor empties the other.
    fn download(&mut self, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.enter()?;
        self.join_uploads()?;
        let stream = self.stream;
        let chunk = self.bounce.chunks[0].len();
        let mut pending: Option<(usize, &mut [u8])> = None;
        for (index, to) in bytes.chunks_mut(chunk).enumerate() {
            let (half, from) = (index % 2, address + (index * chunk) as u64);
            let filled = self.bounce.filled[half];
            // SAFETY: the copy into this half of two chunks ago has been waited for (`empty`, one round ago).
            let landing = unsafe { &mut self.bounce.chunks[half].write()[..to.len()] };
            // SAFETY: the range lies in the caller's allocation; the pinned bytes live until `drop`, and nobody looks at
            // them before `filled` has happened.
            unsafe { result::memcpy_dtoh_async(landing, from, stream) }
                .map_err(|error| self.failure("copying from the GPU", error))?;
            // SAFETY: event and stream live until `drop`.
            unsafe { result::event::record(filled, stream) }
                .map_err(|error| self.failure("copying from the GPU", error))?;
            if let Some((half, to)) = pending.replace((half, to)) {
                self.empty(half, to)?;
            }
        }
        pending.map_or(Ok(()), |(half, to)| self.empty(half, to))
    }

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        self.enter()?;
        self.join_uploads()?;
        self.start(launch)
    }

    fn capture(&mut self, launches: &[Launch]) -> Result<Recording> {
        self.enter()?;
        // Look-ups may load code, which is not allowed while capturing; waiting for another stream would become a part of
        // the recording.
        launches.iter().try_for_each(|launch| self.function(launch).map(|_| ()))?;
        self.join_uploads()?;
        // Other threads of this process (there are none that use the driver) may go on as they like.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is ours and nothing is being captured on it.
        unsafe { result::stream::begin_capture(self.stream, mode) }
            .map_err(|error| self.failure("beginning a capture", error))?;
        let started = launches.iter().try_for_each(|launch| self.start(launch));
        // SAFETY: the capture was begun above; it is ended even when a launch was refused.
        let graph = unsafe { result::stream::end_capture(self.stream) };
        // A refused launch spoils the capture, which then has no graph to release.
        started?;
        let graph = graph.map_err(|error| self.failure("ending a capture", error))?;
        // SAFETY: the graph was just captured; it is destroyed once, after it has been instantiated.
        let executable = unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) };
        // SAFETY: as above.
        let released = unsafe { result::graph::destroy(graph) };
        let executable = executable.map_err(|error| self.failure("preparing a captured step", error))?;
        self.recordings.push(executable);
        released.map_err(|error| self.failure("releasing a capture", error))?;
        Ok(Recording(self.recordings.len() - 1))
    }

    fn replay(&mut self, recording: Recording) -> Result<()> {
        self.enter()?;
        self.join_uploads()?;
        // SAFETY: recordings live until `drop`; their launches touch memory as those of `start` do.
        unsafe { result::graph::launch(self.recordings[recording.0], self.stream) }
            .map_err(|error| self.failure("running a captured step", error))
    }

    fn synchronise(&mut self) -> Result<()> {
        self.wait()
    }

    fn mark(&mut self) -> Result<()> {
        self.enter()?;
        // SAFETY: event and stream live until `drop`.
        unsafe { result::event::record(self.marked, self.stream) }
            .map_err(|error| self.failure("marking a point of the step", error))
    }

    fn upload_ahead(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        self.enter()?;
        let is_too_small = self.staging.get(&address).is_none_or(|staging| staging.pinned.len() < bytes.len());
        if is_too_small {
            // Only a first batch that was shorter than the next ones comes here twice.
            self.wait()?;
            let staging = Staging::new(bytes.len()).map_err(|error| self.failure("pinning host memory", error))?;
            if let Some(old) = self.staging.insert(address, staging) {
                // SAFETY: the context is current, the streams are idle, and it has just left the map.
                unsafe { old.free() };
            }
        }
        let staging = self.staging.get_mut(&address).expect("it was just put there");
        let uploaded = staging.uploaded;
        // The last copy from these bytes must be over. It began a step ago, so this hardly ever waits.
        // SAFETY: the event lives until `drop`; before it is first recorded it counts as past.
        unsafe { result::event::synchronize(uploaded) }
            .map_err(|error| failure(&self.name, "waiting for an upload", error))?;
        // SAFETY: no copy from these bytes is under way: it has just been waited for.
        let staged = unsafe { &mut staging.pinned.write()[..bytes.len()] };
        staged.copy_from_slice(bytes);
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: streams, events and pinned bytes live until `drop`; the bytes are not written again before the copy is
        // over (above). The range lies in the caller's allocation, and what reads it now was started before the mark,
        // which the copy waits for; what reads it later waits for `uploaded` (`join_uploads`).
        let queued = unsafe {
            result::stream::wait_event(self.uploads, self.marked, flags)
                .and_then(|()| result::memcpy_htod_async(address, staged, self.uploads))
                .and_then(|()| result::event::record(uploaded, self.uploads))
                .and_then(|()| result::event::record(self.uploaded, self.uploads))
        };
        queued.map_err(|error| self.failure("uploading ahead", error))?;
        self.is_uploading = true;
        Ok(())
    }

    fn stamp(&mut self) -> Result<()> {
        self.enter()?;
        if self.stamped == self.stamps.len() {
            let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT);
            self.stamps.push(event.map_err(|error| self.failure("creating a time stamp", error))?);
        }
        // SAFETY: event and stream live until `drop`.
        unsafe { result::event::record(self.stamps[self.stamped], self.stream) }
            .map_err(|error| self.failure("taking a time stamp", error))?;
        self.stamped += 1;
        Ok(())
    }

    fn stamps(&mut self) -> Result<Option<Vec<f64>>> {
        self.wait()?;
        let stamps = &self.stamps[..std::mem::take(&mut self.stamped)];
        // Between neighbours: a float counts half microseconds, so that long sums of it would lose them.
        let mut at = 0.0;
        let mut seconds = Vec::with_capacity(stamps.len());
        seconds.extend(stamps.first().map(|_| at));
        for pair in stamps.windows(2) {
            // SAFETY: both were recorded, on one stream that has been waited for, and live until `drop`.
            let ms = unsafe { result::event::elapsed(pair[0], pair[1]) };
            at += f64::from(ms.map_err(|error| self.failure("reading a time stamp", error))?) / 1e3;
            seconds.push(at);
        }
        Ok(Some(seconds))
    }
}

/// The failure, and what the driver's compiler said before it.
fn with_log(failure: Error, said: &str) -> Error {
    match failure {
        Error::Device { device, cause, advice } if !said.is_empty() => {
            Error::Device { device, cause: format!("{cause}; the driver's compiler says: {said}"), advice }
        }
        other => other,
    }
}

impl Cuda {
    /// Waits until a chunk has been filled, and empties it.
    fn empty(&self, half: usize, to: &mut [u8]) -> Result<()> {
        // SAFETY: the event lives until `drop`, and was recorded behind the copy.
        unsafe { result::event::synchronize(self.bounce.filled[half]) }
            .map_err(|error| self.failure("waiting for the GPU", error))?;
        // SAFETY: the copy into the chunk has just been waited for.
        to.copy_from_slice(unsafe { &self.bounce.chunks[half].read()[..to.len()] });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_kernel_says_what_was_compiled_for_what_and_what_the_compiler_answered() {
        let error = result::DriverError(sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
        let refused =
            || failure("cuda:0", &format!("compiling the kernels of relu ({})", needs(".version 8.0\n")), error);
        let sentence = with_log(refused(), "fatal : Unsupported .version 8.0").to_string();
        let parts = [
            "cuda:0: compiling the kernels of relu (PTX 8.0 for no target) failed: ",
            "error 222 (CUDA_ERROR_UNSUPPORTED_PTX_VERSION)",
            "; the driver's compiler says: fatal : Unsupported .version 8.0",
            "release 525",
        ];
        for part in parts {
            assert!(sentence.contains(part), "{sentence}");
        }
        assert_eq!(sentence.lines().count(), 1);
        // A silent compiler adds nothing.
        assert!(!with_log(refused(), "").to_string().contains("says"));
    }
}
