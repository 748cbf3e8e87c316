//! Checkpoints that were written long ago predict the same bits for ever after, and those of a newer format are refused by name.
//!
//! `tests/fixtures/checkpoints` holds three small ones with the script that made them, an image, its label maps, and a checksum
//! of the probabilities for every instruction set: sums are taken in another order there, so bits differ from one to the next,
//! and labels do not. `GYRUS_UPDATE_CHECKPOINTS=1` adds what is missing; what is there is never changed.

mod cli;

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use cli::{Sandbox, TINY};
use flate2::{Compression, GzBuilder, read::GzDecoder, write::GzEncoder};
use gyrus::{
    cpu::{Isa, Threads},
    formats::Store,
    infer::{PredictOptions, Predictor},
};

const NAMES: [&str; 3] = ["transpose_norm_fp32", "upsampling_dropout_bf16", "transpose_dropout_fp32"];

/// Where the voxels of the program's NIfTI files begin.
const VOXELS: usize = 352;

/// Instruction set, as [`isa_name`] has it, to the checksum of the probabilities; by checkpoint.
type Expected = BTreeMap<String, BTreeMap<String, String>>;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints").join(name)
}

fn inflated(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

fn isa_name(isa: Isa) -> String {
    format!("{}, {isa}", std::env::consts::ARCH)
}

fn checksum(file: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(&file[VOXELS..]))
}

/// A folder with the checkpoints and the image.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new(5);
    for name in NAMES {
        let checkpoint = inflated(&fixture(&format!("{name}.safetensors.gz")));
        fs::write(sandbox.path(&format!("{name}.safetensors")), checkpoint).unwrap();
    }
    fs::write(sandbox.path("image.nii"), inflated(&fixture("image.nii.gz"))).unwrap();
    sandbox
}

/// The label map's bytes, and the checksum of the probabilities.
fn predict(sandbox: &Sandbox, name: &str, threads: Threads) -> (Vec<u8>, String) {
    let [image, labels, probabilities] =
        ["image.nii", "labels.nii", "probabilities.nii"].map(|name| sandbox.path(name));
    let checkpoint = sandbox.path(&format!("{name}.safetensors"));
    let mut predictor = Predictor::load(&checkpoint, PredictOptions::default(), threads).unwrap();
    let store = Store::beside(&labels);
    let examined = predictor.examine(&image, &store).unwrap();
    predictor.predict_file(&image, &examined, &store, &labels, Some(&probabilities)).unwrap();
    let results = (fs::read(&labels).unwrap(), checksum(&fs::read(&probabilities).unwrap()));
    [labels, probabilities].into_iter().for_each(|path| fs::remove_file(path).unwrap());
    results
}

/// Adds this machine's results where there are none.
fn update(sandbox: &Sandbox, expected: &mut Expected) {
    for name in NAMES {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let (labels, probabilities) = predict(sandbox, name, Threads::with_isa(2, isa));
            expected.entry(name.to_owned()).or_default().entry(isa_name(isa)).or_insert(probabilities);
            let path = fixture(&format!("{name}_labels.nii.gz"));
            if !path.exists() {
                let builder = GzBuilder::new().mtime(0);
                let mut file: GzEncoder<_> = builder.write(fs::File::create(path).unwrap(), Compression::best());
                std::io::Write::write_all(&mut file, &labels).unwrap();
                file.finish().unwrap();
            }
        }
    }
    fs::write(fixture("expected.json"), serde_json::to_string_pretty(expected).unwrap() + "\n").unwrap();
}

#[test]
fn checkpoints_of_earlier_versions_predict_the_same_bits() {
    let sandbox = sandbox();
    let mut expected: Expected = fs::read(fixture("expected.json"))
        .map_or_else(|_| Expected::new(), |text| serde_json::from_slice(&text).unwrap());
    if std::env::var("GYRUS_UPDATE_CHECKPOINTS").is_ok_and(|value| value == "1") {
        update(&sandbox, &mut expected);
    }
    for name in NAMES {
        let expected_labels = inflated(&fixture(&format!("{name}_labels.nii.gz")));
        let classes = expected_labels[VOXELS..].iter().max().unwrap();
        assert!(*classes > 0, "{name}: a map of nothing but background shows nothing");
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for threads in [1, 3] {
                let (labels, probabilities) = predict(&sandbox, name, Threads::with_isa(threads, isa));
                assert!(labels[VOXELS..] == expected_labels[VOXELS..], "{name}, {isa}: other labels");
                match expected[name].get(&isa_name(isa)) {
                    Some(known) => assert_eq!(&probabilities, known, "{name}, {isa}, {threads} threads"),
                    // Bits of every instruction set of x86-64 are known; elsewhere somebody has yet to record them.
                    None => {
                        assert_ne!(std::env::consts::ARCH, "x86_64", "{name}: no bits for {isa}");
                        println!("skipped: {name}: bits of {} are not recorded; labels are the same", isa_name(isa));
                    }
                }
            }
        }
    }
}

#[test]
fn the_command_predicts_the_same_bits_from_earlier_checkpoints() {
    let sandbox = sandbox();
    let expected: Expected = serde_json::from_slice(&fs::read(fixture("expected.json")).unwrap()).unwrap();
    for name in NAMES {
        sandbox.succeed(&format!(
            "predict --device cpu --model-path {name}.safetensors image.nii --output {name} --probabilities"
        ));
        let labels = fs::read(sandbox.path(&format!("{name}/image.nii"))).unwrap();
        let known = inflated(&fixture(&format!("{name}_labels.nii.gz")));
        assert!(labels[VOXELS..] == known[VOXELS..], "{name}: other labels");
        if let Some(known) = expected[name].get(&isa_name(Isa::best())) {
            let probabilities = fs::read(sandbox.path(&format!("{name}/probabilities/image.nii"))).unwrap();
            assert_eq!(&checksum(&probabilities), known, "{name}");
        }
    }
}

/// The file with one text for another of the same length, its checksum right.
fn edited(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let find = |bytes: &[u8], text: &str| bytes.windows(text.len()).position(|window| window == text.as_bytes());
    let mut bytes = file.to_vec();
    let at = find(&bytes, from).unwrap_or_else(|| panic!("no {from}"));
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    let digits = find(&bytes, r#""crc32":""#).unwrap() + r#""crc32":""#.len();
    bytes[digits..digits + 8].fill(b'0');
    let checksum = format!("{:08x}", crc32fast::hash(&bytes));
    bytes[digits..digits + 8].copy_from_slice(checksum.as_bytes());
    bytes
}

/// Whatever else a newer version changes: other element types, other members of the metadata.
#[test]
fn a_checkpoint_of_a_newer_format_is_refused_with_both_versions() {
    let sandbox = sandbox();
    let today = fs::read(sandbox.path("transpose_norm_fp32.safetensors")).unwrap();
    let newer = edited(&today, r#"\"format_version\":1"#, r#"\"format_version\":3"#);
    let variants = [
        ("newer", newer.clone()),
        ("other_elements", edited(&newer, r#""dtype":"F32""#, r#""dtype":"U32""#)),
        ("other_members", edited(&newer, r#"\"order_seed\""#, r#"\"other_seed\""#)),
    ];
    for (name, bytes) in variants {
        fs::create_dir(sandbox.path(name)).unwrap();
        for file in ["best", "last"] {
            fs::write(sandbox.path(&format!("{name}/{file}.safetensors")), &bytes).unwrap();
        }
        let cause = "checkpoint format 3, this version of gyrus reads 1 to 2 (use the version of gyrus that wrote it, gyrus 0.1.0, or a newer one)";
        for (command, file) in [
            (format!("predict --model-path {name} image.nii --output out"), "best"),
            (format!("inspect {name}/best.safetensors"), "best"),
            (format!("train --dataset data {TINY} --model-path {name} --resume-train true"), "last"),
        ] {
            assert_eq!(sandbox.refuse(&command), format!("error: {name}/{file}.safetensors: {cause}"));
        }
    }
}
