//! `scripts/gpu-check`, as it would run beside a GPU: on the emulated one, and with programs that only pretend to compute.
#![cfg(unix)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use gyrus::machine;
use serde_json::Value;

mod cli;
use cli::Sandbox;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/gpu-check");
const GYRUS: &str = env!("CARGO_BIN_EXE_gyrus");

/// What a call left and said.
struct Checked {
    code: i32,
    said: String,
    result: Value,
    table: String,
}

/// Runs a script in the sandbox; results go to its folder `out`.
fn check(sandbox: &Sandbox, script: &Path, arguments: &[&str]) -> Checked {
    let output = Command::new(script).args(["--out", "out"]).args(arguments).current_dir(sandbox.path("")).output();
    let output = output.unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    let read = |name: &str| fs::read_to_string(sandbox.path("out").join(name)).unwrap_or_default();
    let text = read("result.json");
    let result = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}\n{said}"))
    };
    Checked { code: output.status.code().unwrap(), said, result, table: read("table.txt") }
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A program that appends its first argument to `calls`, and fails at what the file `fails` names.
fn pretend(sandbox: &Sandbox) {
    let program = "#!/bin/sh\necho \"$1\" >>calls\n[ \"$1\" != --json ] && [ \"$2\" = --json ] && echo '{}'\n\
                   [ \"$1\" != \"$(cat fails 2>/dev/null)\" ]\n";
    executable(&sandbox.path("pretended"), program);
}

fn calls(sandbox: &Sandbox, what: &str) -> usize {
    fs::read_to_string(sandbox.path("calls")).unwrap().lines().filter(|&line| line == what).count()
}

#[test]
fn parts_run_on_the_emulated_gpu_and_leave_one_json_and_a_table() {
    let sandbox = Sandbox::new(5);
    executable(&sandbox.path("peer"), "#!/bin/sh\necho \"problem of $EXTENT\"\necho '{\"step_ms\": 7}'\n");
    let parts = "devices selftest patches whole-fp32 peer budgets ncu";
    let options = ["--gyrus", GYRUS, "--device", "emulated", "--small", "--peer", "peer", "--parts", parts];
    let Checked { code, said, result, table } = check(&sandbox, Path::new(SCRIPT), &options);
    assert_eq!(code, 0, "{said}");
    let statuses = result["parts"].as_object().unwrap();
    assert_eq!(statuses.len(), 8, "{table}");
    assert!(statuses.values().all(|part| part["status"] == 0 || part["status"] == "skipped"), "{table}");
    assert_eq!(result["selftest"]["failures"], 0);
    assert_eq!(result["devices"]["devices"][0]["device"], "cpu");
    assert_eq!(result["peer-other-2"]["step_ms"], 7);
    let arena = |part: &str| result[part]["arena_bytes"].as_u64().unwrap();
    assert!(arena("budgets") < arena("patches-16bit") && arena("patches-16bit") < arena("patches-fp32"), "{table}");
    assert!(said.contains(&format!("planned {0} bytes, allocated {0}", arena("whole-fp32"))), "{said}");
    assert!(table.contains("cases passed"), "{table}");
}

#[test]
fn a_short_training_is_a_part() {
    let sandbox = Sandbox::new(5);
    let options = ["--gyrus", GYRUS, "--device", "cpu", "--small", "--parts", "steps train"];
    let Checked { code, said, result, .. } = check(&sandbox, Path::new(SCRIPT), &options);
    assert_eq!(code, 0, "{said}");
    assert_eq!(result["parts"]["steps"]["status"], "skipped");
    assert!(result["train"]["epochs"].as_array().is_some_and(|epochs| !epochs.is_empty()), "{}", result["train"]);
    assert!(!sandbox.path("out/work").exists());
}

#[test]
fn a_second_call_goes_on_with_the_parts_that_are_left() {
    let sandbox = Sandbox::new(1);
    pretend(&sandbox);
    let once = || {
        let options = ["--gyrus", "./pretended", "--seconds", "1", "--parts", "devices selftest sanitizer-memcheck"];
        check(&sandbox, Path::new(SCRIPT), &options)
    };
    let first = once();
    assert_eq!(first.code, 3, "{}", first.said);
    assert!(first.said.contains("left for another call: selftest sanitizer-memcheck"), "{}", first.said);
    let second = once();
    assert_eq!((second.code, calls(&sandbox, "selftest")), (3, 1), "{}", second.said);
    let devices = calls(&sandbox, "devices");
    let (third, fourth) = (once(), once());
    assert_eq!((third.code, fourth.code), (0, 0), "{}", fourth.said);
    assert_eq!(calls(&sandbox, "devices"), devices, "a part that was done was done again");
    assert_eq!(fourth.result["parts"].as_object().unwrap().len(), 3, "{}", fourth.table);
}

#[test]
fn a_failure_is_kept_until_it_is_tried_again() {
    let sandbox = Sandbox::new(1);
    pretend(&sandbox);
    fs::write(sandbox.path("fails"), "selftest").unwrap();
    let call = |more: &[&str]| {
        let options = [&["--gyrus", "./pretended", "--parts", "devices selftest"], more].concat();
        check(&sandbox, Path::new(SCRIPT), &options)
    };
    assert_eq!(call(&[]).code, 1);
    fs::remove_file(sandbox.path("fails")).unwrap();
    let kept = call(&[]);
    assert_eq!((kept.code, calls(&sandbox, "selftest")), (1, 1), "{}", kept.said);
    let again = call(&["--again", "selftest"]);
    assert_eq!((again.code, calls(&sandbox, "selftest")), (0, 2), "{}", again.said);
}

#[test]
fn results_of_two_binaries_do_not_mix_and_no_part_is_misspelt() {
    let sandbox = Sandbox::new(1);
    pretend(&sandbox);
    assert_eq!(check(&sandbox, Path::new(SCRIPT), &["--gyrus", "./pretended", "--parts", "devices"]).code, 0);
    let other = check(&sandbox, Path::new(SCRIPT), &["--gyrus", GYRUS, "--parts", "devices"]);
    assert!(other.code == 2 && other.said.contains("another binary"), "{}", other.said);
    let misspelt = check(&sandbox, Path::new(SCRIPT), &["--gyrus", "./pretended", "--parts", "device"]);
    assert!(misspelt.code == 2 && misspelt.said.contains("no part device"), "{}", misspelt.said);
}

#[test]
fn a_computer_without_a_gpu_fails_the_selftest_with_the_reason() {
    let sandbox = Sandbox::new(1);
    let Checked { code, result, table, .. } =
        check(&sandbox, Path::new(SCRIPT), &["--gyrus", GYRUS, "--parts", "selftest"]);
    match machine::first_usable() {
        Ok(_) => assert_eq!(code, 0, "{table}"),
        Err(_) => {
            assert_eq!(code, 1, "{table}");
            assert_eq!(result["parts"]["selftest"]["status"], 2);
            assert!(table.contains("error: --device cuda"), "{table}");
        }
    }
}

#[test]
fn what_is_carried_runs_by_itself_and_may_not_be_too_much() {
    let sandbox = Sandbox::new(1);
    pretend(&sandbox);
    fs::write(sandbox.path("other.py"), "print('{}')\n").unwrap();
    let pack = |into: &str| {
        let options = ["--pack", into, "--gyrus", "./pretended", "--dataset", "data", "--peer", "other.py"];
        check(&sandbox, Path::new(SCRIPT), &options)
    };
    let packed = pack("carried");
    assert_eq!(packed.code, 0, "{}", packed.said);
    for file in ["gyrus", "gpu-check", "data/dataset/dataset.json", "data/peer-other.py"] {
        assert!(sandbox.path("carried").join(file).is_file(), "{}", packed.said);
        assert!(packed.said.contains(file), "{}", packed.said);
    }
    // Not into what is there already.
    assert_eq!(pack("carried").code, 2);
    let there = check(&sandbox, &sandbox.path("carried/gpu-check"), &["--parts", "devices selftest"]);
    assert_eq!(there.code, 0, "{}", there.said);
    assert_eq!(calls(&sandbox, "selftest"), 1);
    let large = fs::File::create(sandbox.path("data/imagesTr/large.nii")).unwrap();
    large.set_len(64 << 20).unwrap();
    let refused = pack("too-much");
    assert!(refused.code == 2 && refused.said.contains("64 MiB"), "{}", refused.said);
    assert!(!sandbox.path("too-much").exists());
}
