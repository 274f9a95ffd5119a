//! The numbers that are shown first, as tables on the terminal.

use calostream_operators::statistics::figure::Summary;
use comfy_table::{CellAlignment, Table, presets};

/// The highlights of each step that has some, under its name.
#[must_use]
pub fn highlights(summaries: &[(String, Summary)]) -> String {
    let mut text = String::new();
    for (step, summary) in summaries {
        let Some((header, rows)) = summary.highlights.split_first() else { continue };
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header).add_rows(rows);
        for (number, column) in table.column_iter_mut().enumerate() {
            if rows.iter().all(|row| row.get(number).is_none_or(|cell| is_number(cell))) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        text.push_str(&format!("{step}\n{table}\n"));
    }
    text
}

/// True for what begins as a number does: `12.3 ± 0.4` too.
pub(super) fn is_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+', '<', '>', '≤', '≥', ' ']);
    text.is_empty() || text == "-" || text == "NaN" || digits.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::RecordBatch;
    use arrow::datatypes::Schema;
    use std::sync::Arc;

    #[test]
    fn each_step_has_its_table() {
        let of = |rows: &[[&str; 2]]| Summary {
            table: RecordBatch::new_empty(Arc::new(Schema::empty())),
            histograms: Vec::new(),
            figures: Vec::new(),
            highlights: rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect(),
            remarks: Vec::new(),
        };
        let steps = [
            ("sigma".to_owned(), of(&[["sample", "a [%]"], ["electron", "15.2 ± 0.1"], ["pion", "114"]])),
            ("quiet".to_owned(), of(&[])),
        ];
        let text = highlights(&steps);
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines[0], "sigma");
        assert!(lines.contains(&" electron   15.2 ± 0.1") && lines.contains(&" pion              114"), "{text}");
        assert!(!text.contains("quiet"));
    }
}
