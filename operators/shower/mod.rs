//! Parametrised showers in a sampling calorimeter: fast, with the entropy, occupancy and shapes of a full simulation.
//!
//! A shower is a number of *spots*, single deposits in a sensitive layer. How many a layer gets follows from a longitudinal
//! profile that fluctuates from shower to shower, where they fall from a radial profile that widens with depth, and what
//! each deposits from a spectrum. Sampling fluctuations, the many tiny cells of the halo and the occupancy all come out of
//! that one picture. The idea and the forms are Grindhammer and Peters' (hep-ex/0001020; NIM A290 (1990) 469), the
//! longitudinal form Longo and Sestili's (NIM 128 (1975) 283), the hadrons' Bock, Hansl-Kozanecka and Shah's (NIM 186
//! (1981) 533); lengths and critical energies are the Particle Data Group's.
//!
//! The numbers of the electromagnetic part and the spectra are fitted to a Geant4 sample of the same geometry by
//! `examples/fit_showers.py`. What no fit gives (conversion, HCAL, hadrons) was set by `examples/compare_showers.py`, which
//! puts generated and simulated showers side by side and is the test of agreement; hadrons are plausible and no more.
//!
//! Invariant: an event is a function of (seed, class, index) and of nothing else; its key is the whole key of a
//! counter-based generator. `exp`, `ln` and the like come from the platform's C library and may differ in the last bit
//! elsewhere, which may move a rare spot; on one machine the bytes never change.

mod electromagnetic;
mod geometry;
mod hadron;
mod image;
mod spectrum;

pub use geometry::{ECAL_SHAPE, HCAL_SHAPE};
pub use image::Image;

use crate::random::Random;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the generator: events of one version are the same forever.
pub const VERSION: u32 = 1;

/// What the gun shoots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Electrons, pdg 11.
    Electron,
    /// Photons, pdg 22.
    Photon,
    /// Neutral pions, pdg 111: two photons.
    Pi0,
    /// Charged pions, pdg 211 and -211 in equal shares.
    Pion,
}

impl Class {
    /// Every class, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Electron, Self::Photon, Self::Pi0, Self::Pion];

    /// The word that people type.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Electron => "electron",
            Self::Photon => "photon",
            Self::Pi0 => "pi0",
            Self::Pion => "pion",
        }
    }
}

/// The particle that was shot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Particle {
    /// The signed number of the Particle Data Group.
    pub pdg: i32,
    /// Energy, GeV.
    pub energy: f64,
}

/// Makes events one at a time into a buffer that it keeps.
#[derive(Debug)]
pub struct Generator {
    seed: u64,
    energy: [f64; 2],
    model: electromagnetic::Model,
    image: Image,
}

impl Generator {
    /// Showers of `energy` GeV, flat from the first to the second.
    #[must_use]
    pub fn new(seed: u64, energy: [f64; 2]) -> Self {
        Self { seed, energy, model: electromagnetic::Model::new(), image: Image::default() }
    }

    /// The particle of event `index` without its shower.
    #[must_use]
    pub fn particle(&self, class: Class, index: u64) -> Particle {
        self.shoot(class, &mut self.random(class, index))
    }

    /// Event `index` of a class: the particle and the energies that it deposits.
    pub fn event(&mut self, class: Class, index: u64) -> (Particle, &Image) {
        let mut random = self.random(class, index);
        let particle = self.shoot(class, &mut random);
        let (model, image) = (&self.model, &mut self.image);
        image.clear();
        match class {
            Class::Electron => model.electron(particle.energy, &mut random, image),
            Class::Photon => model.photon(particle.energy, &mut random, image),
            Class::Pi0 => model.pi0(particle.energy, &mut random, image),
            Class::Pion => hadron::pion(model, particle.energy, &mut random, image),
        }
        model.spectra.deposit(&mut random, image);
        (particle, &self.image)
    }

    fn random(&self, class: Class, index: u64) -> Random {
        Random::new([self.seed, class as u64, index, u64::from(VERSION)])
    }

    fn shoot(&self, class: Class, random: &mut Random) -> Particle {
        let [low, high] = self.energy;
        let energy = low + (high - low) * random.uniform();
        let pdg = match class {
            Class::Electron => 11,
            Class::Photon => 22,
            Class::Pi0 => 111,
            Class::Pion if random.bits() >> 63 == 0 => 211,
            Class::Pion => -211,
        };
        Particle { pdg, energy }
    }
}

#[cfg(test)]
mod tests;
