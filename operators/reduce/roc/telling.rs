//! Numbers to tables, plots and the few lines that people read first.

use super::measuring::{Gained, Measured, Value, WorkingPoint};
use super::{Against, Compat, Scoring};
use crate::statistics::auc::{Auc, thinned};
use crate::statistics::binning::{Binning, Cell};
use crate::statistics::bootstrap::Replicas;
use crate::statistics::figure::{Content, Curve, Figure, Point, Summary};
use crate::statistics::folding::COMPAT_KEY;
use crate::statistics::groups::Groups;
use crate::statistics::rungs::Counted;
use crate::statistics::sums::Sums;
use crate::statistics::working_point::{Fixed, Pair};
use crate::work::Fold;
use crate::{Fault, words};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;

/// More curves than these are not drawn over each other.
const MOST_CURVES: usize = 8;

pub(super) fn table_schema(
    (groups, binning): (&Groups, &Binning),
    one_signal: bool,
    against: Against,
    points: bool,
    gain: bool,
) -> Schema {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let float = |name: &str| Field::new(name, DataType::Float64, true);
    let mut fields = vec![text(if one_signal { "score" } else { "class" }, false)];
    fields.extend((against == Against::Each).then(|| text("against", false)));
    fields.extend(groups.fields());
    fields.extend(binning.fields());
    fields.extend(["signal", "background"].map(|name| Field::new(name, DataType::Int64, false)));
    fields.extend(["auc", "auc_error", "ladder_error"].map(float));
    if points {
        fields.push(text("fixed", false));
        fields.push(Field::new("at", DataType::Float64, false));
        fields.push(float("threshold"));
        for what in ["signal_efficiency", "background_efficiency", "rejection"] {
            fields.extend(["", "_low", "_high"].map(|end| float(&format!("{what}{end}"))));
        }
        fields.push(float("point_ladder_error"));
    }
    if gain {
        fields.push(text("over", true));
        fields.extend(["auc_gain", "auc_gain_error"].map(float));
        if points {
            fields.extend(["gain", "gain_error", "relative_gain", "relative_gain_error"].map(float));
        }
    }
    fields.push(text("reason", true));
    Schema::new_with_metadata(fields, groups.metadata())
}

/// A contest in all rows of a group and in each bin.
struct Told {
    contest: usize,
    group: usize,
    whole: Measured,
    bins: Vec<Measured>,
    gained: Option<(Gained, Vec<Gained>)>,
}

/// A value with its errors downwards and upwards.
type Bar = (f64, (f64, f64));

/// A line of the table.
struct Line<'a> {
    contest: usize,
    group: usize,
    cell: Option<&'a Cell>,
    measured: &'a Measured,
    gained: Option<&'a Gained>,
    point: Option<usize>,
}

impl Line<'_> {
    fn at(&self) -> Option<&WorkingPoint> {
        self.measured.points[self.point?].as_ref()
    }

    fn gain(&self) -> Option<(Value, Value)> {
        self.gained?.points[self.point?]
    }

    fn reason(&self) -> Option<String> {
        let mut reasons: Vec<&str> =
            self.measured.reasons.iter().chain(self.gained.iter().flat_map(|g| &g.reasons)).map(String::as_str).collect();
        reasons.sort_unstable();
        reasons.dedup();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

impl Fold for Scoring {
    fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        self.counter.add(batch, into)
    }

    fn finish(&self, sums: &Sums) -> anyhow::Result<Summary> {
        let counted = Counted::of(&self.counter.layout, sums);
        let (groups, cells) = (self.counter.groups.len(), self.counter.binning.cells());
        let told = |contest: usize, group: usize| {
            let slots: Vec<usize> = self.counter.slots(group).collect();
            let measure = |slots: &[usize]| self.measure(&counted, &self.contests[contest], slots);
            let bins = cells.iter().map(|cell| measure(&[slots[cell.slot]])).collect();
            Told { contest, group, whole: measure(&slots), bins, gained: None }
        };
        let contests = 0..self.contests.len();
        let mut told: Vec<Told> =
            contests.flat_map(|contest| (0..groups).map(move |group| (contest, group))).map(|(c, g)| told(c, g)).collect();
        for number in 0..told.len() {
            let gained = self.rival(told[number].contest).map(|rival| {
                let (of, over) = (&told[number], &told[rival * groups + told[number].group]);
                let bins = of.bins.iter().zip(&over.bins).map(|(of, over)| self.gained(of, over)).collect();
                (self.gained(&of.whole, &over.whole), bins)
            });
            told[number].gained = gained;
        }
        // All curves in one figure, or those of each group where they are many.
        let panels: Vec<Option<usize>> =
            if told.len() > MOST_CURVES && groups > 1 { (0..groups).map(Some).collect() } else { vec![None] };
        let mut figures = Vec::new();
        for panel in panels {
            let shown: Vec<&Told> = told.iter().filter(|told| panel.is_none_or(|group| told.group == group)).collect();
            let mut of_panel = vec![self.curves(&shown)];
            of_panel.extend(self.rejections(&shown));
            if !cells.is_empty() {
                of_panel.extend(self.against(&shown, &cells));
            }
            if let Some(group) = panel {
                for figure in &mut of_panel {
                    figure.name += &self.counter.groups.suffix(group);
                    figure.title += &format!(", {}", self.counter.groups.label(group, ""));
                }
            }
            figures.extend(of_panel);
        }
        Ok(Summary {
            table: self.table(&told, &cells)?,
            histograms: Vec::new(),
            figures,
            highlights: self.highlights(&told),
            remarks: self.remarks(sums),
        })
    }
}

impl Scoring {
    /// What a contest's score is compared with, where it is.
    fn rival(&self, contest: usize) -> Option<usize> {
        let (of, over) = self.gain?;
        let here = &self.contests[contest];
        let same = |other: &super::Contest| other.score == over && other.background == here.background;
        if here.score == of { self.contests.iter().position(same) } else { None }
    }

    fn column(&self, score: usize) -> &str {
        &self.counter.scores[score].column
    }

    fn name(&self, contest: usize) -> String {
        let contest = &self.contests[contest];
        let name = &self.scores[contest.score].name;
        contest.against.as_ref().map_or_else(|| name.clone(), |against| format!("{name} against {against}"))
    }

    /// A curve, as legends call it.
    fn label(&self, told: &Told) -> String {
        [self.name(told.contest)].into_iter().chain(self.counter.groups.name(told.group)).collect::<Vec<_>>().join(", ")
    }

    fn table(&self, told: &[Told], cells: &[Cell]) -> anyhow::Result<RecordBatch> {
        let points: Vec<Option<usize>> =
            if self.points.is_empty() { vec![None] } else { (0..self.points.len()).map(Some).collect() };
        let mut lines: Vec<Line<'_>> = Vec::new();
        for told in told {
            let (contest, group) = (told.contest, told.group);
            let whole = (None, &told.whole, told.gained.as_ref().map(|gained| &gained.0));
            let bins = told.bins.iter().zip(cells).enumerate();
            let bins = bins.map(|(i, (bin, cell))| (Some(cell), bin, told.gained.as_ref().map(|gained| &gained.1[i])));
            for (cell, measured, gained) in [whole].into_iter().chain(bins) {
                lines.extend(points.iter().map(|point| Line { contest, group, cell, measured, gained, point: *point }));
            }
        }
        let text =
            |f: &dyn Fn(&Line<'_>) -> Option<String>| -> ArrayRef { Arc::new(lines.iter().map(f).collect::<StringArray>()) };
        let float =
            |f: &dyn Fn(&Line<'_>) -> Option<f64>| -> ArrayRef { Arc::new(lines.iter().map(f).collect::<Float64Array>()) };
        let whole =
            |f: fn(&Measured) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(lines.iter().map(|l| f(l.measured)))) };
        let contest = |line: &Line<'_>| &self.contests[line.contest];
        let mut columns = vec![text(&|line| Some(self.scores[contest(line).score].name.clone()))];
        if self.contests.iter().any(|contest| contest.against.is_some()) {
            columns.push(text(&|line| contest(line).against.clone()));
        }
        columns.extend(self.counter.groups.arrays(lines.iter().map(|line| line.group)));
        columns.extend(self.counter.binning.arrays(lines.iter().map(|line| line.cell)));
        columns.extend([whole(|m| m.signal), whole(|m| m.background)]);
        columns.push(float(&|line| line.measured.auc.as_ref().map(|auc| auc.value)));
        columns.push(float(&|line| line.measured.auc_error));
        columns.push(float(&|line| line.measured.auc.as_ref().map(|auc| auc.ladder_error)));
        if !self.points.is_empty() {
            let fixed = |line: &Line<'_>| line.point.map(|point| self.points[point]);
            columns.push(text(&|line| Some(fixed(line)?.word().to_owned())));
            columns.push(float(&|line| Some(fixed(line)?.value())));
            columns.push(float(&|line| Some(line.at()?.threshold)));
            columns.push(float(&|line| Some(line.at()?.at.signal)));
            columns.push(float(&|line| Some(line.at()?.signal_interval()?.0)));
            columns.push(float(&|line| Some(line.at()?.signal_interval()?.1)));
            columns.push(float(&|line| Some(line.at()?.at.background)));
            columns.push(float(&|line| Some(line.at()?.background_interval()?.0)));
            columns.push(float(&|line| Some(line.at()?.background_interval()?.1)));
            columns.push(float(&|line| line.at()?.rejection()));
            columns.push(float(&|line| line.at()?.rejection_interval().0));
            columns.push(float(&|line| line.at()?.rejection_interval().1));
            columns.push(float(&|line| Some(line.at()?.ladder_error)));
        }
        if let Some((_, over)) = self.gain {
            columns.push(text(&|line| line.gained.map(|_| self.scores[over].name.clone())));
            columns.push(float(&|line| Some(line.gained?.auc?.value)));
            columns.push(float(&|line| line.gained?.auc?.error));
            if !self.points.is_empty() {
                columns.push(float(&|line| Some(line.gain()?.0.value)));
                columns.push(float(&|line| line.gain()?.0.error));
                columns.push(float(&|line| Some(line.gain()?.1.value)));
                columns.push(float(&|line| line.gain()?.1.error));
            }
        }
        columns.push(text(&|line| line.reason()));
        let Some(compat) = self.compat else { return Ok(RecordBatch::try_new(self.schema.clone(), columns)?) };
        let word = match compat {
            Compat::Dlkit => "dlkit",
            Compat::Eml => "eml",
        };
        let mut metadata = self.schema.metadata().clone();
        metadata.insert(COMPAT_KEY.to_owned(), word.to_owned());
        let schema = self.schema.as_ref().clone().with_metadata(metadata);
        Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
    }

    fn curves(&self, told: &[&Told]) -> Figure {
        let curve = |told: &&Told| {
            let auc = told.whole.auc.as_ref()?;
            let label = format!("{} (AUC {})", self.label(told), words::significant(auc.value, 4));
            let place = |at: &WorkingPoint| Point { x: at.at.background, y: at.at.signal, ..Point::default() };
            let points = told.whole.points.iter().flatten().map(|at| crossed(at, place(at), false)).collect();
            Some(Curve { label, points, line: thinned(&auc.curve, 1.0 / 512.0) })
        };
        let signal = self.scores.first().map(|score| self.counter.classes.names[score.signal].clone()).unwrap_or_default();
        let title = match (self.one_signal, self.contests.iter().any(|contest| contest.against.is_some())) {
            (true, _) => format!("{signal} told from background"),
            (false, true) => "Each class against each other one".into(),
            (false, false) => "Each class against all others".into(),
        };
        Figure {
            name: "roc".into(),
            title,
            x: "background efficiency".into(),
            y: "signal efficiency".into(),
            content: Content::Curves { curves: told.iter().filter_map(curve).collect(), log_y: false },
        }
    }

    /// Rejection against signal efficiency, where a working point asks for it.
    fn rejections(&self, told: &[&Told]) -> Option<Figure> {
        self.points.iter().find(|fixed| matches!(fixed, Fixed::Signal(_)))?;
        let curve = |told: &&Told| {
            let auc: &Auc = told.whole.auc.as_ref()?;
            let line: Vec<(f64, f64)> =
                auc.curve.iter().filter(|(b, s)| *b > 0.0 && *s > 0.0).map(|(b, s)| (*s, b.log10())).collect();
            let line = thinned(&line, 1.0 / 256.0).into_iter().map(|(s, b)| (s, 10_f64.powf(-b))).collect();
            let place = |at: &WorkingPoint| Some(Point { x: at.at.signal, y: at.rejection()?, ..Point::default() });
            let points = told.whole.points.iter().flatten().filter_map(|at| Some(crossed(at, place(at)?, true))).collect();
            Some(Curve { label: self.label(told), points, line })
        };
        Some(Figure {
            name: "rejection".into(),
            title: "Background rejection against signal efficiency".into(),
            x: "signal efficiency".into(),
            y: "background rejection".into(),
            content: Content::Curves { curves: told.iter().filter_map(curve).collect(), log_y: true },
        })
    }

    /// Everything against the column that is binned in.
    fn against(&self, told: &[&Told], cells: &[Cell]) -> Vec<Figure> {
        let bins = &self.counter.binning.columns[0];
        let figure = |name: String, what: &str, y: String, curves: Vec<Curve>| Figure {
            name,
            title: format!("{what} against {}", bins.column),
            x: bins.label.clone(),
            y,
            content: Content::Curves { curves, log_y: false },
        };
        let curves = |point: &dyn Fn(&Told, usize) -> Option<Bar>| -> Vec<Curve> {
            let curve = |told: &&Told| {
                let place = |(bin, cell): (usize, &Cell)| {
                    let (low, high) = cell.edges[0];
                    let (y, (below, above)) = point(told, bin)?;
                    let middle = (f64::midpoint(low, high), (high - low) / 2.0);
                    let (x, x_error) = if self.compat == Some(Compat::Dlkit) { (low, 0.0) } else { middle };
                    Some(Point { x, x_error, y, y_error: below, y_error_up: (below != above).then_some(above) })
                };
                Curve { label: self.label(told), points: cells.iter().enumerate().filter_map(place).collect(), line: Vec::new() }
            };
            told.iter().map(curve).collect()
        };
        let area = |told: &Told, bin: usize| {
            let error = told.bins[bin].auc_error.unwrap_or_default();
            Some((told.bins[bin].auc.as_ref()?.value, (error, error)))
        };
        let mut figures = vec![figure("auc".into(), "Area under the ROC curve", "AUC".into(), curves(&area))];
        for (number, fixed) in self.points.iter().enumerate() {
            let name = file_name(*fixed);
            let value = |told: &Told, bin: usize| {
                let at = told.bins[bin].points[number].as_ref()?;
                let ends = |value: f64, (low, high): (Option<f64>, Option<f64>)| {
                    let distance = |end: Option<f64>| end.map_or(0.0, |end| (end - value).abs());
                    (value, (distance(low), distance(high)))
                };
                match fixed {
                    Fixed::Background(_) => {
                        Some(ends(at.at.signal, at.signal_interval().map_or((None, None), |(l, h)| (Some(l), Some(h)))))
                    }
                    Fixed::Signal(_) => Some(ends(at.rejection()?, at.rejection_interval())),
                }
            };
            let (what, y) = match fixed {
                Fixed::Background(_) => ("Signal efficiency", "signal efficiency"),
                Fixed::Signal(_) => ("Background rejection", "background rejection"),
            };
            figures.push(figure(name.clone(), &format!("{what} at {}", fixed.label()), y.into(), curves(&value)));
            let Some((of, over)) = self.gain else { continue };
            let gain = |told: &Told, bin: usize| {
                let (_, relative) = told.gained.as_ref()?.1[bin].points[number]?;
                let error = 100.0 * relative.error.unwrap_or_default();
                Some((100.0 * relative.value, (error, error)))
            };
            let mut gains = curves(&gain);
            gains.retain(|curve| !curve.points.is_empty());
            let [of, over] = [of, over].map(|score| &self.scores[score].name);
            let what = format!("Relative gain in {y} of {of} over {over} at {}", fixed.label());
            figures.push(figure(format!("gain_{name}"), &what, "relative gain [%]".into(), gains));
        }
        figures
    }

    fn highlights(&self, told: &[Told]) -> Vec<Vec<String>> {
        let mut header = vec![if self.one_signal { "score" } else { "class" }.to_owned()];
        header.extend(self.counter.groups.columns().map(str::to_owned));
        header.extend(["signal", "background", "AUC", "error of the ladder"].map(String::from));
        for fixed in &self.points {
            header.push(match fixed {
                Fixed::Background(_) => format!("signal [%]\nat {}", fixed.label()),
                Fixed::Signal(_) => format!("rejection\nat {}", fixed.label()),
            });
        }
        if let Some((_, over)) = self.gain {
            let over = &self.scores[over].name;
            header.push(format!("AUC\nover {over}"));
            header.extend(self.points.iter().map(|fixed| format!("gain over {over} [%]\nat {}", fixed.label())));
        }
        let none = || "-".to_owned();
        let mut lines = vec![header];
        for Told { contest, group, whole, gained, .. } in told {
            let mut line = vec![self.name(*contest)];
            line.extend(self.counter.groups.values(*group).map(str::to_owned));
            line.extend([whole.signal.to_string(), whole.background.to_string()]);
            match &whole.auc {
                Some(auc) => line.extend([
                    words::with_error(auc.value, whole.auc_error.unwrap_or(f64::NAN)),
                    format!("at most {}", words::significant(auc.ladder_error, 2)),
                ]),
                None => line.extend([none(), none()]),
            }
            for point in &whole.points {
                line.push(point.as_ref().map_or_else(none, |at| match at.fixed {
                    Fixed::Background(_) => {
                        words::with_ends(100.0 * at.at.signal, at.signal_interval().map(|(l, h)| (100.0 * l, Some(100.0 * h))))
                    }
                    Fixed::Signal(_) => match (at.rejection(), at.rejection_interval()) {
                        (Some(value), (low, high)) => words::with_ends(value, low.map(|low| (low, high))),
                        (None, (Some(low), _)) => format!("> {}", words::significant(low, 3)),
                        (None, _) => none(),
                    },
                }));
            }
            if self.gain.is_some() {
                let shown =
                    |value: &Value, scale: f64| words::with_error(scale * value.value, scale * value.error.unwrap_or(f64::NAN));
                line.push(gained.as_ref().and_then(|g| g.0.auc.as_ref()).map_or_else(none, |value| shown(value, 1.0)));
                for number in 0..self.points.len() {
                    let gain = gained.as_ref().and_then(|g| g.0.points[number].as_ref());
                    line.push(gain.map_or_else(none, |(_, relative)| shown(relative, 100.0)));
                }
            }
            lines.push(line);
        }
        lines
    }

    fn remarks(&self, sums: &Sums) -> Vec<String> {
        let replicas = self.counter.layout.replicas.as_ref().map(Replicas::number);
        let mut remarks = vec![match (&self.counter.weight, replicas) {
            (None, _) => "errors of areas are DeLong's (1988)".to_owned(),
            (Some(_), None) => "errors of areas are DeLong's (1988), with effective counts of weighted rows".to_owned(),
            (Some(_), Some(replicas)) => format!("errors are the spread of {replicas} replicas of the bootstrap"),
        }];
        remarks.extend(self.compat.map(|compat| match compat {
            Compat::Dlkit => "compat: dlkit: numbers in bins are drawn at the lower edges of their bins instead of in the middle".to_owned(),
            Compat::Eml => "compat: eml: signal efficiencies at a fixed background efficiency are those of the first point of the curve above \
                            it, so they are too high, and have no intervals; bins of 10 rows or fewer are left out (rows on the lower edge \
                            of a bin, which that code leaves out, are in it)"
                .to_owned(),
        }));
        if !self.points.is_empty() && self.counter.weight.is_none() && self.compat != Some(Compat::Eml) {
            remarks.push("intervals of working points are Wilson's for what passes, with those of the cut in quadrature".into());
        }
        if let (Some((of, over)), Some(replicas)) = (self.gain, replicas) {
            let [of, over] = [of, over].map(|score| &self.scores[score].name);
            remarks.push(format!("the error of the gain of {of} over {over} is the spread of {replicas} paired replicas"));
        }
        for (number, score) in self.scores.iter().enumerate() {
            let odd = self.counter.odd(sums, number);
            if odd != 0 {
                let what = self
                    .counter
                    .weight
                    .as_ref()
                    .map_or_else(|| self.column(number).to_owned(), |weight| format!("{} or {weight}", self.column(number)));
                let rows = words::counted(odd, "row");
                remarks.push(format!("{rows} with {what} NaN or infinite in no curve of {}", score.name));
            }
        }
        remarks.extend(self.counter.groups.remarks(sums));
        let unplayed = sums.count(self.counter.layout.unplayed());
        if unplayed != 0 {
            remarks.push(format!("{} with a weight beyond 10^11 in no replica", words::counted(unplayed.unsigned_abs(), "row")));
        }
        remarks
    }
}

fn file_name(fixed: Fixed) -> String {
    match fixed {
        Fixed::Background(value) => format!("signal_at_background_{value}"),
        Fixed::Signal(value) => format!("rejection_at_signal_{value}"),
    }
}

/// A point on a curve with the interval of what is not fixed; of the rejection where that is what is drawn.
fn crossed(at: &WorkingPoint, point: Point, rejection: bool) -> Point {
    let Pair { signal, background } = at.at;
    match (at.fixed, rejection) {
        (Fixed::Background(_), false) => match at.signal_interval() {
            Some((low, high)) => Point { y_error: signal - low, y_error_up: Some(high - signal), ..point },
            None => point,
        },
        (Fixed::Signal(_), true) => match at.rejection_interval() {
            (Some(low), Some(high)) => Point { y_error: point.y - low, y_error_up: Some(high - point.y), ..point },
            _ => point,
        },
        (Fixed::Signal(_), false) => {
            let width = at.background_interval().map_or(0.0, |(low, high)| (high - low) / 2.0);
            Point { x: background, x_error: width, ..point }
        }
        (Fixed::Background(_), true) => {
            let width = at.signal_interval().map_or(0.0, |(low, high)| (high - low) / 2.0);
            Point { x_error: width, ..point }
        }
    }
}
