//! `calostream schema`: the JSON Schema of the language.

use std::process::ExitCode;

/// Prints the JSON Schema.
pub fn schema() -> anyhow::Result<ExitCode> {
    super::print(&(serde_json::to_string_pretty(&crate::language::schema::pipeline())? + "\n"))?;
    Ok(ExitCode::SUCCESS)
}
