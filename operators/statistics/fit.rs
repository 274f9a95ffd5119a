//! The energy resolution of a calorimeter, fitted: `sigma/E = a/sqrt(E) (+) b (+) c/E`, terms added in quadrature.
//!
//! a is the stochastic (sampling) term, b the constant term, c the noise term (Fabjan, Gianotti, Rev. Mod. Phys. 75 (2003)
//! 1243). Papers swap the letters b and c, and some add the terms linearly: terms are called by their names, and the linear
//! sum is there only to reproduce what has been published ([`Calorimeter::linear`]).
//!
//! Weighted least squares by Levenberg-Marquardt. A term is never negative. Since terms enter as squares, a minimum at the
//! bound is one where the term is 0 and stays 0; so every choice of terms that are 0 is fitted by itself, from a start that is
//! a linear fit to the squares, and the best one is taken, of equally good ones the one with the fewest terms. The result
//! is a pure function of the points, without random starts.

use levenberg_marquardt::{LeastSquaresProblem, LevenbergMarquardt};
use nalgebra::storage::Owned;
use nalgebra::{DMatrix, DVector, Dyn};

/// How likely a chi-square this large or larger is by chance, with so many degrees of freedom (at least 1).
#[must_use]
pub fn p_value(chi2: f64, degrees: usize) -> f64 {
    use statrs::distribution::{ChiSquared, ContinuousCDF};
    ChiSquared::new(degrees.max(1) as f64).map_or(f64::NAN, |of| of.sf(chi2.max(0.0)))
}

/// A measured resolution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The energy.
    pub energy: f64,
    /// sigma/E there.
    pub resolution: f64,
    /// One standard error of it.
    pub error: f64,
}

/// One term of the fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// Its value; never negative where terms are added in quadrature.
    pub value: f64,
    /// One standard error; none where the term is at a bound.
    pub error: Option<f64>,
}

/// How the terms are added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sum {
    /// In quadrature.
    #[default]
    Quadrature,
    /// One to the other.
    Linear,
}

/// The fitted resolution, in the units of the points.
#[derive(Debug, Clone, PartialEq)]
pub struct Calorimeter {
    /// How the terms are added.
    pub sum: Sum,
    /// a, b, c: stochastic, constant, noise.
    pub terms: [Term; 3],
    /// Their covariance; 0 where a term is at a bound.
    pub covariance: [[f64; 3]; 3],
    /// The sum of the squared deviations over the squared errors.
    pub chi2: f64,
    /// Points less fitted terms.
    pub ndf: usize,
}

/// The letters of the terms, in order.
pub const TERMS: [&str; 3] = ["a", "b", "c"];
/// Their names.
pub const NAMES: [&str; 3] = ["stochastic", "constant", "noise"];

impl Calorimeter {
    /// Fits points whose energies and errors are positive. The error of a point is absolute: the covariance is that of
    /// `scipy.optimize.curve_fit(.., absolute_sigma=True)`.
    pub fn fit(points: &[Measured]) -> Result<Self, String> {
        Self::bounded(points, f64::INFINITY)
    }

    /// The same, with no term above `most`.
    pub fn bounded(points: &[Measured], most: f64) -> Result<Self, String> {
        usable(points)?;
        let states = if most.is_finite() { 3 } else { 2 };
        // Each term is 0, free, or as large as it may be.
        let choices = (0..states * states * states).map(|n| [n % states, n / states % states, n / states / states]);
        let choices = choices.filter(|choice| choice.contains(&1));
        let fits = choices.filter_map(|choice| {
            let free = (0..3).filter(|i| choice[*i] == 1).collect();
            Free::fit(points, free, std::array::from_fn(|i| if choice[i] == 2 { most } else { 0.0 }))
        });
        let mut fits: Vec<Free> = fits.filter(|fit| fit.values.iter().all(|value| *value <= most)).collect();
        let best = fits.iter().map(|fit| fit.chi2).min_by(f64::total_cmp).ok_or("the fit does not converge")?;
        fits.retain(|fit| fit.chi2 <= best + 1e-9 * (1.0 + best));
        fits.sort_by(|x, y| x.free.len().cmp(&y.free.len()).then(x.chi2.total_cmp(&y.chi2)));
        let best = fits.into_iter().next().ok_or("the fit does not converge")?;
        best.finish(points).ok_or_else(|| "the points do not determine the terms".into())
    }

    /// `a/sqrt(E) + b + c/E`, terms added linearly and every point counting the same: a linear fit whose errors are as large as
    /// the scatter of the points says.
    pub fn linear(points: &[Measured]) -> Result<Self, String> {
        usable(points)?;
        let matrix = DMatrix::from_fn(points.len(), 3, |i, j| shapes(points[i].energy)[j]);
        let norms: Vec<f64> = matrix.column_iter().map(|column| column.norm()).collect();
        let scaled = DMatrix::from_fn(matrix.nrows(), 3, |i, j| matrix[(i, j)] / norms[j]);
        let inverse = scaled.tr_mul(&scaled).try_inverse().ok_or("the points do not determine the terms")?;
        let right = DVector::from_iterator(points.len(), points.iter().map(|p| p.resolution));
        let values = &inverse * scaled.tr_mul(&right);
        let chi2 = (&scaled * &values - &right).norm_squared();
        let ndf = points.len() - 3;
        let mut fit =
            Self { sum: Sum::Linear, terms: [Term { value: 0.0, error: None }; 3], covariance: [[0.0; 3]; 3], chi2, ndf };
        for i in 0..3 {
            for j in 0..3 {
                fit.covariance[i][j] = inverse[(i, j)] / (norms[i] * norms[j]);
            }
            fit.terms[i] = Term { value: values[i] / norms[i], error: Some(fit.covariance[i][i].sqrt()) };
        }
        Ok(fit.scaled())
    }

    /// The same with the covariance as large as the scatter of the points says: that of
    /// `scipy.optimize.curve_fit(.., absolute_sigma=False)`. Nothing changes where no degree of freedom is left.
    #[must_use]
    pub fn scaled(mut self) -> Self {
        if self.ndf > 0 {
            let scale = self.chi2 / self.ndf as f64;
            self.covariance.iter_mut().flatten().for_each(|c| *c *= scale);
            self.terms.iter_mut().for_each(|term| term.error = term.error.map(|error| error * scale.sqrt()));
        }
        self
    }

    /// How likely so large a chi squared is by chance; none where no degree of freedom is left.
    #[must_use]
    pub fn p_value(&self) -> Option<f64> {
        (self.ndf > 0).then(|| p_value(self.chi2, self.ndf))
    }

    /// sigma/E at an energy.
    #[must_use]
    pub fn resolution(&self, energy: f64) -> f64 {
        let terms = shapes(energy).into_iter().zip(&self.terms).map(|(shape, term)| shape * term.value);
        match self.sum {
            Sum::Quadrature => terms.map(|term| term * term).sum::<f64>().sqrt(),
            Sum::Linear => terms.sum(),
        }
    }
}

/// Refuses points that determine nothing or can't be fitted.
fn usable(points: &[Measured]) -> Result<(), String> {
    if points.len() < TERMS.len() {
        return Err(format!("{} points do not determine three terms", points.len()));
    }
    let usable =
        |p: &Measured| p.energy > 0.0 && p.error > 0.0 && [p.energy, p.resolution, p.error].iter().all(|v| v.is_finite());
    match points.iter().find(|p| !usable(p)) {
        Some(point) => Err(format!("the point {} ± {} at {} can't be fitted", point.resolution, point.error, point.energy)),
        None => Ok(()),
    }
}

/// What multiplies a, b and c at an energy.
fn shapes(energy: f64) -> [f64; 3] {
    [1.0 / energy.sqrt(), 1.0, 1.0 / energy]
}

/// A fit of some of the terms, the others held.
#[derive(Clone)]
struct Free {
    free: Vec<usize>,
    held: [f64; 3],
    values: DVector<f64>,
    chi2: f64,
}

impl Free {
    fn fit(points: &[Measured], free: Vec<usize>, held: [f64; 3]) -> Option<Self> {
        let start = start(points, &free)?;
        let problem = Residuals { points, free: &free, held, values: start };
        let (problem, _) = LevenbergMarquardt::new().with_tol(1e-13).with_patience(100).minimize(problem);
        let values = problem.values.map(f64::abs);
        let chi2 = problem.residuals()?.norm_squared();
        (chi2.is_finite() && values.iter().all(|v| v.is_finite())).then_some(Self { free, held, values, chi2 })
    }

    fn finish(self, points: &[Measured]) -> Option<Calorimeter> {
        let jacobian = Residuals { points, free: &self.free, held: self.held, values: self.values.clone() }.jacobian()?;
        // Columns are brought to length 1 first: noise terms are orders of magnitude above constant ones.
        let norms: Vec<f64> = jacobian.column_iter().map(|column| column.norm()).collect();
        let scaled = DMatrix::from_fn(jacobian.nrows(), jacobian.ncols(), |i, j| jacobian[(i, j)] / norms[j]);
        let inverse = scaled.tr_mul(&scaled).try_inverse()?;
        let mut terms = self.held.map(|value| Term { value, error: None });
        let mut covariance = [[0.0; 3]; 3];
        for (i, term) in self.free.iter().enumerate() {
            for (j, other) in self.free.iter().enumerate() {
                covariance[*term][*other] = inverse[(i, j)] / (norms[i] * norms[j]);
            }
            let variance = covariance[*term][*term];
            if !(variance.is_finite() && variance >= 0.0) {
                return None;
            }
            terms[*term] = Term { value: self.values[i], error: Some(variance.sqrt()) };
        }
        Some(Calorimeter { sum: Sum::Quadrature, terms, covariance, chi2: self.chi2, ndf: points.len() - self.free.len() })
    }
}

/// Squares are linear in the squared terms: a weighted linear fit, and where a square comes out negative a small positive one.
fn start(points: &[Measured], free: &[usize]) -> Option<DVector<f64>> {
    let weight = |p: &Measured| 1.0 / (2.0 * p.error * p.resolution.abs().max(p.error));
    let matrix =
        DMatrix::from_fn(points.len(), free.len(), |i, j| shapes(points[i].energy)[free[j]].powi(2) * weight(&points[i]));
    let right = DVector::from_fn(points.len(), |i, _| points[i].resolution.powi(2) * weight(&points[i]));
    let norms: Vec<f64> = matrix.column_iter().map(|column| column.norm()).collect();
    let scaled = DMatrix::from_fn(matrix.nrows(), matrix.ncols(), |i, j| matrix[(i, j)] / norms[j]);
    let squares = scaled.svd(true, true).solve(&right, 1e-12).ok()?;
    let typical = right.norm();
    Some(DVector::from_fn(free.len(), |j, _| (squares[j].max(1e-4 * typical) / norms[j]).sqrt()))
}

/// Deviations over errors, and their derivatives by the free terms.
struct Residuals<'a> {
    points: &'a [Measured],
    free: &'a [usize],
    held: [f64; 3],
    values: DVector<f64>,
}

impl Residuals<'_> {
    fn model(&self, energy: f64) -> f64 {
        let mut terms = self.held;
        self.free.iter().zip(&self.values).for_each(|(term, value)| terms[*term] = *value);
        shapes(energy).iter().zip(terms).map(|(shape, term)| (shape * term).powi(2)).sum::<f64>().sqrt()
    }
}

impl LeastSquaresProblem<f64, Dyn, Dyn> for Residuals<'_> {
    type ResidualStorage = Owned<f64, Dyn>;
    type JacobianStorage = Owned<f64, Dyn, Dyn>;
    type ParameterStorage = Owned<f64, Dyn>;

    fn set_params(&mut self, values: &DVector<f64>) {
        self.values.copy_from(values);
    }

    fn params(&self) -> DVector<f64> {
        self.values.clone()
    }

    fn residuals(&self) -> Option<DVector<f64>> {
        Some(DVector::from_iterator(
            self.points.len(),
            self.points.iter().map(|p| (self.model(p.energy) - p.resolution) / p.error),
        ))
    }

    fn jacobian(&self) -> Option<DMatrix<f64>> {
        Some(DMatrix::from_fn(self.points.len(), self.free.len(), |i, j| {
            let Measured { energy, error, .. } = self.points[i];
            let model = self.model(energy);
            // The model is not differentiable only where every term is 0, and there it is flat.
            if model > 0.0 { shapes(energy)[self.free[j]].powi(2) * self.values[j] / (model * error) } else { 0.0 }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{close, normal, python};
    use serde_json::{Value, json};

    fn points(terms: [f64; 3], energies: &[f64], relative: f64, noise: &mut dyn FnMut() -> f64) -> Vec<Measured> {
        let point = |energy: &f64| {
            let resolution = shapes(*energy).iter().zip(terms).map(|(s, t)| (s * t).powi(2)).sum::<f64>().sqrt();
            let error = relative * resolution;
            Measured { energy: *energy, resolution: resolution + error * noise(), error }
        };
        energies.iter().map(point).collect()
    }

    fn given(points: &[Measured]) -> Value {
        let of = |f: fn(&Measured) -> f64| points.iter().map(f).collect::<Vec<_>>();
        json!({ "x": of(|p| p.energy), "y": of(|p| p.resolution), "e": of(|p| p.error) })
    }

    fn list(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    const MODEL: &str = "
x, y, e = (np.array(given[k]) for k in 'xye')
f = lambda x, a, b, c: np.sqrt(a**2/x + b**2 + (c/x)**2)
";

    /// The paper's numbers for photons, electrons, neutral and charged pions, in fractions and GeV.
    const SAMPLES: [[f64; 3]; 4] = [[0.183, 0.0075, 1.31], [0.187, 0.00574, 1.11], [0.193, 0.0045, 2.31], [1.14, 0.0102, 8.93]];
    const ENERGIES: [f64; 10] = [34.1, 84.9, 135.2, 184.8, 235.0, 285.3, 334.6, 385.0, 435.5, 484.9];

    #[test]
    fn values_and_errors_are_those_of_scipy() {
        for seed in 0..10 {
            let terms = if seed == 3 { SAMPLES[3] } else { SAMPLES[seed % 3] };
            let points = points(terms, &ENERGIES, if seed < 4 { 0.01 } else { 0.005 }, &mut normal(seed as u64 + 10));
            let fit = Calorimeter::fit(&points).unwrap();
            let script = format!("{MODEL}
from scipy.optimize import curve_fit
p, cov = curve_fit(f, x, y, p0={terms:?}, sigma=e, absolute_sigma=True, ftol=1e-15, xtol=1e-15, gtol=1e-15, maxfev=10000)
answer({{'p': list(abs(p)), 'cov': list((cov * np.sign(np.outer(p, p))).reshape(-1)), 'chi2': float((((f(x, *p) - y) / e)**2).sum())}})
");
            let expected = python(&script, &given(&points));
            close(&fit.terms.map(|term| term.value), &list(&expected["p"]), 1e-6);
            let covariance: Vec<f64> = fit.covariance.into_iter().flatten().collect();
            close(&covariance, &list(&expected["cov"]), 2e-4);
            let errors: Vec<f64> = fit.terms.iter().map(|term| term.error.unwrap()).collect();
            close(&errors, &[0, 4, 8].map(|i| list(&expected["cov"])[i].sqrt()), 1e-4);
            close(&[fit.chi2], &[expected["chi2"].as_f64().unwrap()], 1e-9);
            assert_eq!(fit.ndf, 7);
        }
    }

    #[test]
    fn values_and_errors_are_those_of_iminuit() {
        for terms in SAMPLES {
            // On the curve itself, where Minuit's second derivatives and the linearised covariance agree.
            let points = points(terms, &ENERGIES, 0.01, &mut || 0.0);
            let fit = Calorimeter::fit(&points).unwrap();
            let script = format!(
                "{MODEL}
from iminuit import Minuit
from iminuit.cost import LeastSquares
m = Minuit(LeastSquares(x, y, e, f), *(1.05 * np.array({terms:?})))
m.limits = (0, None); m.tol = 1e-12; m.strategy = 2; m.migrad(); m.hesse()
answer({{'p': list(m.values), 'e': list(m.errors)}})
"
            );
            let expected = python(&script, &given(&points));
            close(&fit.terms.map(|term| term.value), &list(&expected["p"]), 1e-6);
            close(&fit.terms.map(|term| term.error.unwrap()), &list(&expected["e"]), 1e-3);
            close(&fit.terms.map(|term| term.value), &terms, 1e-9);
        }
    }

    #[test]
    fn ten_sets_of_points_that_scatter_give_the_values_of_iminuit() {
        for seed in 0..10 {
            let terms = if seed == 3 { SAMPLES[3] } else { SAMPLES[seed % 3] };
            let points = points(terms, &ENERGIES, if seed < 4 { 0.01 } else { 0.005 }, &mut normal(seed as u64 + 30));
            let fit = Calorimeter::fit(&points).unwrap();
            let script = format!(
                "{MODEL}
from iminuit import Minuit
from iminuit.cost import LeastSquares
m = Minuit(LeastSquares(x, y, e, f), *{terms:?})
m.limits = (0, None); m.tol = 1e-10; m.strategy = 2; m.migrad()
answer({{'p': list(m.values), 'valid': m.valid, 'chi2': m.fval}})
"
            );
            let expected = python(&script, &given(&points));
            assert_eq!(expected["valid"], true);
            for (term, value) in fit.terms.iter().zip(list(&expected["p"])) {
                let error = term.error.unwrap_or(0.0);
                assert!((term.value - value).abs() <= 0.01 * error, "set {seed}: {term:?} is not {value}");
            }
            close(&[fit.chi2], &[expected["chi2"].as_f64().unwrap()], 1e-6);
        }
    }

    #[test]
    fn a_term_at_its_bound_is_said_and_the_others_are_those_of_a_bounded_fit() {
        let mut at_bound = 0;
        for seed in 0..20 {
            let points = points([0.5, 0.0, 0.0], &ENERGIES, 0.02, &mut normal(seed));
            let fit = Calorimeter::fit(&points).unwrap();
            let script = format!("{MODEL}
from scipy.optimize import least_squares
fits = [least_squares(lambda p: (f(x, *p) - y) / e, p0, bounds=(0, np.inf), x_scale=p0, ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=10000)
        for p0 in ([.5, .01, .1], [.4, .02, 1.], [.5, 1e-4, 1e-4], [.1, .03, .1])]
best = min(fits, key=lambda r: r.cost)
answer({{'p': list(best.x), 'chi2': 2 * best.cost}})
");
            let expected = python(&script, &given(&points));
            close(&[fit.chi2], &[expected["chi2"].as_f64().unwrap()], 1e-6);
            at_bound += fit.terms.iter().filter(|term| term.error.is_none()).count();
            for term in fit.terms {
                assert_eq!(term.error.is_none(), term.value == 0.0);
            }
        }
        assert!(at_bound >= 10, "{at_bound} of 40 terms that are truly 0");
    }

    #[test]
    fn the_linear_sum_and_the_upper_bound_are_those_of_curve_fit() {
        let points = points(SAMPLES[0], &ENERGIES, 0.01, &mut normal(3));
        let script = "
from scipy.optimize import curve_fit
x, y, e = (np.array(given[k]) for k in 'xye')
p, cov = curve_fit(lambda x, a, b, c: a / np.sqrt(x) + b + c / x, x, y)
answer({'p': list(p), 'e': list(np.sqrt(np.diag(cov)))})
";
        let (fit, expected) = (Calorimeter::linear(&points).unwrap(), python(script, &given(&points)));
        close(&fit.terms.map(|term| term.value), &list(&expected["p"]), 1e-5);
        close(&fit.terms.map(|term| term.error.unwrap()), &list(&expected["e"]), 1e-5);
        let script = format!(
            "{MODEL}
from scipy.optimize import curve_fit
p, cov = curve_fit(f, x, y, p0=[.1, .01, .9], sigma=e, bounds=(0, 1), ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=10000)
answer(list(p))
"
        );
        let fit = Calorimeter::bounded(&points, 1.0).unwrap();
        close(&fit.terms.map(|term| term.value), &list(&python(&script, &given(&points))), 1e-4);
        assert_eq!((fit.terms[2].value, fit.terms[2].error), (1.0, None));
    }

    #[test]
    fn errors_of_terms_cover_the_truth_as_often_as_they_should() {
        let truth = SAMPLES[0];
        let (toys, mut covered, mut noise) = (2000, [0; 3], normal(99));
        for _ in 0..toys {
            let fit = Calorimeter::fit(&points(truth, &ENERGIES, 0.005, &mut noise)).unwrap();
            for (i, term) in fit.terms.iter().enumerate() {
                covered[i] += usize::from(term.error.is_some_and(|error| (term.value - truth[i]).abs() <= error));
            }
        }
        for covered in covered {
            let share = covered as f64 / f64::from(toys);
            assert!((share - crate::statistics::interval::ONE_SIGMA).abs() < 0.02, "{share}");
        }
    }

    #[test]
    fn the_derivatives_are_those_found_numerically() {
        let points = points(SAMPLES[0], &ENERGIES, 0.01, &mut normal(5));
        let mut problem =
            Residuals { points: &points, free: &[0, 1, 2], held: [0.0; 3], values: DVector::from_vec(vec![0.2, 0.01, 1.0]) };
        let numerical = levenberg_marquardt::differentiate_numerically(&mut problem).unwrap();
        let exact = problem.jacobian().unwrap();
        close(exact.as_slice(), numerical.as_slice(), 1e-4);
    }

    #[test]
    fn points_that_determine_nothing_are_refused() {
        let point = Measured { energy: 10.0, resolution: 0.1, error: 0.01 };
        assert_eq!(Calorimeter::fit(&[point; 2]).unwrap_err(), "2 points do not determine three terms");
        let odd = Measured { error: 0.0, ..point };
        assert_eq!(Calorimeter::fit(&[point, odd, point]).unwrap_err(), "the point 0.1 ± 0 at 10 can't be fitted");
        let fit = Calorimeter::fit(&[point; 5]).unwrap(); // one energy: one term says it all
        assert_eq!(fit.terms.iter().filter(|term| term.error.is_some()).count(), 1);
    }
}
