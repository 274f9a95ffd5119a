//! What is shown of fitted peaks: the table, the histograms, the plot, the numbers that are quoted, and what is to be said.

use super::{Improvement, Weighing, Width};
use crate::figure::{Content, Curve, Figure, Point};
use crate::peak::{PARAMETERS, Spectrum};
use crate::sums::Sums;
use crate::uhi::{self, UhiAxis};
use crate::words;
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use std::sync::Arc;

impl Weighing {
    pub(super) fn table(&self, widths: &[Width]) -> anyhow::Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::new();
        let text = |f: &dyn Fn(&Width) -> Option<String>| -> ArrayRef { Arc::new(widths.iter().map(f).collect::<StringArray>()) };
        let float = |f: &dyn Fn(&Width) -> Option<f64>| -> ArrayRef { Arc::new(widths.iter().map(f).collect::<Float64Array>()) };
        let peak = |width: &Width| width.peak.as_ref().ok().cloned();
        if self.classes.column.is_some() {
            columns.push(text(&|width| Some(self.classes.names[width.class].clone())));
        }
        columns.push(text(&|width| Some(self.of[width.energy].clone())));
        columns.push(Arc::new(Int64Array::from_iter_values(widths.iter().map(|w| self.in_range(&w.counts).iter().sum::<i64>()))));
        for i in 0..PARAMETERS.len() {
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
        if let [_, _, alpha, n] = &peak.parameters
            && alpha.at_bound
            && n.error.is_none()
            && self.held.n.is_none()
        {
            said.push("n is not determined, there is no tail".into());
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

    fn whose(&self, width: &Width) -> String {
        match &self.classes.column {
            Some(_) => format!("{}-{}", self.classes.names[width.class], self.of[width.energy]),
            None => self.of[width.energy].clone(),
        }
    }

    fn label(&self) -> String {
        self.unit.as_ref().map_or_else(|| "mass".into(), |unit| format!("mass [{unit}]"))
    }

    pub(super) fn histogram(&self, width: &Width) -> (String, serde_json::Value) {
        let variances = width.variances.as_ref().unwrap_or(&width.contents);
        let axis = UhiAxis::Bins(&self.axis, "mass", &self.label());
        (format!("mass-{}", self.whose(width)), uhi::histogram(&[axis], uhi::Storage::Weighted(&width.contents, variances)))
    }

    pub(super) fn figures(&self, widths: &[Width]) -> Vec<Figure> {
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
            let line = width.peak.as_ref().map(|peak| peak.curve(&spectrum, self.line, 400)).unwrap_or_default();
            Curve { label: format!("{}: {}", self.of[width.energy], self.sigma_text(width)), points: points.collect(), line }
        };
        widths
            .chunk_by(|one, other| one.class == other.class)
            .map(|of_class| {
                let class = of_class[0].class;
                let suffix =
                    if self.classes.column.is_some() { format!("-{}", self.classes.names[class]) } else { String::new() };
                Figure {
                    name: format!("mass{suffix}"),
                    title: format!("mass of pairs{}", suffix.replacen('-', ", ", 1)),
                    x: self.label(),
                    y: format!("pairs / {step}{unit}"),
                    content: Content::Curves { curves: of_class.iter().map(curve).collect(), log_y: false },
                }
            })
            .collect()
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
        let mut header: Vec<String> = self.classes.column.clone().into_iter().collect();
        let unit = self.unit.as_ref().map(|unit| format!(" [{unit}]")).unwrap_or_default();
        header.extend(["of".into(), "pairs".into(), format!("sigma{unit}"), format!("shift{unit}"), "chi2 / ndf".into()]);
        if self.of.len() > 1 {
            header.push(format!("improvement on {}", self.of[self.reference]));
        }
        let mut lines = vec![header];
        for width in widths {
            let mut line: Vec<String> = self.classes.column.iter().map(|_| self.classes.names[width.class].clone()).collect();
            line.extend([self.of[width.energy].clone(), self.in_range(&width.counts).iter().sum::<i64>().to_string()]);
            match &width.peak {
                Err(_) => line.extend(["-"; 3].map(String::from)),
                Ok(peak) => {
                    let shown =
                        |i: usize| words::with_error(peak.parameters[i].value, peak.parameters[i].error.unwrap_or(f64::NAN));
                    line.extend([shown(1), shown(0), format!("{} / {}", words::significant(peak.chi2, 3), peak.ndf)]);
                }
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
            for (slot, what) in slots.into_iter().filter(|(slot, _)| width.counts[*slot] != 0) {
                remarks.push(format!("{whose}: {} with {what}", words::counted(width.counts[slot].unsigned_abs(), "pair")));
            }
        }
        let odd = sums.count(self.all() as u64);
        if let (Some(weight), true) = (&self.weight, odd != 0) {
            remarks.push(format!("{} without a finite {weight}, in no bin", words::counted(odd.unsigned_abs(), "pair")));
        }
        remarks
    }
}
