//! What the benches read: files of showers and a network, made once and kept in `target/bench`.

use crate::child::run;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Classes of events; each has as many.
pub const CLASSES: usize = 4;

/// Where things are.
#[derive(Debug)]
pub struct Place {
    /// The repository.
    pub root: PathBuf,
    /// What is kept between calls, and what the runs write.
    pub folder: PathBuf,
    /// The Geant4 sample, where there is one.
    pub corpus: Option<PathBuf>,
    /// How many times as much as usual is read.
    pub scale: f64,
}

impl Place {
    /// The place of this repository and the scale of the environment; or what is to be done first.
    pub fn find() -> Result<Self, String> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let corpus = std::env::var_os("CALOSTREAM_CORPUS").map(PathBuf::from);
        let scale = match std::env::var("CALOSTREAM_BENCH_SCALE") {
            Ok(text) => text.parse().ok().filter(|s| *s > 0.0).ok_or("CALOSTREAM_BENCH_SCALE is a number above 0")?,
            Err(_) => 1.0,
        };
        let place = Self { folder: calostream().with_file_name("../bench"), root, corpus, scale };
        if !place.root.join(".deps/venv/bin/python").exists() {
            return Err("no .deps/venv: run `make setup` first".into());
        }
        if !calostream().with_file_name("calostream-reader").exists() {
            return Err("calostream-reader is not built: run `make build` first".into());
        }
        std::fs::create_dir_all(&place.folder).map_err(|e| e.to_string())?;
        let folder = place.folder.canonicalize().map_err(|e| e.to_string())?;
        Ok(Self { folder, ..place })
    }

    /// A script of this folder, under the Python of `make setup`.
    pub fn python(&self, script: &str) -> Command {
        let mut command = Command::new(self.root.join(".deps/venv/bin/python"));
        command.arg(self.root.join("benches/peers").join(script)).current_dir(&self.root);
        command
    }

    /// A run of a pipeline into a fresh folder, on so many workers.
    pub fn run(&self, pipeline: &str, out: &Path, workers: usize) -> Command {
        let _ = std::fs::remove_dir_all(out);
        let mut command = Command::new(calostream());
        command.arg("run").arg(pipeline).args(["--quiet", "--workers", &workers.to_string(), "--out"]).arg(out);
        command.current_dir(&self.root);
        command
    }

    /// `events` events a class in `files` files a class: the folder, and the files in the order that a shell lists them.
    pub fn showers(&self, events: usize, files: usize) -> (PathBuf, Vec<PathBuf>) {
        let kind = if self.corpus.is_some() { "geant4" } else { "parametrised" };
        let folder = self.folder.join(format!("{kind}-{events}-{files}"));
        if !folder.join("done").exists() {
            eprintln!("making {} events in {} files in {}", CLASSES * events, CLASSES * files, folder.display());
            let _ = std::fs::remove_dir_all(&folder);
            let mut command = match &self.corpus {
                Some(corpus) => {
                    let mut command = self.python("make_input.py");
                    command.arg(corpus).arg(&folder).args([events.to_string(), files.to_string()]);
                    command
                }
                None => {
                    let mut command = self.run("benches/peers/showers.yaml", &folder, 2);
                    let per_file = events.div_ceil(files);
                    command.args(["--set", &format!("events={events}"), "--set", &format!("per_file={per_file}")]);
                    command
                }
            };
            run(&mut command, None);
            std::fs::write(folder.join("done"), "").expect("written");
        }
        let data = if self.corpus.is_some() { folder } else { folder.join("files") };
        let list = hdf5_files(&data);
        assert!(list.len() >= CLASSES, "{} has no files", data.display());
        (data, list)
    }

    /// Some of these files in every layout of `layouts.py`, two a class: a folder a layout, and the list of the chunks.
    pub fn layouts(&self, files: &[PathBuf]) -> PathBuf {
        let kind = if self.corpus.is_some() { "geant4" } else { "parametrised" };
        let folder = self.folder.join(format!("layouts-{kind}-{}", self.scale));
        if !folder.join("done").exists() {
            eprintln!("making the layouts in {}", folder.display());
            let _ = std::fs::remove_dir_all(&folder);
            let each = files.len() / CLASSES;
            let some = files.chunks(each).flat_map(|class| class.iter().take(2));
            run(self.python("layouts.py").arg("make").arg(&folder).args(some), None);
            std::fs::write(folder.join("done"), "").expect("written");
        }
        folder
    }

    /// The network, with random weights: of 5.07 million weights, as those that are used (`models/energy.onnx` has 0.33).
    pub fn model(&self) -> PathBuf {
        let made = self.folder.join("energy.onnx");
        if !made.exists() {
            run(self.python("make_model.py").arg(&made), None);
        }
        made
    }
}

/// The same command on the first core alone.
pub fn on_one_core(command: &Command) -> Command {
    let mut alone = Command::new("taskset");
    alone.args(["--cpu-list", "0"]).arg(command.get_program()).args(command.get_args());
    alone.current_dir(command.get_current_dir().unwrap_or(Path::new(".")));
    alone
}

/// The program that reads headers.
pub fn reader() -> PathBuf {
    calostream().with_file_name("calostream-reader")
}

/// The HDF5 files of a folder, as a shell lists them.
pub fn hdf5_files(folder: &Path) -> Vec<PathBuf> {
    let list = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut list: Vec<PathBuf> = list.filter(|path| path.extension().is_some_and(|e| e == "h5")).collect();
    list.sort();
    list
}

/// Bytes of the files under a folder whose names end so.
pub fn bytes_under(folder: &Path, ends: &str) -> u64 {
    let list = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    list.map(|entry| match entry.metadata().expect("a file") {
        found if found.is_dir() => bytes_under(&entry.path(), ends),
        found if entry.file_name().to_string_lossy().ends_with(ends) => found.len(),
        _ => 0,
    })
    .sum()
}

/// The program.
pub fn calostream() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_calostream"))
}
