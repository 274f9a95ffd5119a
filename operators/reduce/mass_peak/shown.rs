//! What is shown of fitted peaks: the table, the histograms, the plot, the numbers that are quoted, and what is to be said.

use super::widths::{Improvement, Width};
use super::{Weighing, fitted};
use crate::statistics::binning::{Binned, Cell};
use crate::statistics::figure::{Content, Curve, Figure, Point};
use crate::statistics::peak::{Background, PARAMETERS, Spectrum};
use crate::statistics::sums::Sums;
use crate::statistics::uhi::{self, UhiAxis};
use crate::words;
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use std::sync::Arc;

impl Weighing {
    pub(super) fn table(&self, widths: &[Width]) -> anyhow::Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::new();
        let text = |f: &dyn Fn(&Width) -> Option<String>| -> ArrayRef { Arc::new(widths.iter().map(f).collect::<StringArray>()) };
        let float = |f: &dyn Fn(&Width) -> Option<f64>| -> ArrayRef { Arc::new(widths.iter().map(f).collect::<Float64Array>()) };
        let peak = |width: &Width| width.peak.as_ref().ok().cloned();
        columns.extend(self.groups.arrays(widths.iter().map(|width| width.group)));
        columns.extend(self.binning.arrays(widths.iter().map(|width| width.cell.as_ref())));
        columns.push(text(&|width| Some(self.of[width.energy].clone())));
        columns.push(Arc::new(Int64Array::from_iter_values(widths.iter().map(|w| self.in_range(&w.counts).iter().sum::<i64>()))));
        for i in 0..fitted(self.held.background) {
            columns.push(float(&|width| Some(peak(width)?.parameters[i].value)));
            columns.push(float(&|width| peak(width)?.parameters[i].error));
        }
        columns.push(float(&|width| Some(peak(width)?.chi2)));
        columns.push(Arc::new(widths.iter().map(|width| Some(peak(width)?.ndf)).collect::<Int64Array>()));
        columns.push(float(&|width| width.improvement.as_ref()?.value.clone().ok()));
        columns.push(float(&|width| width.improvement.as_ref()?.error.clone().ok()));
        columns.push(text(&|width| {
            let said = self.said(width);
            (!said.is_empty()).then(|| said.join("; "))
        }));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    /// Why something is missing, and what is at its bound.
    fn said(&self, width: &Width) -> Vec<String> {
        let peak = match &width.peak {
            Err(reason) => return vec![format!("no fit: {reason}")],
            Ok(peak) => peak,
        };
        let ndf = peak.ndf as f64;
        let mut said: Vec<String> = PARAMETERS
            .iter()
            .zip(&peak.parameters)
            .filter(|(_, parameter)| parameter.at_bound)
            .map(|(name, parameter)| {
                format!("{name} is at its bound, {}; the errors of the others hold with it fixed there", parameter.value)
            })
            .collect();
        if let [_, _, alpha, n, ..] = &peak.parameters
            && alpha.at_bound
            && n.error.is_none()
            && self.held.n.is_none()
        {
            said.push("n is not determined, there is no tail".into());
        }
        if peak.parameters[4].at_bound {
            said.push("there is no background, so its slope is not determined".into());
        }
        if peak.chi2 > ndf + 5.0 * (2.0 * ndf).sqrt() {
            let chi2 = words::significant(peak.chi2, 3);
            said.push(format!("the curve does not describe the masses: chi2 = {chi2} for {} degrees of freedom", peak.ndf));
        }
        match &width.improvement {
            Some(Improvement { value: Err(reason), .. }) => said.push(format!("no improvement: {reason}")),
            Some(Improvement { error: Err(reason), .. }) => said.push(format!("no error of the improvement: {reason}")),
            _ => {}
        }
        said
    }

    /// A bin, in words: `pt_1 20 to 40`.
    fn bin(&self, cell: Option<&Cell>) -> Option<String> {
        let cell = cell?;
        let of = |(number, binned): (usize, &Binned)| match binned.axis.names() {
            Some(names) => format!("{} {}", binned.column, names[cell.category(number)]),
            None => {
                let (low, high) = cell.edges[number];
                format!("{} {} to {}", binned.column, words::plain(low), words::plain(high))
            }
        };
        Some(self.binning.columns.iter().enumerate().map(of).collect::<Vec<_>>().join(", "))
    }

    /// The group and the bin, in words; none where there are neither.
    fn place(&self, width: &Width) -> Option<String> {
        let words: Vec<String> = self.groups.name(width.group).into_iter().chain(self.bin(width.cell.as_ref())).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    fn whose(&self, width: &Width) -> String {
        self.place(width).into_iter().chain([self.of[width.energy].clone()]).collect::<Vec<_>>().join(", ")
    }

    fn label(&self) -> String {
        self.unit.as_ref().map_or_else(|| "mass".into(), |unit| format!("mass [{unit}]"))
    }

    /// The masses of an energy, in all groups and bins.
    pub(super) fn histogram(&self, sums: &Sums, energy: usize) -> (String, serde_json::Value) {
        let (mut contents, mut variances) = (Vec::new(), Vec::new());
        for place in 0..self.all_places() {
            let (own, squares) = self.contents(sums, 0, place..place + 1, energy);
            variances.extend(squares.unwrap_or_else(|| own.clone()));
            contents.extend(own);
        }
        let label = self.label();
        let mut axes = self.groups.axes();
        axes.extend(self.binning.columns.iter().map(|c| UhiAxis::Bins(&c.axis, &c.column, &c.label)));
        axes.push(UhiAxis::Bins(&self.axis, "mass", &label));
        let storage = uhi::Storage::Weighted(&contents, &variances);
        (format!("mass-{}", self.of[energy]), uhi::histogram(&axes, storage))
    }

    /// The masses with their curves for each group and bin, and what becomes of the widths along the bins.
    pub(super) fn figures(&self, widths: &[Width]) -> Vec<Figure> {
        let mut figures: Vec<Figure> = widths.chunk_by(Width::beside).map(|beside| self.masses(beside)).collect();
        if self.binning.is_empty() {
            return figures;
        }
        let unit = self.unit.as_ref().map(|unit| format!(" [{unit}]")).unwrap_or_default();
        let sigma = |width: &Width| {
            let sigma = width.peak.as_ref().ok()?.parameters[1];
            Some((sigma.value, sigma.error.unwrap_or_default()))
        };
        figures.push(self.along("sigma", &format!("sigma{unit}"), widths, &sigma));
        if self.of.len() > 1 {
            let better = |width: &Width| {
                let improvement = width.improvement.as_ref()?;
                Some((100.0 * *improvement.value.as_ref().ok()?, 100.0 * improvement.error.as_ref().copied().unwrap_or_default()))
            };
            let y = format!("improvement on {} [%]", self.of[self.reference]);
            figures.push(self.along("improvement", &y, widths, &better));
        }
        figures
    }

    /// A number of each bin, along the first column that is binned in.
    fn along(&self, name: &str, y: &str, widths: &[Width], value: &dyn Fn(&Width) -> Option<(f64, f64)>) -> Figure {
        let axis = &self.binning.columns[self.along];
        let mut curves: Vec<Curve> = Vec::new();
        for width in widths {
            let Some(cell) = &width.cell else { continue };
            let others = self.binning.columns.iter().enumerate().filter(|(number, _)| *number != self.along);
            let other = others.map(|(number, binned)| match binned.axis.names() {
                Some(names) => format!("{} {}", binned.column, names[cell.category(number)]),
                None => format!("{} from {}", binned.column, words::plain(cell.edges[number].0)),
            });
            let label: Vec<String> =
                self.groups.name(width.group).into_iter().chain(other).chain([self.of[width.energy].clone()]).collect();
            let label = label.join(", ");
            let known = curves.iter().position(|curve| curve.label == label).unwrap_or_else(|| {
                curves.push(Curve { label, ..Curve::default() });
                curves.len() - 1
            });
            let (low, high) = cell.edges[self.along];
            curves[known].points.extend(value(width).map(|(y, y_error)| Point {
                x: f64::midpoint(low, high),
                x_error: (high - low) / 2.0,
                y,
                y_error,
                y_error_up: None,
            }));
        }
        curves.retain(|curve| !curve.points.is_empty());
        Figure {
            name: name.into(),
            title: format!("{name} against {}", axis.column),
            x: axis.label.clone(),
            y: y.into(),
            content: Content::Curves { curves, log_y: false },
        }
    }

    fn masses(&self, beside: &[Width]) -> Figure {
        let edges = self.axis.edges();
        let step = (edges[edges.len() - 1] - edges[0]) / self.axis.bins() as f64;
        // Six digits, and no zeros behind them.
        let step: f64 = format!("{step:.5e}").parse().unwrap_or(step);
        let unit = self.unit.as_ref().map(|unit| format!(" {unit}")).unwrap_or_default();
        let curve = |width: &Width| {
            let contents = self.in_range(&width.contents);
            let squares = width.variances.as_ref().map(|v| self.in_range(v));
            let points = edges.windows(2).zip(contents).enumerate().map(|(bin, (ends, content))| Point {
                x: f64::midpoint(ends[0], ends[1]),
                x_error: (ends[1] - ends[0]) / 2.0,
                y: *content,
                y_error: squares.map_or(*content, |squares| squares[bin]).max(0.0).sqrt(),
                y_error_up: None,
            });
            let spectrum = Spectrum { edges: &edges, contents, variances: squares };
            let label = format!("{}: {}", self.of[width.energy], self.sigma_text(width));
            let Ok(peak) = &width.peak else { return vec![Curve { label, points: points.collect(), line: Vec::new() }] };
            let line = peak.curve(&spectrum, self.line, 400);
            let below = peak.background_curve(&spectrum, self.line, 400).filter(|_| !peak.parameters[4].at_bound);
            let below =
                below.map(|line| Curve { label: format!("background of {}", self.of[width.energy]), points: Vec::new(), line });
            [Curve { label, points: points.collect(), line }].into_iter().chain(below).collect::<Vec<_>>()
        };
        let place = beside.first().and_then(|width| self.place(width));
        let suffix: String = place.iter().map(|place| format!("-{}", place.replace(", ", "-").replace(' ', "_"))).collect();
        Figure {
            name: format!("mass{suffix}"),
            title: ["mass of pairs".to_owned()].into_iter().chain(place).collect::<Vec<_>>().join(", "),
            x: self.label(),
            y: format!("pairs / {step}{unit}"),
            content: Content::Curves { curves: beside.iter().flat_map(curve).collect(), log_y: false },
        }
    }

    fn sigma_text(&self, width: &Width) -> String {
        let unit = self.unit.as_ref().map(|unit| format!(" {unit}")).unwrap_or_default();
        match &width.peak {
            Ok(peak) => {
                let sigma = peak.parameters[1];
                format!("σ = {}{unit}", words::with_error(sigma.value, sigma.error.unwrap_or(f64::NAN)))
            }
            Err(_) => "no fit".into(),
        }
    }

    pub(super) fn highlights(&self, widths: &[Width]) -> Vec<Vec<String>> {
        let mut header: Vec<String> = self.groups.columns().map(str::to_owned).collect();
        header.extend((!self.binning.is_empty()).then(|| "bin".to_owned()));
        let unit = self.unit.as_ref().map(|unit| format!(" [{unit}]")).unwrap_or_default();
        header.extend(["of".into(), "pairs".into(), format!("sigma{unit}"), format!("shift{unit}"), "chi2 / ndf".into()]);
        if self.held.background != Background::None {
            header.push("background [%]".into());
        }
        if self.of.len() > 1 {
            header.push(format!("improvement on {}", self.of[self.reference]));
        }
        let mut lines = vec![header];
        for width in widths {
            let mut line: Vec<String> = self.groups.values(width.group).map(str::to_owned).collect();
            if !self.binning.is_empty() {
                line.push(self.bin(width.cell.as_ref()).unwrap_or_else(|| "all".into()));
            }
            line.extend([self.of[width.energy].clone(), self.in_range(&width.counts).iter().sum::<i64>().to_string()]);
            match &width.peak {
                Err(_) => line.extend(["-"; 3].map(String::from)),
                Ok(peak) => {
                    let shown =
                        |i: usize| words::with_error(peak.parameters[i].value, peak.parameters[i].error.unwrap_or(f64::NAN));
                    line.extend([shown(1), shown(0), format!("{} / {}", words::significant(peak.chi2, 3), peak.ndf)]);
                }
            }
            if self.held.background != Background::None {
                line.push(width.peak.as_ref().map_or_else(
                    |_| "-".into(),
                    |peak| {
                        let fraction = peak.parameters[4];
                        words::with_error(100.0 * fraction.value, 100.0 * fraction.error.unwrap_or(f64::NAN))
                    },
                ));
            }
            if self.of.len() > 1 {
                line.push(match &width.improvement {
                    None => "reference".into(),
                    Some(Improvement { value: Err(_), .. }) => "-".into(),
                    Some(Improvement { value: Ok(value), error }) => {
                        let error = error.as_ref().map_or(f64::NAN, |error| 100.0 * error);
                        format!("{} %", words::with_error(100.0 * value, error))
                    }
                });
            }
            lines.push(line);
        }
        lines
    }

    pub(super) fn remarks(&self, widths: &[Width], sums: &Sums) -> Vec<String> {
        let of_weights = if self.weight.is_some() { ", and of the squared weights" } else { "" };
        let mut remarks = vec![format!(
            "sigma is the width of the Crystal Ball, convolved with a Breit-Wigner of mass {} and width {}; errors are of the second derivatives of the binned likelihood{of_weights}",
            self.line.mass, self.line.width
        )];
        remarks.extend(match self.held.background {
            Background::None => None,
            Background::Exponential => {
                Some("the background is exp(slope m), with background_fraction of the pairs in the range".into())
            }
            Background::Linear => Some(
                "the background is 1 + slope x, x from -1 to 1 over the range, with background_fraction of the pairs in it"
                    .into(),
            ),
        });
        if self.replicas > 0 {
            let replicas = self.replicas;
            remarks
                .push(format!("the error of an improvement is its spread over {replicas} bootstrap replicas of the same events"));
        }
        let edges = self.axis.edges();
        for width in widths {
            let whose = self.whose(width);
            remarks.extend(self.said(width).into_iter().map(|what| format!("{whose}: {what}")));
            let slots = [
                (0, format!("a mass below {}", edges[0])),
                (self.axis.bins() + 1, format!("a mass at or above {}", edges[edges.len() - 1])),
                (self.axis.nan(), "no mass (a value is negative, NaN or infinite)".to_owned()),
            ];
            for (slot, what) in slots.into_iter().filter(|(slot, _)| width.cell.is_none() && width.counts[*slot] != 0) {
                remarks.push(format!("{whose}: {} with {what}", words::counted(width.counts[slot].unsigned_abs(), "pair")));
            }
        }
        let first = || widths.iter().filter(|width| width.energy == 0);
        let pairs = |width: &Width| width.counts.iter().sum::<i64>();
        let (all, inside): (Vec<&Width>, Vec<&Width>) = first().partition(|width| width.cell.is_none());
        let beyond = all.into_iter().map(pairs).sum::<i64>() - inside.into_iter().map(pairs).sum::<i64>();
        if !self.binning.is_empty() && beyond != 0 {
            let names: Vec<String> = self.binning.names().collect();
            let pairs = words::counted(beyond.unsigned_abs(), "pair");
            remarks.push(format!("{pairs} outside the bins of {}, in the rows of all alone", names.join(" and ")));
        }
        let odd = sums.count(self.all() as u64);
        if let (Some(weight), true) = (&self.weight, odd != 0) {
            remarks.push(format!("{} without a finite {weight}, in no bin", words::counted(odd.unsigned_abs(), "pair")));
        }
        remarks.extend(self.groups.remarks(sums).into_iter().map(|remark| remark.replacen(" row", " pair", 1)));
        remarks
    }
}
