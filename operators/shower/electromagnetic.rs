//! Electrons, photons and neutral pions: gamma profile, radial terms, and how each is made of electrons.
//!
//! Longitudinal (Longo and Sestili 1975; PDG, Passage of Particles Through Matter, "Electromagnetic cascades"): the visible
//! energy at depth t radiation lengths is E s b (b t)^(a-1) exp(-b t) / Gamma(a), the maximum at T = (a-1) / b. ln a and
//! ln T fluctuate together, as Grindhammer and Peters found, and s a little. Radial (the same authors): terms
//! 2 r R^2 / (r^2 + R^2)^2, here three, with shares and radii that are functions of t / T.
//!
//! A photon is a pair: it converts after an exponential depth of about 9/7 radiation lengths and shares its energy as
//! 1 - 4/3 x (1 - x) (Bethe and Heitler; PDG); its later maximum and wider fluctuations follow from that.
//! A neutral pion is two photons of an isotropic decay, seen from a gun 1.5 m away.

use super::geometry::{ECAL, GUN, Geometry, LAYERS};
use super::image::{Image, ecal_cell, hcal_cell};
use super::spectrum::Spectra;
use crate::random::Random;
use statrs::function::gamma::ln_gamma;
use std::f64::consts::TAU;

/// alpha and T at 1 GeV and their slopes in ln E, fitted to electrons of 25 to 510 GeV.
const ALPHA: [f64; 2] = [2.1081, 0.7794];
const MAXIMUM: [f64; 2] = [3.7808, 1.0440];
/// ln s likewise; s is the visible energy at a layer for a profile density of one, GeV per GeV radiation lengths.
const LN_VISIBLE: [f64; 2] = [-3.7716, -0.0065];
/// The spread of ln alpha, its correlation with ln T, the spread of ln s: the fit's less what sampling adds to it, such that
/// the resolution comes out.
const ALPHA_SPREAD: f64 = 0.125;
const CORRELATION: f64 = 0.48;
const VISIBLE_SPREAD: f64 = 0.004;
/// The share of visible energy that falls into the window, which s was fitted to.
const WINDOW: f64 = 0.985;
/// The last layer of ECAL lacks what a following layer would scatter back.
const LAST_LAYER: f64 = 0.66;
/// HCAL behind a shower from ECAL: visible energy against the same profile at its face, and its further fall per X0.
const BEHIND: [f64; 2] = [2.15, 0.12];
/// A shower that starts in HCAL: visible energy against ECAL's s, and how much earlier its maximum is: ln of the ratio of
/// the critical energies of iron and tungsten, 21.7 and 8.0 MeV (PDG). Radii in HCAL are wider, as its Moliere radius is.
const INSIDE: f64 = 1.1;
const EARLIER: f64 = 1.0;
const WIDER: f64 = 3.4;
/// A charged primary is seen for these many radiation lengths.
const PRIMARY: f64 = 1.4;
/// Mean depth of a photon's conversion, in radiation lengths, at 1 GeV and its slope in ln E: about 9/7 (PDG) at the highest
/// energies and a little less below, as photons and pi0 of the sample ask for.
const CONVERSION: [f64; 2] = [0.70, 0.09];
/// Mass of the neutral pion, GeV (PDG).
const PI0_MASS: f64 = 0.134_976_8;

/// Logits of the core's share, and of the halo's share in the rest; logarithms of three radii, mm: polynomials in t / T.
const CORE: [f64; 3] = [0.9496, -0.5911, -0.0657];
const HALO: [f64; 2] = [-0.0392, -1.8856];
const RADII: [[f64; 3]; 3] = [[-0.2793, 1.1071, -0.1998], [1.819, 0.3715, 0.0], [3.1682, 0.1792, 0.0]];
/// The fit's range of t / T.
const RANGE: [f64; 2] = [0.2, 2.5];

/// Directions in the plane.
const DIRECTIONS: usize = 4096;

/// A straight line from the gun: where it is at depth z.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Axis {
    pub x: f64,
    pub y: f64,
    pub slope_x: f64,
    pub slope_y: f64,
}

/// The parametrisation with its tables.
#[derive(Debug)]
pub(super) struct Model {
    pub geometry: Geometry,
    pub spectra: Spectra,
    directions: Vec<(f32, f32)>,
}

impl Model {
    pub(super) fn new() -> Self {
        let angle = |k| (k as f64 + 0.5) * TAU / DIRECTIONS as f64;
        let directions = (0..DIRECTIONS).map(|k| (angle(k).cos() as f32, angle(k).sin() as f32)).collect();
        Self { geometry: Geometry::new(), spectra: Spectra::new(), directions }
    }

    /// An electron along the axis.
    pub(super) fn electron(&self, energy: f64, random: &mut Random, image: &mut Image) {
        self.shower(energy, 0.0, Axis::default(), random, image);
    }

    /// A photon along the axis.
    pub(super) fn photon(&self, energy: f64, random: &mut Random, image: &mut Image) {
        self.pair(energy, 0.0, Axis::default(), random, image);
    }

    /// A neutral pion along the axis, decayed at the gun.
    pub(super) fn pi0(&self, energy: f64, random: &mut Random, image: &mut Image) {
        let momentum = (energy * energy - PI0_MASS * PI0_MASS).max(0.0).sqrt();
        let cosine = 2.0 * random.uniform() - 1.0;
        let transverse = 0.5 * PI0_MASS * (1.0 - cosine * cosine).max(0.0).sqrt();
        let (sin, cos) = (TAU * random.uniform()).sin_cos();
        for side in [1.0, -1.0] {
            let one = 0.5 * (energy + side * momentum * cosine);
            let along = 0.5 * (momentum + side * energy * cosine);
            if along > 0.0 {
                let slope = side * transverse / along;
                let (slope_x, slope_y) = (slope * cos, slope * sin);
                self.pair(one, 0.0, Axis { x: GUN * slope_x, y: GUN * slope_y, slope_x, slope_y }, random, image);
            }
        }
    }

    /// A photon that enters at depth `from`, in radiation lengths: it becomes an electron and a positron.
    pub(super) fn pair(&self, energy: f64, from: f64, axis: Axis, random: &mut Random, image: &mut Image) {
        let start = from + (CONVERSION[0] + CONVERSION[1] * energy.max(1.0).ln()) * random.exponential();
        let share = loop {
            let x = random.uniform();
            if random.uniform() < 1.0 - 4.0 / 3.0 * x * (1.0 - x) {
                break x;
            }
        };
        self.shower(energy * share, start, axis, random, image);
        self.shower(energy * (1.0 - share), start, axis, random, image);
    }

    /// An electron that starts at depth `start`, in radiation lengths.
    fn shower(&self, energy: f64, start: f64, axis: Axis, random: &mut Random, image: &mut Image) {
        let depth = &self.geometry.x0;
        let first = depth.partition_point(|t| *t <= start);
        let inside = start > depth[ECAL - 1];
        let lne = energy.max(1e-3).ln();
        let (a, b) = (random.normal(), random.normal());
        let top_spread = (1.0 / (0.8 + 1.8 * lne.max(0.0))).min(0.3);
        let alpha = (ALPHA[0] + ALPHA[1] * lne).max(1.3) * (ALPHA_SPREAD * a).exp();
        let earlier = if inside { EARLIER } else { 0.0 };
        let top = (MAXIMUM[0] - earlier + MAXIMUM[1] * lne).max(0.5)
            * (top_spread * (CORRELATION * a + (1.0 - CORRELATION * CORRELATION).sqrt() * b)).exp();
        let alpha = alpha.max(1.1);
        let rate = (alpha - 1.0) / top;
        let ln_norm = LN_VISIBLE[0] + LN_VISIBLE[1] * lne.max(0.0) + VISIBLE_SPREAD * random.normal() + alpha * rate.ln()
            - ln_gamma(alpha)
            - WINDOW.ln()
            + energy.ln();
        for layer in first..LAYERS {
            let t = depth[layer] - start;
            let behind = if layer < ECAL { 0.0 } else { t - (depth[ECAL - 1] - start) };
            let response = match (layer < ECAL, inside) {
                (true, _) if layer == ECAL - 1 => LAST_LAYER,
                (true, _) => 1.0,
                (false, true) => INSIDE,
                (false, false) => BEHIND[0] * (-BEHIND[1] * behind).exp(),
            };
            let visible = response * (ln_norm + (alpha - 1.0) * t.ln() - rate * t).exp();
            let spectrum = if layer < ECAL { &self.spectra.ecal } else { &self.spectra.hcal };
            let mut spots = random.poisson(visible / spectrum.mean);
            if t > top && visible < 1e-3 * spectrum.mean {
                break;
            }
            let z = self.geometry.z[layer];
            let (x, y) = (axis.x + axis.slope_x * z, axis.y + axis.slope_y * z);
            if t < PRIMARY && layer < ECAL && energy > 0.05 {
                if let Some(cell) = ecal_cell(x, y, layer) {
                    image.spots.ecal[cell] += 1;
                }
                spots = spots.saturating_sub(1);
            }
            let radial = Radial::at(t / top, if layer < ECAL { 1.0 } else { WIDER });
            if layer < ECAL {
                self.scatter(spots, &radial, random, |u, v| {
                    if let Some(cell) = ecal_cell(x + u, y + v, layer) {
                        image.spots.ecal[cell] += 1;
                    }
                });
            } else {
                self.scatter(spots, &radial, random, |u, v| {
                    if let Some(cell) = hcal_cell(x + u, y + v, layer) {
                        image.spots.hcal[cell] += 1;
                    }
                });
            }
        }
    }

    /// Draws the places of spots around an axis: the inverse of a radial term's distribution is R sqrt(u / (1 - u)).
    pub(super) fn scatter(&self, spots: u32, radial: &Radial, random: &mut Random, mut at: impl FnMut(f64, f64)) {
        for _ in 0..spots {
            let bits = random.bits();
            let term = (bits & 0xffff) as u32;
            let scale = if term < radial.core {
                radial.radii[0]
            } else if term < radial.middle {
                radial.radii[1]
            } else {
                radial.radii[2]
            };
            let direction = self.directions[(bits >> 16) as usize % DIRECTIONS];
            let u = ((bits >> 28) as f64 + 0.5) * (1.0 / (1u64 << 36) as f64);
            let r = scale * (u / (1.0 - u)).sqrt();
            at(r * f64::from(direction.0), r * f64::from(direction.1));
        }
    }
}

/// The radial terms of one layer: cumulated shares in units of 2^-16 and radii in mm.
#[derive(Debug, Clone, Copy)]
pub(super) struct Radial {
    core: u32,
    middle: u32,
    radii: [f64; 3],
}

impl Radial {
    /// Two terms of these shares and radii.
    pub(super) fn two(share: f64, radii: [f64; 2]) -> Self {
        let core = (65536.0 * share) as u32;
        Self { core, middle: 65536, radii: [radii[0], radii[1], radii[1]] }
    }

    fn at(tau: f64, scale: f64) -> Self {
        let tau = tau.clamp(RANGE[0], RANGE[1]);
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        let core = logistic(CORE[0] + CORE[1] * tau + CORE[2] * tau * tau);
        let halo = (1.0 - core) * logistic(HALO[0] + HALO[1] * tau);
        let radii = RADII.map(|[a, b, c]| scale * (a + b * tau + c * tau * tau).exp());
        Self { core: (65536.0 * core) as u32, middle: (65536.0 * (1.0 - halo)) as u32, radii }
    }
}
