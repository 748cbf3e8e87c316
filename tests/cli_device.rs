//! `--device`: training and prediction on the emulated GPU against the definition, checkpoints that move between devices, and
//! the commands that show and judge devices.

mod cli;

use std::{collections::HashMap, fs};

use cli::{Sandbox, TINY, keys, stderr};
use gyrus::{
    checkpoint::{
        Checkpoint,
        state::{Saved, saved_values},
    },
    data::{
        dataset::Dataset,
        loader::{Form, Loader, LoaderSettings, Order},
        preprocess::Preprocessing,
        sampler::Sampler,
    },
    formats::{self, Header},
    graph::reference::{Dense, Precision, evaluate},
    machine,
    machine::TensorCores,
    nn::{names, record_prediction, record_training},
    optim::OptimizerState,
    selftest::{distance, steps},
    train::{TrainConfig, trainer::configuration_of},
};

/// Momentum alone: Adam would blow the noise of vanishing gradients up to whole steps.
const RUN: &str = "train --dataset data --optimizer sgd --weighted-classes false --unet-resize-factor 32 --head-filters 0 \
                   --mri-height 16 --mri-width 16 --mri-depth 16 --lr 0.0001";

/// A checkpoint with what describes it.
struct Trained {
    checkpoint: Checkpoint,
    config: TrainConfig,
    preprocessing: Preprocessing,
}

impl Trained {
    fn open(sandbox: &Sandbox, name: &str) -> Self {
        let path = sandbox.path(name);
        let checkpoint = Checkpoint::load(&path).unwrap();
        let config = configuration_of(&checkpoint, &path).unwrap();
        let preprocessing = serde_json::from_value(checkpoint.meta.preprocessing.clone()).unwrap();
        Self { checkpoint, config, preprocessing }
    }

    /// A saved value in the order of memory.
    fn values(&self, saved: &Saved) -> Vec<f32> {
        saved.layout.to_memory(&saved.name, &saved.extents, &self.checkpoint.tensors[&saved.name]).unwrap()
    }
}

#[test]
fn an_epoch_on_each_device_ends_as_near_to_the_truth_as_plain_loops_do() {
    // On the CPU workers normalise and augment, on the GPU the step does.
    for augment in ["none", "full"] {
        check_an_epoch(augment);
    }
}

fn check_an_epoch(augment: &str) {
    let sandbox = Sandbox::new(5);
    for device in ["cpu", "emulated"] {
        let run = format!("{RUN} --augment {augment} --training-epochs 1");
        let output = sandbox.run(&format!("{run} --model-path {device} --device {device}"));
        assert!(output.status.success() && stderr(&output).contains("device: "), "{}", stderr(&output));
    }
    let Trained { config, preprocessing, .. } = Trained::open(&sandbox, "cpu/last.safetensors");
    let graph = record_training(&config.training_step()).unwrap();
    let settings = LoaderSettings {
        preprocessing,
        sampler: Sampler::Whole,
        classes: config.network.classes,
        augmentation: config.augmentation,
        seed: config.seed,
        order: Order::Shuffled,
        form: Form::Ready,
        batch: 1,
        workers: 0,
        cache: None,
    };
    let split = Dataset::open(&sandbox.path("data")).unwrap().fold(0, 5, config.seed).unwrap();
    let loader = Loader::new(split.train, settings).unwrap();
    let mut optimizer = OptimizerState::default();
    let start = config.schedule.start();
    let batches = loader.epoch(0, 0).enumerate().map(|(step, batch)| {
        let batch = batch.unwrap();
        let hyper = optimizer.advance(&config.rule, config.schedule.rate(&start, step as u64), 1.0);
        let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        HashMap::from([
            (names::IMAGES.to_owned(), wide(&batch.images)),
            (names::LABELS.to_owned(), batch.labels.iter().map(|&x| f64::from(x)).collect()),
            (names::HYPER.to_owned(), wide(&hyper)),
            (names::RNG.to_owned(), vec![config.seed as f64, 0.0, step as f64, 0.0]),
        ])
    });
    let batches: Vec<_> = batches.collect();
    assert_eq!(batches.len(), 4);
    let mut initial = steps::initially(&graph, config.seed);
    initial.insert(names::CLASS_WEIGHTS.to_owned(), vec![1.0; config.network.outputs()]);
    let saved = saved_values(&graph);
    let steps = steps::Steps { recorded: graph.clone(), graph, initial, batches };
    for device in ["cpu", "emulated"] {
        let trained = Trained::open(&sandbox, &format!("{device}/last.safetensors"));
        let state = saved.iter().map(|value| (value.name.clone(), trained.values(value))).collect();
        let (share, error, allowed) = steps.judge(&state, TensorCores::Sequential);
        println!("{device}, augment {augment}: error {error:.2e}, allowed {allowed:.2e}");
        assert!(share > 0.0 && share <= 1.0, "{device}, augment {augment}: error {error:e}, allowed {allowed:e}");
    }
}

#[test]
fn runs_on_the_emulated_gpu_repeat_their_bits_across_threads_and_interruptions_and_go_on_elsewhere() {
    let sandbox = Sandbox::new(5);
    let run = format!("{RUN} --augment full --device");
    sandbox.succeed(&format!("{run} emulated --training-epochs 1 --model-path whole --threads 1 --num-workers 0"));
    sandbox.succeed(&format!("{run} emulated --training-epochs 1 --model-path parts --time-budget 0s"));
    sandbox.succeed(&format!("{run} emulated --training-epochs 1 --model-path parts --resume-train true --threads 2"));
    let whole = sandbox.weights("whole/last.safetensors");
    assert_eq!(whole, sandbox.weights("parts/last.safetensors"));
    // A checkpoint belongs to no device.
    sandbox.succeed(&format!("{run} cpu --training-epochs 2 --model-path parts --resume-train true"));
    let position = sandbox.checkpoint("parts/last.safetensors").meta.position;
    assert_eq!((position.epoch, position.global_step), (2, 8));
    assert_ne!(whole, sandbox.weights("parts/last.safetensors"));
    sandbox.succeed(&format!("{run} cpu --training-epochs 1 --model-path back --time-budget 0s"));
    sandbox.succeed(&format!("{run} emulated --training-epochs 1 --model-path back --resume-train true"));
    assert_eq!(whole, sandbox.weights("back/last.safetensors"), "both devices start from the same state");
}

#[test]
fn probabilities_from_the_emulated_gpu_are_as_near_to_the_truth_as_those_of_plain_loops() {
    let sandbox = Sandbox::new(5);
    sandbox.succeed(&format!("{RUN} --training-epochs 1 --model-path model --device cpu"));
    // An image of one window, whose probabilities are the network's own.
    let image = formats::read_image(&sandbox.path("data/imagesTr/blob_0001.nii.gz")).unwrap();
    let [width, height, _] = image.header.grid.extents;
    let at = |index: usize| {
        let [x, y, z] = [index % 16, index / 16 % 16, index / 256];
        image.voxels[((z + 8) * height + y + 16) * width + x + 8]
    };
    let voxels: Vec<f32> = (0..16 * 16 * 16).map(at).collect();
    let like = Header::new([16; 3], [1.0; 3]);
    formats::write_f32(&sandbox.path("window.nii.gz"), &like, 1, &voxels).unwrap();
    for device in ["cpu", "emulated"] {
        sandbox.succeed(&format!(
            "predict window.nii.gz --model-path model --output {device} --probabilities --device {device}"
        ));
    }
    let trained = Trained::open(&sandbox, "model/best.safetensors");
    let by_definition = |precision: &dyn Fn(&Trained, &[f32]) -> Vec<f64>| precision(&trained, &voxels);
    let (truth, plain) = (by_definition(&probabilities::<f64>), by_definition(&probabilities::<f32>));
    let allowed = 2.0 * distance(&truth, &plain) + f64::from(f32::EPSILON);
    for device in ["cpu", "emulated"] {
        let path = sandbox.path(&format!("{device}/probabilities/window.nii.gz"));
        let found: Vec<f64> = formats::read_image(&path).unwrap().voxels.iter().map(|&x| f64::from(x)).collect();
        let error = distance(&truth, &found);
        println!("{device}: error {error:.2e}, allowed {allowed:.2e}");
        assert!(error <= allowed, "{device}: error {error:e}, allowed {allowed:e}");
    }
    let labels = |device: &str| fs::read(sandbox.path(&format!("{device}/window.nii.gz"))).unwrap();
    assert_eq!(labels("cpu"), labels("emulated"));
}

/// What the network says about one window by definition, `[class, voxel]`.
fn probabilities<T: Precision>(trained: &Trained, voxels: &[f32]) -> Vec<f64> {
    let Trained { config, preprocessing, .. } = trained;
    let graph = record_prediction(config.network, 1, preprocessing.extent).unwrap();
    let mut normalised = voxels.to_vec();
    let Preprocessing { extent, normalization, ct, .. } = preprocessing;
    gyrus::data::preprocess::normalize(&mut normalised, *extent, *normalization, ct);
    let mut known = HashMap::new();
    let mut insert = |name: &str, data: &[f32]| {
        let id = graph.find(name).unwrap();
        let data = data.iter().map(|&x| T::of(f64::from(x))).collect();
        known.insert(id, Dense { shape: graph.value(id).spec.shape, data });
    };
    insert(names::IMAGES, &normalised);
    saved_values(&graph).iter().for_each(|saved| insert(&saved.name, &trained.values(saved)));
    let found = evaluate(&graph, known);
    let innermost = &found[&graph.find(names::PROBABILITIES).unwrap()].data;
    let classes = config.network.outputs();
    let planar = |i: usize| innermost[i % voxels.len() * classes + i / voxels.len()].f64();
    (0..innermost.len()).map(planar).collect()
}

#[test]
fn devices_that_are_not_there_are_refused_by_every_command_that_takes_one() {
    let sandbox = Sandbox::new(5);
    let (cause, known) = match machine::devices() {
        Ok(list) => ("there is no such GPU".to_owned(), list.len()),
        Err(error) => (error.to_string().split(": ").nth(1).unwrap().split(" (").next().unwrap().to_owned(), 0),
    };
    for command in [
        &format!("train --dataset data {TINY}"),
        "predict data/imagesTr --model-path absent --output out",
        "plan",
        "bench",
        "demo --output demo",
    ] {
        let line = sandbox.refuse(&format!("{command} --device cuda:{known}"));
        assert!(line.contains(&format!("--device cuda:{known}: ")) && line.contains(&cause), "{command}: {line}");
    }
    let output = sandbox.run(&format!("selftest --device cuda:{known}"));
    assert_eq!(output.status.code(), Some(2));
    for name in ["cuda:x", "gpu", "cuda:-1", "CUDA", ""] {
        let output = sandbox.run(&format!("plan --device={name}"));
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(
            stderr(&output).contains("give auto, cpu, cuda, cuda:N, emulated or emulated:sm_"),
            "{name}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn devices_are_listed_with_what_they_can_do_and_why_they_cannot_be_used() {
    let sandbox = Sandbox::new(1);
    let list = sandbox.json("devices --json");
    assert_eq!(keys(&list), ["devices", "driver", "auto"]);
    let devices = list["devices"].as_array().unwrap();
    let of = |name: &str| devices.iter().find(|device| device["device"] == name);
    let cpu = of("cpu").unwrap();
    assert!(cpu["usable"] == true && cpu["threads"].as_u64().unwrap() > 0);
    assert!(cpu["instruction_sets"].as_array().unwrap().contains(&"portable vectors".into()));
    let emulated = of("emulated").unwrap();
    assert!(emulated["usable"] == true && emulated["compute_capability"] == "9.0", "{emulated}");
    match machine::devices() {
        Ok(gpus) => {
            let first = of("cuda:0").unwrap();
            assert_eq!(first["memory_bytes"], gpus[0].memory);
            assert!(list["driver"].is_string());
        }
        Err(_) => {
            let cuda = of("cuda").unwrap();
            assert!(cuda["usable"] == false && !cuda["why_not"].as_str().unwrap().is_empty(), "{cuda}");
            assert_eq!(list["auto"], "cpu");
        }
    }
    let text = sandbox.succeed("devices");
    assert!(text.contains("cpu ") && text.contains("emulated ") && text.contains("auto "), "{text}");
}

#[test]
fn the_selftest_runs_every_case_here_and_says_what_it_found() {
    let sandbox = Sandbox::new(1);
    let report = sandbox.json("selftest --device cpu --quick --json --save report.json");
    assert_eq!(keys(&report), ["device", "name", "cases", "failures", "seconds", "outcomes"]);
    assert_eq!((&report["device"], &report["failures"]), (&"cpu".into(), &0.into()));
    let outcomes = report["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.len(), gyrus::ops::catalogue().iter().filter(|case| !case.large).count());
    assert!(outcomes.iter().all(|outcome| outcome["passed"] == true));
    let saved = fs::read_to_string(sandbox.path("report.json")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&saved).unwrap(), report);
    let table = sandbox.succeed("selftest --device emulated --filter Relu --quick");
    assert!(table.contains("Relu ") && table.contains("cases passed, 0 failed"), "{table}");
    assert!(sandbox.refuse("selftest --device cpu --filter unheard-of").contains("no case has such a name"));
}

#[test]
fn a_bench_times_the_cpu_and_counts_on_the_emulated_gpu() {
    let sandbox = Sandbox::new(1);
    let small = "bench --json --unet-resize-factor 32 --mri-height 16 --mri-width 16 --mri-depth 16 --steps 1 --device";
    let cpu = sandbox.json(&format!("{small} cpu"));
    assert!(cpu["step_ms"].as_f64().unwrap() > 0.0 && cpu["peak_gflops"].as_f64().unwrap() > 0.0, "{cpu}");
    let operations = cpu["operations"].as_array().unwrap();
    // What multiplies takes time, and no more of the peak than there is, as far as that can be told on a busy machine.
    let working: Vec<_> = operations.iter().filter(|line| line["gflops"].as_f64().unwrap() > 0.0).collect();
    assert!(working.len() >= 5 && working.iter().all(|line| line["roofline"].as_f64().unwrap() < 5.0), "{cpu}");
    let unmeasured = sandbox.json(&format!("{small} cpu --no-peaks"));
    assert!(unmeasured["step_ms"].as_f64().unwrap() > 0.0 && unmeasured.get("peak_gflops").is_none(), "{unmeasured}");
    assert!(unmeasured["step_roofline"].is_null() && unmeasured["operations"][0]["roofline"].is_null(), "{unmeasured}");
    let emulated = sandbox.json(&format!("{small} emulated"));
    let kernels = emulated["kernels"].as_array().unwrap();
    let flops =
        |line: &serde_json::Value| line["scalar_flops"].as_u64().unwrap() + line["tensor_flops"].as_u64().unwrap();
    let counted: u64 = kernels.iter().map(flops).sum();
    let least = emulated["flops"].as_u64().unwrap();
    assert!(counted >= least, "{counted} operations counted, the step has {least}");
}
