//! Holds the code to the floor plan in `src/lib.rs`: who uses whom, and nobody in a circle; and to the list of files that may use
//! `unsafe`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

type Names = BTreeSet<String>;

/// The files that may use `unsafe`, and what for. All others are denied it by the compiler (`src/lib.rs`).
const UNSAFE: [(&str, &str); 35] = [
    ("src/cpu/arena.rs", "slices of the one allocation, mutable ones side by side"),
    ("src/cpu/batch_norm.rs", "threads write disjoint rows of one tensor"),
    ("src/cpu/call.rs", "an operation's operands as slices of the arena, proved disjoint when they are bound"),
    ("src/cpu/channelwise.rs", "vector loads and stores, threads on disjoint rows"),
    ("src/cpu/conv/correlate_task.rs", "threads write disjoint tiles of the result"),
    ("src/cpu/conv/dot.rs", "a microkernel over pointers"),
    ("src/cpu/conv/interleave.rs", "vector loads and stores while staging"),
    ("src/cpu/conv/narrow.rs", "vector loads and stores"),
    ("src/cpu/conv/outer.rs", "a microkernel over pointers"),
    ("src/cpu/conv/pack.rs", "vector loads and stores while packing"),
    ("src/cpu/conv/stage.rs", "vector loads and stores while staging"),
    ("src/cpu/conv/tile.rs", "a microkernel over pointers"),
    ("src/cpu/conv/tile_shapes.rs", "the table of microkernels"),
    ("src/cpu/conv/wgrad.rs", "threads write disjoint sums"),
    ("src/cpu/conv/wgrad_sums.rs", "vector loads and stores"),
    ("src/cpu/conv/wgrad_task.rs", "threads write disjoint sums"),
    ("src/cpu/conv/winograd_task.rs", "threads write disjoint tiles of the result"),
    ("src/cpu/conv/winograd_transform.rs", "vector loads and stores between voxels and points"),
    ("src/cpu/conv/winograd_wgrad_task.rs", "threads write disjoint sums"),
    ("src/cpu/conv/word.rs", "vector products of one instruction set"),
    ("src/cpu/element.rs", "vector loads and stores of each element type"),
    ("src/cpu/elementwise.rs", "vector loads and stores, threads on disjoint runs"),
    ("src/cpu/peak.rs", "vector arithmetic to be timed"),
    ("src/cpu/pool.rs", "vector loads and stores, threads on disjoint rows"),
    ("src/cpu/pool/fused.rs", "vector loads and stores, threads on disjoint rows"),
    ("src/cpu/pool/norm.rs", "vector loads and stores, threads on disjoint rows"),
    ("src/cpu/reduce.rs", "vector loads"),
    ("src/cpu/simd.rs", "the choice of an instruction set that the machine has"),
    ("src/cpu/simd/portable.rs", "vectors of every target behind the same unsafe trait"),
    ("src/cpu/simd/x86.rs", "vectors of AVX2 and AVX-512"),
    ("src/cpu/threads.rs", "a closure and disjoint slices lent to worker threads"),
    ("src/machine/cuda/driver.rs", "NVIDIA's driver is C"),
    ("src/machine/cuda/host.rs", "pinned memory of NVIDIA's driver"),
    ("src/machine/cuda/machine.rs", "NVIDIA's driver is C"),
    ("src/machine/cuda/mod.rs", "NVIDIA's driver is C; its handles move between threads"),
];

/// A row of the table: modules, and what they use.
struct Row {
    modules: Names,
    uses: Names,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The text in backticks, without the link's `mod@`.
fn names(cell: &str) -> Names {
    cell.split('`').skip(1).step_by(2).map(|name| name.trim_start_matches("mod@").to_owned()).collect()
}

/// The table; `everything` stands for all rows above. What the first two rows hold, everybody below may use.
fn table() -> Vec<Row> {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | [`")).map(|line| format!("[`{line}"));
    let mut table: Vec<Row> = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        assert_eq!(cells.len(), 3, "{row}");
        let mut uses = names(cells[2]);
        if cells[2].starts_with("everything") {
            uses.extend(table.iter().skip(2).flat_map(|row| row.modules.clone()));
        }
        table.push(Row { modules: names(cells[0]), uses });
    }
    table
}

/// The files of a module, each with its text up to its tests. Tests may use what they like: they look at a part from within
/// the whole, and no user of the library is bound by what they need.
fn sources(path: &Path, found: &mut Vec<(PathBuf, String)>) {
    if path.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        return entries.iter().for_each(|entry| sources(entry, found));
    }
    let is_test = path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
    if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
        let lines = code.lines().map(|line| line.split("//").next().unwrap());
        found.push((path.to_owned(), lines.collect::<Vec<_>>().join("\n")));
    }
}

/// The first names of all paths that begin at the crate, in groups as well.
fn first_names(code: &str) -> Names {
    let word = |text: &str| -> String { text.chars().take_while(|&c| c.is_alphanumeric() || c == '_').collect() };
    let mut found = Names::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && c.is_alphabetic() => {
                    found.insert(word(&group[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// What each module uses, with a file that does.
fn edges() -> BTreeMap<String, BTreeMap<String, PathBuf>> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let module = |path: &Path| {
        let first = path.strip_prefix(root().join("src")).unwrap().components().next().unwrap();
        first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
    };
    // Macros and the crate's own aliases are named without the module that they come from.
    let mut home = BTreeMap::from(["Error", "Result"].map(|name| (name.to_owned(), "error".to_owned())));
    for (path, code) in &files {
        let exported = code.split("#[macro_export]").skip(1).filter_map(|text| text.split("macro_rules! ").nth(1));
        home.extend(exported.map(|text| (text.split([' ', '{']).next().unwrap().to_owned(), module(path))));
    }
    let mut edges: BTreeMap<String, BTreeMap<String, PathBuf>> = BTreeMap::new();
    for (path, code) in files.iter().filter(|(path, _)| !["lib", "main"].contains(&&*module(path))) {
        let used = edges.entry(module(path)).or_default();
        let names = first_names(code).into_iter().map(|name| home.get(&name).cloned().unwrap_or(name));
        used.extend(names.filter(|name| *name != module(path)).map(|name| (name, path.clone())));
    }
    edges
}

#[test]
fn a_module_uses_what_its_row_names_and_a_row_names_rows_above_it() {
    let (table, edges) = (table(), edges());
    let listed: Names = table.iter().flat_map(|row| row.modules.clone()).collect();
    assert_eq!(listed, edges.keys().cloned().collect(), "the table's modules, and those of src");
    let mut above = Names::new();
    for (index, row) in table.iter().enumerate() {
        let common: Names = table[..index.min(2)].iter().flat_map(|row| row.modules.clone()).collect();
        assert!(row.uses.is_subset(&above), "{:?} names what is not above: {:?}", row.modules, row.uses);
        let mut used = Names::new();
        for (name, file) in row.modules.iter().flat_map(|module| &edges[module]) {
            let is_declared = row.uses.contains(name) || common.contains(name);
            assert!(is_declared, "{} uses {name}, which its row in src/lib.rs does not name", file.display());
            used.insert(name.clone());
        }
        let is_everything = row.uses.len() == above.len() - common.len();
        let idle: Vec<&String> = row.uses.difference(&used).collect();
        assert!(idle.is_empty() || is_everything, "{:?} do not use {idle:?}, which their row names", row.modules);
        above.extend(row.modules.clone());
    }
}

#[test]
fn nested_groups_and_plain_paths_are_found() {
    let code = "use crate::{Error, a::{b, c::{d}}, e};\nfn f() { crate::g::h(); }\n$crate::i::J";
    assert_eq!(first_names(code), ["Error", "a", "e", "g", "i"].map(str::to_owned).into());
}

/// Every source file with its code, tests included and comments left out.
fn all_code() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut files = Vec::new();
    walk(&root().join("src"), &mut files);
    let code = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        (name, text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n"))
    };
    files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")).map(code).collect()
}

#[test]
fn unsafe_stands_in_the_listed_files_alone_and_the_compiler_denies_it_to_all_others() {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let files = all_code();
    let with = |what: &str| -> Names {
        let has = |code: &str| code.split(|c| !is_word(c)).any(|word| word == what);
        files.iter().filter(|(_, code)| has(code)).map(|(name, _)| name.clone()).collect()
    };
    let listed: Names = UNSAFE.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(with("unsafe"), listed);
    assert!(UNSAFE.iter().all(|(_, reason)| !reason.is_empty()));
    let root: Names = ["src/lib.rs", "src/main.rs"].map(str::to_owned).into();
    assert_eq!(with("unsafe_code"), &listed | &root);
    let text = |name: &str| &files.iter().find(|(file, _)| file == name).unwrap().1;
    assert!(
        text("src/lib.rs").contains("#![deny(unsafe_code)]") && text("src/main.rs").contains("#![forbid(unsafe_code)]")
    );
    assert!(listed.iter().all(|file| text(file).contains("#![allow(unsafe_code)]")));
}

#[test]
fn the_picture_of_the_floors_has_every_module_above_those_that_it_uses() {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let picture = text.split("```text").nth(1).unwrap().split("```").next().unwrap();
    let floors: Vec<Names> = picture
        .lines()
        .map(|line| line.split_whitespace().filter(|word| !word.starts_with('─')).map(str::to_owned).collect())
        .filter(|floor: &Names| !floor.is_empty())
        .collect();
    let edges = edges();
    let floor = |module: &str| floors.iter().position(|floor| floor.contains(module));
    assert_eq!(floors.iter().map(Names::len).sum::<usize>(), edges.len(), "a module for each name in the picture");
    for (module, used) in &edges {
        let own = floor(module).unwrap_or_else(|| panic!("{module} is not in the picture"));
        // The lowest floor holds what everybody uses, its own rooms included.
        let is_above = |name: &String| floor(name).is_some_and(|floor| own < floor || floor == floors.len() - 1);
        let wrong: Vec<&String> = used.keys().filter(|name| !is_above(name)).collect();
        assert!(wrong.is_empty(), "{module} is drawn beside or below {wrong:?}");
    }
}
