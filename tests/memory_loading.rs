//! Checking and loading a dataset take no more than was planned, however many threads do it.
//!
//! The only test of its binary, because its allocator counts what the whole process does.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use gyrus::{
    data::{
        augment::Augment,
        dataset::Case,
        loader::{Form, Loader, LoaderSettings, Order},
        memory::{Largest, LoaderShape},
        preprocess::{Fit, Normalization, Preprocessing},
        sampler::Sampler,
        validate::{Expectation, survey},
    },
    formats::{Header, write_f32, write_labels},
};

/// Counts bytes in use.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grown(bytes: usize) {
    let live = LIVE.fetch_add(bytes, SeqCst) + bytes;
    PEAK.fetch_max(live, SeqCst);
}

// SAFETY: every call is handed to the system's allocator as it is; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), SeqCst);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes in use at most while a closure runs, beyond those at the start.
fn peak_of(work: impl FnOnce()) -> usize {
    let start = LIVE.load(SeqCst);
    PEAK.store(start, SeqCst);
    work();
    PEAK.load(SeqCst) - start
}

#[test]
fn checking_and_loading_take_what_was_planned_and_never_more() {
    let folder = tempfile::tempdir().unwrap();
    let case = |index: usize| {
        let header = Header::new([100 + index, 110, 60], [1.0; 3]);
        let (image, label) =
            (folder.path().join(format!("i{index}.nii.gz")), folder.path().join(format!("l{index}.nii")));
        let values: Vec<f32> = (0..2 * header.voxels()).map(|i| ((i * (index + 3)) % 17 + 1) as f32).collect();
        let labels: Vec<u8> = (0..header.voxels()).map(|i| ((i + index) % 3) as u8).collect();
        write_f32(&image, &header, 2, &values).unwrap();
        write_labels(&label, &header, &labels[..]).unwrap();
        Case { name: format!("case {index}"), image, label: Some(label) }
    };
    let cases: Vec<Case> = (0..7).map(case).collect();
    let largest = Largest::of(&cases);
    assert_eq!((largest.voxels, largest.channels), (106 * 110 * 60, 2));

    for threads in [1, 3] {
        let expectation = Expectation { threads: NonZeroUsize::new(threads), ..Expectation::default() };
        let peak = peak_of(|| drop(survey(&cases, &[], &expectation, &|| ()).unwrap()));
        let planned = largest.survey_bytes(threads);
        println!("checking with {threads} threads: {peak} bytes, {planned} planned");
        assert!(peak <= planned && peak * 4 > planned * 3, "{threads} threads check: {peak} of {planned}");
    }
    let ready = [(0, Augment::None), (0, Augment::Full), (1, Augment::Full), (3, Augment::Full)];
    let raw = [(0, Augment::Full), (3, Augment::Full)];
    let ready = ready.map(|(workers, augment)| (workers, augment, Form::Ready));
    let raw = raw.map(|(workers, augment)| (workers, augment, Form::Raw));
    let patch = Sampler::Patch { foreground_share: 0.5 };
    let whole = ready.into_iter().chain(raw).map(|loading| (loading, Sampler::Whole));
    for ((workers, augment, form), sampler) in whole.chain([((1, Augment::Full, Form::Ready), patch)]) {
        let extent = [48, 96, 112];
        let (normalization, fit) = (Normalization::Volume, Fit::Pad);
        let settings = LoaderSettings {
            preprocessing: Preprocessing { extent, channels: 2, normalization, fit, ct: vec![] },
            sampler,
            classes: 3,
            augmentation: augment.settings(),
            seed: 11,
            order: Order::Shuffled,
            form,
            batch: 2,
            workers,
            cache: None,
        };
        let shape = LoaderShape::from(&settings);
        let peak = peak_of(|| {
            let loader = Loader::new(cases.clone(), settings).unwrap();
            for epoch in 0..2 {
                for batch in loader.epoch(epoch, 0) {
                    // The workers run ahead as far as they may.
                    std::thread::sleep(std::time::Duration::from_millis(if workers > 0 { 300 } else { 0 }));
                    loader.recycle(batch.unwrap());
                }
            }
        });
        let planned = largest.loader_bytes(shape, workers);
        println!("loading with {workers} workers, {augment:?}, {form:?}, {sampler:?}: {peak} bytes, {planned} planned");
        assert!(peak <= planned && peak * 4 > planned * 3, "{workers} workers load: {peak} of {planned}");
    }
}
