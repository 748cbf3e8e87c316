//! Images are labelled slice by slice: the same labels as in memory, and memory that their length does not change.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use gyrus::{
    checkpoint::state::saved_values,
    cpu::Threads,
    data::{
        augment::Augmentation,
        preprocess::{CtStatistics, Fit, Normalization, Preprocessing, normalize},
    },
    formats::{Header, read_image, read_labels, write_f32},
    fuse::Fuse,
    infer::{self, HostMemory, Predictor},
    nn::{Architecture, Precision, UNetConfig, record_prediction},
    ops::{dice::LossKind, optimizer},
    plan::{Options, plan},
    size::bytes,
    train::{
        TrainConfig, Trainer,
        schedule::{self, Schedule},
    },
};

/// A checkpoint of a network with initial weights: what it says of an image is arbitrary, but always the same.
fn checkpoint(
    path: &Path,
    extent: [usize; 3],
    channels: usize,
    normalization: Normalization,
    fit: Fit,
) -> Preprocessing {
    let architecture = Architecture::UpsamplingDropout;
    let network =
        UNetConfig { architecture, resize_factor: 32, channels, classes: 3, head_filters: 0, ..UNetConfig::default() };
    let config = TrainConfig {
        network,
        extent,
        train_batch: 1,
        validation_batch: 1,
        epochs: 1,
        loss: LossKind::Dice,
        weighted_classes: false,
        rule: optimizer::Rule::Sgd { momentum: 0.9, nesterov: false },
        clip: 0.0,
        schedule: Schedule { lr: 1e-3, warmup_steps: 0, rule: schedule::Decay::Constant },
        early_stop: None,
        augmentation: Augmentation::default(),
        normalization,
        fit,
        fuse: Fuse::Auto,
        seed: 5,
    };
    let ct = vec![CtStatistics { low: -2.0, high: 60.0, mean: 20.0, deviation: 11.0 }; channels];
    let preprocessing = Preprocessing { extent, channels, normalization, fit, ct };
    let labels = ["background", "one", "two"].map(str::to_owned).into();
    let trainer = Trainer::new(config, preprocessing.clone(), labels, vec![1.0; 3], Threads::new(2));
    trainer.unwrap().save(path).unwrap();
    preprocessing
}

/// A labelled image: labels in the file's order (x fastest), probabilities `[C, z, y, x]`.
struct Labelled {
    labels: Vec<u8>,
    probabilities: Vec<f32>,
}

/// The whole image in memory through the same windows: normalised at once, or stretched to the network's extents and back.
fn in_memory(
    predictor: &mut Predictor,
    preprocessing: &Preprocessing,
    path: &Path,
    options: &infer::PredictOptions,
) -> Labelled {
    let (mut image, channels, patch) = (read_image(path).unwrap(), preprocessing.channels, preprocessing.extent);
    let [x, y, z] = image.header.grid.extents;
    let mut segment = |extent: [usize; 3], voxels: &[f32]| {
        let mut slices = voxels.chunks_exact(extent[1] * extent[2] * channels);
        let (mut labels, mut values) = (Vec::new(), Vec::new());
        infer::segment_stream(
            infer::Segmentation { extent, channels, classes: 3 },
            patch,
            options,
            &mut |out| {
                out.copy_from_slice(slices.next().unwrap());
                Ok(())
            },
            &mut |window, output| predictor.run(window, output),
            &mut |slice| {
                labels.extend_from_slice(slice.labels);
                values.extend_from_slice(slice.probabilities);
                Ok(())
            },
        )
        .unwrap();
        (labels, values)
    };
    let (labels, values) = match preprocessing.fit {
        Fit::Pad => {
            normalize(&mut image.voxels, [z, y, x], preprocessing.normalization, &preprocessing.ct);
            let voxels = x * y * z;
            let innermost = (0..voxels * channels).map(|i| image.voxels[i % channels * voxels + i / channels]);
            segment([z, y, x], &innermost.collect::<Vec<f32>>())
        }
        Fit::Resize => {
            let mut fitted = vec![0.0; patch.iter().product::<usize>() * channels];
            let placement = preprocessing.image(&mut image, path, &mut fitted).unwrap();
            let (_, values) = segment(patch, &fitted);
            let values = placement.unfit_values(&values, &[1.0, 0.0, 0.0]);
            let first_of_largest =
                |p: &[f32]| (1..3).fold(0, |best, class| if p[class] > p[best] { class } else { best });
            (values.chunks_exact(3).map(|p| first_of_largest(p) as u8).collect(), values)
        }
    };
    let voxels = labels.len();
    let probabilities = (0..3 * voxels).map(|i| values[i % voxels * 3 + i / voxels]).collect();
    Labelled { labels, probabilities }
}

/// An image of blobs on a background of zeros.
fn image(path: &Path, extents: [usize; 3], channels: usize) {
    let header = Header::new(extents, [1.0, 1.25, 2.0]);
    let [x, y, _] = extents;
    let value = |i: usize| {
        let (voxel, channel) = (i % header.voxels(), i / header.voxels());
        let [x, y, z] = [voxel % x, voxel / x % y, voxel / (x * y)];
        let wave = ((x * (channel + 2)) as f32 * 0.21).sin() + (y as f32 * 0.17).cos() + (z as f32 * 0.13).sin();
        if wave < -0.4 { 0.0 } else { 20.0 + 15.0 * wave + (i % 7) as f32 }
    };
    let values: Vec<f32> = (0..header.voxels() * channels).map(value).collect();
    write_f32(path, &header, channels, &values).unwrap();
}

fn gyrus(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gyrus")).args(arguments).args(["--threads", "2"]).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn labels_and_probabilities_are_those_of_the_whole_image_in_memory_to_the_last_bit() {
    let folder = Folder(tempfile::tempdir().unwrap());
    // Larger than a window along one axis, smaller along another; longer than the window is deep.
    for (name, channels, extents) in
        [("one.nii.gz", 1, [37, 12, 41]), ("two.nii", 2, [16, 21, 40]), ("both.nii.gz", 2, [20, 18, 9])]
    {
        image(&folder.path(name), extents, channels);
        let mut seen = [false; 3];
        for (normalization, fit, mirror) in [
            (Normalization::Volume, Fit::Pad, true),
            (Normalization::Slice, Fit::Pad, false),
            (Normalization::Ct, Fit::Resize, true),
            (Normalization::Volume, Fit::Resize, false),
            (Normalization::None, Fit::Pad, false),
        ] {
            let case = format!("{name}, {normalization:?}, {fit:?}");
            let model = folder.path("model.safetensors");
            let preprocessing = checkpoint(&model, [16, 16, 16], channels, normalization, fit);
            let options = infer::PredictOptions { mirror: [mirror; 3], ..infer::PredictOptions::default() };
            let mut predictor = Predictor::load(&model, options.clone(), Threads::new(2)).unwrap();
            let path = folder.path(name);
            let expected = in_memory(&mut predictor, &preprocessing, &path, &options);

            let run = ["predict", &folder.text(name), "--model-path", &folder.text("model.safetensors"), "--output"];
            let arguments =
                [&folder.text("out")[..], "--overwrite", "--probabilities", "--mirror", &mirror.to_string()];
            let run = gyrus(&[&run[..], &arguments].concat());
            assert!(run.status.success(), "{case}: {}", text(&run.stderr));
            let labels = read_labels(&folder.path("out").join(name)).unwrap();
            assert!(
                labels.voxels.iter().eq(expected
                    .labels
                    .iter()
                    .map(|&label| u16::from(label))
                    .collect::<Vec<_>>()
                    .iter()),
                "{case}"
            );
            expected.labels.iter().for_each(|&label| seen[usize::from(label)] = true);
            let written = read_image(&folder.path("out/probabilities").join(name)).unwrap();
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(written.header.channels, 3);
            assert!(bits(&written.voxels) == bits(&expected.probabilities), "{case}");
        }
        assert!(seen.iter().filter(|seen| **seen).count() > 1, "{name}: the labels say nothing");
    }
    let left: Vec<String> = [folder.path("out"), folder.path("out/probabilities")]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(left.is_empty(), "temporary files are left: {left:?}");
}

/// `12.34 MiB` behind a word.
fn mebibytes(line: &str, before: &str) -> f64 {
    let number = line.split(before).nth(1).unwrap_or_else(|| panic!("{line}")).trim_start();
    let (number, unit) = number.split_once(' ').unwrap();
    number.parse::<f64>().unwrap() * if unit.starts_with("GiB") { 1024.0 } else { 1.0 }
}

#[test]
fn memory_is_measured_to_be_as_planned_and_not_to_grow_with_the_length_of_an_image() {
    let folder = Folder(tempfile::tempdir().unwrap());
    checkpoint(&folder.path("model.safetensors"), [16, 48, 48], 1, Normalization::Volume, Fit::Pad);
    let mut peaks = Vec::new();
    for (name, slices) in [("short.nii.gz", 64), ("long.nii.gz", 1600)] {
        image(&folder.path(name), [48, 48, slices], 1);
        let run = ["predict", &folder.text(name), "--model-path", &folder.text("model.safetensors"), "--overlap", "0"];
        let run = gyrus(&[&run[..], &["--output", &folder.text("out"), "--host-memory-budget", "64MiB"]].concat());
        let said = text(&run.stderr);
        assert!(run.status.success(), "{said}");
        let line = said.lines().find(|line| line.starts_with("memory: at most")).unwrap_or_else(|| panic!("{said}"));
        println!("{name}: {line}");
        let [measured, planned, network] =
            ["at most ", "planned were ", "the network's "].map(|word| mebibytes(line, word));
        assert!(measured <= planned + network, "{line}");
        peaks.push(measured);
    }
    // The long image's voxels alone are 13 MiB more, as the network sees them.
    assert!(peaks[1] - peaks[0] < 2.0, "{peaks:?}");
}

#[test]
fn an_image_that_takes_more_than_the_budget_is_refused_before_anything_is_written() {
    let folder = Folder(tempfile::tempdir().unwrap());
    checkpoint(&folder.path("model.safetensors"), [16, 16, 16], 1, Normalization::Volume, Fit::Pad);
    image(&folder.path("image.nii"), [24, 24, 24], 1);
    let run = ["predict", &folder.text("image.nii"), "--model-path", &folder.text("model.safetensors")];
    let run = gyrus(&[&run[..], &["--output", &folder.text("out"), "--host-memory-budget", "30MiB"]].concat());
    let said = text(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("error: memory: needs ") && last.contains("image (24x24x24), the host budget is 30 MiB ("),
        "{said}"
    );
    assert!(!folder.path("out").exists());
}

#[test]
fn a_ct_of_512x512x1000_with_three_classes_is_planned_within_2_gib_on_the_host_and_on_the_device() {
    const BUDGET: usize = 2 << 30;
    let header = Header::new([512, 512, 1000], [0.8, 0.8, 1.0]);
    for patch in [[128, 128, 128], [160, 240, 240]] {
        let network = UNetConfig { channels: 1, classes: 3, precision: Precision::Bf16, ..UNetConfig::default() };
        let graph = record_prediction(network, 1, patch).unwrap();
        let weights: usize = saved_values(&graph).iter().map(|value| value.extents.iter().product::<usize>() * 4).sum();
        let (normalization, fit) = (Normalization::Ct, Fit::Pad);
        let preprocessing = Preprocessing { extent: patch, channels: 1, normalization, fit, ct: Vec::new() };
        // The checkpoint holds the weights with two moments; they are converted while it is there.
        let host = HostMemory::of(&header, &preprocessing, 3, &infer::PredictOptions::default(), 4 * weights).peak();
        let layout = Options::for_gpu();
        let device = plan(&[Fuse::Auto.apply(graph, layout.processor)], layout).total;
        println!("windows of {patch:?}: {} on the host, {} on the device", bytes(host), bytes(device));
        assert!(host <= BUDGET && device <= BUDGET, "{patch:?}: {host} and {device}");
    }
}

#[test]
fn a_network_that_takes_more_than_the_device_budget_is_refused() {
    let folder = Folder(tempfile::tempdir().unwrap());
    checkpoint(&folder.path("model.safetensors"), [16, 16, 16], 1, Normalization::Volume, Fit::Pad);
    image(&folder.path("image.nii"), [24, 24, 24], 1);
    let run = ["predict", &folder.text("image.nii"), "--model-path", &folder.text("model.safetensors")];
    let run = gyrus(&[&run[..], &["--output", &folder.text("out"), "--memory-budget", "100KiB"]].concat());
    let said = text(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{said}");
    assert!(said.contains("the budget is 100 KiB (--precision bf16 or fp16"), "{said}");
    assert!(!folder.path("out").exists());
}
