//! The command line: one file a command.
//!
//! Exit codes: 0 for success, 1 for a failed run, 2 for a wrong pipeline or wrong usage, 3 for a run that finished with
//! quarantined input. What people asked for goes to standard output, what went wrong to standard error.

mod assemble;
mod check;
mod compare;
mod completions;
mod doctor;
mod events;
mod feed;
mod finish;
mod inspect;
mod load;
mod operators;
mod plan;
mod run;
mod said;
mod schema;
mod slurm;
mod status;
mod verify;
mod watch;

use crate::language::Setting;
use crate::machine;
use calostream_operators::work::Runtime;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Detector images from HDF5 to resolution and efficiency statistics, as a streaming dataflow.
#[derive(Debug, Parser)]
#[command(name = "calostream", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What is logged to standard error: error, warn, info, debug, trace, or a filter such as `calostream=debug`.
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warn")]
    pub log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say everything that is wrong with a pipeline, without running it.
    Check(check::CheckArgs),
    /// Show phases and steps with their schemas, units, rows and bytes.
    Plan(plan::PlanArgs),
    /// Run a pipeline.
    Run(RunArgs),
    /// Feed a training program with the batches of a pipeline that ends in `feed`.
    Feed(feed::FeedArgs),
    /// Show how far a run is.
    Status(StatusArgs),
    /// Show what is in HDF5 and Parquet files.
    Inspect(inspect::InspectArgs),
    /// List the operators, or explain one.
    Operators(operators::OperatorsArgs),
    /// Prove that what a run has written is what it must be.
    Verify(VerifyArgs),
    /// Say whether two results or runs agree, within their errors or a tolerance.
    Compare(compare::CompareArgs),
    /// List the events behind a bin of a table: file and row.
    Events(events::EventsArgs),
    /// Look at this machine: libraries, cores, memory, limits.
    Doctor(doctor::DoctorArgs),
    /// Print the JSON Schema of the language, so that editors complete pipeline files.
    Schema,
    /// Print the completion script of a shell.
    Completions(completions::CompletionsArgs),
}

/// A pipeline file and its parameters.
#[derive(Debug, Clone, Args)]
pub struct PipelineArgs {
    /// The pipeline file.
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// Set a parameter of the pipeline.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<Setting>,
}

/// The program beside this one that calls the HDF5 library.
const READER: &str = "calostream-reader";

/// Where the libraries that are not linked in are found.
#[derive(Debug, Clone, Args)]
pub struct LibraryArgs {
    /// ONNX Runtime's shared library, where it should not be looked for.
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub onnxruntime: Option<PathBuf>,
}

impl LibraryArgs {
    /// The paths that operators are given.
    #[must_use]
    pub fn runtime(&self) -> Runtime {
        let reader = std::env::current_exe().unwrap_or_default().with_file_name(READER);
        // For tests, which have less of it.
        let patience = std::env::var("CALOSTREAM_READER_PATIENCE").ok().and_then(|s| s.parse().ok());
        let patience = patience.and_then(|s| Duration::try_from_secs_f64(s).ok());
        Runtime { reader, onnxruntime: self.onnxruntime.clone(), patience, ..Runtime::default() }
    }
}

/// What `calostream run` is given.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    #[command(flatten)]
    pub libraries: LibraryArgs,
    /// Worker threads in this process [default: the available cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub workers: Option<u32>,
    /// Replace what an earlier run left in the run folder.
    #[arg(long)]
    pub fresh: bool,
    /// The run folder, instead of the pipeline's `out`.
    #[arg(long, value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Where data under way is spilled [default: in the run folder].
    #[arg(long, value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    pub scratch: Option<PathBuf>,
    /// How many processes run this pipeline together [default: the tasks of the SLURM step, elsewhere 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub processes: Option<u32>,
    /// Which of them this is, from 0.
    #[arg(long, value_name = "I", default_value_t = 0)]
    pub process: u32,
    /// A file with one host:port a line, in the order of the processes.
    #[arg(long, value_name = "FILE", required_if_eq_any = [("process", "1")])]
    pub hosts: Option<PathBuf>,
    /// A file with the secret that the processes know each other by.
    #[arg(long, value_name = "FILE")]
    pub secret: Option<PathBuf>,
    /// Go on where another kind of machine began, although bits may differ.
    #[arg(long)]
    pub mixed_hardware: bool,
    /// Read once more what an earlier run quarantined.
    #[arg(long)]
    pub retry_quarantined: bool,
    /// Go on when all is done: files that come are taken in, those that go are taken back, and tables and reports are kept up to
    /// date.
    #[arg(long)]
    pub watch: bool,
    /// With `--watch`: a file counts when its size and time have rested for so long.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, requires = "watch")]
    pub rest: f64,
    /// Write a timeline of what the steps did into this file, which ui.perfetto.dev opens.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub trace: Option<PathBuf>,
    /// No progress, only problems.
    #[arg(short, long)]
    pub quiet: bool,
    /// Progress and result as JSON, one object a line.
    #[arg(long)]
    pub json: bool,
}

impl RunArgs {
    /// Worker threads of this process.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.map_or_else(machine::cores, |w| w as usize)
    }
}

/// What `calostream status` is given.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// The run folder.
    #[arg(value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    pub folder: PathBuf,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// What `calostream verify` is given.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The run folder.
    #[arg(value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
    pub folder: PathBuf,
    #[command(flatten)]
    pub libraries: LibraryArgs,
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = log(&cli.log) {
        eprintln!("calostream: --log {}: {error}", cli.log);
        return ExitCode::from(2);
    }
    let done = match cli.command {
        Command::Check(args) => check::check(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Run(args) if args.watch => watch::watch(&args),
        Command::Run(args) => run::run(args),
        Command::Feed(args) => feed::feed(&args),
        Command::Status(args) => status::status(args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Operators(args) => operators::operators(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Events(args) => events::events(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Schema => schema::schema(),
        Command::Completions(args) => completions::completions(&args),
    };
    done.unwrap_or_else(|error| {
        if closed_pipe(&error) {
            return ExitCode::SUCCESS;
        }
        eprintln!("calostream: {error:#}");
        ExitCode::FAILURE
    })
}

/// Standard output was closed by its reader.
#[derive(Debug)]
struct ClosedPipe;

impl std::fmt::Display for ClosedPipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for ClosedPipe {}

/// True where the reader of our output went away (`calostream plan ... | head`): that is no failure. A broken pipe of
/// anything else (a reader program, another process) is one.
fn closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ClosedPipe>().is_some()
}

fn log(filter: &str) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}

/// Prints to standard output; a closed pipe is an error that [`main`] takes as an end.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(ClosedPipe.into()),
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_closed_standard_output_is_no_failure() {
        let pipe = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(!closed_pipe(&anyhow::Error::new(pipe()).context("cannot ask the HDF5 reader")));
        assert!(closed_pipe(&anyhow::Error::new(ClosedPipe).context("anything")));
    }
}
