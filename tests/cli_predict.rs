//! `gyrus predict`, `evaluate` and `demo` as a user runs them: grids, geometry, probabilities, scores.

mod cli;

use std::{fs, io::Read, path::Path};

use cli::{Sandbox, TINY};
use gyrus::formats::{Labels, read_image, read_labels};

/// The bytes of a NIfTI-1 header, inflated if need be.
fn header(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let mut header = vec![0; 348];
    if path.extension().unwrap() == "gz" {
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_exact(&mut header).unwrap();
    } else {
        header.copy_from_slice(&bytes[..348]);
    }
    header
}

/// Fields that say where voxels lie: dim_info, extents, pixdim, units, codes, quaternion, offsets, sform. The number of
/// axes may differ, as may the type of the voxels.
fn geometry(path: &Path) -> Vec<u8> {
    let header = header(path);
    [39..40, 42..48, 76..92, 123..124, 252..328].into_iter().flat_map(|range| header[range].to_vec()).collect()
}

/// An image that this program did not write: uncompressed, with a quaternion and an sform that disagree, odd codes.
fn foreign_image(sandbox: &Sandbox, name: &str) {
    let mut bytes = Vec::new();
    let compressed = fs::read(sandbox.path("data/imagesTr/blob_0001.nii.gz")).unwrap();
    flate2::read::MultiGzDecoder::new(&compressed[..]).read_to_end(&mut bytes).unwrap();
    bytes[39] = 0b11_10_01;
    bytes[123] = 10;
    let mut put = |at: usize, value: f32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    put(76, -1.0);
    for (index, value) in [1.5, 0.75, 2.25, 3.0].into_iter().enumerate() {
        put(80 + 4 * index, value);
    }
    for (index, value) in [0.1, -0.2, 0.3, -11.5, 22.25, 1e-30].into_iter().enumerate() {
        put(256 + 4 * index, value);
    }
    bytes[252..256].copy_from_slice(&[2, 0, 4, 0]);
    fs::create_dir_all(sandbox.path("foreign")).unwrap();
    fs::write(sandbox.path(name), bytes).unwrap();
}

#[test]
fn label_maps_lie_exactly_where_their_images_lie() {
    let sandbox = Sandbox::new(5);
    sandbox.succeed(&format!("train --dataset data {TINY} --training-epochs 1 --model-path model"));
    foreign_image(&sandbox, "foreign/strange.nii");
    sandbox.succeed("predict --model-path model foreign data/imagesTr --output out --probabilities");
    let images = ["foreign/strange.nii", "data/imagesTr/blob_0001.nii.gz", "data/imagesTr/blob_0005.nii.gz"];
    for image in images.map(|image| sandbox.path(image)) {
        let name = image.file_name().unwrap().to_str().unwrap();
        let labels = sandbox.path("out").join(name);
        let probabilities = sandbox.path("out/probabilities").join(name);
        assert_eq!(geometry(&labels), geometry(&image), "{name}");
        assert_eq!(geometry(&probabilities), geometry(&image), "{name}");
        let (labels, p) = (read_labels(&labels).unwrap(), read_image(&probabilities).unwrap());
        assert_eq!((p.header.grid.extents, p.header.channels), (labels.header.grid.extents, 3));
        let voxels = labels.voxels.len();
        for (voxel, &label) in labels.voxels.iter().enumerate() {
            let p: [f32; 3] = std::array::from_fn(|class| p.voxels[class * voxels + voxel]);
            assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{p:?}");
            assert!(p.iter().all(|&other| other <= p[usize::from(label)]), "{name}: {label} of {p:?}");
        }
    }
}

/// The naive Dice of a label: none where neither map has it.
fn dice(prediction: &Labels, truth: &Labels, label: u16) -> Option<f64> {
    let count = |of: &dyn Fn(usize) -> bool| (0..truth.voxels.len()).filter(|&i| of(i)).count();
    let both = count(&|i| prediction.voxels[i] == label && truth.voxels[i] == label);
    let sum = count(&|i| prediction.voxels[i] == label) + count(&|i| truth.voxels[i] == label);
    (sum > 0).then(|| 2.0 * both as f64 / sum as f64)
}

#[test]
fn every_way_of_covering_a_volume_gives_its_grid_and_scores_that_a_naive_count_confirms() {
    let sandbox = Sandbox::new(5);
    let larger = "--unet-resize-factor 32 --head-filters 0 --mri-height 48 --mri-width 64 --mri-depth 48 --lr 0.01";
    let run = "train --dataset data --training-epochs 1 --model-architecture conv3dtranspose_dropout";
    sandbox.succeed(&format!("{run} {TINY} --model-path tiled"));
    sandbox.succeed(&format!("{run} {larger} --model-path padded"));
    sandbox.succeed(&format!("{run} {TINY} --fit resize --model-path resized"));
    let mut maps = Vec::new();
    for (name, options) in [
        ("tiled", "tiled"),
        ("sparse", "tiled --overlap 0"),
        ("mirrored", "tiled --mirror true"),
        ("mirrored_once", "tiled --mirror H"),
        ("padded", "padded"),
        ("resized", "resized"),
    ] {
        sandbox.succeed(&format!("predict data/imagesTr --output {name} --model-path {options} --threads 2"));
        let scores = sandbox.json(&format!("evaluate {name} data/labelsTr --dataset data --json --csv {name}.csv"));
        assert_eq!(scores["cases"].as_array().unwrap().len(), 5);
        for case in scores["cases"].as_array().unwrap() {
            let file = format!("{}.nii.gz", case["case"].as_str().unwrap());
            let [prediction, truth] = [name, "data/labelsTr"].map(|folder| sandbox.path(folder).join(&file));
            assert_eq!(geometry(&prediction), geometry(&truth));
            let (prediction, truth) = (read_labels(&prediction).unwrap(), read_labels(&truth).unwrap());
            for class in case["classes"].as_array().unwrap() {
                let label = class["label"].as_u64().unwrap() as u16;
                assert_eq!(class["dice"].as_f64(), dice(&prediction, &truth, label), "{name}: {file}, label {label}");
                let ml = truth.voxels.iter().filter(|&&voxel| voxel == label).count() as f64
                    * truth.header.grid.spacing.iter().product::<f64>()
                    / 1e3;
                assert!((class["truth_ml"].as_f64().unwrap() - ml).abs() <= 1e-9 * ml);
            }
            if file.contains("0001") {
                maps.push((name, prediction.voxels));
            }
        }
    }
    // Otherwise the options would have been ignored.
    for (index, (name, map)) in maps.iter().enumerate() {
        for (other, other_map) in &maps[..index] {
            assert!(map != other_map, "{name} and {other} are the same");
        }
    }
}

#[test]
fn label_maps_do_not_depend_on_the_number_of_threads() {
    let sandbox = Sandbox::new(5);
    sandbox.succeed(&format!("train --dataset data {TINY} --training-epochs 1 --model-path model"));
    for threads in [1, 3] {
        sandbox.succeed(&format!(
            "predict data/imagesTr/blob_0002.nii.gz --model-path model --output {threads} --threads {threads}"
        ));
    }
    let bytes = |threads: usize| fs::read(sandbox.path(&format!("{threads}/blob_0002.nii.gz"))).unwrap();
    assert!(bytes(1) == bytes(3));
}

#[test]
fn the_demo_learns_what_it_shows() {
    let sandbox = Sandbox::new(5);
    let said = sandbox.succeed("demo --output demo");
    assert!(said.lines().last().unwrap().starts_with("it took "), "{said}");
    let scores =
        sandbox.json("evaluate demo/predictions demo/dataset/labelsTr --dataset demo/dataset --only-predicted --json");
    let mean = scores["means"]["dice"]["mean"].as_f64().unwrap();
    assert!(mean > 0.85, "mean foreground Dice {mean:.3}");
    assert_eq!(scores["cases"].as_array().unwrap().len(), 6);
    assert!(sandbox.refuse("demo --output demo").contains("exists already"));
    assert!(sandbox.refuse("demo --output data --overwrite").contains("(")); // `data` is a dataset, not a demo
}
