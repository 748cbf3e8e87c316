//! A small thread pool: threads are made once, a run allocates nothing, tasks are claimed one by one.
//!
//! A run publishes a ticket `(generation, next task)` in one atomic word. Whoever swaps `next` for `next + 1` owns that
//! task; the swap fails when the run is over or another has begun, so a late worker can never touch a job that is gone.
//! The caller works too, then waits until as many tasks are done as there are. Nobody waits for a sleeping worker.

#![allow(unsafe_code)]

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::simd::Isa;

/// Turns of the spin loop before a worker sleeps: some tens of microseconds, longer than the gap between two operations.
const SPINS: u32 = 4000;

/// Low half of a ticket between runs: no task number reaches it.
const CLOSED: u64 = u32::MAX as u64;

/// The pool. It also carries the instruction set, so that a kernel needs only one context argument.
pub struct Threads {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One run at a time; a second caller waits here.
    running: Mutex<()>,
    isa: Isa,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Threads({}, {:?})", self.count(), self.isa)
    }
}

struct Shared {
    /// High half: generation of the run. Low half: the next unclaimed task.
    ticket: AtomicU64,
    tasks: AtomicUsize,
    done: AtomicUsize,
    job: AtomicPtr<Job<'static>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
}

/// The closure of a run, given (worker, task).
struct Job<'a> {
    function: &'a (dyn Fn(usize, usize) + Sync),
}

thread_local! {
    /// True inside a task: a nested run is done inline by the thread that asks, instead of waiting for itself.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Threads {
    /// A pool of `count` threads, the caller included; 0 asks for as many as the machine offers.
    pub fn new(count: usize) -> Self {
        Self::with_isa(count, Isa::best())
    }

    /// A pool whose kernels use `isa`, or the best that this machine has if it lacks `isa`.
    pub fn with_isa(count: usize, isa: Isa) -> Self {
        let count = if count == 0 { thread::available_parallelism().map_or(1, usize::from) } else { count };
        let isa = if isa.is_available() { isa } else { Isa::best() };
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(CLOSED),
            tasks: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            job: AtomicPtr::new(ptr::null_mut()),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        // A thread that cannot be made is one worker less, not a failure: every task is still done.
        let workers = (1..count)
            .map_while(|worker| {
                let shared = Arc::clone(&shared);
                thread::Builder::new().name(format!("gyrus-cpu-{worker}")).spawn(move || shared.work(worker)).ok()
            })
            .collect();
        Self { shared, workers, running: Mutex::new(()), isa }
    }

    /// Threads that take part in a run, the caller included.
    pub fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// The instruction set that kernels run with.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Calls `function(task)` once for every `task < tasks`, in any order and on any thread; returns when all are done.
    ///
    /// # Panics
    /// If a task panics, the first panic continues here after the other tasks are done.
    pub fn run(&self, tasks: usize, function: &(dyn Fn(usize) + Sync)) {
        self.run_indexed(tasks, &|_, task| function(task));
    }

    /// Like [`Threads::run`], and every worker has its own `per_worker` elements of `scratch`, with whatever an earlier task left.
    ///
    /// # Panics
    /// If `scratch` is shorter than `per_worker * count()`.
    pub fn run_with<T: Send>(
        &self,
        tasks: usize,
        scratch: &mut [T],
        per_worker: usize,
        function: impl Fn(usize, &mut [T]) + Sync,
    ) {
        assert!(scratch.len() >= per_worker * self.count(), "scratch for every worker");
        let base = SharedMut::new(scratch);
        self.run_indexed(tasks, &|worker, task| {
            // SAFETY: worker < count(), so the range lies inside `scratch`; two threads never share a worker number,
            // and one thread runs one task at a time, so no other reference to this range is alive.
            let own = unsafe { base.slice(worker * per_worker, per_worker) };
            function(task, own);
        });
    }

    /// Calls `function(index, chunk)` for the chunks of `data`, each of `chunk_len` elements but the last.
    pub fn for_chunks<T: Send>(&self, data: &mut [T], chunk_len: usize, function: impl Fn(usize, &mut [T]) + Sync) {
        let length = data.len();
        let base = SharedMut::new(data);
        self.run(length.div_ceil(chunk_len.max(1)), &|task| {
            let start = task * chunk_len;
            // SAFETY: chunks of different tasks do not overlap, and start < length by the number of tasks.
            let chunk = unsafe { base.slice(start, chunk_len.min(length - start)) };
            function(task, chunk);
        });
    }

    /// Like [`Threads::for_chunks`] over several slices of one length: each task gets the same range of all of them.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn for_zipped_chunks<T: Send, const K: usize>(
        &self,
        data: [&mut [T]; K],
        chunk_len: usize,
        function: impl Fn(usize, [&mut [T]; K]) + Sync,
    ) {
        let length = data.first().map_or(0, |slice| slice.len());
        assert!(data.iter().all(|slice| slice.len() == length), "slices of one length");
        let bases = data.map(SharedMut::new);
        self.run(length.div_ceil(chunk_len.max(1)), &|task| {
            let start = task * chunk_len;
            // SAFETY: chunks of different tasks do not overlap, the slices are disjoint (each came as `&mut`), and
            // start < length by the number of tasks.
            let chunks = std::array::from_fn(|k| unsafe { bases[k].slice(start, chunk_len.min(length - start)) });
            function(task, chunks);
        });
    }

    fn run_indexed(&self, tasks: usize, function: &(dyn Fn(usize, usize) + Sync)) {
        if self.workers.is_empty() || tasks <= 1 || INSIDE.get() {
            // An inline run inside a task must not share the outer worker's scratch; worker 0 of a nested run
            // is the only user of that run's scratch, which is another slice.
            (0..tasks).for_each(|task| function(0, task));
            return;
        }
        assert!((tasks as u64) < CLOSED, "more tasks than a ticket can count");
        let _one_at_a_time = lock(&self.running);
        let shared = &*self.shared;
        let job = Job { function };
        // The ticket is closed here. Whoever reads one of these new values has also seen it closed, so that a swap
        // with an older ticket fails.
        shared.tasks.store(tasks, Ordering::Release);
        shared.done.store(0, Ordering::Relaxed);
        shared.job.store(ptr::from_ref(&job).cast_mut().cast(), Ordering::Release);
        let generation = (shared.ticket.load(Ordering::Relaxed) >> 32).wrapping_add(1) & CLOSED;
        shared.ticket.store(generation << 32, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            let _sleep = lock(&shared.sleep);
            shared.wake.notify_all();
        }
        shared.take_tasks(0);
        let mut turns = 0u32;
        while shared.done.load(Ordering::Acquire) < tasks {
            turns += 1;
            if turns < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
        }
        shared.ticket.store((generation << 32) | CLOSED, Ordering::SeqCst);
        let panic = lock(&shared.panic).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        {
            let _sleep = lock(&self.shared.sleep);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks; should it die all the same, there is nothing left to do here.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// What a worker thread does all its life.
    fn work(&self, worker: usize) {
        let mut turns = 0;
        while !self.stop.load(Ordering::Relaxed) {
            if self.take_tasks(worker) {
                turns = 0;
            } else if turns < SPINS {
                turns += 1;
                std::hint::spin_loop();
            } else {
                self.wait_for_tasks();
                turns = 0;
            }
        }
    }

    fn wait_for_tasks(&self) {
        let mut guard = lock(&self.sleep);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        // The caller publishes its ticket, then looks for sleepers; we announce our sleep, then look for a ticket:
        // in one total order at least one of the two sees the other.
        while !self.stop.load(Ordering::SeqCst) && !self.has_tasks() {
            guard = self.wake.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn has_tasks(&self) -> bool {
        let next = self.ticket.load(Ordering::SeqCst) & CLOSED;
        (next as usize) < self.tasks.load(Ordering::Acquire)
    }

    /// Claims and does tasks until none is left; says whether there was any.
    fn take_tasks(&self, worker: usize) -> bool {
        let mut any = false;
        loop {
            let ticket = self.ticket.load(Ordering::Acquire);
            let task = (ticket & CLOSED) as usize;
            let tasks = self.tasks.load(Ordering::Acquire);
            let job = self.job.load(Ordering::Acquire);
            if task >= tasks {
                return any;
            }
            // If another run began between these loads, the generation differs and the swap fails.
            if self.ticket.compare_exchange(ticket, ticket + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                continue;
            }
            any = true;
            // SAFETY: the swap succeeded, so `ticket`'s run was still open and `job` was stored for it. That run's caller
            // keeps the job on its stack until `done` counts this task too, which happens below, after the last use.
            let function = unsafe { (*job).function };
            INSIDE.set(true);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| function(worker, task))) {
                lock(&self.panic).get_or_insert(panic);
            }
            INSIDE.set(false);
            self.done.fetch_add(1, Ordering::Release);
        }
    }
}

/// A slice that several tasks write, each its own part.
pub(crate) struct SharedMut<T> {
    pointer: *mut T,
    length: usize,
}

// SAFETY: the only access is through `slice` and `pointer`, whose callers promise that no two threads touch the same element.
unsafe impl<T: Send> Sync for SharedMut<T> {}

impl<T> SharedMut<T> {
    /// Borrows `data` for as long as the caller keeps it away from everybody else.
    pub(crate) fn new(data: &mut [T]) -> Self {
        Self { pointer: data.as_mut_ptr(), length: data.len() }
    }

    /// The elements `start..start + length`.
    ///
    /// # Safety
    /// No other reference to any of them is alive, and the slice given to [`SharedMut::new`] still is.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn slice(&self, start: usize, length: usize) -> &mut [T] {
        assert!(start <= self.length && length <= self.length - start, "part outside the slice");
        // SAFETY: the range was checked against the slice; aliasing and lifetime are the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), length) }
    }

    /// Address of the first element, for kernels whose parts are strided.
    pub(crate) fn pointer(&self) -> *mut T {
        self.pointer
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_exactly_once_in_many_short_runs() {
        for count in 1..4 {
            let threads = Threads::new(count);
            for tasks in [0, 1, 2, 3, 7, 100] {
                for _ in 0..200 {
                    let hits: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                    threads.run(tasks, &|task| {
                        hits[task].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1));
                }
            }
        }
    }

    #[test]
    fn sleeping_workers_wake_for_the_next_run() {
        let threads = Threads::new(3);
        for _ in 0..5 {
            thread::sleep(std::time::Duration::from_millis(5));
            let sum = AtomicUsize::new(0);
            threads.run(50, &|task| {
                sum.fetch_add(task, Ordering::Relaxed);
            });
            assert_eq!(sum.load(Ordering::Relaxed), 49 * 50 / 2);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let threads = Threads::new(2);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            threads.run(10, &|task| assert!(task != 3, "task three"));
        }));
        assert!(outcome.is_err());
        let mut data = [0u32; 11];
        threads.for_chunks(&mut data, 3, |index, chunk| chunk.fill(index as u32));
        assert_eq!(data, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]);
    }

    #[test]
    fn a_run_inside_a_task_does_not_wait_for_itself() {
        let threads = Threads::new(2);
        let sum = AtomicUsize::new(0);
        threads.run(4, &|_| {
            threads.run(5, &|task| {
                sum.fetch_add(task, Ordering::Relaxed);
            });
        });
        assert_eq!(sum.load(Ordering::Relaxed), 40);
    }

    #[test]
    fn scratch_belongs_to_one_worker_at_a_time() {
        let threads = Threads::new(3);
        let mut scratch = vec![0usize; 12];
        threads.run_with(300, &mut scratch, 4, |task, own| {
            own.fill(task);
            std::hint::black_box(&mut *own);
            assert!(own.iter().all(|&value| value == task));
        });
    }
}
