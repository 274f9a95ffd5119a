//! Numbers to tables, plots and the few lines that people read first.

use super::fitting::FITS_KEY;
use super::measuring::{Bin, Moments, Summed, Unknown};
use super::robust::{EIQR, NAMES, Read};
use super::told::{Series, Told};
use super::{Measuring, Over};
use crate::column;
use crate::statistics::binning::Cell;
use crate::statistics::figure::{Content, Curve, Figure, Point, Summary};
use crate::statistics::fit::{Calorimeter, Sum, Term};
use crate::statistics::folding::COMPAT_KEY;
use crate::statistics::gaussian::Core;
use crate::statistics::sums::Sums;
use crate::work::Fold;
use crate::{Fault, words};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// More curves than these are not drawn over each other.
const MOST_CURVES: usize = 8;
/// More series than these are not among what people read first.
pub(super) const MOST_LINES: usize = 60;

/// A number of a bin with its error, where there is one.
type Value = fn(&Told) -> Option<(f64, Option<f64>)>;

impl Fold for Measuring {
    fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        self.add_rows(batch, into)
    }

    fn finish(&self, sums: &Sums) -> anyhow::Result<Summary> {
        let series = self.series(&Summed::new(&self.keys, sums));
        // A column without a unit need not be a share: nobody wants to read an energy in per cent.
        let large = |bin: &Bin| bin.bias.abs() > LARGEST_SHARE || bin.resolution.is_some_and(|spread| spread > LARGEST_SHARE);
        let mut this = Cow::Borrowed(self);
        for series in series.iter().filter(|series| !self.fit && series.whole.as_ref().is_ok_and(large)) {
            if self.quantities[series.quantity].percent == Some(100.0) {
                this.to_mut().quantities[series.quantity].percent = None;
            }
        }
        Ok(Summary {
            table: this.table(&series)?,
            histograms: Vec::new(),
            figures: this.figures(&series),
            highlights: this.highlights(&series),
            remarks: this.remarks(&series, sums),
        })
    }
}

/// What is larger is no share: 1000 %.
const LARGEST_SHARE: f64 = 10.0;

/// A fit as people write it: `15.2/√E ⊕ 0.70`, terms at 0 left out.
fn formula(fit: &Calorimeter, scale: f64) -> String {
    let term = |term: &Term, of: &str| {
        let value = term.value * scale;
        // As many digits as its error has two of.
        let digits = term.error.map_or(3, |error| (value / (scale * error)).abs().log10().floor().clamp(0.0, 3.0) as usize + 2);
        (value != 0.0).then(|| words::significant(value, digits) + of)
    };
    let terms: Vec<String> = fit.terms.iter().zip(["/√E", "", "/E"]).filter_map(|(t, of)| term(t, of)).collect();
    if terms.is_empty() { "0".into() } else { terms.join(if fit.sum == Sum::Linear { " + " } else { " ⊕ " }) }
}

impl Measuring {
    pub(super) fn table_schema(&self, input: &Schema) -> Schema {
        let float = |name: &str, nullable: bool| Field::new(name, DataType::Float64, nullable);
        let mut fields: Vec<Field> = Vec::new();
        fields.extend(self.told_apart.then(|| Field::new("quantity", DataType::Utf8, false)));
        fields.extend(self.groups.fields());
        for axis in &self.binning.columns {
            if axis.axis.names().is_some() {
                fields.push(Field::new(&axis.column, DataType::Utf8, false));
                continue;
            }
            for (end, nullable) in [("low", false), ("high", false), ("centre", false), ("mean", true)] {
                fields.push(column::with_unit(float(&format!("{}_{end}", axis.column), nullable), axis.unit.as_deref()));
            }
        }
        fields.push(Field::new("n", DataType::Int64, false));
        fields.extend(self.weight.is_some().then(|| float("n_effective", true)));
        let unit = |q: &super::Quantity| input.field_with_name(&q.column).ok().and_then(column::unit).map(str::to_owned);
        let unit = self
            .quantities
            .first()
            .and_then(unit)
            .filter(|first| self.quantities.iter().all(|q| unit(q).as_ref() == Some(first)));
        let of = |name: &str| column::with_unit(float(name, true), unit.as_deref());
        fields.extend(["bias", "bias_error", "resolution", "resolution_error", "resolution_error_moments"].map(of));
        if self.ladder.is_some() {
            for name in NAMES {
                fields.push(of(name));
                fields.extend(self.replicas.is_some().then(|| of(&format!("{name}_error"))));
            }
            fields.extend(["ladder_error", "half95_ladder_error", "eiqr_ladder_error"].map(of));
        }
        if self.reference.is_some() {
            let names = ["reiqr", "reiqr_error", "reiqr_ladder_error", "reiqr95", "reiqr95_error", "reiqr95_ladder_error"];
            fields.extend(names.map(|name| float(name, true)));
        }
        if self.core.is_some() {
            fields.extend(["core_mean", "core_mean_error", "core_sigma", "core_sigma_error", "core_low", "core_high"].map(of));
            fields.push(float("core_chi2", true));
            fields.push(Field::new("core_ndf", DataType::Int64, true));
        }
        fields.extend(self.fit.then(|| of("fitted")));
        fields.push(Field::new("reason", DataType::Utf8, true));
        Schema::new_with_metadata(fields, self.groups.metadata())
    }

    /// All series: by quantity, group and the bins of the other axes.
    fn series(&self, summed: &Summed<'_>) -> Vec<Series> {
        let cells: Vec<Option<Cell>> =
            if self.binning.is_empty() { vec![None] } else { self.binning.cells().into_iter().map(Some).collect() };
        let slot = |cell: &Option<Cell>| cell.as_ref().map_or(0, |cell| cell.slot);
        let mut all: Vec<Series> = Vec::new();
        for quantity in 0..self.quantities.len() {
            for group in 0..self.groups.len() {
                let mut own: Vec<Series> = Vec::new();
                let mut places: Vec<Vec<usize>> = Vec::new();
                for cell in &cells {
                    let others = self.others(cell.as_ref());
                    let number = own.iter().position(|series| series.others == others).unwrap_or_else(|| {
                        let whole = Err(Unknown { n: 0, why: "" });
                        own.push(Series { quantity, group, others, bins: Vec::new(), whole, fit: None });
                        places.push(Vec::new());
                        own.len() - 1
                    });
                    let place = self.keys.place(group, slot(cell), quantity);
                    let bin = Moments::of(summed, &[place]).bin(self.pivot);
                    let rows = bin.as_ref().ok().map(|bin| bin.n);
                    let stands = self.keys.group(group, slot(cell), quantity).zip(rows);
                    let robust = self.ladder.zip(stands).map(|(ladder, stands)| self.robust(summed, ladder, stands));
                    places[number].push(place);
                    own[number].bins.push(Told { cell: cell.clone(), bin, robust });
                }
                for (series, places) in own.iter_mut().zip(&places) {
                    series.whole = Moments::of(summed, places).bin(self.pivot);
                    series.fit = self.fit_of(series);
                }
                all.extend(own);
            }
        }
        if let Some(reference) = self.reference {
            let per_quantity = all.len() / self.quantities.len();
            for number in (0..all.len()).filter(|number| number / per_quantity != reference) {
                for bin in 0..all[number].bins.len() {
                    let other = all[reference * per_quantity + number % per_quantity].bins[bin].robust.clone();
                    if let (Some(own), Some(other)) = (&mut all[number].bins[bin].robust, other) {
                        own.improve(&other);
                    }
                }
            }
        }
        all
    }

    /// The bins of the axes that plots do not go along, in words.
    fn others(&self, cell: Option<&Cell>) -> Vec<String> {
        let axes = self.binning.columns.iter().enumerate().filter(|(axis, _)| *axis != self.along);
        let of = |(axis, binned): (usize, &crate::statistics::binning::Binned)| {
            if let (Some(names), Some(cell)) = (binned.axis.names(), cell) {
                return format!("{} {}", binned.column, names[cell.category(axis)]);
            }
            let (low, high) = cell.map_or((f64::NAN, f64::NAN), |cell| cell.edges[axis]);
            format!("{} {} to {}", binned.column, words::plain(low), words::plain(high))
        };
        axes.map(of).collect()
    }

    /// A series, as legends and fits call it; none where there is only one.
    pub(super) fn name_of(&self, series: &Series) -> Option<String> {
        let quantity = (self.quantities.len() > 1).then(|| self.quantities[series.quantity].column.clone());
        let group = self.groups.name(series.group);
        let words: Vec<String> = quantity.into_iter().chain(group).chain(series.others.clone()).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    fn table(&self, series: &[Series]) -> anyhow::Result<RecordBatch> {
        // Rows in the order of quantity, group, and bins with the last axis fastest.
        let mut rows: Vec<(&Series, &Told)> =
            series.iter().flat_map(|series| series.bins.iter().map(move |told| (series, told))).collect();
        rows.sort_by_key(|(series, told)| (series.quantity, series.group, told.cell.as_ref().map_or(0, |cell| cell.slot)));
        let float = |f: &dyn Fn(&Series, &Told) -> Option<f64>| -> ArrayRef {
            Arc::new(rows.iter().map(|(series, told)| f(series, told)).collect::<Float64Array>())
        };
        let value = |f: fn(&Bin) -> Option<f64>| float(&|_, told| told.bin.as_ref().ok().and_then(f));
        let mut columns: Vec<ArrayRef> = Vec::new();
        if self.told_apart {
            columns.push(Arc::new(StringArray::from_iter_values(rows.iter().map(|(s, _)| &self.quantities[s.quantity].column))));
        }
        columns.extend(self.groups.arrays(rows.iter().map(|(series, _)| series.group)));
        for axis in 0..self.binning.columns.len() {
            if let Some(names) = self.binning.columns[axis].axis.names() {
                let name = |told: &Told| told.cell.as_ref().map(|cell| names[cell.category(axis)].clone());
                columns.push(Arc::new(rows.iter().map(|(_, told)| name(told)).collect::<StringArray>()));
                continue;
            }
            let edges = |told: &Told| told.cell.as_ref().map(|cell| cell.edges[axis]);
            columns.push(float(&|_, told| edges(told).map(|e| e.0)));
            columns.push(float(&|_, told| edges(told).map(|e| e.1)));
            columns.push(float(&|_, told| edges(told).map(|e| f64::midpoint(e.0, e.1))));
            columns.push(float(&|_, told| told.bin.as_ref().ok().map(|bin| bin.by[axis])));
        }
        columns.push(Arc::new(Int64Array::from_iter_values(
            rows.iter().map(|(_, told)| told.bin.as_ref().map_or_else(|unknown| unknown.n, |bin| bin.n)),
        )));
        if self.weight.is_some() {
            columns.push(value(|bin| Some(bin.effective)));
        }
        columns.extend([value(|bin| Some(bin.bias)), value(|bin| bin.bias_error), value(|bin| bin.resolution)]);
        columns.extend([value(|bin| bin.resolution_error), value(|bin| bin.moments_error)]);
        if self.ladder.is_some() {
            let read = |number: usize, f: fn(&Read) -> Option<f64>| float(&|_, told| f(told.robust.as_ref()?.number(number)?));
            for number in 0..NAMES.len() {
                columns.push(read(number, |read| Some(read.value)));
                if self.replicas.is_some() {
                    columns.push(read(number, |read| read.error));
                }
            }
            columns.push(float(&|_, told| {
                let read = told.robust.as_ref()?.read.as_ref()?;
                Some(read[0].ladder_error.max(read[1].ladder_error))
            }));
            columns.extend([2, 3].map(|number| read(number, |read| Some(read.ladder_error))));
        }
        if self.reference.is_some() {
            for number in 0..2 {
                let improved = |told: &Told| Some(told.robust.as_ref()?.improved?[number]);
                columns.push(float(&|_, told| improved(told).map(|i| i.value)));
                columns.push(float(&|_, told| improved(told)?.error));
                columns.push(float(&|_, told| improved(told).map(|i| i.ladder_error)));
            }
        }
        if self.core.is_some() {
            let core = |f: fn(&Core) -> f64| float(&|_, told| told.robust.as_ref()?.core.as_ref().map(f));
            columns.extend([core(|c| c.mean), core(|c| c.mean_error), core(|c| c.sigma), core(|c| c.sigma_error)]);
            columns.extend([core(|c| c.range.0), core(|c| c.range.1), core(|c| c.chi2)]);
            let ndf = rows.iter().map(|(_, told)| Some(told.robust.as_ref()?.core.as_ref()?.ndf));
            columns.push(Arc::new(ndf.collect::<Int64Array>()));
        }
        let mut metadata: HashMap<String, String> = self.schema.metadata().clone();
        metadata.extend(self.compat.map(|compat| (COMPAT_KEY.to_owned(), compat.word().to_owned())));
        if self.fit {
            columns.push(float(&|series, told| {
                let number = series.bins.iter().position(|bin| std::ptr::eq(bin, told))?;
                Some(fitted(series)?.resolution(self.place(number, told.bin.as_ref().ok()?.by[self.along])))
            }));
            metadata.insert(FITS_KEY.into(), self.fits_json(series).to_string());
        }
        let reason = |(series, told): &(&Series, &Told)| {
            let unfitted = series.fit.as_ref().and_then(|fit| fit.as_ref().err()).filter(|_| told.bin.is_ok());
            let reasons: Vec<String> =
                told.reason().into_iter().chain(unfitted.map(|reason| format!("no fit: {reason}"))).collect();
            (!reasons.is_empty()).then(|| reasons.join("; "))
        };
        columns.push(Arc::new(rows.iter().map(reason).collect::<StringArray>()));
        let schema = self.schema.as_ref().clone().with_metadata(metadata);
        Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
    }

    fn axis_title(&self, what: &str) -> String {
        let unit = if self.percent() { " [%]" } else { "" };
        match &self.quantities[..] {
            [one] => format!("{what} of {}{unit}", if self.percent() { &one.column } else { &one.label }),
            _ => format!("{what}{unit}"),
        }
    }

    /// Numbers as they are shown: in per cent where all quantities are relative.
    fn shown(&self, quantity: usize) -> f64 {
        if self.percent() { self.quantities[quantity].percent.unwrap_or(1.0) } else { 1.0 }
    }

    /// One figure of all series, or one for each quantity where there are many.
    fn figures(&self, series: &[Series]) -> Vec<Figure> {
        if self.binning.is_empty() {
            return Vec::new();
        }
        let read = |number: usize| -> Value {
            match number {
                0 => |told| told.robust.as_ref()?.number(0).map(|read| (read.value, read.error)),
                1 => |told| told.robust.as_ref()?.number(1).map(|read| (read.value, read.error)),
                _ => |told| told.robust.as_ref()?.number(EIQR).map(|read| (read.value, read.error)),
            }
        };
        let mut kinds: Vec<(&str, Value, bool)> = vec![
            ("resolution", |told| told.bin.as_ref().ok().and_then(|bin| Some((bin.resolution?, bin.resolution_error))), true),
            ("bias", |told| told.bin.as_ref().ok().map(|bin| (bin.bias, bin.bias_error)), false),
        ];
        if self.ladder.is_some() {
            kinds.extend([("median", read(0), false), ("sigma68", read(1), false), ("eIQR", read(2), false)]);
        }
        if self.core.is_some() {
            kinds.push(("core sigma", |told| told.robust.as_ref()?.core.map(|core| (core.sigma, Some(core.sigma_error))), false));
        }
        let mut figures = Vec::new();
        let panels: Vec<Option<usize>> = if series.len() > MOST_CURVES && self.quantities.len() > 1 {
            (0..self.quantities.len()).map(Some).collect()
        } else {
            vec![None]
        };
        for (what, value, with_fit) in kinds {
            for panel in &panels {
                let shown = || series.iter().filter(|series| panel.is_none_or(|quantity| series.quantity == quantity));
                let curves = shown().map(|series| self.curve(series, self.shown(series.quantity), value, with_fit)).collect();
                let mut figure = self.figure(what, *panel, self.axis_title(what), curves);
                // Around 0, where means lie, a ratio says nothing.
                let itself = |over: &Over| matches!((over, panel), (Over::Quantity(own), Some(shown)) if own == shown);
                if let Some(over) = self.over.filter(|over| !["bias", "median"].contains(&what) && !itself(over)) {
                    let paired = what == "eIQR" && self.reference.is_some_and(|reference| over == Over::Quantity(reference));
                    let ratios = shown().map(|of| self.ratio(of, self.partner(of, series, over), value, paired)).collect();
                    let y = match over {
                        Over::Group(reference) => format!("/ {}", self.groups.value(reference)),
                        Over::Quantity(quantity) => format!("/ {}", self.quantities[quantity].column),
                    };
                    figure.content = Content::Compared { content: Box::new(figure.content), y, ratios };
                }
                figures.push(figure);
            }
        }
        if let Some(reference) = self.reference {
            let value: Value = |told| told.robust.as_ref()?.improved.map(|improved| (improved[0].value, improved[0].error));
            let compared = series.iter().filter(|series| series.quantity != reference);
            let curves = compared.map(|series| self.curve(series, 100.0, value, false)).collect();
            let y = format!("reIQR over {} [%]", self.quantities[reference].column);
            figures.push(self.figure("reIQR", None, y, curves));
        }
        figures
    }

    fn figure(&self, what: &str, panel: Option<usize>, y: String, curves: Vec<Curve>) -> Figure {
        let axis = &self.binning.columns[self.along];
        let of = match (panel, &self.quantities[..]) {
            (Some(quantity), _) => format!(" of {}", self.quantities[quantity].column),
            (None, [one]) => format!(" of {}", one.column),
            (None, _) => String::new(),
        };
        let name = what.to_lowercase().replace(' ', "_");
        Figure {
            name: panel.map_or(name.clone(), |quantity| format!("{name}-{}", self.quantities[quantity].column)),
            title: format!(
                "{what}{of} against {}{}",
                axis.column,
                self.compat.map(|compat| format!(" (compat: {})", compat.word())).unwrap_or_default()
            ),
            x: axis.label.clone(),
            y,
            content: Content::Curves { log_y: far_apart(&curves), curves },
        }
    }

    /// The number of a bin at its place.
    fn point(&self, series: &Series, bin: usize, scale: f64, value: Value) -> Option<Point> {
        let told = &series.bins[bin];
        let (y, error) = value(told)?;
        let (low, high) = told.cell.as_ref()?.edges[self.along];
        let x = self.place(bin, told.bin.as_ref().ok()?.by[self.along]);
        let y_error = scale * error.unwrap_or_default();
        Some(Point { x, x_error: (high - low) / 2.0, y: y * scale, y_error, y_error_up: None })
    }

    /// What a series is divided by; none where that is the series itself.
    fn partner<'a>(&self, of: &Series, series: &'a [Series], over: Over) -> Option<&'a Series> {
        let (quantity, group) = match over {
            Over::Group(reference) => (of.quantity, self.groups.partner(of.group, reference)),
            Over::Quantity(quantity) => (quantity, of.group),
        };
        let found = series.iter().find(|s| s.quantity == quantity && s.group == group && s.others == of.others);
        found.filter(|_| (of.quantity, of.group) != (quantity, group))
    }

    /// The numbers of a series over those of another, bin by bin; `paired` where what it gains event by event is known.
    fn ratio(&self, of: &Series, over: Option<&Series>, value: Value, paired: bool) -> Curve {
        let name = |series| self.name_of(series).unwrap_or_default();
        let Some(over) = over else { return Curve { label: name(of), ..Curve::default() } };
        let point = |bin: usize| {
            let ratio = self.point(of, bin, 1.0, value)?.over(&self.point(over, bin, 1.0, value)?)?;
            if !paired {
                return Some(ratio);
            }
            let improved = of.bins[bin].robust.as_ref()?.improved?[0];
            Some(Point { y: 1.0 - improved.value, y_error: improved.error.unwrap_or_default(), ..ratio })
        };
        let label = format!("{} / {}", name(of), name(over));
        Curve { label, points: (0..of.bins.len()).filter_map(point).collect(), line: Vec::new() }
    }

    fn curve(&self, series: &Series, scale: f64, value: Value, with_fit: bool) -> Curve {
        let points: Vec<Point> = (0..series.bins.len()).filter_map(|bin| self.point(series, bin, scale, value)).collect();
        let edges = self.binning.columns[self.along].axis.edges();
        let first = edges[0].max(points.first().map_or(f64::INFINITY, |p| p.x / 2.0));
        let last = edges[edges.len() - 1];
        let line = |fit: &Calorimeter| {
            let place = |i: u32| first + (last - first) * f64::from(i) / 200.0;
            (0..=200_u32).map(place).map(|energy| (energy, fit.resolution(energy) * scale)).collect()
        };
        let line = fitted(series).filter(|_| with_fit).map(line).unwrap_or_default();
        let name = self.name_of(series).unwrap_or_else(|| self.quantities[series.quantity].column.clone());
        let label = match fitted(series).filter(|_| with_fit) {
            Some(fit) => format!("{name}: {}", formula(fit, scale)),
            None => name,
        };
        Curve { label, points, line }
    }

    fn highlights(&self, series: &[Series]) -> Vec<Vec<String>> {
        let others = self.binning.columns.iter().enumerate().filter(|(axis, _)| *axis != self.along);
        let mut header: Vec<String> = self.told_apart.then(|| "quantity".to_owned()).into_iter().collect();
        header.extend(self.groups.columns().map(str::to_owned));
        header.extend(others.map(|(_, binned)| binned.label.clone()));
        header.extend(["events".into(), self.axis_title("bias"), self.axis_title("resolution")]);
        if self.fit {
            header.extend(["a (stochastic)", "b (constant)", "c (noise)", "chi2 / ndf", "p"].map(String::from));
        }
        let mut lines = vec![header];
        for series in series.iter().take(MOST_LINES) {
            let mut line: Vec<String> =
                self.told_apart.then(|| self.quantities[series.quantity].column.clone()).into_iter().collect();
            line.extend(self.groups.values(series.group).map(str::to_owned));
            line.extend(
                series.others.iter().map(|other| other.split_once(' ').map_or(other.clone(), |(_, bins)| bins.to_owned())),
            );
            let (scale, unit) = (self.shown(series.quantity), if self.percent() { " %" } else { "" });
            match &series.whole {
                Err(unknown) => line.extend([unknown.n.to_string(), "-".into(), "-".into()]),
                Ok(bin) => {
                    let shown = |value: f64, error: Option<f64>| {
                        words::with_error(value * scale, error.unwrap_or(f64::NAN) * scale) + unit
                    };
                    line.extend([bin.n.to_string(), shown(bin.bias, bin.bias_error)]);
                    line.push(bin.resolution.map_or_else(|| "-".into(), |value| shown(value, bin.resolution_error)));
                }
            }
            if self.fit {
                match fitted(series) {
                    None => line.extend(["-"; 5].map(String::from)),
                    Some(fit) => line.extend(self.fit_texts(series.quantity, fit)),
                }
            }
            lines.push(line);
        }
        lines
    }
}

impl Told {
    /// Why something of the row is missing.
    fn reason(&self) -> Option<String> {
        let mut reasons = match &self.bin {
            Err(unknown) => vec![unknown.why.to_owned()],
            Ok(bin) => bin.reasons.clone(),
        };
        reasons.extend(self.robust.iter().flat_map(|robust| robust.reasons.clone()));
        reasons.dedup();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// The fit of a series, where there is one.
fn fitted(series: &Series) -> Option<&Calorimeter> {
    series.fit.as_ref()?.as_ref().ok()
}

/// True where the points are so far apart that a linear axis would show only the largest: one class that a network was not
/// trained on would flatten all the others.
fn far_apart(curves: &[Curve]) -> bool {
    let values = || curves.iter().flat_map(|c| &c.points).map(|p| p.y);
    let (least, most) = values().fold((f64::INFINITY, 0.0_f64), |(a, b), y| (a.min(y), b.max(y)));
    least > 0.0 && most > 30.0 * least
}
