//! A mass peak, fitted: a Breit-Wigner convolved with a Crystal Ball, where it is asked for on a background; binned likelihood.
//!
//! The Breit-Wigner is the non-relativistic one of fixed mass and width (that of the particle); the Crystal Ball is the
//! resolution: a Gaussian of mean `shift` and width `sigma`, with a tail of power `n` towards low masses from `alpha` sigmas on
//! (Gaiser, SLAC-R-255 (1982); Oreglia, SLAC-R-236 (1980)).
//!
//! What a bin holds is an integral over the bin of an integral over the resolution. The inner one is closed (an arc tangent),
//! the outer one is Gauss-Legendre quadrature on panels no wider than the Breit-Wigner, and so are its derivatives by the four
//! parameters. Bins may therefore be as wide as the peak allows without a bias.
//!
//! A background has a fraction f of what lies in the range, the peak 1 - f. It is exp(slope m), or 1 + slope x with x from -1 to 1 over
//! the range (Chebyshev's polynomials up to the first), so that one number says its shape; both are integrated over bins in closed form.
//! f lies between 0 and 1: one that ends at 0 is held there, and its slope is then not determined.
//!
//! The likelihood is that of Poisson contents whose sum is given (the shape alone); its logarithm, over that of the
//! contents themselves, is a sum of squares (Baker, Cousins, NIM 221 (1984) 437), which Levenberg-Marquardt minimises. Errors
//! are from the second derivatives of the likelihood at its maximum; where rows have weights, the covariance is
//! `H^-1 D H^-1` with D from the squared weights (Langenbruch, EPJC 82 (2022) 393). `alpha` and `n` have bounds; one that
//! ends at its bound is held there, is said to be, and the errors of the others hold with it fixed.
//!
//! In 2,000 toys of 100,000 pairs, one standard error covers the shift in 68.4 %, sigma in 69.0 %, alpha in 66.3 % and n in
//! 67.1 % (68.3 % is right, known to 1 %); of 20,000 pairs in 68.0, 67.2, 65.9 and 67.4 %: alpha is not quite normal there.
//!
//! The result is a pure function of the contents, without random starts. What cannot be fitted gives a reason.

mod model;

use crate::words;
use levenberg_marquardt::{LeastSquaresProblem, LevenbergMarquardt};
use model::Model;
use nalgebra::storage::Owned;
use nalgebra::{DMatrix, DVector, Dyn};
use schemars::JsonSchema;
use serde::Deserialize;

/// The names of the parameters, in order; the last two are the background's.
pub const PARAMETERS: [&str; 6] = ["shift", "sigma", "alpha", "n", "background_fraction", "background_slope"];
/// How many of them are the peak's.
pub const OF_PEAK: usize = 4;
const SIGMA: usize = 1;
const ALPHA: usize = 2;
const N: usize = 3;
const FRACTION: usize = 4;
const SLOPE: usize = 5;

/// The values of all parameters.
type Values = [f64; PARAMETERS.len()];

/// The particle whose peak it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Its mass.
    pub mass: f64,
    /// Its width.
    pub width: f64,
}

/// A histogram of masses.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum<'a> {
    /// `bins + 1` edges.
    pub edges: &'a [f64],
    /// The sum of the weights in each bin.
    pub contents: &'a [f64],
    /// The sum of the squared weights in each bin; none where every row counts 1.
    pub variances: Option<&'a [f64]>,
}

/// One parameter of the fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    /// Its value.
    pub value: f64,
    /// One standard error; none where it was held.
    pub error: Option<f64>,
    /// True where it ended at a bound.
    pub at_bound: bool,
}

/// The fitted peak.
#[derive(Debug, Clone, PartialEq)]
pub struct Peak {
    /// shift, sigma, alpha, n, the background's fraction and its slope.
    pub parameters: [Parameter; PARAMETERS.len()],
    /// The covariance of the parameters; 0 where one was held.
    pub covariance: [Values; PARAMETERS.len()],
    /// The likelihood ratio of the contents to the curve, distributed as chi squared.
    pub chi2: f64,
    /// Bins less free parameters less one, for the sum.
    pub ndf: i64,
    /// What the curve says of each bin.
    pub expected: Vec<f64>,
    /// What lies below the peak.
    pub background: Background,
}

/// What lies below a peak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Background {
    /// Nothing.
    #[default]
    None,
    /// exp(slope m), the slope in one over the unit of the mass.
    Exponential,
    /// 1 + slope x, with x from -1 at the lowest mass of the range to 1 at the highest.
    Linear,
}

impl Peak {
    /// The values of the parameters.
    #[must_use]
    pub fn values(&self) -> Values {
        self.parameters.map(|parameter| parameter.value)
    }
}

/// What is fitted by wish: alpha and n that are held fixed, and what lies below the peak.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Held {
    /// The value of alpha.
    pub alpha: Option<f64>,
    /// The value of n.
    pub n: Option<f64>,
    /// What lies below.
    pub background: Background,
}

/// What alpha may be: below, there is hardly a Gaussian; above, hardly a tail.
pub const ALPHAS: [f64; 2] = [0.2, 6.0];
/// What n may be: at 1 the tail has no end, and at a hundred it is a Gaussian's.
pub const POWERS: [f64; 2] = [1.05, 100.0];

impl Peak {
    /// Fits a spectrum from its own quantiles on.
    pub fn fit(spectrum: &Spectrum<'_>, line: Line, held: Held) -> Result<Self, String> {
        let data = Data::new(spectrum, line, held.background)?;
        let ([fraction, slope], rest) = data.sides();
        let (shift, sigma) = data.typical(&rest);
        let starts = [(1.0, 1.5), (0.5, 1.5), (2.0, 1.5), (1.0, 3.0)];
        let mut best: Option<Minimum> = None;
        for (scale, alpha) in starts {
            let start = [shift, scale * sigma, held.alpha.unwrap_or(alpha), held.n.unwrap_or(3.0), fraction, slope];
            let below = held.background != Background::None;
            let free = [true, true, held.alpha.is_none(), held.n.is_none(), below, below];
            best = best.into_iter().chain(data.minimum(start, free)).min_by(|x, y| x.chi2.total_cmp(&y.chi2));
            // A minimum that describes the contents is the one; one that does not may be another one's neighbour.
            let ndf = data.contents.len() as f64;
            if best.as_ref().is_some_and(|best| best.chi2 < ndf + 3.0 * (2.0 * ndf).sqrt() && !best.at_bound.contains(&true)) {
                break;
            }
        }
        data.finish(best.ok_or("the fit does not converge")?)
    }

    /// Fits a spectrum that is nearly that of this peak, with the same parameters held: the width alone.
    pub fn refit(&self, spectrum: &Spectrum<'_>, line: Line) -> Result<f64, String> {
        let data = Data::new(spectrum, line, self.background)?;
        let minimum = data.minimum(self.values(), self.parameters.map(|parameter| parameter.error.is_some()));
        let minimum = minimum.ok_or("the fit does not converge")?;
        data.sensible(&minimum)?;
        Ok(minimum.values[SIGMA])
    }

    /// The curve: what a bin of this width would hold around each mass.
    #[must_use]
    pub fn curve(&self, spectrum: &Spectrum<'_>, line: Line, points: usize) -> Vec<(f64, f64)> {
        let (low, high) = (spectrum.edges[0], spectrum.edges[spectrum.edges.len() - 1]);
        let edges: Vec<f64> = (0..=points).map(|i| low + (high - low) * i as f64 / points as f64).collect();
        let shares = Model { edges: &edges, line, background: self.background }.shares(&self.values()).0;
        Self::drawn(spectrum, &edges, &shares, 1.0)
    }

    /// The same of the background alone; none where there is none.
    #[must_use]
    pub fn background_curve(&self, spectrum: &Spectrum<'_>, line: Line, points: usize) -> Option<Vec<(f64, f64)>> {
        let (low, high) = (spectrum.edges[0], spectrum.edges[spectrum.edges.len() - 1]);
        let edges: Vec<f64> = (0..=points).map(|i| low + (high - low) * i as f64 / points as f64).collect();
        let values = self.values();
        let (shares, _) = Model { edges: &edges, line, background: self.background }.below(values[SLOPE])?;
        Some(Self::drawn(spectrum, &edges, &shares, values[FRACTION]))
    }

    fn drawn(spectrum: &Spectrum<'_>, edges: &[f64], shares: &[f64], of_all: f64) -> Vec<(f64, f64)> {
        let all: f64 = spectrum.contents.iter().sum();
        let scale = of_all * all * shares.len() as f64 / (spectrum.edges.len() - 1) as f64;
        edges.windows(2).zip(shares).map(|(ends, share)| (f64::midpoint(ends[0], ends[1]), share * scale)).collect()
    }
}

/// A spectrum that can be fitted: contents scaled to the number of rows that they are worth.
struct Data<'a> {
    model: Model<'a>,
    contents: Vec<f64>,
    variances: Option<Vec<f64>>,
    all: f64,
    /// What the contents were divided by.
    scale: f64,
}

/// A minimum of the deviations.
struct Minimum {
    values: Values,
    free: [bool; PARAMETERS.len()],
    at_bound: [bool; PARAMETERS.len()],
    chi2: f64,
}

impl<'a> Data<'a> {
    fn new(spectrum: &'a Spectrum<'_>, line: Line, background: Background) -> Result<Self, String> {
        let all: f64 = spectrum.contents.iter().sum();
        let squares: f64 = spectrum.variances.map_or(all, |variances| variances.iter().sum());
        if spectrum.contents.iter().all(|content| *content == 0.0) {
            let weighted = if spectrum.variances.is_some() { ", or the weights in it add up to 0" } else { "" };
            return Err(format!("every bin of the range is empty{weighted}"));
        }
        if let Some(bin) = spectrum.contents.iter().position(|content| *content < 0.0 || !content.is_finite()) {
            let (low, high) = (spectrum.edges[bin], spectrum.edges[bin + 1]);
            return Err(format!("the weights in the bin [{low}, {high}) add up to {}: no likelihood", spectrum.contents[bin]));
        }
        let scale = squares / all;
        let filled = spectrum.contents.iter().filter(|content| **content > 0.0).count();
        let parameters = if background == Background::None { OF_PEAK } else { PARAMETERS.len() };
        if filled <= parameters + 1 || !(scale.is_finite() && scale > 0.0) {
            let bins = words::counted(filled as u64, "bin");
            return Err(format!("{bins} with entries do not determine a peak"));
        }
        let contents = spectrum.contents.iter().map(|content| content / scale).collect();
        let variances = spectrum.variances.map(|variances| variances.iter().map(|v| v / (scale * scale)).collect());
        Ok(Self { model: Model { edges: spectrum.edges, line, background }, contents, variances, all: all / scale, scale })
    }

    fn range(&self) -> [f64; 2] {
        [self.model.edges[0], self.model.edges[self.model.edges.len() - 1]]
    }

    /// What sigma may be.
    fn sigmas(&self) -> [f64; 2] {
        let [low, high] = self.range();
        [0.01 * self.model.line.width, high - low]
    }

    /// A fraction and a slope of the background to start from, and what stands above it: as if a tenth of the range on either side, less
    /// some of the peak's own tails, held nothing else.
    fn sides(&self) -> ([f64; 2], Vec<f64>) {
        if self.model.background == Background::None {
            return ([0.0; 2], self.contents.clone());
        }
        let bins = self.contents.len();
        let side = bins.div_ceil(10);
        let mean = |side: &[f64]| 0.7 * side.iter().sum::<f64>() / side.len() as f64;
        let (low, high) = (mean(&self.contents[..side]), mean(&self.contents[bins - side..]));
        let below = |bin: usize| low + (high - low) * bin as f64 / bins as f64;
        let rest: Vec<f64> = self.contents.iter().enumerate().map(|(bin, content)| (content - below(bin)).max(0.0)).collect();
        let fraction = ((0..bins).map(below).sum::<f64>() / self.all).clamp(0.02, 0.9);
        let [first, last] = self.range();
        let least = 1e-3 * self.all / bins as f64;
        let slope = match self.model.background {
            Background::Exponential => ((high + least) / (low + least)).ln() / (last - first),
            _ => 0.9 * (high - low) / (high + low + least),
        };
        // Where nothing stands above, all does.
        if rest.iter().sum::<f64>() > 0.0 { ([fraction, slope], rest) } else { ([fraction, slope], self.contents.clone()) }
    }

    /// A place and a width to start from: from the median of these contents, and from the central 68 % less the line's own width.
    fn typical(&self, contents: &[f64]) -> (f64, f64) {
        let all: f64 = contents.iter().sum();
        let quantile = |q: f64| {
            let mut left = q * all;
            for (content, ends) in contents.iter().zip(self.model.edges.windows(2)) {
                if *content > 0.0 && left <= *content {
                    return ends[0] + (ends[1] - ends[0]) * left / content;
                }
                left -= content;
            }
            self.range()[1]
        };
        let half = (quantile(0.84) - quantile(0.16)) / 2.0;
        let [least, most] = self.sigmas();
        let sigma = (half - 0.4 * self.model.line.width).max(0.3 * half).clamp(2.0 * least, most / 4.0);
        (quantile(0.5) - self.model.line.mass, sigma)
    }

    fn bounds(&self) -> [Bounds; PARAMETERS.len()] {
        let [low, high] = self.range().map(|edge| edge - self.model.line.mass);
        let log = |[low, high]: [f64; 2]| Bounds { low, high, log: true, near: 2e-3 };
        let steepest = if self.model.background == Background::Linear { 1.0 } else { 20.0 / (high - low) };
        let fraction = Bounds { low: 0.0, high: 1.0, log: false, near: 1e-4 };
        let slope = Bounds { low: -steepest, high: steepest, log: false, near: 2e-3 };
        [Bounds { low, high, log: false, near: 2e-3 }, log(self.sigmas()), log(ALPHAS), log(POWERS), fraction, slope]
    }

    /// The minimum next to a start; a parameter that runs to its bound is held there, and n with an alpha that leaves no tail.
    fn minimum(&self, start: Values, free: [bool; PARAMETERS.len()]) -> Option<Minimum> {
        let bounds = self.bounds();
        let (mut values, mut free, mut at_bound) = (start, free, [false; PARAMETERS.len()]);
        loop {
            let problem = Deviations::new(self, bounds, values, free);
            let (problem, report) = LevenbergMarquardt::new().with_tol(1e-12).with_patience(60).minimize(problem);
            let chi2 = 2.0 * report.objective_function;
            if !report.termination.was_successful()
                && !matches!(report.termination, levenberg_marquardt::TerminationReason::LostPatience)
            {
                return None;
            }
            values = problem.values;
            let ended = [ALPHA, N, FRACTION, SLOPE].into_iter().find(|i| free[*i] && bounds[*i].ended(values[*i]).is_some());
            let Some(i) = ended else { return chi2.is_finite().then_some(Minimum { values, free, at_bound, chi2 }) };
            // A tail that begins so far out holds nothing that could say its power.
            let no_tail = i == ALPHA && bounds[i].place(values[i]) > 0.5;
            values[i] = bounds[i].ended(values[i])?;
            (free[i], at_bound[i]) = (false, true);
            free[N] &= !no_tail;
            if i == FRACTION {
                (values[SLOPE], free[SLOPE], at_bound[SLOPE]) = (0.0, false, false);
            }
        }
    }

    /// Refuses a minimum at the end of what sigma or the shift may be.
    fn sensible(&self, minimum: &Minimum) -> Result<(), String> {
        let bounds = self.bounds();
        if minimum.at_bound[FRACTION] && minimum.values[FRACTION] > 0.5 {
            return Err("there is no peak: all of it is background".into());
        }
        match bounds[SIGMA].ended(minimum.values[SIGMA]) {
            Some(end) if end == bounds[SIGMA].low => {
                Err("the peak is narrower than the particle's own width: sigma runs to 0".into())
            }
            Some(_) => Err("there is no peak: sigma runs to the width of the range".into()),
            None if bounds[0].ended(minimum.values[0]).is_some() => Err("the peak runs out of the range".into()),
            None => Ok(()),
        }
    }

    /// Minus the derivatives of the likelihood's logarithm.
    fn gradient(&self, values: &Values) -> Values {
        let (shares, slopes) = self.model.shares(values);
        let mut gradient = [0.0; PARAMETERS.len()];
        for ((content, share), slope) in self.contents.iter().zip(&shares).zip(&slopes) {
            gradient.iter_mut().zip(slope).for_each(|(sum, slope)| *sum -= content * slope / share);
        }
        gradient
    }

    /// The information that rows of these numbers (by bin) hold on the free parameters.
    fn information(&self, minimum: &Minimum, free: &[usize], rows: &[f64]) -> DMatrix<f64> {
        let (shares, slopes) = self.model.shares(&minimum.values);
        let mut matrix = DMatrix::zeros(free.len(), free.len());
        for ((share, slope), rows) in shares.iter().zip(&slopes).zip(rows) {
            for (i, one) in free.iter().enumerate() {
                for (j, other) in free.iter().enumerate() {
                    matrix[(i, j)] += rows * slope[*one] * slope[*other] / (share * share);
                }
            }
        }
        matrix
    }

    /// Errors, from the second derivatives of the likelihood, which are differences of the first a tenth of an error apart.
    fn finish(&self, minimum: Minimum) -> Result<Peak, String> {
        const NO_MINIMUM: &str = "the likelihood has no maximum inside the bounds";
        self.sensible(&minimum)?;
        let free: Vec<usize> = (0..PARAMETERS.len()).filter(|i| minimum.free[*i]).collect();
        let (shares, _) = self.model.shares(&minimum.values);
        let expected: Vec<f64> = shares.iter().map(|share| share * self.all).collect();
        let fisher = self.information(&minimum, &free, &expected);
        let rough = inverse(&fisher).ok_or("the contents do not determine the parameters")?;
        let mut hessian = DMatrix::zeros(free.len(), free.len());
        let bounds = self.bounds();
        for (j, parameter) in free.iter().enumerate() {
            let value = minimum.values[*parameter];
            let room = (value - bounds[*parameter].low).min(bounds[*parameter].high - value);
            let step = (0.05 * rough[(j, j)].sqrt()).min(0.5 * room);
            let [above, below] = [step, -step].map(|step| {
                let mut values = minimum.values;
                values[*parameter] += step;
                self.gradient(&values)
            });
            for (i, other) in free.iter().enumerate() {
                hessian[(i, j)] = (above[*other] - below[*other]) / (2.0 * step);
            }
        }
        hessian = (&hessian + hessian.transpose()) / 2.0;
        let inverse = inverse(&hessian).ok_or(NO_MINIMUM)?;
        let covariance = match &self.variances {
            None => inverse,
            Some(variances) => &inverse * self.information(&minimum, &free, variances) * &inverse,
        };
        let mut peak = Peak {
            parameters: std::array::from_fn(|i| Parameter {
                value: minimum.values[i],
                error: None,
                at_bound: minimum.at_bound[i],
            }),
            covariance: [[0.0; PARAMETERS.len()]; PARAMETERS.len()],
            chi2: minimum.chi2,
            ndf: self.contents.len() as i64 - 1 - free.len() as i64,
            expected: expected.iter().map(|expected| expected * self.scale).collect(),
            background: self.model.background,
        };
        for (i, one) in free.iter().enumerate() {
            for (j, other) in free.iter().enumerate() {
                peak.covariance[*one][*other] = covariance[(i, j)];
            }
            let error = covariance[(i, i)].sqrt();
            if !(error.is_finite() && error > 0.0) {
                return Err(NO_MINIMUM.into());
            }
            peak.parameters[*one].error = Some(error);
        }
        Ok(peak)
    }
}

/// The inverse of a matrix that is positive definite, its columns brought to length 1 first; none where it is not.
fn inverse(matrix: &DMatrix<f64>) -> Option<DMatrix<f64>> {
    let norms: Vec<f64> = (0..matrix.nrows()).map(|i| matrix[(i, i)].sqrt()).collect();
    if !norms.iter().all(|norm| norm.is_finite() && *norm > 0.0) {
        return None;
    }
    let scaled = DMatrix::from_fn(matrix.nrows(), matrix.ncols(), |i, j| matrix[(i, j)] / (norms[i] * norms[j]));
    let inverse = scaled.cholesky()?.inverse();
    Some(DMatrix::from_fn(matrix.nrows(), matrix.ncols(), |i, j| inverse[(i, j)] / (norms[i] * norms[j])))
}

/// What a parameter may be; the minimiser sees the whole line.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    low: f64,
    high: f64,
    log: bool,
    /// What of the way between them is taken for a bound.
    near: f64,
}

impl Bounds {
    fn scaled(self, value: f64) -> f64 {
        if self.log { value.ln() } else { value }
    }

    /// Where a value lies between its bounds, from 0 to 1.
    fn place(self, value: f64) -> f64 {
        (self.scaled(value) - self.scaled(self.low)) / (self.scaled(self.high) - self.scaled(self.low))
    }

    /// The bound that a value has run to, if it has.
    fn ended(self, value: f64) -> Option<f64> {
        let place = self.place(value);
        if place < self.near {
            Some(self.low)
        } else if place > 1.0 - self.near {
            Some(self.high)
        } else {
            None
        }
    }

    fn inside(self, value: f64) -> f64 {
        let place = self.place(value).clamp(1e-6, 1.0 - 1e-6);
        (place / (1.0 - place)).ln()
    }

    /// The value of a place on the whole line, and its derivative.
    fn value(self, inside: f64) -> (f64, f64) {
        let place = 1.0 / (1.0 + (-inside).exp());
        let (low, high) = (self.scaled(self.low), self.scaled(self.high));
        let (scaled, slope) = (low + (high - low) * place, (high - low) * place * (1.0 - place));
        if self.log { (scaled.exp(), scaled.exp() * slope) } else { (scaled, slope) }
    }
}

/// What the minimiser sees: signed roots of the likelihood ratio of each bin.
struct Deviations<'a> {
    data: &'a Data<'a>,
    bounds: [Bounds; PARAMETERS.len()],
    free: Vec<usize>,
    inside: DVector<f64>,
    values: Values,
    residuals: DVector<f64>,
    jacobian: DMatrix<f64>,
}

impl<'a> Deviations<'a> {
    fn new(data: &'a Data<'a>, bounds: [Bounds; PARAMETERS.len()], values: Values, free: [bool; PARAMETERS.len()]) -> Self {
        let free: Vec<usize> = (0..PARAMETERS.len()).filter(|i| free[*i]).collect();
        let inside = DVector::from_iterator(free.len(), free.iter().map(|i| bounds[*i].inside(values[*i])));
        let (rows, columns) = (data.contents.len(), free.len());
        let (residuals, jacobian) = (DVector::zeros(rows), DMatrix::zeros(rows, columns));
        let mut deviations = Self { data, bounds, free, inside: inside.clone(), values, residuals, jacobian };
        deviations.set_params(&inside);
        deviations
    }
}

impl LeastSquaresProblem<f64, Dyn, Dyn> for Deviations<'_> {
    type ResidualStorage = Owned<f64, Dyn>;
    type JacobianStorage = Owned<f64, Dyn, Dyn>;
    type ParameterStorage = Owned<f64, Dyn>;

    fn set_params(&mut self, inside: &DVector<f64>) {
        self.inside.copy_from(inside);
        let mut slopes = [0.0; PARAMETERS.len()];
        for (i, inside) in self.free.iter().zip(inside.iter()) {
            (self.values[*i], slopes[*i]) = self.bounds[*i].value(*inside);
        }
        let (shares, derivatives) = self.data.model.shares(&self.values);
        for (bin, (content, share)) in self.data.contents.iter().zip(&shares).enumerate() {
            let (residual, slope) = deviation(*content, share * self.data.all);
            self.residuals[bin] = residual;
            for (j, parameter) in self.free.iter().enumerate() {
                self.jacobian[(bin, j)] = slope * self.data.all * derivatives[bin][*parameter] * slopes[*parameter];
            }
        }
    }

    fn params(&self) -> DVector<f64> {
        self.inside.clone()
    }

    fn residuals(&self) -> Option<DVector<f64>> {
        self.residuals.iter().all(|r| r.is_finite()).then(|| self.residuals.clone())
    }

    fn jacobian(&self) -> Option<DMatrix<f64>> {
        self.jacobian.iter().all(|r| r.is_finite()).then(|| self.jacobian.clone())
    }
}

/// The signed root of twice `expected - content + content ln(content / expected)`, and its derivative by what is expected.
fn deviation(content: f64, expected: f64) -> (f64, f64) {
    let x = (content - expected) / expected;
    let ratio = if x.abs() < 1e-3 {
        x * x * (0.5 - x / 6.0 + x * x / 12.0 - x * x * x / 20.0)
    } else if content > 0.0 {
        (1.0 + x) * x.ln_1p() - x
    } else {
        1.0
    };
    let root = x.signum() * (2.0 * expected * ratio).sqrt();
    (root, if root == 0.0 { -1.0 / expected.sqrt() } else { -x / root })
}

#[cfg(test)]
mod tests;
