//! From a file to a plan, as every command does it that needs one.

use super::{LibraryArgs, PipelineArgs};
use crate::files;
use crate::language::{self, Pipeline, show};
use crate::plan::{self, Plan};
use calostream_operators::hdf5::cache::{self, Cache};
use calostream_operators::{Place, Problem};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

/// What became of a pipeline file.
pub enum Load {
    /// It is right.
    Right {
        /// The plan.
        plan: Box<Plan>,
        /// The file's text.
        text: String,
        /// Remarks that are no mistakes, placed.
        remarks: Vec<Problem>,
        /// The headers of the input files, for the run folder.
        headers: Headers,
    },
    /// It is wrong.
    Wrong {
        /// The file's text.
        text: String,
        /// Everything that is wrong, sorted by place.
        problems: Vec<Problem>,
    },
}

/// What was known of the input files before, and when they were looked at.
#[derive(Debug)]
pub struct Headers {
    known: Cache,
    looked: SystemTime,
}

impl Headers {
    /// What an earlier run has left in its folder.
    fn read(folder: Option<&Path>) -> Cache {
        let bytes = folder.and_then(|folder| std::fs::read(folder.join(cache::NAME)).ok()).unwrap_or_default();
        Cache::read(&bytes)
    }

    /// What the next plan over the same files may know.
    pub fn after(&self, plan: &Plan) -> Cache {
        Cache::of(&plan.facts, self.looked)
    }

    /// Leaves what was found in the folder of a run, where it is more than was known.
    pub fn keep(&self, plan: &Plan) {
        if self.known.holds(&plan.facts, self.looked) {
            return;
        }
        keep(&Cache::of(&plan.facts, self.looked), &plan.out);
    }
}

/// Leaves what is known of files in the folder of a run, which does without where it can't.
pub fn keep(known: &Cache, folder: &Path) {
    if let Err(error) = known.bytes().and_then(|bytes| files::write_whole(&folder.join(cache::NAME), &bytes)) {
        tracing::warn!("{error:#}");
    }
}

/// Reads, probes and plans a pipeline file; `out` is the run folder where it is not the pipeline's own.
pub fn load(args: &PipelineArgs, libraries: &LibraryArgs, out: Option<&Path>) -> Load {
    load_changed(args, libraries, out, (&BTreeSet::new(), None), |_| ())
}

/// The same without the files that are `hidden`, with what is `known` of files (else what the run folder says), and with a
/// pipeline that is changed before it is planned.
pub fn load_changed(
    args: &PipelineArgs,
    libraries: &LibraryArgs,
    out: Option<&Path>,
    (hidden, known): (&BTreeSet<String>, Option<Cache>),
    change: impl FnOnce(&mut Pipeline),
) -> Load {
    let text = match std::fs::read_to_string(&args.file) {
        Ok(text) => text,
        Err(error) => {
            let problem = Problem { place: Place::default(), what: format!("can't be read: {error}"), help: None };
            return Load::Wrong { text: String::new(), problems: vec![problem] };
        }
    };
    let (pipeline, problems) = language::read(&text, &args.set);
    let Some(mut pipeline) = pipeline else { return Load::Wrong { text, problems: show::sorted(problems) } };
    change(&mut pipeline);
    let looked = SystemTime::now();
    let folder = || out.or(pipeline.out.as_ref().map(|out| Path::new(&out.value)));
    let headers = Headers { known: known.unwrap_or_else(|| Headers::read(folder())), looked };
    let facts = plan::probe::probe(&pipeline, &headers.known, hidden, &libraries.runtime());
    let mut remarks = std::mem::take(&mut pipeline.remarks);
    match plan::plan(pipeline, facts, problems) {
        Ok(plan) => {
            let place = |name: &str| plan.steps.iter().find(|s| s.name == name).map_or(Place::default(), |s| s.place);
            remarks.extend(plan.remarks.iter().map(|(step, what)| Problem {
                place: place(step),
                what: what.clone(),
                help: None,
            }));
            Load::Right { plan: Box::new(plan), text, remarks: show::sorted(remarks), headers }
        }
        Err(problems) => Load::Wrong { text, problems: show::sorted(problems) },
    }
}

/// Prints what is wrong, to standard error; as JSON to standard output.
pub fn print_problems(file: &Path, text: &str, problems: &[Problem], json: bool) -> anyhow::Result<()> {
    let file = file.display().to_string();
    if json {
        return super::print(&(show::json(&file, problems, &[]) + "\n"));
    }
    eprint!("{}", show::all(&file, text, problems));
    Ok(())
}

/// Prints remarks to standard error.
pub fn print_remarks(file: &Path, text: &str, remarks: &[Problem]) {
    for remark in remarks {
        eprintln!("{}", show::one(&file.display().to_string(), text, "remark", remark));
    }
}
