//! Holds the code to the floor plan in `src/lib.rs`: who uses whom, and nobody in a circle.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

type Names = BTreeSet<String>;

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
