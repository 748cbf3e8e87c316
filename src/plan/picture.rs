//! A timeline as SVG: time runs right, bytes rise, every value is a rectangle.

use std::fmt::Write;

use super::timeline::{Block, Kind, Timeline};
use crate::{chart::escape, size::bytes};

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 620.0;
/// Margins: left, top, right, bottom.
const MARGIN: [f64; 4] = [64.0, 64.0, 16.0, 44.0];

/// Colours that hold on white and on black; what lies beneath shows through the gaps.
const STYLE: &str = "\
.timeline { --ink: #3c4048; --faint: #8a8f98; --page: #ffffff; }
@media (prefers-color-scheme: dark) { .timeline { --ink: #d5d8de; --faint: #868b94; --page: #14161a; } }
.timeline text { font: 12px system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif; fill: var(--ink); }
.timeline .title { font-size: 15px; font-weight: 600; }
.timeline .page { fill: var(--page); }
.timeline .block { stroke: var(--page); stroke-width: .6; }
.timeline .block:hover { stroke: var(--ink); stroke-width: 1.6; }
.timeline .persistent { fill: #8a8f98; } .timeline .activation { fill: #2b7bba; } .timeline .again { fill: #17997a; }
.timeline .gradient { fill: #d9601a; } .timeline .workspace { fill: #b4679b; }
.timeline .rule { stroke: var(--faint); stroke-opacity: .35; } .timeline .stage { stroke: var(--faint); stroke-dasharray: 2 3; }
.timeline .peak { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 6 3; }
.timeline .end { text-anchor: end; } .timeline .middle { text-anchor: middle; }
";

impl Timeline {
    /// The picture, complete in itself. Rectangles say their names when they are pointed at.
    pub fn svg(&self, title: &str) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"timeline\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{0}\">\n<style>\n{STYLE}</style>\n<rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
             <text class=\"title\" x=\"{1}\" y=\"22\">{0}</text>\n",
            escape(title),
            MARGIN[0],
        );
        self.bytes_axis(&mut svg);
        for block in &self.blocks {
            self.block(&mut svg, block);
        }
        self.stages(&mut svg);
        self.peak(&mut svg);
        legend(&mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    fn x(&self, share: f64) -> f64 {
        MARGIN[0] + share * (WIDTH - MARGIN[0] - MARGIN[2])
    }

    fn y(&self, bytes: usize) -> f64 {
        let share = bytes as f64 / self.peak_bytes.max(1) as f64;
        HEIGHT - MARGIN[3] - share * (HEIGHT - MARGIN[1] - MARGIN[3])
    }

    fn block(&self, svg: &mut String, block: &Block) {
        let (left, right) = (self.x(self.steps[block.first].start), self.x(self.steps[block.last].end));
        let (top, bottom) = (self.y(block.offset + block.bytes), self.y(block.offset));
        let kind = class(block.kind);
        // Thinner than a hair is still there, to be pointed at.
        let (width, height) = ((right - left).max(0.4), (bottom - top).max(0.2));
        writeln!(
            svg,
            "<rect class=\"block {kind}\" x=\"{left:.2}\" y=\"{top:.2}\" width=\"{width:.2}\" height=\"{height:.2}\">\
             <title>{}\n{kind}, {}\n{} to {}</title></rect>",
            escape(&block.name),
            bytes(block.bytes),
            escape(&self.steps[block.first].name),
            escape(&self.steps[block.last].name),
        )
        .expect("text");
    }

    fn bytes_axis(&self, svg: &mut String) {
        let (left, right) = (self.x(0.0), self.x(1.0));
        // The largest power of two that leaves at least four lines.
        let step = (self.peak_bytes / 4).max(1);
        let step = 1usize << step.ilog2();
        for tick in 0..=self.peak_bytes / step {
            let y = self.y(tick * step);
            writeln!(
                svg,
                "<line class=\"rule\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                left - 6.0,
                y + 4.0,
                bytes(tick * step),
            )
            .expect("text");
        }
    }

    fn stages(&self, svg: &mut String) {
        let base = HEIGHT - MARGIN[3];
        let mut first = 0;
        while first < self.steps.len() {
            let stage = self.steps[first].stage;
            let count = self.steps[first..].iter().take_while(|step| step.stage == stage).count();
            let (left, right) = (self.x(self.steps[first].start), self.x(self.steps[first + count - 1].end));
            writeln!(
                svg,
                "<line class=\"stage\" x1=\"{left:.1}\" x2=\"{left:.1}\" y1=\"{}\" y2=\"{}\"/>",
                MARGIN[1],
                base + 6.0
            )
            .expect("text");
            if right - left > 50.0 {
                let middle = f64::midpoint(left, right);
                writeln!(svg, "<text class=\"middle\" x=\"{middle:.1}\" y=\"{:.1}\">{stage}</text>", base + 18.0)
                    .expect("text");
            }
            first += count;
        }
        let (x, y) = (self.x(1.0), HEIGHT - 8.0);
        writeln!(svg, "<text class=\"end\" x=\"{x:.1}\" y=\"{y:.1}\">predicted time</text>").expect("text");
    }

    fn peak(&self, svg: &mut String) {
        let Some(step) = self.steps.get(self.peak_node) else { return };
        let x = self.x(f64::midpoint(step.start, step.end));
        let (class, text_x) = if x > WIDTH / 2.0 { ("end", x - 6.0) } else { ("", x + 6.0) };
        writeln!(
            svg,
            "<line class=\"peak\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text class=\"{class}\" x=\"{text_x:.1}\" y=\"{:.1}\">peak {} at {}</text>",
            MARGIN[1] - 14.0,
            HEIGHT - MARGIN[3],
            MARGIN[1] - 6.0,
            bytes(self.peak_bytes),
            escape(&step.name),
        )
        .expect("text");
    }
}

fn legend(svg: &mut String) {
    let kinds = [Kind::Persistent, Kind::Activation, Kind::Again, Kind::Gradient, Kind::Workspace];
    for (index, kind) in kinds.into_iter().enumerate() {
        let (x, y) = (MARGIN[0] + 110.0 * index as f64, HEIGHT - 18.0);
        writeln!(
            svg,
            "<rect class=\"{0}\" x=\"{x}\" y=\"{y}\" width=\"10\" height=\"10\" rx=\"2\"/>\
             <text x=\"{1}\" y=\"{2}\">{0}</text>",
            class(kind),
            x + 15.0,
            y + 9.5,
        )
        .expect("text");
    }
}

fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Persistent => "persistent",
        Kind::Activation => "activation",
        Kind::Again => "again",
        Kind::Gradient => "gradient",
        Kind::Workspace => "workspace",
    }
}
