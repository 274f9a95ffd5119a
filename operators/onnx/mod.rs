//! Everything that knows ONNX Runtime: finding the library, what a model wants and gives, sessions.
//!
//! Invariants: `ort` is named in this folder only; the library is loaded once a process, from an absolute path, when the
//! first model is looked at; a session belongs to one thread: on the CPU to a worker's, on a GPU to the device's.
pub mod feed;
pub mod library;
pub mod model;
pub mod norm;
pub mod provider;
pub mod session;
pub mod tensor;

pub use model::probe;
