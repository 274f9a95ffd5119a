//! `calostream check`: everything that is wrong with a pipeline, without running it.

use super::load::{Load, load, print_problems, print_remarks};
use super::{LibraryArgs, PipelineArgs};
use crate::language::show;
use crate::plan::watch;
use clap::Args;
use std::process::ExitCode;

/// What `check` is given.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    libraries: LibraryArgs,
    /// Also what can't be kept up to date by `run --watch`.
    #[arg(long)]
    watch: bool,
    /// Problems as JSON, for editors and scripts.
    #[arg(long)]
    json: bool,
}

/// Exit code 0 where the pipeline is right, 2 where it is wrong.
pub fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let file = &args.pipeline.file;
    match load(&args.pipeline, &args.libraries, None) {
        Load::Wrong { text, problems } => {
            print_problems(file, &text, &problems, args.json)?;
            Ok(ExitCode::from(2))
        }
        Load::Right { plan, text, .. } if args.watch && !watch::problems(&plan).is_empty() => {
            print_problems(file, &text, &watch::problems(&plan), args.json)?;
            Ok(ExitCode::from(2))
        }
        Load::Right { remarks, .. } if args.json => {
            super::print(&(show::json(&file.display().to_string(), &[], &remarks) + "\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Load::Right { plan, text, remarks, .. } => {
            print_remarks(file, &text, &remarks);
            let phases = calostream_operators::words::counted(plan.phases.len() as u64, "phase");
            let steps = if plan.steps.len() == 1 { "1 step".into() } else { format!("{} steps", plan.steps.len()) };
            super::print(&format!("{}: right ({steps}, {phases})\n", file.display()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
