//! A format of somebody else's, in a folder of its own and registered by one line, is trained on and predicted like any other.

mod common;
mod toy_format;

use std::{fs, path::Path};

use common::tiny;
use gyrus::{
    cpu::Threads,
    data::{
        dataset::{Case, Dataset},
        loader::{Loader, Order},
        preprocess::{Fit, Normalization, Preprocessing},
        validate::{Expectation, survey},
    },
    demo,
    formats::{
        Header, Store, decode_image, endings, read_header, read_image, read_labels, register, stem, write_f32,
        write_labels,
    },
    infer::{self, Predictor},
    train::trainer::BEST,
};
use toy_format::{TEXT, Toy};

/// A case's files again, under other names.
fn converted(case: &Case, folder: &Path, ending: &str) -> Case {
    let (image, label) =
        (folder.join(format!("images/{}{ending}", case.name)), folder.join(format!("labels/{}{ending}", case.name)));
    let (voxels, labels) = (read_image(&case.image).unwrap(), read_labels(case.label.as_ref().unwrap()).unwrap());
    // Without what only the old file could say, and on axes that every format knows.
    let header = Header::new(voxels.header.grid.extents, voxels.header.grid.spacing);
    write_f32(&image, &header, 1, &voxels.voxels).unwrap();
    let bytes: Vec<u8> = labels.voxels.iter().map(|&label| label as u8).collect();
    write_labels(&label, &header, &bytes[..]).unwrap();
    Case { name: case.name.clone(), image, label: Some(label) }
}

#[test]
fn a_registered_format_is_trained_on_and_predicted_with_the_same_bits_as_a_built_in_one() {
    register(&Toy);
    let folder = tempfile::tempdir().unwrap();
    let blobs = demo::synthesize(&folder.path().join("blobs"), 4, 3).unwrap();
    let mut outcomes = Vec::new();
    for ending in [".nii.gz", ".toy", ".toy.gz"] {
        let root = folder.path().join(&ending[1..]);
        ["images", "labels"].iter().for_each(|side| fs::create_dir_all(root.join(side)).unwrap());
        blobs.cases.iter().for_each(|case| drop(converted(case, &root, ending)));
        let cases = Dataset::open(&root).unwrap().cases;
        assert_eq!(cases.len(), 3, "{ending}");
        let (training, validation) = cases.split_at(2);
        let fingerprint = survey(training, validation, &Expectation::default(), &|| ()).unwrap();
        let preprocessing = Preprocessing::new([16; 3], Normalization::Volume, Fit::Pad, &fingerprint).unwrap();
        let config = tiny::config(&preprocessing, 3);
        let loader = |cases: &[Case], order| {
            Loader::new(cases.to_vec(), tiny::settings(&config, &preprocessing, order)).unwrap()
        };
        let loaders = [loader(training, Order::Shuffled), loader(validation, Order::Fixed)];
        let losses =
            tiny::train(&config, &preprocessing, &blobs.labels, [&loaders[0], &loaders[1]], &root.join("model"));

        let mut predictor =
            Predictor::load(&root.join("model").join(BEST), infer::PredictOptions::default(), Threads::new(2)).unwrap();
        let store = Store::beside(&root);
        let image = &validation[0].image;
        let examined = predictor.examine(image, &store).unwrap();
        let (labels, probabilities) = (root.join(format!("out{ending}")), root.join(format!("p{ending}")));
        predictor.predict_file(image, &examined, &store, &labels, Some(&probabilities)).unwrap();
        let written = read_labels(&labels).unwrap();
        assert_eq!(written.header.grid, read_header(image).unwrap().grid);
        outcomes.push((losses, written.voxels, read_image(&probabilities).unwrap().voxels));
    }
    assert!(outcomes[0] == outcomes[1] && outcomes[0] == outcomes[2]);
    assert!(outcomes[0].1.iter().any(|label| *label != outcomes[0].1[0]), "the labels say nothing");
}

#[test]
fn what_a_file_says_in_its_own_words_comes_through_to_what_is_written_like_it() {
    register(&Toy);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toy");
    write_labels(&path, &Header::new([1, 2, 2], [1.0, 2.0, 0.5]), &[1u8, 2, 3, 4][..]).unwrap();
    let text = String::from_utf8(fs::read(&path).unwrap()[..TEXT].to_vec()).unwrap();
    fs::write(&path, [&text.replace("TOY |", "TOY knee, left|").as_bytes()[..TEXT], &[3, 4, 1, 2]].concat()).unwrap();
    let like = read_header(&path).unwrap();
    assert_eq!(read_labels(&path).unwrap().voxels, [1, 2, 3, 4]);
    write_f32(&folder.path().join("b.toy.gz"), &like, 2, &[0.5; 8]).unwrap();
    let written = read_header(&folder.path().join("b.toy.gz")).unwrap().native.unwrap();
    assert!(written.bytes.starts_with(b"TOY knee, left|1 2 2 1 2 0.5 2 f32|"));
    // Another format takes the grid alone.
    write_labels(&folder.path().join("c.nii"), &like, &[1u8, 2, 3, 4][..]).unwrap();
    let other = read_header(&folder.path().join("c.nii")).unwrap();
    assert_eq!((other.grid, other.native.unwrap().format), (like.grid, "NIfTI"));
}

#[test]
fn what_a_file_holds_decides_how_it_is_read_and_its_name_how_it_is_written() {
    register(&Toy);
    register(&Toy);
    assert_eq!(endings(), ".nii, .nii.gz, .toy or .toy.gz");
    assert_eq!((stem("a.b.toy.gz"), stem("a.nii"), stem("a.gz")), (Some("a.b"), Some("a"), None));
    let toy = |text: &str, voxels: &[u8]| [format!("{text:<96}").as_bytes(), voxels].concat();
    let wrong_name = Path::new("a.nii");
    let read = decode_image(wrong_name, &toy("TOY |2 1 1 1 1 1 1 u8|", b"AB")).unwrap();
    assert_eq!(read.voxels, [65.0, 66.0]);
    let refusal = |bytes: &[u8]| decode_image(wrong_name, bytes).unwrap_err().to_string();
    assert!(refusal(&toy("TOY |2 1 1 1 1 1 1 u8|", b"A")).contains("a.nii: truncated"));
    // What every header must be is checked whoever reads it.
    assert!(refusal(&toy("TOY |2 1 1 1 1 -1 1 u8|", b"AB")).contains("damaged header: voxel spacing"));
    // Nobody knows it: the format that its name means says what is wrong.
    assert!(refusal(b"huge").contains("not a NIfTI file"));
    let unknown = decode_image(Path::new("a.png"), b"huge").unwrap_err().to_string();
    assert!(unknown.contains("not a volume of a known format (give a .nii, .nii.gz, .toy or .toy.gz"), "{unknown}");

    let folder = tempfile::tempdir().unwrap();
    let message = write_f32(&folder.path().join("a.png"), &Header::new([1; 3], [1.0; 3]), 1, &[0.0]).unwrap_err();
    assert!(message.to_string().contains("not the name of a volume"), "{message}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
