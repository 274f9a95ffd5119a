//! The table of claims.

use comfy_table::{CellAlignment, Table};

/// What is asked of a figure.
#[derive(Debug, Clone, Copy)]
pub enum Asked {
    /// Nothing: it is there to be compared with.
    Nothing,
    /// The ratio is this or more.
    AtLeast(f64),
    /// The figure itself is below this.
    Below(f64, &'static str),
}

/// Collects the lines.
#[derive(Debug)]
pub struct Claims {
    table: Table,
    missed: usize,
}

/// A figure with its unit.
pub type Figure = (f64, &'static str);

impl Claims {
    /// An empty table.
    pub fn new() -> Self {
        let mut table = Table::new();
        table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["", "calostream", "beside", "", "ratio", "asked", ""]);
        for column in [1, 3, 4, 5] {
            table.column_mut(column).expect("a column").set_cell_alignment(CellAlignment::Right);
        }
        Self { table, missed: 0 }
    }

    /// Adds a line; the ratio is given, because more is better of some figures and less of others.
    pub fn add(&mut self, what: &str, ours: Figure, beside: Option<(&str, Figure, f64)>, asked: Asked) {
        let (met, wanted) = match (asked, beside) {
            (Asked::AtLeast(least), Some((_, _, ratio))) => (Some(ratio >= least), format!(">= {least}")),
            (Asked::Below(most, unit), _) => (Some(ours.0 < most), format!("< {}", figure((most, unit)))),
            _ => (None, String::new()),
        };
        self.missed += usize::from(met == Some(false));
        let (name, theirs, ratio) = match beside {
            Some((name, theirs, ratio)) => (name, figure(theirs), format!("{ratio:.2}")),
            None => ("", String::new(), String::new()),
        };
        let sign = met.map_or("", |met| if met { "✓" } else { "✗ MISSED" });
        self.table.add_row([what, &figure(ours), name, &theirs, &ratio, &wanted, sign]);
        // What is known so far is seen while the rest is measured.
        eprintln!("{what}: {} {name} {theirs} {ratio} {wanted} {sign}", figure(ours));
    }

    /// Prints the table.
    pub fn print(&self) {
        println!("{}", self.table);
        if self.missed > 0 {
            println!("{} of the claims do not hold here and now.", self.missed);
        }
    }
}

fn figure((value, unit): Figure) -> String {
    let digits = if value < 10.0 { 2 } else { 0 };
    format!("{value:.digits$} {unit}")
}
