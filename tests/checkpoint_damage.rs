//! Whatever happens to a checkpoint's bytes: everything comes back, or an error that names the file.

use std::{fs, path::Path};

use gyrus::{
    checkpoint::{Checkpoint, Label, Layout, Position, Tensor, slot_name},
    nn::UNetConfig,
    train::schedule::Schedule,
};
use proptest::prelude::*;
use safetensors::SafeTensors;

fn tiny() -> Checkpoint {
    let mut checkpoint = Checkpoint::default();
    let filter: Vec<f32> = (0..12).map(|i| i as f32 / 7.0).collect();
    let filter = Layout::Convolution.to_file(&[1, 1, 2, 2, 3], &filter);
    checkpoint.tensors.insert(slot_name("m", "head.filter"), filter.clone());
    checkpoint.tensors.insert("head.filter".into(), filter);
    let odd = vec![f32::from_bits(0x7fa0_0001), -0.0, f32::MIN_POSITIVE / 2.0];
    checkpoint.tensors.insert("head.bias".into(), Tensor { shape: vec![3], data: odd });
    checkpoint.tensors.insert("none".into(), Tensor { shape: vec![0, 2], data: Vec::new() });
    let meta = &mut checkpoint.meta;
    meta.position = Position { epoch: 3, step_in_epoch: 1, global_step: 22 };
    meta.seed = u64::MAX;
    meta.schedule = Some(Schedule::plateau(0.1 + 0.2).start());
    meta.best_metric = Some(0.1 + 0.7);
    meta.labels = vec![Label { value: 1, name: "Größe \"a\"\n".into() }];
    meta.configuration = serde_json::json!({"lr": 1e-4, "options": ["a", null]});
    checkpoint
}

/// NaN-safe equality.
fn assert_same(a: &Checkpoint, b: &Checkpoint) {
    assert_eq!(a.meta, b.meta);
    let bits = |checkpoint: &Checkpoint| -> Vec<(String, Vec<usize>, Vec<u32>)> {
        let flat = |tensor: &Tensor| tensor.data.iter().map(|x| x.to_bits()).collect();
        checkpoint.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shape.clone(), flat(tensor))).collect()
    };
    assert_eq!(bits(a), bits(b));
}

fn refusal(bytes: &[u8]) -> String {
    let error = Checkpoint::from_bytes(Path::new("run/last.safetensors"), bytes).expect_err("must be refused");
    let line = error.to_string();
    assert!(line.starts_with("run/last.safetensors: ") && !line.contains('\n'), "{line}");
    assert_eq!(error.exit_code(), 2);
    line
}

/// A file around a header, its checksum right, so that only the header can be the reason for a refusal.
fn forge(header: &str, arrays: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(arrays);
    let zeros = header.find("00000000").expect("eight zeros") + 8;
    let checksum = format!("{:08x}", crc32fast::hash(&bytes));
    bytes[zeros..zeros + 8].copy_from_slice(checksum.as_bytes());
    bytes
}

fn header_with(members: &str) -> String {
    let meta = serde_json::to_string(&serde_json::to_string(&Checkpoint::default().meta).unwrap()).unwrap();
    let text = format!(r#"{{"__metadata__":{{"format":"pt","crc32":"00000000","gyrus":{meta}}}{members}}}"#);
    let width = text.len().next_multiple_of(8);
    format!("{text:<width$}")
}

#[test]
fn what_is_saved_comes_back_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let checkpoint = tiny();
    checkpoint.save(&path).unwrap();
    assert_same(&Checkpoint::load(&path).unwrap(), &checkpoint);
    assert_eq!(fs::read(&path).unwrap(), checkpoint.to_bytes().unwrap());
    assert_same(&Checkpoint::from_bytes(&path, &fs::read(&path).unwrap()).unwrap(), &checkpoint);
}

#[test]
fn any_safetensors_reader_opens_the_file() {
    let checkpoint = tiny();
    let bytes = checkpoint.to_bytes().unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header % 8, 0, "arrays are aligned");
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), checkpoint.tensors.len());
    for (name, tensor) in &checkpoint.tensors {
        let view = file.tensor(name).unwrap();
        assert_eq!(view.shape(), tensor.shape);
        assert_eq!(view.data(), bytemuck::cast_slice::<f32, u8>(&tensor.data));
    }
}

#[test]
fn every_flip_of_every_byte_is_refused() {
    let bytes = tiny().to_bytes().unwrap();
    for place in 0..bytes.len() {
        for flip in 1..=255 {
            let mut damaged = bytes.clone();
            damaged[place] ^= flip;
            refusal(&damaged);
        }
    }
}

#[test]
fn truncation_at_every_length_is_refused() {
    let bytes = tiny().to_bytes().unwrap();
    for length in 0..bytes.len() {
        refusal(&bytes[..length]);
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(refusal(&longer).contains("header describes"));
}

#[test]
fn foreign_files_are_told_from_damaged_ones() {
    assert!(refusal(b"").contains("not a Gyrus checkpoint: only 0 bytes"));
    assert!(refusal(&[0x1f; 4096]).contains("not a Gyrus checkpoint"));
    let other = r#"{"w":{"dtype":"F32","shape":[16],"data_offsets":[0,64]}}"#;
    let other = [&(other.len() as u64).to_le_bytes()[..], other.as_bytes(), &[0; 64]].concat();
    assert!(SafeTensors::deserialize(&other).is_ok());
    assert!(refusal(&other).contains("not a Gyrus checkpoint"));
    let newer = header_with("").replace(r#"{\"format_version\":2,"#, r#"{\"format_version\":3,"#);
    assert!(refusal(&forge(&newer, &[])).contains("checkpoint format 3, this version of gyrus reads 1 to 2"));
}

#[test]
fn a_file_of_format_1_is_read_and_its_network_stands_apart_afterwards() {
    let network = UNetConfig { resize_factor: 16, dropout_rate: 0.1, ..UNetConfig::default() };
    let mut first = serde_json::to_value(Checkpoint::default().meta).unwrap();
    first["format_version"] = 1.into();
    first.as_object_mut().unwrap().remove("network");
    first["configuration"] = serde_json::json!({"run": {"network": network, "seed": 7}, "class_weights": [1.0]});
    let file = |meta: &serde_json::Value| {
        let quoted = serde_json::to_string(&meta.to_string()).unwrap();
        let text = format!(r#"{{"__metadata__":{{"format":"pt","crc32":"00000000","gyrus":{quoted}}}}}"#);
        let width = text.len().next_multiple_of(8);
        forge(&format!("{text:<width$}"), &[])
    };
    let path = Path::new("run/last.safetensors");
    let read = Checkpoint::from_bytes(path, &file(&first)).unwrap();
    assert_eq!(read.network(path).unwrap(), network);
    assert_eq!(read.meta.configuration, serde_json::json!({"run": {"seed": 7}, "class_weights": [1.0]}));
    assert_same(&Checkpoint::from_bytes(path, &read.to_bytes().unwrap()).unwrap(), &read);

    first["configuration"]["run"]["network"]["classes"] = "many".into();
    assert!(refusal(&file(&first)).contains("not what this version writes"));
    first["configuration"] = serde_json::Value::Null;
    let without = Checkpoint::from_bytes(path, &file(&first)).unwrap();
    assert!(without.network(path).unwrap_err().to_string().contains("does not say what network it is of"));
}

#[test]
fn a_header_cannot_make_us_allocate_what_the_file_does_not_hold() {
    let bytes = tiny().to_bytes().unwrap();
    for claimed in [u64::MAX, u64::MAX - 7, 1 << 40, bytes.len() as u64, 0] {
        let mut hostile = bytes.clone();
        hostile[..8].copy_from_slice(&claimed.to_le_bytes());
        assert!(refusal(&hostile).contains("header claims"), "{claimed}");
    }
    // A terabyte, consistently described, in a file of a few hundred bytes.
    let vast = r#","w":{"dtype":"F32","shape":[274877906944],"data_offsets":[0,1099511627776]}"#;
    assert!(refusal(&forge(&header_with(vast), &[])).contains("header describes 1099511"));
    let overflow = r#","w":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]}"#;
    assert!(refusal(&forge(&header_with(overflow), &[0; 8])).contains("contradicts itself"));
}

#[test]
fn hostile_headers_are_refused_with_the_reason() {
    let info = |shape: &str, range: &str| format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":{range}}}"#);
    let good = info("[2]", "[0,8]");
    let forged = forge(&header_with(&format!(r#","w":{good}"#)), &[0; 8]);
    Checkpoint::from_bytes(Path::new("good"), &forged).expect("the forgery works");
    for (members, reason) in [
        (format!(r#","w":{good},"w":{good}"#), "given twice"),
        (format!(r#","v":{good},"w":{good}"#), "contradicts itself"),
        (format!(r#","w":{}"#, info("[1]", "[4,8]")), "contradicts itself"),
        (format!(r#","w":{}"#, info("[3]", "[0,8]")), "contradicts itself"),
        (format!(r#","w":{}"#, info("[2]", "[8,0]")), "contradicts itself"),
        (format!(r#","w":{}"#, info("[-2]", "[0,8]")), "not readable"),
        (format!(r#","w":{}"#, good.replace("F32", "I32")), "not F32"),
        (format!(r#","w":{}"#, good.replace("]}", "],\"x\":1}")), "not as Gyrus writes it"),
        (format!(r#","w": {good}"#), "not as Gyrus writes it"),
        (format!(r#","a\nb":{good}"#), "control characters"),
        (format!(r#","w":{good}}}"#), "not readable"),
        (r#","w":[[[[[[[["#.into(), "not readable"),
    ] {
        let line = refusal(&forge(&header_with(&members), &[0; 8]));
        assert!(line.contains(reason), "{members}: {line}");
    }
}

#[test]
fn a_folder_and_a_missing_file_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let line = Checkpoint::load(folder.path()).unwrap_err().to_string();
    assert!(line.contains("not a regular file"), "{line}");
    let line = Checkpoint::load(&folder.path().join("none")).unwrap_err().to_string();
    assert!(line.contains("no such file"), "{line}");
}

#[test]
fn what_could_not_be_read_back_is_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    for (name, shape) in [("w", vec![3]), ("w", vec![usize::MAX, 2]), ("__metadata__", vec![2]), ("a\x1b[2J", vec![2])]
    {
        let mut checkpoint = tiny();
        checkpoint.tensors.insert(name.into(), Tensor { shape, data: vec![0.0; 2] });
        checkpoint.save(&path).unwrap_err();
    }
    let mut checkpoint = tiny();
    checkpoint.meta.schedule.as_mut().unwrap().lr = f64::NAN;
    assert!(checkpoint.save(&path).unwrap_err().to_string().contains("does not survive JSON"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_description_counts_every_element_once() {
    let description = tiny().describe();
    assert_eq!((description.network.elements, description.optimizer.elements), (15, 12));
    assert_eq!(description.network.non_finite, 1);
    let json = serde_json::to_value(&description).unwrap();
    assert_eq!(json["meta"]["position"]["global_step"], 22);
    let table = description.to_string();
    assert!(table.contains("optimizer.m.head.filter") && table.contains("3 epochs and 1 steps (22 steps in all)"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_splice_of_a_file_is_refused_or_whole(
        cut in 0usize..2000, from in 0usize..2000, noise in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let bytes = tiny().to_bytes().unwrap();
        let (cut, from) = (cut.min(bytes.len()), from.min(bytes.len()));
        let spliced = [&bytes[..cut], &noise, &bytes[from..]].concat();
        if spliced == bytes {
            assert_same(&Checkpoint::from_bytes(Path::new("x"), &spliced).unwrap(), &tiny());
        } else {
            refusal(&spliced);
        }
    }

    #[test]
    fn any_bytes_behind_the_right_beginning_are_refused(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        let beginning = tiny().to_bytes().unwrap()[8..60].to_vec();
        let length = (beginning.len() + noise.len()) as u64;
        refusal(&[&length.to_le_bytes()[..], &beginning, &noise].concat());
    }

    #[test]
    fn any_checkpoint_comes_back(
        arrays in proptest::collection::btree_map(
            "[a-z.\"\\\\é]{0,12}", proptest::collection::vec(any::<u32>(), 0..20), 0..6),
        seed in any::<u64>(), metric in any::<f64>().prop_filter("finite", |x| x.is_finite()),
    ) {
        let mut checkpoint = Checkpoint::default();
        for (name, words) in arrays {
            let data: Vec<f32> = words.into_iter().map(f32::from_bits).collect();
            checkpoint.tensors.insert(name, Tensor { shape: vec![data.len(), 1], data });
        }
        checkpoint.meta.seed = seed;
        checkpoint.meta.best_metric = Some(metric);
        let bytes = checkpoint.to_bytes().unwrap();
        assert_same(&Checkpoint::from_bytes(Path::new("x"), &bytes).unwrap(), &checkpoint);
        prop_assert!(SafeTensors::deserialize(&bytes).is_ok());
    }
}
