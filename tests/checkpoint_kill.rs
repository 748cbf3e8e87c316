//! A process that dies while it saves leaves the old checkpoint or the new one, whole.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use gyrus::{
    checkpoint::{Checkpoint, Tensor},
    files::{self, Existing},
};

/// What the child process is to do, and where: set by the tests, absent in an ordinary run.
const CHILD: &str = "GYRUS_CHECKPOINT_KILL_CHILD";

/// Every element and the step say the same, so that a mixture of two checkpoints would show.
fn checkpoint(step: u64) -> Checkpoint {
    let mut checkpoint = Checkpoint::default();
    checkpoint.meta.position.global_step = step;
    let tensor = Tensor { shape: vec![100_000], data: vec![step as f32; 100_000] };
    checkpoint.tensors.insert("w".into(), tensor);
    checkpoint
}

fn spawn(task: &str, path: &Path) -> process::Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, format!("{task}={}", path.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Not a test of its own: the body of the processes that the tests kill.
#[test]
fn child() {
    let Ok(order) = env::var(CHILD) else { return };
    let (task, path) = order.split_once('=').unwrap();
    let path = PathBuf::from(path);
    match task {
        "die-before-rename" => {
            let bytes = checkpoint(2).to_bytes().unwrap();
            files::write(&path, Existing::Replace, |writer| {
                writer.write_all(&bytes)?;
                writer.flush()?;
                process::abort()
            })
            .unwrap();
        }
        _ => (2..100_000).for_each(|step| checkpoint(step).save(&path).unwrap()),
    }
}

#[test]
fn death_between_write_and_rename_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    checkpoint(1).save(&path).unwrap();
    let status = spawn("die-before-rename", &path).wait().unwrap();
    assert!(!status.success(), "the child was to abort");
    // The child came as far as a complete temporary file.
    let sizes: Vec<u64> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(sizes.len(), 2);
    assert!(sizes.iter().all(|&size| size > 400_000), "{sizes:?}");
    assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint(1));
    // And its leftovers do not hinder the next save.
    checkpoint(3).save(&path).unwrap();
    assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint(3));
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let mut latest = 1;
    for round in 0..12 {
        let mut child = spawn("save-forever", &path);
        let begun = Instant::now();
        while !path.exists() && begun.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(1));
        }
        // Rounds end at different points of the cycle of writing, syncing and renaming.
        thread::sleep(Duration::from_micros(30_000 + 1_700 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = Checkpoint::load(&path).unwrap();
        latest = latest.max(found.meta.position.global_step);
        assert_eq!(found, checkpoint(found.meta.position.global_step));
    }
    assert!(latest > 1, "no child ever saved");
}
