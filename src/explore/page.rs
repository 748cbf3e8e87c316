//! The report as one HTML file with its pictures inside: no script, nothing to load.

use std::fmt::Write;

use super::{Quantity, Report, Spread, table::percent};
use crate::chart::{Bar, BarChart, Chart, Histogram, escape, svg};

/// Bins of the histograms over cases, about.
const BINS: usize = 20;

const STYLE: &str = "\
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0 1rem; color: #71757d; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; }
svg { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; white-space: nowrap; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #8a8f9840; }
th { position: sticky; top: 0; background: Canvas; font-weight: 600; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
";

impl Report {
    /// A page with histograms of sizes, spacing, intensities and label shares, and the table of cases.
    pub fn html(&self) -> String {
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\">\n<title>{0}</title>\n<style>\n{STYLE}</style>\n</head>\n\
             <body>\n<h1>{0}</h1>\n<p>{1}</p>\n",
            escape(&self.name),
            escape(self.heading().trim()),
        );
        let sizes: Vec<Histogram> = Quantity::ALL.iter().map(|&quantity| self.size_histogram(quantity)).collect();
        section(&mut page, "Sizes", "Height, width and depth are the file's first, second and third axis.", &sizes);
        let channels = 0..self.channels.len();
        let intensities: Vec<Histogram> =
            channels.flat_map(|channel| [self.intensity_histogram(channel), self.median_histogram(channel)]).collect();
        let note = "Over the voxels that are not 0. Left: all of them, between their 0.5 and 99.5 percentiles, the outer \
                    bins holding the rest. Right: the median of each case.";
        section(&mut page, "Intensities", note, &intensities);
        if self.labels.len() > 1 {
            let bars = [self.share_bars()];
            section(
                &mut page,
                "Labels",
                "Share of each label among all voxels, and how it varies over the cases.",
                &bars,
            );
            let shares: Vec<Histogram> = (1..self.labels.len()).map(|label| self.share_histogram(label)).collect();
            charts(&mut page, &shares);
        }
        self.write_cases(&mut page);
        page.push_str("</body>\n</html>\n");
        page
    }

    fn size_histogram(&self, quantity: Quantity) -> Histogram {
        Histogram::of(&capitalised(quantity.name()), quantity.unit(), "cases", &self.values(quantity), BINS)
    }

    fn intensity_histogram(&self, channel: usize) -> Histogram {
        let statistics = &self.fingerprint.channels[channel];
        let [low, .., high] = statistics.nonzero.percentiles.map(f64::from);
        Histogram {
            title: self.channels[channel].clone(),
            x_label: "intensity".into(),
            y_label: "voxels".into(),
            low,
            // A channel of a single value still needs a bin of some width.
            high: if high > low { high } else { low + 1.0 },
            counts: statistics.histogram.clone(),
        }
    }

    /// Scanners differ by orders of magnitude: then the medians' logarithms tell more.
    fn median_histogram(&self, channel: usize) -> Histogram {
        let cases = self.fingerprint.cases.iter().map(|case| &case.nonzero[channel]).filter(|values| values.count > 0);
        let mut medians: Vec<f64> = cases.map(|values| f64::from(values.percentiles[3])).collect();
        let Spread { minimum, maximum, .. } = Spread::of(&medians);
        let mut label = "median intensity";
        if minimum > 0.0 && maximum >= 100.0 * minimum {
            medians.iter_mut().for_each(|median| *median = median.log10());
            label = "median intensity, power of ten";
        }
        Histogram::of(&format!("{} per case", self.channels[channel]), label, "cases", &medians, BINS)
    }

    fn share_bars(&self) -> BarChart {
        let bars = self.labels.iter().zip(self.label_shares());
        let bars = bars.map(|(name, share)| Bar { name: name.clone(), value: share, text: percent(share) }).collect();
        BarChart { title: "Share of all voxels".into(), bars }
    }

    fn share_histogram(&self, label: usize) -> Histogram {
        let shares: Vec<f64> = self.shares_of(label).iter().map(|share| 100.0 * share).collect();
        Histogram::of(&self.labels[label], "% of the case's voxels", "cases", &shares, BINS)
    }

    fn write_cases(&self, page: &mut String) {
        page.push_str("<h2>Cases</h2>\n<p>Intensities over voxels that are not 0; label columns are shares of the case's voxels.</p>\n<div class=\"scroll\">\n<table>\n<thead><tr>");
        for name in self.case_heading() {
            write!(page, "<th scope=\"col\">{}</th>", escape(&name)).expect("text");
        }
        page.push_str("</tr></thead>\n<tbody>\n");
        for case in &self.fingerprint.cases {
            page.push_str("<tr>");
            for entry in self.case_row(case) {
                write!(page, "<td>{}</td>", escape(&entry)).expect("text");
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody>\n</table>\n</div>\n");
    }
}

fn section(page: &mut String, title: &str, note: &str, pictures: &[impl Chart]) {
    write!(page, "<h2>{}</h2>\n<p>{}</p>\n", escape(title), escape(note)).expect("text");
    charts(page, pictures);
}

fn charts(page: &mut String, pictures: &[impl Chart]) {
    page.push_str("<div class=\"charts\">\n");
    for picture in pictures {
        page.push_str(&svg(picture));
    }
    page.push_str("</div>\n");
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}
