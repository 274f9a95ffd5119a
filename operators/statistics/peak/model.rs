//! The curve: a Breit-Wigner convolved with a Crystal Ball, integrated over bins, with its derivatives.
//!
//! The integral over a bin is closed (an arc tangent), the one over the resolution is Gauss-Legendre quadrature on panels no
//! wider than the Breit-Wigner.

use super::{Background, FRACTION, Line, PARAMETERS, SLOPE};

/// Where the Crystal Ball's Gaussian ends upwards, in sigmas: 10^-11 of it lies beyond.
const GAUSSIAN: f64 = 7.0;

/// How often the panels of the tail double, from twice the particle's width on.
const FAR: usize = 9;

/// Gauss and Legendre's ten points on [-1, 1] (positive ones) and their weights (Abramowitz, Stegun, table 25.4).
const NODES: [(f64, f64); 5] = [
    (0.148_874_338_981_631_21, 0.295_524_224_714_752_87),
    (0.433_395_394_129_247_2, 0.269_266_719_309_996_36),
    (0.679_409_568_299_024_4, 0.219_086_362_515_982_04),
    (0.865_063_366_688_984_5, 0.149_451_349_150_580_6),
    (0.973_906_528_517_171_7, 0.066_671_344_308_688_14),
];

/// The share of each bin, and its derivatives by the parameters.
pub(super) struct Model<'a> {
    pub(super) edges: &'a [f64],
    pub(super) line: Line,
    pub(super) background: Background,
}

impl Model<'_> {
    /// Places t on the Crystal Ball (in sigmas from its mean), its value there times the quadrature's weight, and the
    /// derivatives of that by alpha and n.
    fn nodes(&self, [shift, sigma, alpha, n, ..]: &[f64; PARAMETERS.len()]) -> Vec<[f64; 4]> {
        let width = self.line.width / sigma;
        let mut nodes = Vec::new();
        let mut panels = |from: f64, to: f64, widest: f64, g: &dyn Fn(f64) -> [f64; 3]| {
            let count = ((to - from) / widest).ceil().max(1.0);
            let half = (to - from) / count / 2.0;
            for panel in 0..count as usize {
                let middle = from + half * (2 * panel + 1) as f64;
                for (x, weight) in NODES.iter().flat_map(|(x, weight)| [(-x, weight), (*x, weight)]) {
                    let t = middle + half * x;
                    let [value, by_alpha, by_n] = g(t).map(|value| value * weight * half);
                    nodes.push([t, value, by_alpha, by_n]);
                }
            }
        };
        panels(-alpha, GAUSSIAN, width.min(1.0), &|t| [(-t * t / 2.0).exp(), 0.0, 0.0]);
        let ratio = n / alpha;
        let tail = |t: f64| {
            let u = ratio - alpha - t;
            let value = (n * (ratio / u).ln() - alpha * alpha / 2.0).exp();
            let by_alpha = n * (ratio / alpha + 1.0) / u - ratio - alpha;
            [value, value * by_alpha, value * ((ratio / u).ln() + 1.0 - ratio / u)]
        };
        // Farther below than the range, only the Breit-Wigner's own tail comes back into it: panels may grow.
        let below = (self.line.mass + shift - self.edges[0]).max(0.0) + 4.0 * self.line.width;
        let (mut from, mut step) = ((-below / sigma).min(-alpha - 1.0), 2.0 * width);
        panels(from, -alpha, (2.0 * width).min(2.0), &tail);
        for _ in 0..FAR {
            panels(from - step, from, step, &tail);
            (from, step) = (from - step, 2.0 * step);
        }
        nodes
    }

    /// The share of each bin in all that lies in the range, and its derivatives.
    pub(super) fn shares(&self, values: &[f64; PARAMETERS.len()]) -> (Vec<f64>, Vec<[f64; PARAMETERS.len()]>) {
        let (peak, slopes) = self.peak(values);
        let fraction = values[FRACTION];
        let Some((background, by_slope)) = self.below(values[SLOPE]) else {
            return (peak, slopes.into_iter().map(|[a, b, c, d]| [a, b, c, d, 0.0, 0.0]).collect());
        };
        let shares = peak.iter().zip(&background).map(|(peak, below)| (1.0 - fraction) * peak + fraction * below).collect();
        let of_bin = |bin: usize| {
            let [a, b, c, d] = slopes[bin].map(|slope| (1.0 - fraction) * slope);
            [a, b, c, d, background[bin] - peak[bin], fraction * by_slope[bin]]
        };
        (shares, (0..peak.len()).map(of_bin).collect())
    }

    /// The share of each bin in the background alone, and its derivative by the slope; none where there is no background.
    pub(super) fn below(&self, slope: f64) -> Option<(Vec<f64>, Vec<f64>)> {
        let (first, last) = (self.edges[0], self.edges[self.edges.len() - 1]);
        let (middle, half) = (f64::midpoint(first, last), (last - first) / 2.0);
        // What stands in each bin, and its derivative's share of it.
        let bin = |ends: &[f64]| {
            let (width, from_middle) = (ends[1] - ends[0], f64::midpoint(ends[0], ends[1]) - middle);
            match self.background {
                Background::None => (0.0, 0.0),
                Background::Linear => (width * (1.0 + slope * from_middle / half), width * from_middle / half),
                Background::Exponential => {
                    let x = slope * width / 2.0;
                    // sinh(x) / x, and the derivative of its logarithm.
                    let (curved, by_x) =
                        if x.abs() < 1e-3 { (1.0 + x * x / 6.0, x / 3.0) } else { (x.sinh() / x, 1.0 / x.tanh() - 1.0 / x) };
                    let content = width * (slope * from_middle).exp() * curved;
                    (content, content * (from_middle + by_x * width / 2.0))
                }
            }
        };
        if self.background == Background::None {
            return None;
        }
        let bins: Vec<(f64, f64)> = self.edges.windows(2).map(bin).collect();
        let (all, by_slope) = bins.iter().fold((0.0, 0.0), |(a, b), (content, slope)| (a + content, b + slope));
        Some(bins.iter().map(|(content, slope)| (content / all, (slope - content / all * by_slope) / all)).unzip())
    }

    /// The share of each bin in the peak alone, and its derivatives by its four parameters.
    fn peak(&self, values: &[f64; PARAMETERS.len()]) -> (Vec<f64>, Vec<[f64; 4]>) {
        let (bins, [shift, sigma, ..]) = (self.edges.len() - 1, values);
        let half = self.line.width / 2.0;
        let nodes = self.nodes(values);
        let at_edge = |edge: &f64| {
            let mut sums = [0.0; 5];
            for [t, value, by_alpha, by_n] in &nodes {
                let z = (edge - self.line.mass - shift - sigma * t) / half;
                let (below, density) = (z.atan(), value / (1.0 + z * z) / half);
                sums[0] += value * below;
                sums[1] -= density;
                sums[2] -= density * t;
                sums[3] += by_alpha * below;
                sums[4] += by_n * below;
            }
            sums
        };
        let mut edges = self.edges.iter().map(at_edge);
        let mut last = edges.next().unwrap_or_default();
        let mut parts: Vec<[f64; 5]> = Vec::with_capacity(bins);
        for edge in edges {
            parts.push(std::array::from_fn(|i| edge[i] - last[i]));
            last = edge;
        }
        let total: [f64; 5] = std::array::from_fn(|i| parts.iter().map(|part| part[i]).sum());
        let shares: Vec<f64> = parts.iter().map(|part| part[0] / total[0]).collect();
        let slope = |(part, share): (&[f64; 5], &f64)| std::array::from_fn(|i| (part[i + 1] - share * total[i + 1]) / total[0]);
        let slopes = parts.iter().zip(&shares).map(slope).collect();
        (shares, slopes)
    }
}
