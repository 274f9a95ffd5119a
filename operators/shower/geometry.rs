//! The calorimeter: 25 layers of tungsten and silicon, then 60 of iron and scintillator, seen from a gun 1.5 m before it.
//!
//! The geometry of the Linear Collider Detector's image samples: ECAL cells of 5.1 mm in a window of 25 x 25, HCAL cells of
//! 30 mm in a window of 5 x 5, the axis through the centre of the central cell. Lengths: PDG, Atomic and Nuclear Properties
//! of Materials (radiation length, pion interaction length).

/// ECAL `[x, y, layer]`.
pub const ECAL_SHAPE: [usize; 3] = [25, 25, 25];
/// HCAL `[x, y, layer]`.
pub const HCAL_SHAPE: [usize; 3] = [5, 5, 60];

/// Layers of ECAL.
pub(super) const ECAL: usize = 25;
/// Layers in all.
pub(super) const LAYERS: usize = 85;
/// From the gun to the face of ECAL, mm.
pub(super) const GUN: f64 = 1500.0;
/// Sides of the cells, mm.
pub(super) const ECAL_CELL: f64 = 5.1;
pub(super) const HCAL_CELL: f64 = 30.0;

/// Absorber and sensitive layer: thickness of a mm in radiation lengths and in pion interaction lengths.
struct Material {
    x0: f64,
    lambda: f64,
}
const TUNGSTEN: Material = Material { x0: 3.504, lambda: 113.3 };
const SILICON: Material = Material { x0: 93.7, lambda: 592.0 };
const IRON: Material = Material { x0: 17.57, lambda: 204.1 };
const SCINTILLATOR: Material = Material { x0: 413.1, lambda: 1091.0 };

/// Where the sensitive layers stand, along the axis from the face.
#[derive(Debug, Clone)]
pub(super) struct Geometry {
    /// Radiation lengths before each sensitive layer and through it.
    pub x0: [f64; LAYERS],
    /// Pion interaction lengths likewise.
    pub lambda: [f64; LAYERS],
    /// mm.
    pub z: [f64; LAYERS],
}

impl Geometry {
    pub(super) fn new() -> Self {
        let mut geometry = Self { x0: [0.0; LAYERS], lambda: [0.0; LAYERS], z: [0.0; LAYERS] };
        let (mut x0, mut lambda, mut z) = (0.0, 0.0, 0.0);
        for layer in 0..LAYERS {
            let (absorber, mm, sensitive, thin, air) = match layer {
                0..17 => (TUNGSTEN, 2.4, SILICON, 0.5, 2.1),
                17..ECAL => (TUNGSTEN, 4.8, SILICON, 0.5, 2.1),
                _ => (IRON, 19.0, SCINTILLATOR, 3.0, 4.5),
            };
            x0 += mm / absorber.x0 + thin / sensitive.x0;
            lambda += mm / absorber.lambda + thin / sensitive.lambda;
            geometry.x0[layer] = x0;
            geometry.lambda[layer] = lambda;
            geometry.z[layer] = z + mm;
            z += mm + thin + air;
        }
        geometry
    }

    /// Radiation lengths at a depth in interaction lengths, within the layers.
    pub(super) fn x0_at(&self, lambda: f64) -> f64 {
        let layer = self.lambda.partition_point(|l| *l < lambda).min(LAYERS - 1);
        let (l, x) = if layer == 0 { (0.0, 0.0) } else { (self.lambda[layer - 1], self.x0[layer - 1]) };
        x + (lambda - l) * (self.x0[layer] - x) / (self.lambda[layer] - l)
    }
}
