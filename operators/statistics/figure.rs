//! What a fold says in the end: a table, histograms, plots and the few numbers that people quote; all of it data.
//!
//! Drawing is the engine's: operators say what is to be seen, not how.

use arrow::array::RecordBatch;

/// The result of a fold.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The table that later steps and people read.
    pub table: RecordBatch,
    /// Histograms in the UHI serialization, by name: what `hist` and `boost-histogram` load.
    pub histograms: Vec<(String, serde_json::Value)>,
    /// Plots.
    pub figures: Vec<Figure>,
    /// The numbers that are shown first: a small table of texts, the first row the header.
    pub highlights: Vec<Vec<String>>,
    /// Remarks that belong beside the numbers (an overflow, a fit at its bound, the error of a quantile).
    pub remarks: Vec<String>,
}

/// A plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// The file's name, without an ending.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// The horizontal axis, with its unit.
    pub x: String,
    /// The vertical axis, with its unit.
    pub y: String,
    /// What is drawn.
    pub content: Content,
}

/// What a plot draws.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Points with errors, each with an optional line (a fit), on linear or logarithmic axes.
    Curves {
        /// The curves, in the order of the legend.
        curves: Vec<Curve>,
        /// Whether the vertical axis is logarithmic.
        log_y: bool,
    },
    /// Contents of bins along one axis, drawn as steps.
    Steps {
        /// `n + 1` edges.
        edges: Vec<f64>,
        /// What is in them.
        series: Vec<Steps>,
        /// Whether the vertical axis is logarithmic.
        log_y: bool,
    },
    /// Contents of bins along two axes, drawn as colours.
    Heat {
        /// `nx + 1` edges.
        x_edges: Vec<f64>,
        /// `ny + 1` edges.
        y_edges: Vec<f64>,
        /// `nx * ny` contents, y fastest.
        values: Vec<f64>,
        /// Whether the colours are logarithmic.
        log: bool,
    },
    /// What is compared, and in a panel below, along the same axis, its ratio to one of its own curves.
    Compared {
        /// Curves or steps.
        content: Box<Content>,
        /// The vertical axis of the panel.
        y: String,
        /// As many curves as stand above, of the same colours; those without points are references.
        ratios: Vec<Curve>,
    },
    /// A table of numbers between named rows and columns, each a colour with its number in it.
    Matrix {
        /// The names below, from left to right.
        columns: Vec<String>,
        /// The names at the left, from top to bottom.
        rows: Vec<String>,
        /// `rows * columns` shares from 0 to 1, which say the colours; NaN for none. Row by row.
        shares: Vec<f64>,
        /// What is written into each; lines are kept.
        texts: Vec<String>,
    },
}

/// Contents of bins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Steps {
    /// The label in the legend.
    pub label: String,
    /// What is in each bin.
    pub contents: Vec<f64>,
    /// One standard error of each; none where they are not known.
    pub errors: Vec<f64>,
}

/// Points with errors, and a line.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Curve {
    /// The label in the legend.
    pub label: String,
    /// Points with their errors; none where only the line is meant.
    pub points: Vec<Point>,
    /// A line through (x, y); empty for none.
    pub line: Vec<(f64, f64)>,
}

/// A point with errors.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    /// Horizontal position.
    pub x: f64,
    /// Half the width of the bin.
    pub x_error: f64,
    /// Vertical position.
    pub y: f64,
    /// One standard error.
    pub y_error: f64,
    /// The error upwards, where it is another than downwards.
    pub y_error_up: Option<f64>,
}

impl Point {
    /// The error upwards.
    #[must_use]
    pub fn up(&self) -> f64 {
        self.y_error_up.unwrap_or(self.y_error)
    }

    /// The ratio to another point, at the place of this one, with the relative errors of both in quadrature: those of a ratio of
    /// independent numbers. None where it can't be had.
    #[must_use]
    pub fn over(&self, reference: &Self) -> Option<Self> {
        let ratio = self.y / reference.y;
        let both = |own: f64, other: f64| (own / reference.y).hypot(ratio * other / reference.y);
        let y_error = both(self.y_error, reference.up());
        let y_error_up = self.y_error_up.or(reference.y_error_up).map(|_| both(self.up(), reference.y_error));
        (ratio.is_finite() && reference.y > 0.0).then_some(Self { y: ratio, y_error, y_error_up, ..*self })
    }
}
