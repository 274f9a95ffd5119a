//! What one spot deposits, and what many in one cell do together.
//!
//! The spectra are quantiles of a Geant4 sample (see `examples/fit_showers.py`), drawn through the inverse of the
//! distribution function: a table whose values need no `exp` per spot. Cells with many spots take the central limit.

use super::image::Image;
use crate::random::Random;

/// Knots of the table, a power of two.
const TABLE: usize = 4096;
/// Above this many relative variances of spots a cell's sum is normal.
const MANY: f64 = 12.0;

/// Quantiles of ln(energy / GeV) at 0.002, 0.01, 1/32, 2/32 ... 31/32, 0.999 and 1.
struct Quantiles([f64; 35]);

/// Cells of ECAL far from the axis of electron showers.
const ECAL: Quantiles = Quantiles([
    -14.489, -12.824, -11.599, -10.812, -10.284, -9.87, -9.585, -9.335, -9.133, -8.949, -8.82, -8.705, -8.604, -8.507, -8.41,
    -8.319, -8.235, -8.151, -8.068, -7.989, -7.899, -7.82, -7.727, -7.637, -7.541, -7.45, -7.343, -7.227, -7.108, -6.962, -6.8,
    -6.573, -6.306, -5.687, -5.3,
]);
/// The outer cells of HCAL behind electrons.
const HCAL: Quantiles = Quantiles([
    -14.616, -13.039, -11.885, -11.195, -10.778, -10.464, -10.19, -9.934, -9.726, -9.523, -9.333, -9.164, -8.968, -8.791, -8.625,
    -8.46, -8.29, -8.129, -7.985, -7.81, -7.667, -7.556, -7.46, -7.357, -7.256, -7.157, -7.046, -6.935, -6.809, -6.676, -6.512,
    -6.311, -6.066, -5.243, -4.9,
]);
/// The corner cells of HCAL in pion showers: slow neutrons make the long tail to nothing.
const HADRONIC: Quantiles = Quantiles([
    -33.619, -27.468, -17.915, -12.333, -11.191, -10.612, -10.218, -9.861, -9.54, -9.219, -8.914, -8.628, -8.322, -8.049, -7.778,
    -7.625, -7.532, -7.44, -7.344, -7.247, -7.14, -7.028, -6.915, -6.807, -6.698, -6.576, -6.445, -6.318, -6.176, -6.029, -5.833,
    -5.602, -5.233, -3.573, -3.2,
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
            let below = |k: usize| match k {
                0 => 0.002,
                1 => 0.01,
                33 => 0.999,
                34 => 1.0,
                _ => (k as f64 - 1.0) / 32.0,
            };
            let k = (1..34).find(|k| p < below(*k)).unwrap_or(34);
            let share = ((p - below(k - 1)) / (below(k) - below(k - 1))).max(0.0);
            (q[k - 1] + (q[k] - q[k - 1]) * share).exp()
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
        let parts = [(&self.ecal, &spots.ecal, &mut image.ecal), (&self.hcal, &spots.hcal, &mut image.hcal)];
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
