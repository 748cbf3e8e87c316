//! Steps go out to workers and batches come back in order, with a bounded number under way.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard},
    thread,
};

use super::Batch;
use crate::Result;

/// One epoch's steps.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// Batches that may be in the making or ready at once.
    window: usize,
}

struct State {
    next_started: usize,
    next_taken: usize,
    end: usize,
    ready: BTreeMap<usize, Result<Batch>>,
    is_stopped: bool,
    has_panicked: bool,
}

impl Queue {
    pub(super) fn new(first: usize, end: usize, window: usize) -> Self {
        let state = State {
            next_started: first,
            next_taken: first,
            end,
            ready: BTreeMap::new(),
            is_stopped: false,
            has_panicked: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), window }
    }

    /// A worker's life: makes one step's batch after the other until there are no more or nobody wants them.
    pub(super) fn work(&self, make: impl Fn(usize, &dyn Fn() -> bool) -> Result<Batch>) {
        let _alarm = Alarm(self);
        let is_wanted = || !self.lock().is_stopped;
        while let Some(step) = self.start() {
            let batch = make(step, &is_wanted);
            let mut state = self.lock();
            if batch.is_err() {
                state.end = state.end.min(step + 1); // what comes after an error is never taken
            }
            state.ready.insert(step, batch);
            self.changed.notify_all();
        }
    }

    /// The next batch in order; none at the end, and after an error.
    pub(super) fn take(&self) -> Option<Result<Batch>> {
        let mut state = self.lock();
        loop {
            let next = state.next_taken;
            // Asked first: another worker may have finished a later step before this one failed.
            if next >= state.end {
                return None;
            }
            if let Some(batch) = state.ready.remove(&next) {
                state.next_taken += 1;
                self.changed.notify_all();
                return Some(batch);
            }
            // The alarm is set after the panicking worker's batch is known never to come.
            assert!(!state.has_panicked, "a loading thread panicked");
            state = self.changed.wait(state).expect("no thread panics with the lock held");
        }
    }

    /// The next batch, made by the caller.
    pub(super) fn take_here(&self, make: impl FnOnce(usize) -> Result<Batch>) -> Option<Result<Batch>> {
        let step = self.start()?;
        let batch = make(step);
        let mut state = self.lock();
        state.next_taken = step + 1;
        if batch.is_err() {
            state.end = state.end.min(step + 1);
        }
        Some(batch)
    }

    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }

    /// Waits for room, and takes the next step that nobody has started.
    fn start(&self) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.is_stopped || state.next_started >= state.end {
                return None;
            }
            if state.next_started < state.next_taken + self.window {
                state.next_started += 1;
                return Some(state.next_started - 1);
            }
            state = self.changed.wait(state).expect("no thread panics with the lock held");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the lock held")
    }
}

/// Tells the one who waits when a worker dies of a bug, so that it does not wait for ever.
struct Alarm<'a>(&'a Queue);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().has_panicked = true;
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn no_more_than_the_window_is_ever_under_way() {
        let queue = Queue::new(0, 50, 3);
        let (started, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    queue.work(|step, _| {
                        let ahead = started.fetch_add(1, Ordering::SeqCst) + 1 - taken.load(Ordering::SeqCst);
                        // `taken` is counted after the queue has made room for one more.
                        assert!(ahead <= 3 + 1, "{ahead} under way");
                        Ok(Batch { step, ..Batch::default() })
                    });
                });
            }
            for step in 0..50 {
                assert_eq!(queue.take().unwrap().unwrap().step, step);
                taken.fetch_add(1, Ordering::SeqCst);
            }
            assert!(queue.take().is_none());
        });
    }

    #[test]
    fn a_batch_that_was_ready_before_an_earlier_one_failed_is_not_taken_after_the_error() {
        let queue = Queue::new(0, 2, 2);
        let later_is_ready = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    queue.work(|step, _| {
                        if step == 1 {
                            return Ok(Batch { step, ..Batch::default() });
                        }
                        while queue.lock().ready.is_empty() {
                            thread::yield_now();
                        }
                        later_is_ready.fetch_add(1, Ordering::SeqCst);
                        Err(crate::Error::input("i0.nii.gz", "damaged", "replace it"))
                    });
                });
            }
            assert!(queue.take().unwrap().is_err());
            assert!(queue.take().is_none());
        });
        assert_eq!(later_is_ready.into_inner(), 1);
    }

    #[test]
    #[should_panic(expected = "a loading thread panicked")]
    fn a_bug_in_a_worker_is_not_waited_for() {
        let queue = Queue::new(0, 2, 2);
        thread::scope(|scope| {
            let worker = scope.spawn(|| queue.work(|_, _| panic!("a bug")));
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| queue.take().is_some()));
            let _ = worker.join();
            if let Err(panic) = outcome {
                std::panic::resume_unwind(panic);
            }
        });
    }
}
