//! Bad input: one line that names what is wrong and what to do, exit status 2, nothing written.

mod cli;

use std::{fs, io::Read, path::Path, process::Stdio};

use cli::{Sandbox, TINY};
use gyrus::formats::{Header, read_image, read_labels, write_f32, write_labels};

/// Refusals of `gyrus COMMAND ARGUMENTS` with what the message must say.
fn refuse_all(sandbox: &Sandbox, command: &str, table: &[(&str, &str)]) {
    for (arguments, cause) in table {
        let message = sandbox.refuse(&format!("{command} {arguments}"));
        assert!(message.contains(cause), "{arguments}: {message}");
    }
}

#[test]
fn numbers_that_cannot_work_are_refused_before_the_data_are_read() {
    let sandbox = Sandbox::new(5);
    let big = "18446744073709551600";
    // Options of the base command that a line repeats are left out of it.
    for (arguments, cause) in [
        ("--lr nan", "--lr: "),
        ("--lr inf", "--lr: "),
        ("--lr 0", "--lr: "),
        ("--lr=-1", "--lr: "),
        ("--lr 1e300", "--lr: "),
        ("--lr 1e-300", "--lr: "),
        ("--epsilon nan", "--epsilon: "),
        ("--epsilon=-1", "--epsilon: "),
        ("--epsilon 0", "--epsilon: "),
        ("--optimizer sgd --momentum nan", "--momentum: "),
        ("--optimizer sgd --momentum 1", "--momentum: "),
        ("--clip-value nan", "--clip-value: "),
        ("--clip-value=-1", "--clip-value: "),
        ("--train-batch-size 0", "--train-batch-size: "),
        ("--train-batch-size 99999999999", "--train-batch-size: "),
        ("--val-batch-size 0", "--val-batch-size: "),
        (&format!("--val-batch-size {big}"), "--val-batch-size: "),
        ("--training-epochs 0", "--training-epochs: "),
        ("--threads 100000", "--threads: "),
        ("--num-workers 100000", "--num-workers: "),
        (&format!("--num-workers {big}"), "--num-workers: "),
        ("--mri-depth 0", "--mri-depth: 0"),
        ("--mri-depth 17", "try 16 or 32"),
        (&format!("--mri-depth {big}"), "--mri-depth"),
        (&format!("--mri-depth {big} --mri-height {big} --mri-width {big}"), "--mri-depth"),
        ("--mri-depth 18446744073709551615", "--mri-depth"),
        ("--unet-resize-factor 0", "--unet-resize-factor: "),
        ("--unet-resize-factor 33", "--unet-resize-factor: "),
        (&format!("--unet-resize-factor {big}"), "--unet-resize-factor: "),
        ("--unet-dropout-rate nan", "--unet-dropout-rate: "),
        ("--unet-dropout-rate 1", "--unet-dropout-rate: "),
        ("--num-classes 1", "--num-classes: "),
        ("--num-classes 257", "--num-classes: "),
        ("--num-channels 0", "--num-channels: "),
        (&format!("--num-channels {big}"), "--num-channels: "),
        (&format!("--head-filters {big}"), "--head-filters: "),
        ("--rotation nan", "--rotation: "),
        ("--zoom=-1", "--zoom: "),
        ("--intensity-scale inf", "--intensity-scale: "),
        ("--intensity-shift nan", "--intensity-shift: "),
        ("--gamma=-3", "--gamma: "),
        ("--noise nan", "--noise: "),
        ("--folds 1", "--folds: "),
        ("--folds 6", "--folds: "),
        ("--fold 5", "--fold: "),
        ("--train-multi-gpu true", "later version"),
        ("--num-gpus 2", "later version"),
        ("--device cuda:7", "--device cuda:7: "),
        ("--resume-train true", "no run to resume"),
        ("--resume-train true --overwrite", "--overwrite: "),
        ("--splits absent.json", "no such file"),
    ] {
        let given: Vec<&str> = arguments.split(['=', ' ']).filter(|word| word.starts_with("--")).collect();
        let mut base = TINY.split_whitespace().collect::<Vec<_>>();
        while let Some(at) = base.iter().position(|word| given.contains(word)) {
            base.drain(at..at + 2);
        }
        let message = sandbox.refuse(&format!("train --dataset data {} {arguments}", base.join(" ")));
        assert!(message.contains(cause), "{arguments}: {message}");
    }
}

#[test]
fn usage_errors_end_with_status_2() {
    let sandbox = Sandbox::new(1);
    for arguments in [
        "",
        "fly",
        "train",
        "train --dataset data --lr fast",
        "train --dataset data --precision fp8",
        "train --dataset data --time-budget nan",
        "train --dataset data --flip Q",
        "plan --device tpu",
    ] {
        let output = sandbox.run(arguments);
        assert_eq!(output.status.code(), Some(2), "gyrus {arguments}");
        assert!(!cli::stderr(&output).contains("panicked"));
    }
}

#[test]
fn extents_that_no_machine_holds_are_an_error_and_not_an_abort() {
    let sandbox = Sandbox::new(5);
    let huge = "--mri-height 1024 --mri-width 1024 --mri-depth 4096 --unet-resize-factor 1";
    assert!(sandbox.refuse(&format!("train --dataset data {huge} --cache cache")).contains("the machine has left"));
    // What does not fit can still be planned: that is what planning is for.
    let plan = sandbox.json(&format!("plan {huge} --num-channels 1 --memory-budget 99TiB --json"));
    assert!(plan["total_bytes"].as_f64().unwrap() > 1e12);
    refuse_all(
        &sandbox,
        "plan",
        &[
            ("--mri-depth 18446744073709551600", "--mri-depth"),
            ("--train-batch-size 0", "--train-batch-size: "),
            ("--val-batch-size 99999999999999", "--val-batch-size: "),
            ("--head-filters 18446744073709551615", "--head-filters: "),
            ("--epsilon nan", "--epsilon: "),
            ("--clip-value nan", "--clip-value: "),
        ],
    );
    refuse_all(&sandbox, "bench", &[("--steps 0", "--steps: "), ("--train-batch-size 0", "--train-batch-size: ")]);
}

/// A damaged copy of `data`, made by `damage`, and the refusal to train on it.
fn damaged(damage: impl Fn(&Sandbox)) -> String {
    let sandbox = Sandbox::new(5);
    damage(&sandbox);
    sandbox.refuse(&format!("train --dataset data {TINY}"))
}

fn truncate(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn damaged_datasets_are_refused_by_the_name_of_the_file() {
    let image = |sandbox: &Sandbox| sandbox.path("data/imagesTr/blob_0002.nii.gz");
    let labels = |sandbox: &Sandbox| sandbox.path("data/labelsTr/blob_0002.nii.gz");
    let message = damaged(|sandbox| truncate(&image(sandbox)));
    assert!(message.contains("imagesTr/blob_0002.nii.gz: "), "{message}");
    let message = damaged(|sandbox| fs::write(labels(sandbox), "no volume").unwrap());
    assert!(message.contains("labelsTr/blob_0002.nii.gz: "), "{message}");
    let message = damaged(|sandbox| fs::remove_file(image(sandbox)).unwrap());
    assert!(message.contains("blob_0002"), "{message}");
    let message = damaged(|sandbox| {
        let old = read_labels(&labels(sandbox)).unwrap();
        let changed: Vec<u8> = old.voxels.iter().map(|&label| if label == 2 { 7 } else { label as u8 }).collect();
        write_labels(&labels(sandbox), &old.header, &changed[..]).unwrap();
    });
    assert!(message.contains("labelsTr/blob_0002.nii.gz: label 7"), "{message}");
    let message = damaged(|sandbox| {
        write_labels(&labels(sandbox), &Header::new([4, 4, 4], [1.0; 3]), &[1u8; 64][..]).unwrap();
    });
    assert!(message.contains("blob_0002.nii.gz: "), "{message}");
    let message = damaged(|sandbox| {
        let old = read_labels(&labels(sandbox)).unwrap();
        let mut header = old.header.clone();
        header.grid.affine[0][3] += 1.0;
        let same: Vec<u8> = old.voxels.iter().map(|&label| label as u8).collect();
        write_labels(&labels(sandbox), &header, &same[..]).unwrap();
    });
    assert!(message.contains("blob_0002.nii.gz: ") && message.contains("mm"), "{message}");
    let message = damaged(|sandbox| {
        let old = read_image(&image(sandbox)).unwrap();
        write_f32(&image(sandbox), &old.header, 2, &old.voxels.repeat(2)).unwrap();
    });
    assert!(message.contains("imagesTr/blob_0002.nii.gz: 2 channels"), "{message}");
    let message = damaged(|sandbox| {
        for case in 1..=5 {
            let path = sandbox.path(&format!("data/labelsTr/blob_{case:04}.nii.gz"));
            let old = read_labels(&path).unwrap();
            let without: Vec<u8> = old.voxels.iter().map(|&label| u8::from(label == 1)).collect();
            write_labels(&path, &old.header, &without[..]).unwrap();
        }
    });
    assert!(message.contains("class 2 (bite) occurs in none"), "{message}");
    let message = damaged(|sandbox| fs::write(sandbox.path("data/dataset.json"), "{").unwrap());
    assert!(message.contains("dataset.json: "), "{message}");
    let message = damaged(|sandbox| {
        fs::remove_dir_all(sandbox.path("data")).unwrap();
        fs::create_dir_all(sandbox.path("data/imagesTr")).unwrap();
    });
    assert!(message.contains("data: "), "{message}");
}

#[test]
fn folders_and_splits_that_do_not_fit_are_refused() {
    let sandbox = Sandbox::new(5);
    fs::write(sandbox.path("splits.json"), r#"[{"train": ["blob_0001"], "val": ["blob_0099"]}]"#).unwrap();
    fs::write(sandbox.path("file"), "").unwrap();
    fs::create_dir(sandbox.path("empty")).unwrap();
    let tiny = format!("train {TINY}");
    refuse_all(
        &sandbox,
        &tiny,
        &[
            ("--dataset absent", "absent: "),
            ("--dataset file", "file: "),
            ("--dataset empty", "empty: "),
            ("--train-data-dir empty --val-data-dir empty", "empty: "),
            ("--dataset data --splits splits.json", "blob_0099"),
            ("--dataset data --num-channels 2", "1 channels"),
            ("--dataset data --num-classes 2", "label 2"),
            ("--dataset data --num-classes 4", "occurs in none"),
            ("--dataset data --model-path file", "file: "),
            ("--dataset data --model-path file/below", "file/below"),
            ("--dataset data --cache file/below", "file/below"),
        ],
    );
    refuse_all(
        &sandbox,
        "explore",
        &[
            ("absent", "absent: "),
            ("empty", "empty: "),
            ("data --html file", "already exists"),
            ("data --html absent/page.html", "absent/page.html"),
            ("data --threads 100000", "--threads: "),
        ],
    );
    refuse_all(
        &sandbox,
        "inspect",
        &[
            ("absent.nii", "absent.nii: "),
            ("file", "neither an image nor a checkpoint"),
            ("absent.safetensors", "absent.safetensors: "),
        ],
    );
    refuse_all(
        &sandbox,
        "demo",
        &[
            ("--output file", "exists already"),
            ("--output file --overwrite", "not the folder"),
            ("--output fresh --cases 4", "at least 5 cases"),
            ("--output fresh --cases 10000", "--cases: "),
            ("--output fresh --training-epochs 0", "at least"),
            ("--output file/below", "file/below"),
        ],
    );
}

#[test]
fn checkpoints_that_do_not_fit_are_refused() {
    let sandbox = Sandbox::new(5);
    let run = format!("train --dataset data {TINY}");
    sandbox.succeed(&format!("{run} --training-epochs 1 --model-path model"));
    let resume = format!("{run} --model-path model --resume-train true");
    refuse_all(
        &sandbox,
        &resume,
        &[
            // Once the names of fields and JSON were told, which nobody has typed.
            ("--loss dice", "--loss: \"log_dice\" in the run to resume, \"dice\" now"),
            ("--model-architecture upsampling_dropout", "--model-architecture: "),
            ("--seed 1", "--seed: 0 in the run to resume, 1 now"),
            ("--weighted-classes false", "--weighted-classes: true in the run to resume, false now"),
            ("--optimizer sgd", "--optimizer: \"adam\" in the run to resume, \"sgd\" now"),
            ("--train-batch-size 2", "--train-batch-size: 1 in the run to resume, 2 now"),
            ("--flip D", "--flip: false in the run to resume, true now"),
            ("--clip-value 5", "--clip-value: 50.0 in the run to resume, 5.0 now"),
            ("--fold 1", "other data"),
        ],
    );
    for copy in ["cut", "flipped"] {
        fs::create_dir(sandbox.path(copy)).unwrap();
        for name in ["best", "last"] {
            let mut bytes = fs::read(sandbox.path(&format!("model/{name}.safetensors"))).unwrap();
            if copy == "cut" {
                bytes.truncate(bytes.len() - 7);
            } else {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            fs::write(sandbox.path(&format!("{copy}/{name}.safetensors")), bytes).unwrap();
        }
        assert!(
            sandbox.refuse(&format!("{run} --model-path {copy} --resume-train true")).contains("last.safetensors: ")
        );
        let predict = format!("predict data/imagesTr --model-path {copy} --output out");
        assert!(sandbox.refuse(&predict).contains("best.safetensors: "));
        assert!(sandbox.refuse(&format!("inspect {copy}/best.safetensors")).contains("best.safetensors: "));
    }
}

#[test]
fn predictions_that_cannot_be_made_are_refused_before_the_first_is_written() {
    let sandbox = Sandbox::new(5);
    sandbox.succeed(&format!("train --dataset data {TINY} --training-epochs 1 --model-path model"));
    fs::write(sandbox.path("file"), "").unwrap();
    let image = read_image(&sandbox.path("data/imagesTr/blob_0001.nii.gz")).unwrap();
    for folder in ["channels", "cut", "nan", "twins"] {
        fs::create_dir(sandbox.path(folder)).unwrap();
        // The good one comes first by name.
        write_f32(&sandbox.path(&format!("{folder}/a.nii.gz")), &image.header, 1, &image.voxels).unwrap();
    }
    write_f32(&sandbox.path("channels/b.nii.gz"), &image.header, 2, &image.voxels.repeat(2)).unwrap();
    fs::copy(sandbox.path("cut/a.nii.gz"), sandbox.path("cut/b.nii.gz")).unwrap();
    truncate(&sandbox.path("cut/b.nii.gz"));
    let mut voxels = image.voxels.clone();
    voxels[100] = f32::NAN;
    write_f32(&sandbox.path("nan/b.nii.gz"), &image.header, 1, &voxels).unwrap();
    sandbox.succeed("predict twins --model-path model --output done");
    refuse_all(
        &sandbox,
        "predict --model-path model",
        &[
            ("channels --output out", "channels/b.nii.gz: 2 channels"),
            ("cut --output out", "cut/b.nii.gz: "),
            ("nan --output out", "nan/b.nii.gz: "),
            ("absent --output out", "absent"),
            ("absent.nii --output out", "absent.nii: "),
            ("file --output out", "file: "),
            ("twins --output twins", "would replace an image"),
            ("twins --output twins --overwrite", "would replace an image"),
            ("twins nan/a.nii.gz --output out", "two images"),
            ("twins --output done", "already exists"),
            ("twins --output file", "file"),
            ("twins --output file/below", "file/below"),
            ("twins --output out --overlap 1", "--overlap: "),
            ("twins --output out --overlap nan", "--overlap: "),
            ("twins --output out --overlap=-0.5", "--overlap: "),
            ("twins --output out --device cuda:7", "--device cuda:7: "),
            ("twins --output out --threads 100000", "--threads: "),
            ("--dataset data --fold 9 --output out", "--fold: "),
        ],
    );
    refuse_all(
        &sandbox,
        "predict twins --output out --model-path",
        &[("absent", "absent: "), ("data", "best.safetensors: "), ("file", "file: ")],
    );
    refuse_all(
        &sandbox,
        "evaluate",
        &[
            ("done data/labelsTr", "a.nii.gz: has no truth"),
            ("absent data/labelsTr", "absent: "),
            ("data/labelsTr absent", "absent: "),
            ("twins twins --tolerance=-1", "--tolerance: "),
            ("twins twins --tolerance nan", "--tolerance: "),
            ("twins twins --threads 100000", "--threads: "),
            ("data/labelsTr data/labelsTr --csv file", "already exists"),
            ("data/labelsTr data/labelsTr --csv absent/scores.csv", "absent/scores.csv"),
            ("data/labelsTr data/labelsTr --dataset twins", "twins: "),
        ],
    );
    fs::remove_file(sandbox.path("data/labelsTr/blob_0003.nii.gz")).unwrap();
    fs::create_dir(sandbox.path("some")).unwrap();
    fs::copy(sandbox.path("data/labelsTr/blob_0001.nii.gz"), sandbox.path("some/blob_0001.nii.gz")).unwrap();
    assert!(sandbox.refuse("evaluate some data/labelsTr").contains("has no prediction"));
}

#[test]
fn a_reader_who_has_seen_enough_causes_no_panic() {
    let sandbox = Sandbox::new(1);
    for arguments in ["plan", "plan --json", "inspect data/imagesTr/blob_0001.nii.gz", "explore data", "--help"] {
        let mut child = sandbox.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success() && text.is_empty(), "gyrus {arguments}: {text}");
    }
    // Nor does one who does not want to hear remarks.
    let mut child = sandbox.command("plan --device cuda:7").stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_cannot_be_printed_are_a_failure_of_the_machine() {
    let sandbox = Sandbox::new(1);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output =
        sandbox.command("plan").stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", cli::stderr(&output));
    assert!(cli::stderr(&output).starts_with("error: standard output: "), "{}", cli::stderr(&output));
}

#[test]
fn a_command_line_that_cannot_be_read_is_one_line_that_names_the_option() {
    // These took up to seven lines, and a negative number was an unexpected argument without its option.
    let sandbox = Sandbox::new(5);
    refuse_all(
        &sandbox,
        "train --dataset data",
        &[
            ("--lr -1", "--lr: "),
            ("--epsilon -1", "--epsilon: "),
            ("--num-workers -1", "--num-workers"),
            ("--lr abc", "--lr"),
            ("--flip X", "--flip"),
            ("--device foo", "--device"),
            ("--loss other", "--loss"),
            ("--no-such-option", "--no-such-option"),
        ],
    );
    assert!(sandbox.refuse("train").contains("--dataset"));
    assert!(sandbox.refuse("paint").contains("paint"));
}

#[test]
fn a_page_of_the_plan_replaces_nothing_unasked() {
    let sandbox = Sandbox::new(5);
    let page = sandbox.path("thesis.html");
    fs::write(&page, "thesis").unwrap();
    let plan = "plan --device cpu --unet-resize-factor 32 --mri-height 16 --mri-width 16 --mri-depth 16";
    for option in ["--html", "--svg"] {
        let refused = sandbox.refuse(&format!("{plan} {option} thesis.html"));
        assert!(refused.contains("thesis.html") && refused.contains("--overwrite"), "{refused}");
        assert_eq!(fs::read_to_string(&page).unwrap(), "thesis");
    }
    sandbox.succeed(&format!("{plan} --html thesis.html --overwrite"));
    assert!(fs::read_to_string(&page).unwrap().contains("<svg"));
}
