//! `report`: one page of the tables, plots and remarks of earlier steps.
//!
//! The drawing and the page itself are the engine's; this says which tables and under what title.

use crate::registry::Describe;
use crate::work::Page;
use crate::{Facts, Operator, Output, Place, Planned, Problem, Shape, Start, Work};
use schemars::JsonSchema;
use serde::Deserialize;

/// Makes one self-contained HTML page of the tables and plots of its inputs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The page's title.
    pub title: String,
    /// A sentence or two under the title.
    #[serde(default)]
    pub about: Option<String>,
}

impl Describe for Report {
    const ABOUT: &'static str = "Makes one HTML page of tables and plots";
    const EXAMPLE: &'static str = "page:\n  from: [resolution]\n  report: { title: Energy resolution }\n";
    const INPUTS: std::ops::RangeInclusive<usize> = 1..=usize::MAX;
}

impl Operator for Report {
    fn plan(&self, _facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let problem = |what: String| Problem { place: Place::default(), what, help: None };
        let mut problems = Vec::new();
        if inputs.is_empty() {
            problems.push(
                problem("a report needs the tables that it shows".into()).help("add `from: [...]` with the steps that make them"),
            );
        }
        for (number, _) in inputs.iter().enumerate().filter(|(_, input)| !input.table) {
            let which = if inputs.len() == 1 { "its input".to_owned() } else { format!("input {} of its `from`", number + 1) };
            let what = format!("a report shows tables, and {which} is a stream of rows");
            problems
                .push(problem(what).help("take the output of a step that makes a table, such as `histogram` or `resolution`"));
        }
        if problems.is_empty() { Ok(Planned::new(Shape::Page, Vec::new())) } else { Err(problems) }
    }

    fn start(&self, _at: &Start<'_>) -> anyhow::Result<Work> {
        Ok(Work::Page(Page { title: self.title.clone(), about: self.about.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Schema;
    use std::sync::Arc;

    fn output(table: bool) -> Output {
        Output { name: String::new(), schema: Arc::new(Schema::empty()), table, rows: None, row_bytes: 0 }
    }

    #[test]
    fn only_tables_make_a_page() {
        let report = Report { title: "t".into(), about: None };
        let facts = Facts::default();
        assert_eq!(report.plan(&facts, &[output(true), output(true)]).unwrap().shape, Shape::Page);
        assert_eq!(report.plan(&facts, &[]).unwrap_err().len(), 1);
        let problems = report.plan(&facts, &[output(true), output(false)]).unwrap_err();
        assert_eq!(problems[0].what, "a report shows tables, and input 2 of its `from` is a stream of rows");
    }
}
