//! Tables for terminals.

use std::fmt::Write;

/// Rows of text with columns as wide as their widest entry, two spaces apart: the first `names` columns flush left, the
/// others, which hold numbers, flush right.
pub fn text_table(rows: &[Vec<String>], names: usize) -> String {
    let mut widths = vec![0; rows.iter().map(Vec::len).max().unwrap_or(0)];
    for row in rows {
        for (width, entry) in widths.iter_mut().zip(row) {
            *width = entry.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (entry, width)) in row.iter().zip(&widths).enumerate() {
            match column < names {
                true => write!(line, "{entry:<width$}  ").expect("text"),
                false => write!(line, "{entry:>width$}  ").expect("text"),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_characters_and_lines_have_no_tail() {
        let rows = [["naïve", "n"], ["a", "100"], ["b", ""]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(text_table(&rows, 1), "naïve    n\na      100\nb\n");
        assert_eq!(text_table(&[], 1), "");
    }
}
