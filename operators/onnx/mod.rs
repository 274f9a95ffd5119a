//! Everything that knows ONNX Runtime: finding the library, what a model wants and gives, sessions.
pub mod model;
