//! Who normalises and augments makes no difference: loaders that do it, and loaders that leave it to the emulated GPU.

use std::path::Path;

use gyrus::{
    data::{
        augment::Augment as Preset,
        dataset::Case,
        loader::{Batch, Form, Loader, LoaderSettings, Order},
        preprocess::{CtStatistics, Fit, Normalization, Preprocessing},
        sampler::Sampler,
    },
    formats::{Header, write_f32, write_labels},
    graph::{Op, Role, Tape, reference::Dense},
    machine::Emulated,
    ops::augment::{Augment, numbers_spec},
    random::Stream,
    selftest::{distance, ulp},
    session::{self, Program, Target},
    tensor::{DType, Spec, Volume},
};
use ptx_emulator::Config;

const EXTENT: [usize; 3] = [9, 14, 11];

/// Two channels with background around a body; a case that is larger than the grid along one axis and smaller along others.
fn cases(folder: &Path) -> Vec<Case> {
    let case = |index: usize| {
        let header = Header::new([13 - 3 * index, 10 + index, 8], [1.0, 1.0, 1.5]);
        let (image, label) = (folder.join(format!("i{index}.nii")), folder.join(format!("l{index}.nii")));
        let mut stream = Stream::new(index as u64, "voxels");
        let voxels = header.voxels();
        let is_body: Vec<bool> = (0..voxels).map(|_| stream.chance(0.8)).collect();
        let value = |i: usize, stream: &mut Stream| match is_body[i % voxels] {
            true => stream.between(300.0, 900.0) as f32,
            false => 0.0,
        };
        let values: Vec<f32> = (0..2 * voxels).map(|i| value(i, &mut stream)).collect();
        let labels: Vec<u8> = (0..voxels).map(|i| if is_body[i] { stream.below(4) as u8 } else { 0 }).collect();
        write_f32(&image, &header, 2, &values).unwrap();
        write_labels(&label, &header, &labels[..]).unwrap();
        Case { name: format!("case {index}"), image, label: Some(label) }
    };
    (0..2).map(case).collect()
}

fn loader(cases: &[Case], normalization: Normalization, fit: Fit, form: Form) -> Loader {
    let ct = vec![CtStatistics { low: 350.0, high: 800.0, mean: 600.0, deviation: 170.0 }; 2];
    let settings = LoaderSettings {
        preprocessing: Preprocessing { extent: EXTENT, channels: 2, normalization, fit, ct },
        sampler: Sampler::Whole,
        classes: 4,
        augmentation: Preset::Full.settings(),
        seed: 3,
        order: Order::Shuffled,
        form,
        batch: 2,
        workers: 0,
        cache: None,
    };
    Loader::new(cases.to_vec(), settings).unwrap()
}

/// The operation on the emulated GPU: images and labels.
struct OnDevice(Box<dyn Program>);

impl OnDevice {
    fn new(images: Volume) -> Self {
        let mut tape = Tape::new();
        let labels = Spec::new(images.with_channels(1).shape(), DType::U8);
        let inputs = [("images", Spec::f32(images.shape())), ("labels", labels), ("numbers", numbers_spec(images))]
            .map(|(name, spec)| tape.source(name, spec, Role::Batch));
        let outputs = tape.record("augment", Augment { labels: true }, &inputs).unwrap();
        tape.keep_output(outputs[0], "images.out");
        tape.keep_output(outputs[1], "labels.out");
        let machine = Emulated::new(Config { seed: Some(4), ..Config::default() });
        Self(session::bind(&[tape.finish()], Target::Machine(Box::new(machine))).unwrap())
    }

    fn run(&mut self, batch: &Batch) -> (Vec<f32>, Vec<u8>) {
        self.0.set("images", &batch.images).unwrap();
        self.0.set("labels", &batch.labels).unwrap();
        self.0.set("numbers", &batch.numbers).unwrap();
        self.0.run(0).unwrap();
        (self.0.get("images.out").unwrap(), self.0.get("labels.out").unwrap())
    }
}

/// The images of a raw batch by definition.
fn truth(volume: Volume, batch: &Batch) -> Vec<f64> {
    let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect();
    let labels = Spec::new(volume.with_channels(1).shape(), DType::U8);
    let specs = [Spec::f32(volume.shape()), labels];
    let inputs = [
        Dense { shape: volume.shape(), data: wide(&batch.images) },
        Dense { shape: labels.shape, data: batch.labels.iter().map(|&x| f64::from(x)).collect() },
        Dense { shape: numbers_spec(volume).shape, data: wide(&batch.numbers) },
    ];
    Augment { labels: true }.reference64(&inputs, &specs).swap_remove(0).data
}

#[test]
fn the_device_augments_to_the_labels_of_the_host_and_as_near_to_the_truth() {
    let folder = tempfile::tempdir().unwrap();
    let cases = cases(folder.path());
    let volume = Volume { n: 2, extent: EXTENT, c: 2 };
    let mut device = OnDevice::new(volume);
    let mut moved = 0;
    for (normalization, fit) in [
        (Normalization::Volume, Fit::Pad),
        (Normalization::Slice, Fit::Pad),
        (Normalization::Ct, Fit::Pad),
        (Normalization::None, Fit::Pad),
        (Normalization::Volume, Fit::Resize),
    ] {
        let [ready, raw] = [Form::Ready, Form::Raw].map(|form| loader(&cases, normalization, fit, form));
        for epoch in 0..8 {
            let [ready, raw] = [&ready, &raw].map(|loader| loader.epoch(epoch, 0).next().unwrap().unwrap());
            assert_eq!(ready.cases, raw.cases);
            let (images, labels) = device.run(&raw);
            let what = format!("{normalization:?} {fit:?}, epoch {epoch}");
            assert!(labels == ready.labels, "{what}: labels differ");
            let truth = truth(volume, &raw);
            let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
            let [on_device, on_host] = [&images, &ready.images].map(|values| distance(&truth, &wide(values)));
            let allowed = 2.0 * on_host + ulp(&truth);
            assert!(on_device <= allowed, "{what}: error {on_device:e}, on the host {on_host:e}");
            moved += usize::from(raw.labels != ready.labels);
        }
    }
    assert!(moved >= 30, "only {moved} of 40 batches were changed");
}
