//! What the documents say is what the program prints: every figure that can be computed is computed again and compared.
//!
//!     cargo test --release --test docs -- --nocapture
//!
//! prints each block and row as it should stand in the document; `GYRUS_UPDATE_DOCS=1` puts it there. The README's table of memory has a test of its own
//! (`memory_table`).

mod cli;
mod common;

use std::collections::BTreeSet;

use cli::{Sandbox, stderr};
use common::document::{correct, read, rows};
use serde_json::Value;

const DOCUMENTS: [&str; 4] = ["README.md", "docs/benchmarks.md", "docs/fusion.md", "docs/memory.md"];

const GIB: f64 = (1u64 << 30) as f64;

/// The text as one line, where only blanks tell words apart.
fn flowing(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lines `$ gyrus ...` with what follows up to an empty line or the end of the block: arguments and output.
fn sessions(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(arguments) = line.trim_start().strip_prefix("$ gyrus ") else { continue };
        let indent = line.len() - line.trim_start().len();
        let output: Vec<&str> =
            lines.by_ref().take_while(|line| !line.is_empty() && *line != "```").map(|line| &line[indent..]).collect();
        found.push((arguments.to_owned(), output.join("\n")));
    }
    found
}

#[test]
fn commands_in_the_documents_print_what_stands_below_them() {
    let sandbox = Sandbox::new(1);
    let mut count = 0;
    for document in DOCUMENTS {
        let pairs = sessions(&read(document)).into_iter().map(|(arguments, stands)| {
            let output = sandbox.run(&arguments);
            let printed = String::from_utf8(output.stdout.clone()).unwrap() + &stderr(&output);
            println!("{document}:\n$ gyrus {arguments}\n{printed}");
            // As it is indented there: only blocks of one line can be corrected by the test.
            (stands, printed.trim_end().to_owned())
        });
        let pairs: Vec<(String, String)> = pairs.collect();
        correct(document, &pairs);
        count += pairs.len();
    }
    assert!(count > 0, "no document shows what a command prints");
}

fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split('|').map(str::trim).collect()
}

fn levels(plan: &Value) -> &Vec<Value> {
    plan["levels"].as_array().unwrap()
}

fn gib(level: &Value) -> String {
    format!("{:.2}", level["total_bytes"].as_f64().unwrap() / GIB)
}

/// Least time of a step and arithmetic added, as the table of cards has them.
fn on_card(sandbox: &Sandbox, arguments: &str) -> String {
    let output = sandbox.run(&format!("plan --json {arguments}"));
    if output.status.code() == Some(2) && stderr(&output).starts_with("error: memory: needs") {
        return "does not fit".to_owned();
    }
    assert!(output.status.success(), "{arguments}: {}", stderr(&output));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let chosen = levels(&plan).iter().find(|level| level["chosen"] == true).unwrap();
    let milliseconds = 1e3 * chosen["roofline_seconds"].as_f64().unwrap();
    let added = match chosen["extra_flops_percent"].as_f64().unwrap() {
        0.0 => String::new(),
        percent => format!(", +{percent:.1} %"),
    };
    let host = if chosen["offloaded"] == true { ", state on the host" } else { "" };
    format!("{} ({milliseconds:.0} ms{added}{host})", gib(chosen))
}

#[test]
fn the_table_of_cards_is_what_plan_says_of_them() {
    let sandbox = Sandbox::new(1);
    let rows = rows("docs/memory.md", "| card | factor | batch |");
    let cards: BTreeSet<&str> = rows.iter().map(|row| cells(row)[0]).collect();
    assert_eq!(rows.len(), 3 * cards.len(), "each card with factor 2, factor 1, and factor 1 with two samples");
    let should = |row: String| {
        let [card, factor, batch] = cells(&row)[..3] else { panic!("{row}") };
        let (name, _) = card.split_once(" (").unwrap_or_else(|| panic!("{card} has no size"));
        let half = if name == "titan-rtx" { "fp16" } else { "bf16" };
        let [single, half] = ["fp32", half].map(|precision| {
            let card = format!("--card {name} --precision {precision}");
            on_card(&sandbox, &format!("{card} --unet-resize-factor {factor} --train-batch-size {batch}"))
        });
        let should = format!("| {card} | {factor} | {batch} | {single} | {half} |");
        println!("{should}");
        (row, should)
    };
    correct("docs/memory.md", &rows.into_iter().map(should).collect::<Vec<_>>());
}

#[test]
fn the_table_of_architectures_is_what_plan_says_of_them() {
    let sandbox = Sandbox::new(1);
    let should = |row: String| {
        let [architecture, factor] = cells(&row)[..2] else { panic!("{row}") };
        let network = format!("--model-architecture {architecture} --unet-resize-factor {factor}");
        let plan = sandbox.json(&format!("plan --json --card 4TiB --offload none --precision bf16 {network}"));
        let levels = levels(&plan);
        let added = |level: &Value| level["extra_flops_percent"].as_f64().unwrap();
        let within = |percent: f64| gib(levels.iter().rev().find(|level| added(level) <= percent).unwrap());
        let [kept, none, little] = [gib(&levels[0]), within(0.0), within(5.0)];
        let least = levels.last().unwrap();
        let least = format!("{} (+{:.1} %)", gib(least), added(least));
        let should = format!("| {architecture} | {factor} | {kept} | {none} | {little} | {least} |");
        println!("{should}");
        (row, should)
    };
    let rows = rows("docs/memory.md", "| architecture | factor |");
    correct("docs/memory.md", &rows.into_iter().map(should).collect::<Vec<_>>());
}

#[test]
fn the_demo_is_said_to_take_the_same_time_everywhere() {
    let said = "takes less than half a minute on two idle cores";
    let help = Sandbox::new(1).succeed("demo --help");
    for (place, text) in [("README.md", read("README.md")), ("gyrus demo --help", help)] {
        assert!(flowing(&text).contains(said), "{place} does not say that it {said}");
    }
}

/// What is edited by hand when a version is made: nothing may be forgotten.
#[test]
fn the_citation_and_the_changelog_know_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(read("CITATION.cff").contains(&format!("\nversion: {version}\n")), "CITATION.cff names another version");
    let changelog = read("CHANGELOG.md");
    let sections: Vec<&str> = changelog.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections[0], "Unreleased", "what comes next has a place");
    assert!(sections[1].starts_with(&format!("{version} - ")), "the newest section is {:?}", sections[1]);
}
