//! The report as text.

use super::{Report, Spread, case_shares};
use crate::{
    chart::{short_value, text_table},
    data::fingerprint::{CaseFingerprint, Intensity},
};

impl Report {
    /// The dataset overall, then every case.
    pub fn table(&self) -> String {
        let sections = [self.heading(), self.sizes(), self.intensities(), self.label_table(), self.case_table()];
        sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn heading(&self) -> String {
        let listed = |names: &[String], kind: &str| match names {
            [] => format!("no {kind}s"),
            [one] => format!("1 {kind} ({one})"),
            many => format!("{} {kind}s ({})", many.len(), many.join(", ")),
        };
        let cases = self.fingerprint.cases.len();
        let (channels, labels) = (listed(&self.channels, "channel"), listed(&self.labels, "label"));
        format!("{}: {cases} case{}, {channels}, {labels}\n", self.name, if cases == 1 { "" } else { "s" })
    }

    fn sizes(&self) -> String {
        let mut rows = vec![row(["size", "", "smallest", "median", "largest", "mean"])];
        for (quantity, spread) in self.quantities() {
            let names = [quantity.name(), quantity.unit()].map(str::to_owned);
            rows.push(names.into_iter().chain(numbers(&spread).map(plain)).collect());
        }
        text_table(&rows, 2)
    }

    fn intensities(&self) -> String {
        let heading = [
            "intensity",
            "of voxels",
            "count",
            "smallest",
            "0.5 %",
            "median",
            "99.5 %",
            "largest",
            "mean",
            "deviation",
        ];
        let mut rows = vec![row(heading)];
        for (name, channel) in self.channels.iter().zip(&self.fingerprint.channels) {
            for (which, values) in [("not 0", &channel.nonzero), ("labelled", &channel.foreground)] {
                if values.count > 0 {
                    let names = [name.clone(), which.to_owned(), values.count.to_string()];
                    rows.push(names.into_iter().chain(intensity(values).map(plain)).collect());
                }
            }
        }
        text_table(&rows, 2)
    }

    fn label_table(&self) -> String {
        if self.labels.is_empty() {
            return String::new();
        }
        let heading = ["label", "name", "voxels", "share", "in cases", "smallest share", "median", "largest"];
        let mut rows = vec![row(heading)];
        for (label, (name, share)) in self.labels.iter().zip(self.label_shares()).enumerate() {
            let spread = Spread::of(&self.shares_of(label));
            let mut row = vec![label.to_string(), name.clone(), self.fingerprint.label_voxels[label].to_string()];
            row.extend([percent(share), self.cases_with(label).to_string()]);
            row.extend([spread.minimum, spread.median, spread.maximum].map(percent));
            rows.push(row);
        }
        text_table(&rows, 2)
    }

    fn case_table(&self) -> String {
        let mut rows = vec![self.case_heading()];
        rows.extend(self.fingerprint.cases.iter().map(|case| self.case_row(case)));
        text_table(&rows, 1)
    }

    /// Column names of the cases: one column per channel (mean and deviation) and per foreground label (share).
    pub(super) fn case_heading(&self) -> Vec<String> {
        let mut heading = row(["case", "height", "width", "depth", "spacing mm"]);
        heading.extend(self.channels.iter().map(|name| format!("{name} mean ± deviation")));
        heading.extend(self.labels.iter().skip(1).cloned());
        heading
    }

    pub(super) fn case_row(&self, case: &CaseFingerprint) -> Vec<String> {
        let mut row = vec![case.name.clone()];
        row.extend(case.extents.map(|extent| extent.to_string()));
        row.push(case.spacing.map(plain).join(" x "));
        let intensity = |values: &Intensity| match values.count {
            0 => "n/a".to_owned(),
            _ => format!("{} ± {}", plain(values.mean), plain(values.deviation)),
        };
        row.extend(case.nonzero.iter().map(intensity));
        let shares = case_shares(case);
        let share = |label: usize| shares.get(label).copied().unwrap_or(0.0);
        row.extend((1..self.labels.len()).map(|label| percent(share(label))));
        row
    }
}

fn row<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

fn numbers(spread: &Spread) -> [f64; 4] {
    [spread.minimum, spread.median, spread.maximum, spread.mean]
}

fn intensity(values: &Intensity) -> [f64; 7] {
    let [low, _, _, median, _, _, high] = values.percentiles.map(f64::from);
    [values.minimum.into(), low, median, high, values.maximum.into(), values.mean, values.deviation]
}

/// Four significant digits, in characters that other programs read as a number.
fn plain(value: f64) -> String {
    short_value(value).replace('\u{2212}', "-")
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.3} %", 100.0 * share)
}
