//! The report as text for people and as CSV for spreadsheets.

use std::fmt::Write;

use super::report::{COLUMNS, DEFINITIONS, Mean, Report, columns};
use crate::chart::text_table;

/// Headings of the scores, and digits after the point.
const HEADINGS: [(&str, usize); 5] =
    [("Dice", 4), ("HD95 mm", 3), ("surface Dice", 4), ("predicted ml", 3), ("true ml", 3)];

impl Report {
    /// The scores of every case and class, their means with the number of values, and the definitions.
    pub fn table(&self) -> String {
        let mut rows = vec![headings("case")];
        for case in &self.cases {
            for (class, scores) in self.classes.iter().zip(&case.scores) {
                let mut row = vec![case.name.clone(), class.name.clone()];
                row.extend(columns(scores).iter().zip(HEADINGS).map(|(value, (_, digits))| number(*value, digits)));
                rows.push(row);
            }
        }
        let mut text = text_table(&rows, 2);

        let mean = |(mean, (_, digits)): (&Mean, (&str, usize))| format!("{} ({})", number(mean.mean, digits), mean.n);
        let mut rows = vec![headings("mean (n)")];
        for (class, means) in self.classes.iter().zip(self.class_means()) {
            let mut row = vec!["over cases".to_owned(), class.name.clone()];
            row.extend(means.columns().iter().zip(HEADINGS).map(mean));
            rows.push(row);
        }
        let mut row = vec!["over classes".to_owned(), String::new()];
        row.extend(self.overall_means().columns().iter().zip(HEADINGS).map(mean));
        rows.push(row);
        write!(text, "\n{}\n", text_table(&rows, 2)).expect("text");

        for (name, definition) in DEFINITIONS {
            text.push_str(&wrapped(&format!("{name}: {definition}")));
        }
        writeln!(text, "Tolerance of the surface Dice: {} mm", self.tolerance_mm).expect("text");
        text
    }

    /// One row per case and class under the heading `case,label,name,dice,hd95_mm,surface_dice,prediction_ml,truth_ml`,
    /// then one row per class whose case is `(mean)` and one whose name is `(mean)` as well, the mean over classes.
    /// Undefined values are empty fields.
    pub fn csv(&self) -> String {
        let mut text = format!("case,label,name,{}\n", COLUMNS.join(","));
        let mut line = |case: &str, label: &str, name: &str, values: [Option<f64>; 5]| {
            write!(text, "{},{label},{}", field(case), field(name)).expect("text");
            for value in values {
                // The shortest decimal that reads back as the same number.
                write!(text, ",{}", value.map(|value| value.to_string()).unwrap_or_default()).expect("text");
            }
            text.push('\n');
        };
        for case in &self.cases {
            for (class, scores) in self.classes.iter().zip(&case.scores) {
                line(&case.name, &class.label.to_string(), &class.name, columns(scores));
            }
        }
        for (class, means) in self.classes.iter().zip(self.class_means()) {
            line("(mean)", &class.label.to_string(), &class.name, means.columns().map(|mean| mean.mean));
        }
        line("(mean)", "", "(mean)", self.overall_means().columns().map(|mean| mean.mean));
        text
    }
}

fn headings(first: &str) -> Vec<String> {
    [first, "class"].into_iter().chain(HEADINGS.map(|(name, _)| name)).map(str::to_owned).collect()
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "n/a".to_owned(), |value| format!("{value:.digits$}"))
}

/// A field with quotes around it where the format needs them (RFC 4180).
fn field(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// Lines of at most 100 characters, those after the first indented by two.
fn wrapped(paragraph: &str) -> String {
    let mut text = String::new();
    let mut room = 100;
    for word in paragraph.split(' ') {
        let length = word.chars().count();
        if length > room {
            text.push_str("\n ");
            room = 99;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
        room = room.saturating_sub(length + 1);
    }
    text + "\n"
}
