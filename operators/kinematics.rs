//! Kinematics of a pair of massless particles at a collider: its mass, and what the mass of the Z says of their energies.

use schemars::JsonSchema;
use serde::Deserialize;

/// The mass of the Z in GeV (Particle Data Group, PTEP 2022, 083C01).
pub const Z_MASS: f64 = 91.1876;
/// The width of the Z in GeV (ibid.).
pub const Z_WIDTH: f64 = 2.4952;

/// What a column of energies holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Quantity {
    /// Transverse momenta, or transverse energies.
    #[default]
    Pt,
    /// Energies: a transverse momentum times cosh(eta).
    Energy,
}

impl Quantity {
    /// The transverse momentum of a particle of this value at a pseudorapidity; NaN for a negative value.
    #[must_use]
    pub fn pt(self, value: f64, eta: f64) -> f64 {
        let pt = match self {
            Self::Pt => value,
            Self::Energy => value / eta.cosh(),
        };
        if pt >= 0.0 { pt } else { f64::NAN }
    }

    /// The value of a particle of this transverse momentum.
    #[must_use]
    pub fn of_pt(self, pt: f64, eta: f64) -> f64 {
        match self {
            Self::Pt => pt,
            Self::Energy => pt * eta.cosh(),
        }
    }
}

/// cosh(difference of eta) - cos(difference of phi), written so that nothing cancels between near particles.
#[must_use]
pub fn opening(eta: [f64; 2], phi: [f64; 2]) -> f64 {
    2.0 * (((eta[0] - eta[1]) / 2.0).sinh().powi(2) + ((phi[0] - phi[1]) / 2.0).sin().powi(2))
}

/// The invariant mass: M^2 = 2 pT1 pT2 (cosh(difference of eta) - cos(difference of phi)).
#[must_use]
pub fn mass(pt: [f64; 2], opening: f64) -> f64 {
    (2.0 * pt[0] * pt[1] * opening).sqrt()
}

/// The transverse momentum that a particle has if the pair is of this mass and the other one is measured well:
/// M^2 / (2 pT2 (cosh(difference of eta) - cos(difference of phi))).
#[must_use]
pub fn label(mass: f64, other_pt: f64, opening: f64) -> f64 {
    mass * mass / (2.0 * other_pt * opening)
}

/// How many of a unit make a GeV; 1 where it is none of energy.
#[must_use]
pub fn per_gev(unit: Option<&str>) -> f64 {
    match unit {
        Some("TeV") => 1e-3,
        Some("MeV") => 1e3,
        Some("keV") => 1e6,
        Some("eV") => 1e9,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{close, uniform};

    /// Energy and momentum of a massless particle.
    fn vector(pt: f64, eta: f64, phi: f64) -> [f64; 4] {
        [pt * eta.cosh(), pt * phi.cos(), pt * phi.sin(), pt * eta.sinh()]
    }

    #[test]
    fn a_mass_is_that_of_the_sum_of_the_four_vectors() {
        let mut uniform = uniform(8);
        for _ in 0..200 {
            let [pt, eta, phi] =
                [(5.0, 100.0), (-2.5, 5.0), (-3.1, 6.2)].map(|(low, span)| [(); 2].map(|()| low + span * uniform()));
            let [e, x, y, z] = std::array::from_fn(|i| vector(pt[0], eta[0], phi[0])[i] + vector(pt[1], eta[1], phi[1])[i]);
            let found = mass(pt, opening(eta, phi));
            close(&[found * found], &[e * e - x * x - y * y - z * z], 1e-7);
            close(&[label(found, pt[1], opening(eta, phi))], &[pt[0]], 1e-12);
            let energies = [0, 1].map(|i| vector(pt[i], eta[i], phi[i])[0]);
            let back = [0, 1].map(|i| Quantity::Energy.pt(energies[i], eta[i]));
            close(&[mass(back, opening(eta, phi)), Quantity::Energy.of_pt(pt[0], eta[0])], &[found, energies[0]], 1e-12);
        }
    }

    #[test]
    fn what_is_no_momentum_has_no_mass() {
        assert!(mass([Quantity::Pt.pt(-1.0, 0.0), Quantity::Pt.pt(-1.0, 0.0)], 2.0).is_nan());
        assert_eq!(mass([40.0, 40.0], opening([0.5, 0.5], [1.0, 1.0])), 0.0, "side by side");
    }
}
