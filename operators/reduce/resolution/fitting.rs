//! The calorimeter fit of a series of bins, and how it is written down.

use super::told::{Fit, Series, Told};
use super::{Compat, Measuring};
use crate::statistics::fit::{Calorimeter, Measured, NAMES, Sum, TERMS};
use crate::words;
use serde_json::{Value, json};

/// Where the fits are written down in the table's schema.
pub const FITS_KEY: &str = "calostream.fits";
/// What the published fit allowed: 1000 %.
const NIPS_MOST: f64 = 10.0;

impl Measuring {
    /// Where a bin's point stands on the axis: at the mean of the column, or where an older code put it.
    pub(super) fn place(&self, number: usize, mean: f64) -> f64 {
        let bins = self.binning.columns.get(self.along).map_or(1, |c| c.axis.bins()) as f64;
        match self.compat {
            Some(Compat::LcdNips) => 10.0 + (number as f64 + 0.5) * 490.0 / bins,
            Some(Compat::LcdLibrary) => (number as f64 + 0.5) * 500.0 / bins,
            Some(Compat::Deepcalo) | None => mean,
        }
    }

    pub(super) fn fit_of(&self, series: &Series) -> Fit {
        if !self.fit {
            return None;
        }
        let point = |(number, bin): (usize, &Told)| {
            let bin = bin.bin.as_ref().ok()?;
            let (resolution, error) = (bin.resolution?, bin.resolution_error.filter(|error| *error > 0.0)?);
            let energy = self.place(number, bin.by[self.along]);
            // An LCD fit is one of per cents, whose bounds are in per cent.
            let scale = self.quantities[series.quantity].percent.unwrap_or(100.0) / 100.0;
            Some(Measured { energy, resolution: resolution * scale, error: error * scale })
        };
        let points: Vec<Measured> = series.bins.iter().enumerate().filter_map(point).collect();
        let scale = 100.0 / self.quantities[series.quantity].percent.unwrap_or(100.0);
        let back = |fit: Calorimeter| {
            let terms = fit
                .terms
                .map(|term| crate::statistics::fit::Term { value: term.value * scale, error: term.error.map(|e| e * scale) });
            let covariance = fit.covariance.map(|row| row.map(|c| c * scale * scale));
            Calorimeter { terms, covariance, ..fit }
        };
        Some(match self.compat {
            Some(Compat::LcdNips) => Calorimeter::bounded(&points, NIPS_MOST).map(Calorimeter::scaled).map(back),
            Some(Compat::LcdLibrary) => Calorimeter::linear(&points).map(back),
            Some(Compat::Deepcalo) | None => Calorimeter::fit(&points).map(back),
        })
    }

    pub(super) fn fits_json(&self, series: &[Series]) -> Value {
        let one = |fit: &Calorimeter| {
            let mut object = serde_json::Map::new();
            for ((letter, name), term) in TERMS.iter().zip(NAMES).zip(&fit.terms) {
                let at_bound = term.error.is_none();
                object.insert(
                    (*letter).into(),
                    json!({ "name": name, "value": term.value, "error": term.error, "at_bound": at_bound }),
                );
            }
            object.insert("covariance".into(), json!(fit.covariance));
            // A sum of squares without errors is no chi squared.
            let chi2 = (fit.sum != Sum::Linear).then_some(fit.chi2);
            object.insert("chi2".into(), json!(chi2));
            object.insert("ndf".into(), json!(fit.ndf));
            object.insert("p_value".into(), json!(chi2.and(fit.p_value())));
            Value::from(object)
        };
        let each = series.iter().map(|series| {
            let fit = match &series.fit {
                Some(Ok(fit)) => one(fit),
                Some(Err(reason)) => json!({ "failed": reason }),
                None => Value::Null,
            };
            (self.name_of(series).unwrap_or_else(|| "all".into()), fit)
        });
        let function = match self.compat {
            Some(Compat::LcdLibrary) => "a/sqrt(E) + b + c/E, terms added linearly (compat: lcd-library)",
            _ => "a/sqrt(E) (+) b (+) c/E, terms added in quadrature",
        };
        json!({ "function": function, "fits": each.collect::<serde_json::Map<_, _>>() })
    }

    /// `18.32 ± 0.21 % √GeV`, `0.750 ± 0.041 %`, `1.31 ± 0.12 GeV`, `9.1 / 7`, `0.25`.
    pub(super) fn fit_texts(&self, quantity: usize, fit: &Calorimeter) -> Vec<String> {
        let unit = self.binning.columns[self.along].unit.clone().unwrap_or_default();
        let energy = if unit.is_empty() { ["", ""].map(String::from) } else { [format!(" √{unit}"), format!(" {unit}")] };
        let percent = self.quantities[quantity].percent.unwrap_or(1.0);
        // Relative numbers are shown in per cent; noise is an energy, so it is one again.
        let scales = [(percent, format!(" %{}", energy[0])), (percent, " %".into()), (percent / 100.0, energy[1].clone())];
        let text = |(term, (scale, unit)): (&crate::statistics::fit::Term, (f64, String))| match term.error {
            Some(error) => words::with_error(term.value * scale, error * scale) + &unit,
            None => format!("{}{unit} (at its bound)", term.value * scale),
        };
        let mut texts: Vec<String> = fit.terms.iter().zip(scales).map(text).collect();
        // A sum of squares without errors is no chi squared.
        if fit.sum == Sum::Linear {
            texts.extend(["-".into(), "-".into()]);
        } else {
            texts.push(format!("{} / {}", words::significant(fit.chi2, 3), fit.ndf));
            texts.push(fit.p_value().map_or_else(|| "-".into(), |p| words::significant(p, 2)));
        }
        texts
    }
}
