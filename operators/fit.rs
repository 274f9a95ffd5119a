//! The energy resolution of a calorimeter, fitted: `sigma/E = a/sqrt(E) (+) b (+) c/E`, terms added in quadrature.
//!
//! a is the sampling (stochastic) term, b the constant term, c the noise term (Fabjan, Gianotti, Rev. Mod. Phys. 75 (2003)
//! 1243). Papers swap the letters b and c, and some add the terms linearly; this is the form above and no other.
//!
//! Weighted least squares by Levenberg-Marquardt. A term is never negative. Since terms enter as squares, a minimum at the
//! bound is one where the term is 0 and stays 0; so every choice of terms that are 0 is fitted by itself, from a start that is
//! a linear fit to the squares, and the best one is taken, of equally good ones the one with the fewest terms. The result
//! is a pure function of the points, without random starts.

use levenberg_marquardt::{LeastSquaresProblem, LevenbergMarquardt};
use nalgebra::storage::Owned;
use nalgebra::{DMatrix, DVector, Dyn};

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
    /// Its value; never negative.
    pub value: f64,
    /// One standard error; none where the term is at its bound, 0.
    pub error: Option<f64>,
}

/// The fitted resolution, in the units of the points.
#[derive(Debug, Clone, PartialEq)]
pub struct Calorimeter {
    /// a, b, c: sampling, constant, noise.
    pub terms: [Term; 3],
    /// Their covariance; 0 where a term is at its bound.
    pub covariance: [[f64; 3]; 3],
    /// The sum of the squared deviations over the squared errors.
    pub chi2: f64,
    /// Points less fitted terms.
    pub ndf: usize,
}

/// The letters of the terms, in order.
pub const TERMS: [&str; 3] = ["a", "b", "c"];

impl Calorimeter {
    /// Fits points whose energies and errors are positive. The error of a point is absolute: the covariance is that of
    /// `scipy.optimize.curve_fit(.., absolute_sigma=True)`.
    pub fn fit(points: &[Measured]) -> Result<Self, String> {
        if points.len() < TERMS.len() {
            return Err(format!("{} points do not determine three terms", points.len()));
        }
        let usable =
            |p: &Measured| p.energy > 0.0 && p.error > 0.0 && [p.energy, p.resolution, p.error].iter().all(|v| v.is_finite());
        if let Some(point) = points.iter().find(|p| !usable(p)) {
            return Err(format!("the point {} ± {} at {} can't be fitted", point.resolution, point.error, point.energy));
        }
        let choices = (1..8_u8).map(|mask| (0..3).filter(|i| mask >> i & 1 == 1).collect::<Vec<usize>>());
        let mut fits: Vec<Free> = choices.filter_map(|free| Free::fit(points, free)).collect();
        let best = fits.iter().map(|fit| fit.chi2).min_by(f64::total_cmp).ok_or("the fit does not converge")?;
        fits.retain(|fit| fit.chi2 <= best + 1e-9 * (1.0 + best));
        fits.sort_by(|x, y| x.free.len().cmp(&y.free.len()).then(x.chi2.total_cmp(&y.chi2)));
        let best = fits.into_iter().next().ok_or("the fit does not converge")?;
        best.finish(points).ok_or_else(|| "the points do not determine the terms".into())
    }

    /// sigma/E at an energy.
    #[must_use]
    pub fn resolution(&self, energy: f64) -> f64 {
        shapes(energy).iter().zip(&self.terms).map(|(shape, term)| (shape * term.value).powi(2)).sum::<f64>().sqrt()
    }
}

/// What multiplies a, b and c at an energy.
fn shapes(energy: f64) -> [f64; 3] {
    [1.0 / energy.sqrt(), 1.0, 1.0 / energy]
}

/// A fit of some of the terms, the others 0.
#[derive(Clone)]
struct Free {
    free: Vec<usize>,
    values: DVector<f64>,
    chi2: f64,
}

impl Free {
    fn fit(points: &[Measured], free: Vec<usize>) -> Option<Self> {
        let start = start(points, &free)?;
        let problem = Residuals { points, free: &free, values: start };
        let (problem, _) = LevenbergMarquardt::new().with_tol(1e-14).with_patience(1000).minimize(problem);
        let values = problem.values.map(f64::abs);
        let chi2 = problem.residuals()?.norm_squared();
        (chi2.is_finite() && values.iter().all(|v| v.is_finite())).then_some(Self { free, values, chi2 })
    }

    fn finish(self, points: &[Measured]) -> Option<Calorimeter> {
        let jacobian = Residuals { points, free: &self.free, values: self.values.clone() }.jacobian()?;
        // Columns are brought to length 1 first: noise terms are orders of magnitude above constant ones.
        let norms: Vec<f64> = jacobian.column_iter().map(|column| column.norm()).collect();
        let scaled = DMatrix::from_fn(jacobian.nrows(), jacobian.ncols(), |i, j| jacobian[(i, j)] / norms[j]);
        let inverse = scaled.tr_mul(&scaled).try_inverse()?;
        let mut terms = [Term { value: 0.0, error: None }; 3];
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
        Some(Calorimeter { terms, covariance, chi2: self.chi2, ndf: points.len() - self.free.len() })
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
    values: DVector<f64>,
}

impl Residuals<'_> {
    fn model(&self, energy: f64) -> f64 {
        let shapes = shapes(energy);
        self.free.iter().zip(&self.values).map(|(term, value)| (shapes[*term] * value).powi(2)).sum::<f64>().sqrt()
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
