//! What is to be said of a resolution beside its numbers: how they were made, what is in none of them, which fits failed.

use super::telling::MOST_LINES;
use super::told::{Series, Told};
use super::{Compat, Measuring, Over};
use crate::statistics::fit::TERMS;
use crate::statistics::sums::Sums;
use crate::words;

impl Measuring {
    pub(super) fn remarks(&self, series: &[Series], sums: &Sums) -> Vec<String> {
        let mut remarks = vec![
            "resolution is the RMS about the mean, normalised by n; its error is resolution / sqrt(2 n), as of a normal \
                  distribution, and resolution_error_moments is that of any"
                .to_owned(),
        ];
        remarks.extend(self.compat.map(|compat| match compat {
            Compat::LcdNips => "compat: lcd-nips: points stand at 10 + (i + 1/2) 490/n instead of at the mean of their bin; terms are \
                                between 0 and 1000 %; errors are scaled to chi2/ndf = 1"
                .to_owned(),
            Compat::LcdLibrary => "compat: lcd-library: points stand at (i + 1/2) 500/n instead of at the mean of their bin; terms are \
                                   added linearly, a/sqrt(E) + b + c/E, which is no resolution of a calorimeter; all points count the same"
                .to_owned(),
            Compat::Deepcalo => "compat: deepcalo: eIQR is (P75 - P25) / 1.349 there and here; nothing differs".to_owned(),
        }));
        if let Some(replicas) = &self.replicas {
            remarks.push(format!(
                "errors of medians, widths and reIQR are the spread of {} replicas of the bootstrap",
                replicas.number()
            ));
        }
        remarks.extend(self.over.filter(|_| !self.binning.is_empty()).map(|over| match over {
            Over::Group(_) => "ratios in the panels have the errors of both, in quadrature".to_owned(),
            Over::Quantity(_) if self.reference.is_some() => {
                "ratios in the panels have the errors of both, in quadrature, as if they were independent; that of eIQR has the error of \
                 the paired bootstrap"
                    .to_owned()
            }
            Over::Quantity(_) => {
                "ratios in the panels have the errors of both, in quadrature, as if they were independent: too large for two quantities of \
                 the same events"
                    .to_owned()
            }
        }));
        if let Some(within) = self.core {
            let within = words::plain(within);
            remarks
                .push(format!("the core is a Gaussian fitted within {within} of its sigmas of its mean, core_low to core_high"));
        }
        if series.len() > MOST_LINES {
            remarks.push(format!("{} more series are in the table alone", series.len() - MOST_LINES));
        }
        self.remark_rows(sums, &mut remarks);
        remarks.extend(self.groups.remarks(sums));
        let coarse = series
            .iter()
            .flat_map(|series| &series.bins)
            .find_map(|told| told.robust.as_ref()?.too_coarse(told.bin.as_ref().ok()?.effective));
        remarks.extend(coarse.map(|what| format!("{what}; give more rungs (`robust`), or a `pivot` near the values")));
        let lost = series
            .iter()
            .flat_map(|series| &series.bins)
            .filter_map(|told| told.bin.as_ref().ok()?.reasons.iter().find(|reason| reason.contains("`pivot")));
        if let Some(first) = lost.clone().next() {
            remarks.push(format!("in {}: {first}", words::counted(lost.count() as u64, "bin")));
        }
        for series in series {
            let whose = self.name_of(series).map(|name| format!("{name}: ")).unwrap_or_default();
            match &series.fit {
                Some(Err(reason)) => remarks.push(format!("{whose}no fit: {reason}")),
                Some(Ok(fit)) => {
                    let used = |told: &&Told| told.bin.as_ref().is_ok_and(|bin| bin.resolution_error.is_some_and(|e| e > 0.0));
                    let unused = series.bins.len() - series.bins.iter().filter(used).count();
                    if unused > 0 {
                        remarks.push(format!("{whose}{unused} bins without a spread are not in the fit"));
                    }
                    for (letter, term) in TERMS.iter().zip(&fit.terms).filter(|(_, term)| term.error.is_none()) {
                        let bound = words::plain(term.value);
                        remarks.push(format!(
                            "{whose}{letter} is at its bound, {bound}; the errors of the others hold with it fixed there"
                        ));
                    }
                }
                None => {}
            }
        }
        let unplayed = sums.count(self.keys.unplayed());
        if self.replicas.is_some() && unplayed != 0 {
            remarks.push(format!("{} with a weight beyond 10^11 in no replica", words::counted(unplayed.unsigned_abs(), "row")));
        }
        remarks
    }

    /// Rows that are in no number, and rows that are in no bin.
    fn remark_rows(&self, sums: &Sums, remarks: &mut Vec<String>) {
        let slots = self.binning.slots();
        for group in 0..self.groups.len() {
            let whose = self.groups.whose(group);
            for (number, quantity) in self.quantities.iter().enumerate() {
                let odd: i64 = (0..slots).map(|slot| sums.count(self.keys.odd(self.keys.place(group, slot, number)))).sum();
                if odd != 0 {
                    let of = &quantity.column;
                    let what = self.weight.as_ref().map_or_else(|| of.clone(), |weight| format!("{of} or {weight}"));
                    let rows = words::counted(odd.unsigned_abs(), "row");
                    remarks.push(format!("{whose}{rows} with {what} NaN or infinite in no number"));
                }
            }
            let mut deeper = slots;
            for binned in &self.binning.columns {
                let axis = &binned.axis;
                deeper /= axis.slots();
                let mut outside = [0_i64; 3];
                for slot in 0..slots {
                    let n = sums.count(self.keys.count(self.keys.place(group, slot, 0)));
                    match slot / deeper % axis.slots() {
                        0 => outside[0] += n,
                        own if own == axis.bins() + 1 => outside[1] += n,
                        own if own == axis.nan() => outside[2] += n,
                        _ => {}
                    }
                }
                let edges = axis.edges();
                let places = match axis.names() {
                    Some(_) => ["below".to_owned(), "of another category".to_owned(), "missing".to_owned()],
                    None => [format!("below {}", edges[0]), format!("at or above {}", edges[edges.len() - 1]), "NaN".to_owned()],
                };
                for (n, place) in outside.into_iter().zip(places).filter(|(n, _)| *n != 0) {
                    let rows = words::counted(n.unsigned_abs(), "row");
                    remarks.push(format!("{whose}{rows} with {} {place} in no bin", binned.column));
                }
            }
        }
    }
}
