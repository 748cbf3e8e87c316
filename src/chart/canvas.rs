//! Writes SVG elements, with every text escaped and every number short.

use std::fmt::Write;

/// The colour of text: 4.6 to 1 against white, 4.5 to 1 against black.
pub(super) const INK: &str = "#71757d";

/// The colour of grid lines, faint on either background.
pub(super) const GRID: &str = "#8a8f98";

/// Hues of series: an order in which neighbours differ in hue and lightness (after Okabe and Ito's palette, darkened or
/// lightened until each has at least 3.5 to 1 against white and against black).
pub(super) const HUES: [&str; 6] = ["#2b7bba", "#d9601a", "#17997a", "#b4679b", "#a37b00", "#7a78c9"];

/// Width of a character of text relative to its size; digits and lower-case letters of the usual sans-serif fonts.
const CHARACTER: f64 = 0.58;

/// Where a text's anchor lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// SVG in the making.
#[derive(Clone, Debug, Default)]
pub struct Canvas {
    body: String,
}

/// An element being written.
pub(super) struct Element<'a> {
    canvas: &'a mut Canvas,
    name: &'static str,
}

impl Canvas {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// What `draw` draws, moved right and down.
    pub(super) fn group(&mut self, right: f64, down: f64, draw: impl FnOnce(&mut Self)) {
        write!(self.body, "<g transform=\"translate({} {})\">", short(right), short(down)).expect("text");
        draw(self);
        self.body.push_str("</g>\n");
    }

    /// Begins an element; [`Element::close`] or [`Element::tooltip`] ends it.
    pub(super) fn element(&mut self, name: &'static str) -> Element<'_> {
        write!(self.body, "<{name}").expect("text");
        Element { canvas: self, name }
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, opacity: f64) {
        let element = self.element("line").number("x1", from.0).number("y1", from.1).number("x2", to.0);
        element.number("y2", to.1).text("stroke", colour).number("stroke-opacity", opacity).close();
    }

    pub(super) fn label(&mut self, at: (f64, f64), size: f64, anchor: Anchor, text: &str) {
        self.styled_label(at, size, anchor, "normal", text);
    }

    pub(super) fn heading(&mut self, at: (f64, f64), text: &str) {
        self.styled_label(at, 14.0, Anchor::Start, "600", text);
    }

    fn styled_label(&mut self, at: (f64, f64), size: f64, anchor: Anchor, weight: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let element = self.element("text").number("x", at.0).number("y", at.1).number("font-size", size);
        let element = element.text("text-anchor", anchor).text("font-weight", weight).text("fill", INK);
        element.content(text);
    }

    /// The whole document. `description` is read aloud in place of the picture.
    pub(super) fn document(self, width: f64, height: f64, description: &str) -> String {
        let (width, height) = (short(width), short(height));
        // Inside HTML the font stack and the digits' width must not depend on the page.
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} \
             {height}\" role=\"img\" aria-label=\"{}\" font-family=\"system-ui, 'Segoe UI', Roboto, Helvetica, Arial, \
             sans-serif\" style=\"font-variant-numeric: tabular-nums\">\n<title>{0}</title>\n{}</svg>\n",
            escape(description),
            self.body
        )
    }
}

impl Element<'_> {
    pub(super) fn number(self, name: &str, value: f64) -> Self {
        write!(self.canvas.body, " {name}=\"{}\"", short(value)).expect("text");
        self
    }

    pub(super) fn text(self, name: &str, value: &str) -> Self {
        write!(self.canvas.body, " {name}=\"{}\"", escape(value)).expect("text");
        self
    }

    pub(super) fn close(self) {
        self.canvas.body.push_str("/>\n");
    }

    /// Ends the element with text in it.
    pub(super) fn content(self, text: &str) {
        writeln!(self.canvas.body, ">{}</{}>", escape(text), self.name).expect("text");
    }

    /// Ends the element with a text that appears under the pointer.
    pub(super) fn tooltip(self, text: &str) {
        writeln!(self.canvas.body, "><title>{}</title></{}>", escape(text), self.name).expect("text");
    }
}

/// Text for XML and HTML, in elements and in quoted attributes. Characters that XML cannot hold become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' => escaped.push(' '),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            character if character.is_control() => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    escaped
}

/// Two digits after the point, no trailing zeros. Coordinates that are no numbers would void the whole document.
pub(super) fn short(value: f64) -> String {
    assert!(value.is_finite(), "a coordinate of {value}");
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// The approximate width of a text in pixels.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * CHARACTER
}

/// The text, or its beginning and end around an ellipsis, within a width: names often differ at their end.
pub(super) fn fitted(text: &str, size: f64, width: f64) -> String {
    let room = ((width / (size * CHARACTER)) as usize).max(3);
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= room {
        return text.to_owned();
    }
    let (head, tail) = (room / 2, room - 1 - room / 2);
    characters[..head].iter().chain(&['…']).chain(&characters[characters.len() - tail..]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_a_file_can_leave_its_place() {
        let hostile = "</text><script>alert('&\"')</script>\u{0}\u{b}";
        let escaped = escape(hostile);
        assert_eq!(escaped, "&lt;/text&gt;&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;\u{fffd}\u{fffd}");
        let mut canvas = Canvas::new();
        canvas.element("rect").text("fill", hostile).tooltip(hostile);
        let document = canvas.document(1.0, 1.0, hostile);
        assert!(!document.contains("<script") && document.matches("&lt;script").count() == 4);
    }

    #[test]
    fn numbers_are_short_and_texts_fit() {
        assert_eq!([short(1.0), short(-0.001), short(2.346), short(1500.0)], ["1", "0", "2.35", "1500"]);
        assert_eq!(fitted("hippocampus_001", 10.0, 1000.0), "hippocampus_001");
        assert_eq!(fitted("hippocampus_001", 10.0, 50.0), "hipp…_001".chars().take(4).collect::<String>() + "…001");
        assert_eq!(fitted("äöüßéàç", 10.0, 0.0), "ä…ç");
    }
}
