//! The examples do what they say: trained on arrays in memory, then used on a volume in memory.

#[path = "../examples/predict_volume.rs"]
#[allow(dead_code)] // its `main` is not called
mod predict_volume;
#[path = "../examples/train_in_memory.rs"]
#[allow(dead_code)]
mod train_in_memory;

use gyrus::formats::{Header, memory::hold_image, write_f32};

#[test]
fn a_network_trained_on_arrays_in_memory_labels_a_volume() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    let trained = train_in_memory::train(&model, 6).unwrap();
    assert!(trained.best_checkpoint.is_file() && model.join("history.csv").is_file());
    assert!(trained.best.unwrap().0 > 0.6, "{:?} of balls that any network finds", trained.best);

    let values: Vec<f32> = (0..32 * 16 * 16).map(|voxel| 100.0 + (voxel % 97) as f32).collect();
    let like = Header::new([16, 32, 16], [1.0, 1.0, 1.5]);
    let path = folder.path().join("scan.nii.gz");
    write_f32(&path, &like, 1, &values).unwrap();
    let of_file = predict_volume::predict(&model, &path, &folder.path().join("labels")).unwrap();
    assert_eq!(of_file.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["background", "ball", "shell"]);
    assert_eq!(of_file.iter().map(|(_, voxels)| voxels).sum::<usize>(), values.len());

    let held = hold_image("scan", &like, 1, &values).unwrap();
    let of_memory = predict_volume::predict(&model, held.path(), &folder.path().join("again")).unwrap();
    assert_eq!(of_memory, of_file, "a volume in memory is labelled like its file");
}
