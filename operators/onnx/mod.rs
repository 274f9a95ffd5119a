//! Everything that knows ONNX Runtime: finding the library, what a model wants and gives, sessions.
//!
//! Invariants: `ort` is named in this folder only; the library is loaded once a process, from an absolute path, when the
//! first model is looked at; a session belongs to one thread: on the CPU to a worker's, on a GPU to one of the device's.
pub mod convolution;
pub mod feed;
pub mod first_convolution;
pub mod first_layer;
pub mod graph;
pub mod library;
mod logarithm;
pub mod memory;
pub mod model;
pub mod norm;
pub mod outside;
pub mod placement;
pub mod probe;
pub mod provider;
mod ready;
pub mod scatter;
pub mod session;
pub mod sparse;
mod summing;
pub mod tensor;
mod view;
pub mod wire;

pub use probe::probe;
