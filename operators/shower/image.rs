//! One event while it is made: spots counted by cell, and the energies that they become.

use super::geometry::{ECAL, ECAL_CELL, HCAL_CELL};

const ECAL_CELLS: usize = 25 * 25 * 25;
const HCAL_CELLS: usize = 5 * 5 * 60;

/// The energies of an event, GeV by cell in C order of `[x, y, layer]`.
#[derive(Debug, Clone)]
pub struct Image {
    /// 25 x 25 x 25.
    pub ecal: Vec<f32>,
    /// 5 x 5 x 60.
    pub hcal: Vec<f32>,
    pub(super) spots: Spots,
}

/// Spots by cell, one count for each spectrum.
#[derive(Debug, Clone)]
pub(super) struct Spots {
    pub ecal: Vec<u32>,
    pub hcal: Vec<u32>,
    pub hadronic: Vec<u32>,
}

impl Default for Image {
    fn default() -> Self {
        let spots = Spots { ecal: vec![0; ECAL_CELLS], hcal: vec![0; HCAL_CELLS], hadronic: vec![0; HCAL_CELLS] };
        Self { ecal: vec![0.0; ECAL_CELLS], hcal: vec![0.0; HCAL_CELLS], spots }
    }
}

impl Image {
    pub(super) fn clear(&mut self) {
        self.ecal.fill(0.0);
        self.hcal.fill(0.0);
        self.spots.ecal.fill(0);
        self.spots.hcal.fill(0);
        self.spots.hadronic.fill(0);
    }
}

/// The flat index of the ECAL cell at (x, y) mm off the axis; none outside of the window.
pub(super) fn ecal_cell(x: f64, y: f64, layer: usize) -> Option<usize> {
    let (i, j) = (x * (1.0 / ECAL_CELL) + 12.5, y * (1.0 / ECAL_CELL) + 12.5);
    ((0.0..25.0).contains(&i) && (0.0..25.0).contains(&j)).then(|| (i as usize * 25 + j as usize) * 25 + layer)
}

/// The same for HCAL, whose layers are numbered on from ECAL's.
pub(super) fn hcal_cell(x: f64, y: f64, layer: usize) -> Option<usize> {
    let (i, j) = (x * (1.0 / HCAL_CELL) + 2.5, y * (1.0 / HCAL_CELL) + 2.5);
    ((0.0..5.0).contains(&i) && (0.0..5.0).contains(&j)).then(|| (i as usize * 5 + j as usize) * 60 + layer - ECAL)
}
