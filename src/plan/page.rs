//! A plan as one HTML file: the timeline, what less memory would cost, bytes by role. No script, nothing to load.

use std::fmt::Write;

use super::{Report, budget::Fitted, roofline::Rates, timeline::Timeline};
use crate::{chart::escape, size::bytes};

const STYLE: &str = "\
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0 1rem; color: #71757d; }
svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem 1rem; text-align: right; border-bottom: 1px solid #8a8f9840; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr.chosen { font-weight: 600; }
";

/// The page of a plan: `chosen` is the layout in force, `levels` are all that there would be. With rates, levels have times.
pub fn html(
    title: &str,
    report: &Report,
    chosen: &Fitted,
    levels: &[Fitted],
    timeline: &Timeline,
    rates: Option<&Rates>,
) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{0}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>{0}</h1>\n<p>{1} allocated; {2} parameters; {3:.1} GFLOP per step. The peak is at {4}. Point at a \
         rectangle to see whose bytes it is.</p>\n",
        escape(title),
        bytes(chosen.plan.total),
        report.parameters,
        report.flops as f64 / 1e9,
        escape(&report.peak_at),
    );
    page.push_str(&timeline.svg("Memory over one training step"));
    let time_heading = if rates.is_some() { "<th>at peak rates</th>" } else { "" };
    write!(
        page,
        "<h2>What less memory costs</h2>\n<p>Activations that are forgotten and computed again; optimizer state on the device or on the host.</p>\n<table>\n\
         <tr><th>activations</th><th>state</th><th>allocated</th>{time_heading}<th>extra FLOP</th><th>extra bytes moved</th></tr>\n",
    )
    .expect("text");
    for level in levels {
        let of = |fitted: &Fitted| (fitted.plan.total, fitted.work, fitted.plan.staged);
        let is_chosen = of(level) == of(chosen);
        let time = |rates: &Rates| format!("<td>{:.1} ms</td>", 1e3 * rates.step_seconds(level));
        writeln!(
            page,
            "<tr{}><td>{}</td><td>{}</td><td>{}</td>{}<td>{:.2} %</td><td>{:.2} %</td></tr>",
            if is_chosen { " class=\"chosen\"" } else { "" },
            level.forgotten,
            if level.is_offloaded() { "host" } else { "device" },
            bytes(level.plan.total),
            rates.map(time).unwrap_or_default(),
            level.extra_flops_percent(),
            level.extra_traffic_percent(),
        )
        .expect("text");
    }
    page.push_str("</table>\n<h2>Bytes by role</h2>\n<table>\n<tr><th>role</th><th>values</th><th>bytes</th></tr>\n");
    for line in &report.roles {
        writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&line.role),
            line.values,
            bytes(line.bytes)
        )
        .expect("text");
    }
    page.push_str("</table>\n</body>\n</html>\n");
    page
}
