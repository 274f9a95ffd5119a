//! What one spot deposits, and what many in one cell do together.
//!
//! The spectra are quantiles of a Geant4 sample (see `examples/fit_showers.py`), drawn through the inverse of the
//! distribution function: a table whose values need no `exp` per spot. Cells with many spots take the central limit.

use super::image::Image;
use super::random::Random;

/// Knots of the table, a power of two.
const TABLE: usize = 4096;
/// Above this many relative variances of spots a cell's sum is normal.
const MANY: f64 = 14.0;

/// Quantiles of ln(energy / GeV) at 0, 1/32, 2/32 ... 31/32, 0.999 and 1.
struct Quantiles([f64; 34]);

/// Cells of ECAL far from the axis of electron showers.
const ECAL: Quantiles = Quantiles([
    -17.0, -11.552, -10.735, -10.219, -9.827, -9.527, -9.282, -9.076, -8.903, -8.769, -8.662, -8.563, -8.471, -8.38, -8.294, -8.208,
    -8.123, -8.037, -7.953, -7.866, -7.779, -7.693, -7.6, -7.506, -7.41, -7.308, -7.199, -7.079, -6.937, -6.77, -6.55, -6.291,
    -5.689, -5.3,
]);
/// The outer cells of HCAL behind electrons.
const HCAL: Quantiles = Quantiles([
    -17.0, -11.885, -11.195, -10.778, -10.464, -10.19, -9.934, -9.726, -9.523, -9.333, -9.164, -8.968, -8.791, -8.625, -8.46, -8.29,
    -8.129, -7.985, -7.81, -7.667, -7.556, -7.46, -7.357, -7.256, -7.157, -7.046, -6.935, -6.809, -6.676, -6.512, -6.311, -6.066,
    -5.243, -4.9,
]);
/// The corner cells of HCAL in pion showers: slow neutrons make the long tail to nothing.
const HADRONIC: Quantiles = Quantiles([
    -34.516, -17.915, -12.333, -11.191, -10.612, -10.218, -9.861, -9.54, -9.219, -8.914, -8.628, -8.322, -8.049, -7.778, -7.625,
    -7.532, -7.44, -7.344, -7.247, -7.14, -7.028, -6.915, -6.807, -6.698, -6.576, -6.445, -6.318, -6.176, -6.029, -5.833, -5.602,
    -5.233, -3.573, -3.2,
]);

/// A spectrum, ready to be drawn from.
#[derive(Debug, Clone)]
pub(super) struct Spectrum {
    table: Vec<f32>,
    /// GeV.
    pub mean: f64,
    /// Standard deviation of one spot, GeV.
    spread: f64,
    /// More spots than these are summed as a normal number.
    many: u32,
}

impl Spectrum {
    fn new(quantiles: &Quantiles) -> Self {
        let at = |p: f64| {
            let q = &quantiles.0;
            let (low, high, share) = match p * 32.0 {
                k if k < 31.0 => (q[k as usize], q[k as usize + 1], k.fract()),
                _ if p < 0.999 => (q[31], q[32], (p - 31.0 / 32.0) / (0.999 - 31.0 / 32.0)),
                _ => (q[32], q[33], (p - 0.999) / 0.001),
            };
            (low + (high - low) * share).exp()
        };
        let table: Vec<f64> = (0..=TABLE).map(|k| at(k as f64 / TABLE as f64)).collect();
        // Moments of the piecewise uniform density that the table stands for.
        let (mut mean, mut square) = (0.0, 0.0);
        for pair in table.windows(2) {
            mean += (pair[0] + pair[1]) / 2.0 / TABLE as f64;
            square += (pair[0] * pair[0] + pair[0] * pair[1] + pair[1] * pair[1]) / 3.0 / TABLE as f64;
        }
        let variance = square - mean * mean;
        let many = (MANY * variance / (mean * mean)).ceil() as u32;
        Self { table: table.iter().map(|e| *e as f32).collect(), mean, spread: variance.sqrt(), many }
    }

    /// One spot from 36 of 64 random bits.
    fn one(&self, bits: u32, fine: u32) -> f32 {
        let knot = bits as usize % TABLE;
        let share = (fine & 0xff_ffff) as f32 * (1.0 / 16_777_216.0);
        self.table[knot] + (self.table[knot + 1] - self.table[knot]) * share
    }

    /// The sum of `spots` spots.
    fn sum(&self, random: &mut Random, spots: u32) -> f32 {
        if spots <= self.many {
            return (0..spots)
                .map(|_| {
                    let bits = random.bits();
                    self.one((bits >> 32) as u32, bits as u32)
                })
                .sum();
        }
        let n = f64::from(spots);
        let sum = n * self.mean + n.sqrt() * self.spread * random.normal();
        sum.max(0.2 * n * self.mean) as f32
    }
}

/// Every spectrum.
#[derive(Debug, Clone)]
pub(super) struct Spectra {
    pub ecal: Spectrum,
    pub hcal: Spectrum,
    pub hadronic: Spectrum,
}

impl Spectra {
    pub(super) fn new() -> Self {
        Self { ecal: Spectrum::new(&ECAL), hcal: Spectrum::new(&HCAL), hadronic: Spectrum::new(&HADRONIC) }
    }

    /// Turns the counted spots into energies, on top of what is there.
    pub(super) fn deposit(&self, random: &mut Random, image: &mut Image) {
        let spots = &image.spots;
        let parts = [
            (&self.ecal, &spots.ecal, &mut image.ecal),
            (&self.hcal, &spots.hcal, &mut image.hcal),
        ];
        for (spectrum, counts, energies) in parts {
            add(spectrum, random, counts, energies);
        }
        add(&self.hadronic, random, &spots.hadronic, &mut image.hcal);
    }
}

fn add(spectrum: &Spectrum, random: &mut Random, counts: &[u32], energies: &mut [f32]) {
    for (count, energy) in counts.iter().zip(energies) {
        if *count > 0 {
            *energy += spectrum.sum(random, *count);
        }
    }
}
