//! stub
use calostream_operators::figure::Summary;
use std::path::{Path, PathBuf};
pub fn write_summary(folder: &Path, _step: &str, s: &Summary) -> anyhow::Result<Vec<PathBuf>> { std::fs::create_dir_all(folder)?; std::fs::write(folder.join("table.txt"), format!("{:?}", s))?; Ok(vec![]) }
pub struct RunFacts;
impl RunFacts { pub fn new(_: Vec<(String,String)>) -> Self { RunFacts } }
pub fn page(_: &str, _: Option<&str>, _: &[(String, Summary)], _: &RunFacts) -> String { String::new() }
pub fn highlights(s: &[(String, Summary)]) -> String { s.iter().map(|x| format!("{}: {:?}\n", x.0, x.1.highlights)).collect() }
