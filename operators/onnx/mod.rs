//! Everything that knows ONNX Runtime: finding the library, what a model wants and gives, sessions.
pub mod model;
pub mod library { pub fn version(_: Option<&std::path::Path>) -> anyhow::Result<String> { Ok(String::new()) } }
