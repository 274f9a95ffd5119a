//! Bias and resolution of a quantity in bins of another, for each class, with errors and the calorimeter fit.
//!
//! In each bin: n, the exact sums of y (the binned column), d and d^2, where d = x - pivot and each summand is rounded once
//! per operation; with weights: w, w^2, w y, w d, w d^2. From these, at the end:
//!
//! * bias = mean of x, its error resolution / sqrt(n);
//! * resolution = RMS about the mean, normalised by n (numpy's `std` with `ddof=0`), its error resolution / sqrt(2 n);
//! * with weights, means are weighted and n is the effective number (sum w)^2 / sum w^2.
//!
//! Where `robust` is asked for, x also climbs a [ladder](crate::ladder) in each bin, from which come the median and sigma68, half
//! the width of the central 68.27 % (the RMS of a normal distribution, whatever its tails), with what the ladder's precision
//! could change at most.
//!
//! Rows whose x (or weight) is NaN or infinite are counted beside, and so are those outside the bins.

use crate::axis::{Axis, AxisWords};
use crate::column;
use crate::figure::{Content, Curve, Figure, Point, Summary};
use crate::fit::{Calorimeter, Measured, TERMS};
use crate::folding::{Classes, gather, one_input, table};
use crate::ladder::{Ladder, MOST_STEPS};
use crate::registry::Describe;
use crate::sums::Sums;
use crate::work::Fold;
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work, words};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Where the fits are written down in the table's schema.
pub const FITS_KEY: &str = "calostream.fits";

/// The quantiles of a normal distribution at -1, 0 and 1 sigma.
const QUANTILES: [f64; 3] = [0.158_655_253_931_457_05, 0.5, 0.841_344_746_068_542_9];

/// Counts of a cell: rows summed, and rows whose value or weight is not finite.
const COUNTS: usize = 2;

/// Bias and resolution of a column in bins of another.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// The column whose mean (bias) and spread (resolution) are wanted: `relative_error`, say.
    pub of: Placed<String>,
    /// The column to bin in, with its bins: `{ energy: { range: [10, 510], bins: 10 } }`.
    pub by: Placed<BTreeMap<Placed<String>, AxisWords>>,
    /// The class column, each class by itself: `sample`.
    #[serde(default)]
    pub for_each: Option<Placed<String>>,
    /// `calorimeter` fits sigma/E = a/sqrt(E) (+) b (+) c/E to the resolution against the mean of the binned column.
    #[serde(default)]
    pub fit: Option<Placed<FitWord>>,
    /// The column of weights; without it every row counts 1.
    #[serde(default)]
    pub weight: Option<Placed<String>>,
    /// Also the median and sigma68 (half the width of the central 68.27 %), from a ladder of so many rungs in an octave: 256
    /// makes them good to 0.2 %.
    #[serde(default)]
    pub robust: Option<Placed<u32>>,
    /// A value near those of `of`, subtracted before squares are summed. Only needed where the values are more than some
    /// 10^5 times as large as their spread.
    #[serde(default)]
    pub pivot: f64,
}

/// What can be fitted to a resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FitWord {
    /// sigma/E = a/sqrt(E) (+) b (+) c/E.
    Calorimeter,
}

impl Describe for Resolution {
    const ABOUT: &'static str = "Gives mean and spread of a column in bins of another, with errors and the calorimeter fit";
    const EXAMPLE: &'static str = "\
resolution:
  from: pulls
  resolution:
    of: relative_error
    by: { energy: { range: [10, 510], bins: 10 } }
    for_each: sample
    fit: calorimeter
";
}

/// A resolution whose words were found right.
#[derive(Debug)]
struct Measuring {
    of: String,
    of_label: String,
    /// From the column's numbers to per cent; none for a column with a unit of its own.
    percent: Option<f64>,
    by: String,
    by_label: String,
    by_unit: String,
    axis: Axis,
    classes: Classes,
    weight: Option<String>,
    pivot: f64,
    fit: bool,
    ladder: Option<Ladder>,
    schema: Arc<Schema>,
    numbers: Vec<u32>,
}

impl Resolution {
    fn measuring(&self, schema: &Schema) -> Result<Measuring, Vec<Problem>> {
        let mut problems = Vec::new();
        let of = gather(column::number(schema, &self.of), &mut problems);
        let mut axis = None;
        match self.by.value.iter().next() {
            Some((name, words)) if self.by.len() == 1 => {
                gather(column::number(schema, name), &mut problems);
                axis = gather(Axis::plan(name, words), &mut problems).map(|axis| (name.value.clone(), axis));
            }
            _ => {
                let problem = Problem::at(&self.by, format!("`by` takes one column, not {}", self.by.len()));
                problems.push(problem.help("by: { energy: { range: [10, 510], bins: 10 } }"));
            }
        }
        if let Some(weight) = &self.weight {
            gather(column::number(schema, weight), &mut problems);
        }
        if let Some(steps) = self.robust.as_ref().filter(|steps| steps.value == 0 || steps.value > MOST_STEPS) {
            problems
                .push(Problem::at(steps, format!("{} rungs in an octave", steps.value)).help(format!("give 1 to {MOST_STEPS}")));
        }
        let classes = gather(Classes::plan(schema, self.for_each.as_ref()), &mut problems);
        let percent = match of.and_then(|field| column::unit(field)) {
            None => Some(100.0),
            Some("%") => Some(1.0),
            Some(_) => None,
        };
        if let (Some(fit), None) = (&self.fit, percent) {
            let what =
                format!("the calorimeter fit is of a relative resolution, and {} has a unit", column::label(schema, &self.of));
            problems.push(Problem::at(fit, what).help("derive (predicted - true) / true first"));
        }
        let (Some((by, axis)), Some(classes), true) = (axis, classes, problems.is_empty()) else { return Err(problems) };
        let by_unit = schema.field_with_name(&by).ok().and_then(column::unit).unwrap_or_default().to_owned();
        let table = Schema::new(self.fields(schema, &by, &classes));
        Ok(Measuring {
            of: self.of.value.clone(),
            of_label: column::label(schema, &self.of),
            percent,
            by_label: column::label(schema, &by),
            by,
            by_unit,
            axis,
            classes,
            weight: self.weight.as_ref().map(|w| w.value.clone()),
            pivot: self.pivot,
            fit: self.fit.is_some(),
            ladder: self.robust.as_ref().map(|steps| Ladder::new(steps.value)),
            schema: Arc::new(table),
            numbers: Vec::new(),
        })
    }

    fn fields(&self, input: &Schema, by: &str, classes: &Classes) -> Vec<Field> {
        let unit = |name: &str| input.field_with_name(name).ok().and_then(column::unit);
        let float = |name: String, nullable, of: &str| column::with_unit(Field::new(name, DataType::Float64, nullable), unit(of));
        let mut fields: Vec<Field> = classes.field().into_iter().collect();
        fields.extend(["low", "high", "centre"].map(|what| float(format!("{by}_{what}"), false, by)));
        fields.push(float(format!("{by}_mean"), true, by));
        fields.push(Field::new("n", DataType::Int64, false));
        if self.weight.is_some() {
            fields.push(Field::new("n_effective", DataType::Float64, true));
        }
        let names = ["bias", "bias_error", "resolution", "resolution_error"];
        fields.extend(names.map(|name| float(name.into(), true, &self.of)));
        if self.robust.is_some() {
            fields.extend(["median", "sigma68", "ladder_error"].map(|name| float(name.into(), true, &self.of)));
        }
        if self.fit.is_some() {
            fields.push(float("fitted".into(), true, &self.of));
        }
        fields
    }
}

impl Operator for Resolution {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let measuring = self.measuring(one_input(inputs)?)?;
        let reads = [measuring.of.clone(), measuring.by.clone()];
        let reads = Reads::columns(reads.into_iter().chain(measuring.classes.column.clone()).chain(measuring.weight.clone()));
        let rows = measuring.classes.names.len() * measuring.axis.bins();
        // Values on ladders spread over some twenty octaves on either side of 0.
        let rungs = 40 * self.robust.as_ref().map_or(0, |steps| steps.value as usize);
        let rung_bytes = if measuring.weight.is_some() { 128 } else { 24 };
        let bytes = measuring.cells() * (8 * COUNTS + 112 * measuring.powers() + rungs * rung_bytes);
        Ok(Planned::new(Shape::Fold, vec![table(measuring.schema, rows)]).reading(reads).holding(bytes as u64))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let schema = one_input(at.inputs).map_err(|_| anyhow::anyhow!("a resolution of one input"))?;
        let measuring = self.measuring(schema).map_err(|problems| anyhow::anyhow!("{}", problems[0].what))?;
        Ok(Work::Fold(Box::new(measuring)))
    }
}

impl Measuring {
    fn cells(&self) -> usize {
        self.classes.names.len() * self.axis.slots()
    }

    /// The key of a rung: of its count or, where rows have weights, of their sum.
    fn rung(&self, ladder: Ladder, cell: usize, rung: u64) -> u64 {
        (self.cells() * COUNTS.max(self.powers())) as u64 + cell as u64 * ladder.rungs() + rung
    }

    /// Sums of a cell.
    fn powers(&self) -> usize {
        if self.weight.is_some() { 5 } else { 3 }
    }
}

impl Fold for Measuring {
    fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        let (x, y) = (column::floats(batch, &self.of)?, column::floats(batch, &self.by)?);
        self.classes.numbers(batch, &mut self.numbers)?;
        self.axis.refine(&y, &mut self.numbers);
        let powers = self.powers();
        let (counts, sums) = into.dense(self.cells() * COUNTS, self.cells() * powers);
        match &self.weight {
            None => {
                for ((number, x), y) in self.numbers.iter().zip(x.iter()).zip(y.iter()) {
                    let number = *number as usize;
                    if x.is_finite() {
                        let d = x - self.pivot;
                        counts[number * COUNTS] += 1;
                        if let Some([sum_y, sum_d, sum_d2]) = sums[number * 3..].first_chunk_mut() {
                            sum_y.add(*y);
                            sum_d.add(d);
                            sum_d2.add(d * d);
                        }
                    } else {
                        counts[number * COUNTS + 1] += 1;
                    }
                }
            }
            Some(weight) => {
                let w = column::floats(batch, weight)?;
                for (((number, x), y), w) in self.numbers.iter().zip(x.iter()).zip(y.iter()).zip(w.iter()) {
                    let number = *number as usize;
                    if x.is_finite() && w.is_finite() {
                        let d = x - self.pivot;
                        counts[number * COUNTS] += 1;
                        let summands = [*w, w * w, w * y, w * d, w * (d * d)];
                        for (sum, summand) in sums[number * 5..].iter_mut().zip(summands) {
                            sum.add(summand);
                        }
                    } else {
                        counts[number * COUNTS + 1] += 1;
                    }
                }
            }
        }
        if let Some(ladder) = self.ladder {
            let weights = self.weight.as_ref().map(|weight| column::floats(batch, weight)).transpose()?;
            for (row, (number, x)) in self.numbers.iter().zip(x.iter()).enumerate().filter(|(_, (_, x))| x.is_finite()) {
                let key = |x: f64| self.rung(ladder, *number as usize, ladder.rung(x));
                match weights.as_ref().map(|weights| weights[row]) {
                    None => into.tally(key(*x), 1),
                    Some(w) if w.is_finite() => into.add(key(*x), w),
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    fn finish(&self, sums: &Sums) -> anyhow::Result<Summary> {
        let loads = self.loads(sums);
        let bins: Vec<Vec<Option<Bin>>> = (0..self.classes.names.len()).map(|class| self.bins(sums, &loads, class)).collect();
        let fits: Vec<Fit> = bins.iter().map(|bins| self.fit.then(|| self.fit(bins))).collect();
        Ok(Summary {
            table: self.table(&bins, &fits)?,
            histograms: Vec::new(),
            figures: vec![self.resolutions(&bins, &fits), self.biases(&bins)],
            highlights: self.highlights(&bins, &fits, sums),
            remarks: self.remarks(&bins, &fits, sums),
        })
    }
}

/// The fit of a class, where one is asked for, or why there is none.
type Fit = Option<Result<Calorimeter, String>>;

/// A row of the table: class, bin, what is known of it.
type Row = (usize, usize, Option<Bin>);

/// What is known of a bin with rows in it.
#[derive(Debug, Clone, Copy)]
struct Bin {
    n: i64,
    effective: f64,
    by_mean: f64,
    bias: f64,
    bias_error: f64,
    resolution: f64,
    resolution_error: f64,
    robust: Option<Robust>,
}

/// What is known of a bin from its ladder.
#[derive(Debug, Clone, Copy)]
struct Robust {
    median: f64,
    sigma68: f64,
    ladder_error: f64,
}

impl Robust {
    fn of(ladder: Ladder, loads: &[(u64, f64)]) -> Option<Self> {
        let [low, median, high] = QUANTILES.map(|q| ladder.quantile(loads, q));
        let (low, median, high) = (low?, median?, high?);
        let half = |(from, to): (f64, f64)| (to - from) / 2.0;
        let middle = |(from, to): (f64, f64)| f64::midpoint(from, to);
        Some(Self {
            median: middle(median),
            sigma68: (middle(high) - middle(low)) / 2.0,
            ladder_error: half(median).max((half(low) + half(high)) / 2.0),
        })
    }
}

/// Sums of one cell or of several.
#[derive(Debug, Clone, Copy)]
struct Moments {
    n: i64,
    w: f64,
    w2: f64,
    wy: f64,
    wd: f64,
    wd2: f64,
}

impl Moments {
    fn of(measuring: &Measuring, sums: &Sums, cells: &[usize]) -> Self {
        let n = cells.iter().map(|cell| sums.count((cell * COUNTS) as u64)).sum();
        let sum = |power: usize| sums.sum_over(cells.iter().map(|cell| (cell * measuring.powers() + power) as u64));
        match measuring.weight {
            None => Self { n, w: n as f64, w2: n as f64, wy: sum(0), wd: sum(1), wd2: sum(2) },
            Some(_) => Self { n, w: sum(0), w2: sum(1), wy: sum(2), wd: sum(3), wd2: sum(4) },
        }
    }

    fn bin(self, pivot: f64) -> Option<Bin> {
        if self.n == 0 || self.w <= 0.0 {
            return None;
        }
        let effective = self.w * self.w / self.w2;
        let mean = self.wd / self.w;
        // Rounding of the sums can leave a spread of 0 slightly below 0.
        let resolution = (self.wd2 / self.w - mean * mean).max(0.0).sqrt();
        Some(Bin {
            n: self.n,
            effective,
            by_mean: self.wy / self.w,
            bias: mean + pivot,
            bias_error: resolution / effective.sqrt(),
            resolution,
            resolution_error: resolution / (2.0 * effective).sqrt(),
            robust: None,
        })
    }
}

impl Measuring {
    fn cell(&self, class: usize, slot: usize) -> usize {
        class * self.axis.slots() + slot
    }

    fn bins(&self, sums: &Sums, loads: &[(u64, f64)], class: usize) -> Vec<Option<Bin>> {
        let bin = |slot: usize| {
            let cell = self.cell(class, slot);
            let bin = Moments::of(self, sums, &[cell]).bin(self.pivot)?;
            let robust = self.ladder.and_then(|ladder| Robust::of(ladder, &self.rungs(ladder, loads, cell)));
            Some(Bin { robust, ..bin })
        };
        (1..=self.axis.bins()).map(bin).collect()
    }

    /// All that stands on rungs, by key.
    fn loads(&self, sums: &Sums) -> Vec<(u64, f64)> {
        match (self.ladder, &self.weight) {
            (None, _) => Vec::new(),
            (_, None) => sums.counts().into_iter().map(|(key, n)| (key, n as f64)).collect(),
            (_, Some(_)) => sums.sums(),
        }
    }

    /// What stands on the rungs of a cell, in order.
    fn rungs(&self, ladder: Ladder, loads: &[(u64, f64)], cell: usize) -> Vec<(u64, f64)> {
        let first = self.rung(ladder, cell, 0);
        let from = loads.partition_point(|(key, _)| *key < first);
        let on_it = loads[from..].iter().take_while(|(key, _)| *key < first + ladder.rungs());
        on_it.map(|(key, load)| (key - first, *load)).collect()
    }

    /// All bins of a class together.
    fn whole(&self, sums: &Sums, class: usize) -> Option<Bin> {
        let cells: Vec<usize> = (1..=self.axis.bins()).map(|slot| self.cell(class, slot)).collect();
        Moments::of(self, sums, &cells).bin(self.pivot)
    }

    fn fit(&self, bins: &[Option<Bin>]) -> Result<Calorimeter, String> {
        let usable = bins.iter().flatten().filter(|bin| bin.resolution_error > 0.0);
        let point = |bin: &Bin| Measured { energy: bin.by_mean, resolution: bin.resolution, error: bin.resolution_error };
        Calorimeter::fit(&usable.map(point).collect::<Vec<_>>())
    }

    fn table(&self, bins: &[Vec<Option<Bin>>], fits: &[Fit]) -> anyhow::Result<RecordBatch> {
        let edges = self.axis.edges();
        let rows: Vec<Row> = bins
            .iter()
            .enumerate()
            .flat_map(|(class, bins)| bins.iter().enumerate().map(move |(i, bin)| (class, i, *bin)))
            .collect();
        let float = |f: &dyn Fn(&Row) -> Option<f64>| -> ArrayRef { Arc::new(rows.iter().map(f).collect::<Float64Array>()) };
        let value = |f: fn(&Bin) -> f64| float(&|(_, _, bin)| bin.as_ref().map(f));
        let mut columns: Vec<ArrayRef> = Vec::new();
        if self.classes.column.is_some() {
            let names = rows.iter().map(|(class, ..)| &self.classes.names[*class]);
            columns.push(Arc::new(StringArray::from_iter_values(names)));
        }
        columns.push(float(&|(_, i, _)| Some(edges[*i])));
        columns.push(float(&|(_, i, _)| Some(edges[*i + 1])));
        columns.push(float(&|(_, i, _)| Some(f64::midpoint(edges[*i], edges[*i + 1]))));
        columns.push(value(|bin| bin.by_mean));
        columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|(.., bin)| bin.map_or(0, |bin| bin.n)))));
        if self.weight.is_some() {
            columns.push(value(|bin| bin.effective));
        }
        columns.push(value(|bin| bin.bias));
        columns.push(value(|bin| bin.bias_error));
        columns.push(value(|bin| bin.resolution));
        columns.push(value(|bin| bin.resolution_error));
        if self.ladder.is_some() {
            let robust = |f: fn(&Robust) -> f64| float(&|(.., bin)| bin.as_ref()?.robust.as_ref().map(f));
            columns.extend([robust(|r| r.median), robust(|r| r.sigma68), robust(|r| r.ladder_error)]);
        }
        if self.fit {
            columns.push(float(&|(class, _, bin)| Some(fitted(fits, *class)?.resolution(bin.as_ref()?.by_mean))));
        }
        let mut metadata: HashMap<String, String> = self.schema.metadata().clone();
        if self.fit {
            metadata.insert(FITS_KEY.into(), self.fits_json(fits).to_string());
        }
        let schema = self.schema.as_ref().clone().with_metadata(metadata);
        Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
    }

    fn fits_json(&self, fits: &[Fit]) -> serde_json::Value {
        let one = |fit: &Calorimeter| {
            let mut object = serde_json::Map::new();
            for (letter, term) in TERMS.iter().zip(&fit.terms) {
                object.insert(
                    (*letter).into(),
                    json!({ "value": term.value, "error": term.error, "at_bound": term.error.is_none() }),
                );
            }
            object.insert("covariance".into(), json!(fit.covariance));
            object.insert("chi2".into(), json!(fit.chi2));
            object.insert("ndf".into(), json!(fit.ndf));
            serde_json::Value::from(object)
        };
        let each = fits.iter().enumerate().map(|(class, fit)| {
            let fit = match fit {
                Some(Ok(fit)) => one(fit),
                Some(Err(reason)) => json!({ "failed": reason }),
                None => serde_json::Value::Null,
            };
            (self.classes.label(class, "all").to_owned(), fit)
        });
        json!({ "function": "a/sqrt(E) (+) b (+) c/E, terms added in quadrature", "fits": each.collect::<serde_json::Map<_, _>>() })
    }

    /// Numbers as they are shown: in per cent where the column is relative.
    fn shown(&self) -> f64 {
        self.percent.unwrap_or(1.0)
    }

    fn axis_title(&self, what: &str) -> String {
        let unit = if self.percent.is_some() { " [%]" } else { "" };
        format!("{what} of {}{unit}", if self.percent.is_some() { &self.of } else { &self.of_label })
    }

    fn figure(&self, what: &str, curves: Vec<Curve>) -> Figure {
        Figure {
            name: what.to_owned(),
            title: format!("{what} of {} against {}", self.of, self.by),
            x: self.by_label.clone(),
            y: self.axis_title(what),
            content: Content::Curves { log_y: far_apart(&curves), curves },
        }
    }

    fn points(&self, bins: &[Option<Bin>], value: fn(&Bin) -> (f64, f64)) -> Vec<Point> {
        let widths = self.axis.edges().windows(2).map(|pair| (pair[1] - pair[0]) / 2.0).collect::<Vec<_>>();
        let point = |(bin, width): (&Option<Bin>, f64)| {
            let (y, error) = value(bin.as_ref()?);
            let x = bin.as_ref()?.by_mean;
            Some(Point { x, x_error: width, y: y * self.shown(), y_error: error * self.shown(), y_error_up: None })
        };
        bins.iter().zip(widths).filter_map(point).collect()
    }

    fn resolutions(&self, bins: &[Vec<Option<Bin>>], fits: &[Fit]) -> Figure {
        let edges = self.axis.edges();
        let curve = |(class, bins): (usize, &Vec<Option<Bin>>)| {
            let points = self.points(bins, |bin| (bin.resolution, bin.resolution_error));
            let (first, last) = (edges[0].max(points.first().map_or(f64::INFINITY, |p| p.x / 2.0)), edges[edges.len() - 1]);
            let line = |fit: &Calorimeter| {
                (0..=200_u32)
                    .map(|i| first + (last - first) * f64::from(i) / 200.0)
                    .map(|energy| (energy, fit.resolution(energy) * self.shown()))
                    .collect()
            };
            let line = fitted(fits, class).map(line).unwrap_or_default();
            Curve { label: self.classes.label(class, &self.of).to_owned(), points, line }
        };
        self.figure("resolution", bins.iter().enumerate().map(curve).collect())
    }

    fn biases(&self, bins: &[Vec<Option<Bin>>]) -> Figure {
        let curve = |(class, bins): (usize, &Vec<Option<Bin>>)| {
            let points = self.points(bins, |bin| (bin.bias, bin.bias_error));
            Curve { label: self.classes.label(class, &self.of).to_owned(), points, line: Vec::new() }
        };
        self.figure("bias", bins.iter().enumerate().map(curve).collect())
    }

    fn highlights(&self, bins: &[Vec<Option<Bin>>], fits: &[Fit], sums: &Sums) -> Vec<Vec<String>> {
        let unit = if self.percent.is_some() { " %" } else { "" };
        let mut header: Vec<String> = self.classes.column.clone().into_iter().collect();
        header.extend(["events".into(), self.axis_title("bias"), self.axis_title("resolution")]);
        if self.fit {
            header.extend(["a (sampling)".into(), "b (constant)".into(), "c (noise)".into(), "chi2 / ndf".into()]);
        }
        let mut lines = vec![header];
        for class in 0..bins.len() {
            let mut line: Vec<String> = self.classes.column.iter().map(|_| self.classes.names[class].clone()).collect();
            match self.whole(sums, class) {
                None => line.extend(["0".into(), "-".into(), "-".into()]),
                Some(bin) => {
                    let shown = |value: f64, error: f64| words::with_error(value * self.shown(), error * self.shown()) + unit;
                    line.extend([bin.n.to_string(), shown(bin.bias, bin.bias_error)]);
                    line.push(shown(bin.resolution, bin.resolution_error));
                }
            }
            if self.fit {
                match fitted(fits, class) {
                    None => line.extend(["-"; 4].map(String::from)),
                    Some(fit) => line.extend(self.fit_texts(fit)),
                }
            }
            lines.push(line);
        }
        lines
    }

    /// `18.32 ± 0.21 % √GeV`, `0.750 ± 0.041 %`, `1.31 ± 0.12 GeV`, `9.1 / 7`.
    fn fit_texts(&self, fit: &Calorimeter) -> Vec<String> {
        let energy = if self.by_unit.is_empty() {
            ["", ""].map(String::from)
        } else {
            [format!(" √{}", self.by_unit), format!(" {}", self.by_unit)]
        };
        let percent = self.shown();
        // Relative numbers are shown in per cent; noise is an energy, so it is one again.
        let scales = [(percent, format!(" %{}", energy[0])), (percent, " %".into()), (percent / 100.0, energy[1].clone())];
        let mut texts: Vec<String> = fit
            .terms
            .iter()
            .zip(scales)
            .map(|(term, (scale, unit))| match term.error {
                Some(error) => words::with_error(term.value * scale, error * scale) + &unit,
                None => format!("0{unit} (at its bound)"),
            })
            .collect();
        texts.push(format!("{} / {}", words::significant(fit.chi2, 3), fit.ndf));
        texts
    }

    fn remarks(&self, bins: &[Vec<Option<Bin>>], fits: &[Fit], sums: &Sums) -> Vec<String> {
        let mut remarks =
            vec!["resolution is the RMS about the mean, normalised by n; its error is resolution / sqrt(2 n)".to_owned()];
        for class in 0..bins.len() {
            let whose = if self.classes.column.is_some() { format!("{}: ", self.classes.names[class]) } else { String::new() };
            let odd: i64 = (0..self.axis.slots()).map(|slot| sums.count((self.cell(class, slot) * COUNTS + 1) as u64)).sum();
            if odd != 0 {
                let what = self.weight.as_ref().map_or_else(|| self.of.clone(), |weight| format!("{} or {weight}", self.of));
                remarks.push(format!("{whose}{} with {what} NaN or infinite in no number", words::counted(odd.unsigned_abs(), "row")));
            }
            let edges = self.axis.edges();
            let places = [
                (0, format!("below {}", edges[0])),
                (self.axis.bins() + 1, format!("at or above {}", edges[edges.len() - 1])),
                (self.axis.nan(), "NaN".to_owned()),
            ];
            for (slot, place) in places {
                let n = sums.count((self.cell(class, slot) * COUNTS) as u64);
                if n != 0 {
                    remarks.push(format!("{whose}{} with {} {place} in no bin", words::counted(n.unsigned_abs(), "row"), self.by));
                }
            }
            match &fits[class] {
                Some(Err(reason)) => remarks.push(format!("{whose}no fit: {reason}")),
                Some(Ok(fit)) => {
                    let unused = bins[class].iter().filter(|bin| bin.is_none_or(|bin| bin.resolution_error <= 0.0)).count();
                    if unused > 0 {
                        remarks.push(format!("{whose}{unused} bins without a spread are not in the fit"));
                    }
                    for (letter, _) in TERMS.iter().zip(&fit.terms).filter(|(_, term)| term.error.is_none()) {
                        remarks.push(format!(
                            "{whose}{letter} is at its bound, 0; the errors of the others hold with it fixed there"
                        ));
                    }
                }
                None => {}
            }
        }
        remarks
    }
}

/// The fit of a class, where there is one.
fn fitted(fits: &[Fit], class: usize) -> Option<&Calorimeter> {
    fits[class].as_ref()?.as_ref().ok()
}

/// True where the points are so far apart that a linear axis would show only the largest: one class that a network was not
/// trained on would flatten all the others.
fn far_apart(curves: &[Curve]) -> bool {
    let values = || curves.iter().flat_map(|c| &c.points).map(|p| p.y);
    let (least, most) = values().fold((f64::INFINITY, 0.0_f64), |(a, b), y| (a.min(y), b.max(y)));
    least > 0.0 && most > 30.0 * least
}

#[cfg(test)]
mod tests;
