//! Charged pions: a minimum-ionising track, an interaction, then an electromagnetic and a hadronic part.
//!
//! The depth of the first interaction is exponential in pion interaction lengths (PDG). The electromagnetic fraction rises
//! as 1 - E^(k-1) with k = 0.82 (Gabriel et al., NIM A338 (1994) 336; Wigmans) and fluctuates much; it goes into a few
//! photons, the first at the interaction and the others behind it. The hadronic part has the longitudinal form and numbers
//! of Bock, Hansl-Kozanecka and Shah (NIM 186 (1981) 533), two radial terms, a smaller response, and fluctuates too.

use super::electromagnetic::{Axis, Model, Radial};
use super::geometry::{ECAL, LAYERS};
use super::image::{Image, ecal_cell, hcal_cell};
use crate::random::Random;
use statrs::function::gamma::ln_gamma;

/// k - 1 of the electromagnetic fraction.
const FRACTION_POWER: f64 = -0.18;
/// Visible share of hadronic energy in ECAL and HCAL.
const VISIBLE: [f64; 2] = [0.018, 0.0175];
/// The spread of its logarithm.
const VISIBLE_SPREAD: f64 = 0.2;
/// Bock et al.: the exponent and the rate (in nuclear interaction lengths) of the longitudinal form at 1 GeV, and their
/// slopes in ln E. (One of them happens to look like 1/pi.)
#[allow(clippy::approx_constant)]
const ALPHA: [f64; 2] = [0.6165, 0.3183];
const RATE: [f64; 2] = [0.9099, -0.0237];
/// Pion interaction lengths to the nuclear ones of Bock et al.
const NUCLEAR: f64 = 204.1 / 167.7;
/// Share of the narrow radial term and the two radii, mm, in ECAL and HCAL.
const ECAL_RADIAL: (f64, [f64; 2]) = (0.5, [5.0, 30.0]);
const HCAL_RADIAL: (f64, [f64; 2]) = (0.35, [20.0, 100.0]);
/// What a minimum-ionising particle leaves in silicon of 0.5 mm and scintillator of 3 mm: GeV at the most probable value,
/// with a width in the manner of Landau's distribution (Moyal's form).
const MIP: [(f64, f64); 2] = [(1.45e-4, 1.3e-5), (4.95e-4, 4.0e-5)];
/// Knock-on electrons that reach another cell, per layer of ECAL and HCAL, and how far they go, mm.
const KNOCK_ON: ([f64; 2], f64) = ([0.1, 0.1], 4.0);

/// A charged pion along the axis.
pub(super) fn pion(model: &Model, energy: f64, random: &mut Random, image: &mut Image) {
    let lambda = &model.geometry.lambda;
    let start = random.exponential();
    let first = lambda.partition_point(|l| *l <= start);
    let near = Radial::two(1.0, [KNOCK_ON.1, KNOCK_ON.1]);
    for layer in 0..first {
        let part = usize::from(layer >= ECAL);
        let (place, width) = MIP[part];
        let normal = random.normal();
        let deposit = place - width * (normal * normal + 1e-9).ln();
        let knocks = random.poisson(KNOCK_ON.0[part]);
        if layer < ECAL {
            if let Some(cell) = ecal_cell(0.0, 0.0, layer) {
                image.ecal[cell] += deposit as f32;
            }
            model.scatter(knocks, &near, random, |x, y| count(ecal_cell(x, y, layer), &mut image.spots.ecal));
        } else {
            if let Some(cell) = hcal_cell(0.0, 0.0, layer) {
                image.hcal[cell] += deposit as f32;
            }
            model.scatter(knocks, &near, random, |x, y| count(hcal_cell(x, y, layer), &mut image.spots.hcal));
        }
    }
    if first == LAYERS {
        return;
    }
    let mean = 1.0 - energy.powf(FRACTION_POWER);
    let fraction = (mean + 0.14 * random.normal()).clamp(0.05, 0.95);
    photons(model, fraction * energy, start, random, image);
    hadronic(model, energy, 1.0 - fraction, start, random, image);
}

fn count(cell: Option<usize>, counts: &mut [u32]) {
    if let Some(cell) = cell {
        counts[cell] += 1;
    }
}

/// The electromagnetic part: photons that share it in broken sticks, half of them from the first interaction, the others
/// from later ones.
fn photons(model: &Model, energy: f64, start: f64, random: &mut Random, image: &mut Image) {
    let number = 2 + random.poisson(2.0 + 1.5 * energy.max(1.0).ln());
    let end = model.geometry.lambda[LAYERS - 1];
    let mut left = energy;
    for k in 0..number {
        let part = if k + 1 == number { left } else { left * 0.7 * random.uniform() };
        left -= part;
        let (depth, off) = if k % 2 == 0 { (start, 2.0) } else { (start + 0.5 * random.exponential(), 8.0) };
        let axis = Axis { x: off * random.normal(), y: off * random.normal(), ..Axis::default() };
        if depth < end && part > 0.02 {
            model.pair(part, model.geometry.x0_at(depth), axis, random, image);
        }
    }
}

/// The hadronic part.
fn hadronic(model: &Model, energy: f64, share: f64, start: f64, random: &mut Random, image: &mut Image) {
    let lne = energy.ln();
    let alpha = (ALPHA[0] + ALPHA[1] * lne) * (0.15 * random.normal()).exp();
    let rate = NUCLEAR * (RATE[0] + RATE[1] * lne) * (0.15 * random.normal()).exp();
    let fluctuation = (VISIBLE_SPREAD * random.normal()).exp();
    let ln_norm = alpha * rate.ln() - ln_gamma(alpha);
    let (narrow, wide) = (Radial::two(ECAL_RADIAL.0, ECAL_RADIAL.1), Radial::two(HCAL_RADIAL.0, HCAL_RADIAL.1));
    let lambda = &model.geometry.lambda;
    let first = lambda.partition_point(|l| *l <= start);
    for layer in first..LAYERS {
        let before = if layer == first { start } else { lambda[layer - 1] };
        let middle = 0.5 * (lambda[layer] + before) - start;
        let density = (ln_norm + (alpha - 1.0) * middle.ln() - rate * middle).exp();
        let visible = VISIBLE[usize::from(layer >= ECAL)] * fluctuation * energy * share * density * (lambda[layer] - before);
        if layer < ECAL {
            let spots = random.poisson(visible / model.spectra.ecal.mean);
            model.scatter(spots, &narrow, random, |x, y| count(ecal_cell(x, y, layer), &mut image.spots.ecal));
        } else {
            let spots = random.poisson(visible / model.spectra.hadronic.mean);
            model.scatter(spots, &wide, random, |x, y| count(hcal_cell(x, y, layer), &mut image.spots.hadronic));
        }
    }
}
