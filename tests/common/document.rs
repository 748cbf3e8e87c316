//! Figures in documents, compared with what is computed, or corrected (`GYRUS_UPDATE_DOCS=1`).

#![allow(dead_code)] // each test binary uses its own part of this module

use std::{fs, sync::Mutex};

/// The whole document.
pub fn read(document: &str) -> String {
    fs::read_to_string(document).unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// Compares, or corrects if it shall: pairs of what stands in the document and what should.
pub fn correct(document: &str, pairs: &[(String, String)]) {
    static WRITING: Mutex<()> = Mutex::new(());
    let wrong: Vec<&(String, String)> = pairs.iter().filter(|(stands, should)| stands != should).collect();
    if std::env::var("GYRUS_UPDATE_DOCS").is_ok_and(|value| value == "1") {
        let _alone = WRITING.lock().unwrap();
        let corrected = wrong.iter().fold(read(document), |text, (stands, should)| text.replacen(stands, should, 1));
        fs::write(document, corrected).unwrap();
    } else {
        assert!(wrong.is_empty(), "{document} is wrong (GYRUS_UPDATE_DOCS=1 corrects it): {wrong:#?}");
    }
}

/// The rows below a table's header that begins so.
pub fn rows(document: &str, header: &str) -> Vec<String> {
    let text = read(document);
    let below = text.lines().skip_while(|line| !line.starts_with(header)).skip(2);
    let rows: Vec<String> = below.take_while(|line| line.starts_with('|')).map(str::to_owned).collect();
    assert!(!rows.is_empty(), "{document} has no table {header}");
    rows
}
