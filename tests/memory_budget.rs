//! The command line keeps to a memory budget, and results do not depend on it.

use std::{
    path::Path,
    process::{Command, Output},
};

use gyrus::{checkpoint::Checkpoint, demo};

/// Of a network that is planned and trained in no time.
const NETWORK: [&str; 4] = ["--unet-resize-factor", "16", "--model-architecture", "upsampling_dropout"];

fn gyrus(arguments: &[&str]) -> Output {
    let [depth, width, height] = demo::EXTENTS.map(|extent| extent.to_string());
    let extents = ["--mri-height", &height, "--mri-width", &width, "--mri-depth", &depth];
    let command = [arguments, &NETWORK, &extents, &["--threads", "2"]].concat();
    Command::new(env!("CARGO_BIN_EXE_gyrus")).args(command).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn trained(folder: &Path) -> (Checkpoint, String) {
    let history = std::fs::read_to_string(folder.join("history.csv")).unwrap();
    let header: Vec<&str> = history.lines().next().unwrap().split(',').collect();
    let timed = ["seconds", "ms_per_step", "waiting"];
    assert!(timed.iter().all(|column| header.contains(column)), "{header:?}");
    let untimed = |line: &str| {
        let fields = header.iter().zip(line.split(',')).filter(|(column, _)| !timed.contains(column));
        fields.map(|(_, field)| field).collect::<Vec<_>>().join(",")
    };
    let figures = history.lines().map(untimed);
    (Checkpoint::load(&folder.join("last.safetensors")).unwrap(), figures.collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_small_budget_forces_rematerialisation_and_the_run_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, plain, tight) = (path("data"), path("plain"), path("tight"));
    demo::synthesize(Path::new(&data), 3, 3).unwrap();
    let size = ["--num-channels", "1", "--num-classes", "3"];
    let plan = gyrus(&[&["plan", "--json"][..], &size].concat());
    assert!(plan.status.success(), "{}", text(&plan.stderr));
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    let levels = plan["levels"].as_array().unwrap();
    let total = |index: usize| levels[index]["total_bytes"].as_u64().unwrap();
    let budget = total(levels.len() / 2).to_string();
    assert!(total(levels.len() / 2) < total(0));

    let train = |model: &str, extra: &[&str]| {
        let run = ["train", "--dataset", &data, "--folds", "3", "--training-epochs", "2", "--model-path", model];
        let run = gyrus(&[&run[..], &size, extra].concat());
        assert!(run.status.success(), "{}", text(&run.stderr));
        text(&run.stderr)
    };
    assert!(!train(&plain, &["--rematerialise", "none"]).contains("computed again"));
    assert!(train(&tight, &["--memory-budget", &budget]).contains("activations are computed again"));
    let ((plain, plain_history), (tight, tight_history)) = (trained(Path::new(&plain)), trained(Path::new(&tight)));
    assert!(plain.tensors.len() > 50 && plain.tensors.len() == tight.tensors.len());
    for (name, tensor) in &plain.tensors {
        let bits = |data: &[f32]| data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&tensor.data), bits(&tight.tensors[name].data), "{name}");
    }
    assert_eq!(plain_history, tight_history);
}

#[test]
fn what_cannot_fit_is_refused_in_one_sentence_with_exit_status_2() {
    let refusal = gyrus(&["plan", "--memory-budget", "1MiB"]);
    let sentence = text(&refusal.stderr);
    assert_eq!(refusal.status.code(), Some(2), "{sentence}");
    assert!(
        sentence.starts_with("error: memory: needs ") && sentence.contains(", the budget is 1 MiB ("),
        "{sentence}"
    );
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
    let nonsense = gyrus(&["plan", "--memory-budget", "much"]);
    assert_eq!(nonsense.status.code(), Some(2));
}

#[test]
fn pictures_name_every_value_and_stand_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (svg, html) = (folder.path().join("plan.svg"), folder.path().join("plan.html"));
    let files = ["--svg", svg.to_str().unwrap(), "--html", html.to_str().unwrap()];
    let run = gyrus(&[&["plan", "--json", "--rematerialise", "full"][..], &files].concat());
    assert!(run.status.success(), "{}", text(&run.stderr));
    let plan: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let (svg, html) = (std::fs::read_to_string(svg).unwrap(), std::fs::read_to_string(html).unwrap());
    let blocks = plan["timeline"]["blocks"].as_array().unwrap();
    assert!(blocks.len() > 100);
    assert!(blocks.iter().any(|block| block["kind"] == "again"));
    for block in blocks {
        let title = format!("<title>{}\n", block["name"].as_str().unwrap());
        assert!(svg.contains(&title) && html.contains(&title), "{title}");
    }
    assert!(svg.contains(&format!("at {}</text>", plan["peak_at"].as_str().unwrap())));
    // Nothing is fetched: the only address is the name of the SVG format.
    assert_eq!(html.matches("http").count(), html.matches("http://www.w3.org/2000/svg").count());
}

#[test]
fn a_card_brings_its_memory_and_its_rates_and_the_layout_of_gpus() {
    let plan = |card: &[&str]| {
        let run = gyrus(&[&["plan", "--json"][..], card].concat());
        assert!(run.status.success(), "{}", text(&run.stderr));
        serde_json::from_slice::<serde_json::Value>(&run.stdout).unwrap()
    };
    let (slow, fast) = (plan(&["--card", "rtx3060"]), plan(&["--card", "RTX 4090"]));
    assert_eq!((&slow["card"], &fast["card"]), (&"rtx3060".into(), &"rtx4090".into()));
    assert!(fast["budget_bytes"].as_u64() > slow["budget_bytes"].as_u64());
    let times = |plan: &serde_json::Value| -> Vec<f64> {
        plan["levels"].as_array().unwrap().iter().map(|level| level["roofline_seconds"].as_f64().unwrap()).collect()
    };
    // Less memory never comes for less time, and the faster card is faster at every level.
    assert!(times(&slow).is_sorted() && times(&slow).len() > 3);
    assert!(times(&slow).iter().zip(times(&fast)).all(|(slow, fast)| fast < *slow));
    let bytes = plan(&["--card", "11GiB"]);
    assert_eq!(bytes["budget_bytes"].as_u64(), Some(11 << 30));
    assert!(bytes["card"].is_null() && bytes["levels"][0]["roofline_seconds"].is_null());
    // A GPU's workspaces do not depend on threads; the CPU's do.
    assert_ne!(bytes["total_bytes"], plan(&[])["total_bytes"]);
    assert_eq!(bytes["total_bytes"], slow["total_bytes"]);
}

#[test]
fn a_card_that_cannot_be_used_is_refused_with_what_can() {
    for (card, cause) in [("v100", "7.0"), ("voodoo2", "rtx3090")] {
        let refusal = gyrus(&["plan", "--card", card]);
        assert_eq!(refusal.status.code(), Some(2));
        assert!(text(&refusal.stderr).contains(cause), "{}", text(&refusal.stderr));
    }
    let refusal = gyrus(&["plan", "--card", "t4", "--precision", "bf16"]);
    assert!(refusal.status.code() == Some(2) && text(&refusal.stderr).contains("use --precision fp16"));
    let refusal = gyrus(&["plan", "--card", "t4", "--memory-budget", "1MiB"]);
    assert!(text(&refusal.stderr).contains(", the budget is 1 MiB ("));
}
