//! ONNX Runtime's shared library: where it is looked for, and what was found.
//!
//! It is loaded at run time and not linked, so that calostream builds without it and so that a site can use its own build
//! (CUDA, another CPU). A place that somebody named is the only one that is tried; else the places that are usual are tried
//! in order, and one whose library can't be loaded (another CPU, too old) is passed over and told of in the end.

use crate::work::Runtime;
use ort::environment::Environment;
use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// How to get the library, in one command.
const REMEDY: &str = "run `make setup`, or `pip install onnxruntime` in the Python environment that you work in, or name the library \
                      with `--onnxruntime /path/to/libonnxruntime.so`";

/// The oldest ONNX Runtime that serves: the `api-N` feature of `ort`.
const OLDEST: u32 = ort::MINOR_VERSION;

/// The library, loaded.
#[derive(Debug)]
pub struct Library {
    /// Where it is; absolute.
    pub path: PathBuf,
    /// Why it was looked for there, in words.
    pub because: &'static str,
    environment: Environment,
}

/// A place where the library may be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    path: PathBuf,
    because: &'static str,
}

static LOADED: OnceLock<Library> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

/// The library, loaded by the first call in this process; the later ones get the same.
///
/// # Errors
/// Says in words what was tried and how to get the library.
pub fn load(runtime: &Runtime) -> Result<&'static Library, String> {
    let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = LOADED.get() {
        return Ok(library);
    }
    let mut refused = Vec::new();
    for candidate in candidates(runtime, &World::of_this_process())? {
        match open(&candidate) {
            Ok(environment) => {
                let Candidate { path, because } = candidate;
                tracing::debug!(path = %path.display(), because, "ONNX Runtime");
                return Ok(LOADED.get_or_init(|| Library { path, because, environment }));
            }
            Err(reason) => refused.push(format!("{}: {reason}", candidate.path.display())),
        }
    }
    if refused.is_empty() {
        return Err(format!("ONNX Runtime's library was not found; {REMEDY}"));
    }
    Err(format!("ONNX Runtime's library can't be loaded ({}); {REMEDY}", refused.join("; ")))
}

fn open(candidate: &Candidate) -> Result<Environment, String> {
    let builder = ort::init_from(&candidate.path).map_err(|error| match error {
        ort::LoadDynamicError::BadVersion { version_str, .. } => format!("its version {version_str} is older than 1.{OLDEST}"),
        ort::LoadDynamicError::Dlopen { error, .. } => error.to_string(),
        other => other.to_string(),
    })?;
    let logger = Arc::new(|level: ort::logging::LogLevel, _: &str, _: &str, _: &str, message: &str| match level {
        ort::logging::LogLevel::Error | ort::logging::LogLevel::Fatal => tracing::warn!("ONNX Runtime: {message}"),
        _ => tracing::debug!("ONNX Runtime: {message}"),
    });
    let environment =
        builder.with_name("calostream").with_telemetry(false).with_logger(logger).build().map_err(|e| e.to_string())?;
    environment.set_log_level(ort::logging::LogLevel::Warning);
    Ok(environment)
}

impl Library {
    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The version: from the build's own words, else from the name of the file.
    #[must_use]
    pub fn version(&self) -> String {
        let branch = self.build().split("git-branch=").nth(1).and_then(|rest| rest.split([',', ' ']).next());
        if let Some(version) = branch.and_then(|b| b.strip_prefix("rel-")) {
            return version.to_owned();
        }
        let file = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        match version_of(&name) {
            version if version.is_empty() => "unknown".into(),
            version => version.iter().map(u32::to_string).collect::<Vec<_>>().join("."),
        }
    }

    /// What the library says of its build: branch, commit, kind, compiler flags.
    #[must_use]
    pub fn build(&self) -> &'static str {
        ort::info()
    }

    /// The execution providers that have a device here (`CPUExecutionProvider`, `CUDAExecutionProvider`, ..), sorted.
    #[must_use]
    pub fn providers(&self) -> Vec<String> {
        let providers: BTreeSet<String> = self.environment.devices().filter_map(|d| d.ep().ok().map(str::to_owned)).collect();
        providers.into_iter().collect()
    }
}

/// What the search depends on, so that it can be tested.
#[derive(Debug, Clone, Default)]
struct World {
    named_by_variable: Option<PathBuf>,
    here: PathBuf,
    executable: Option<PathBuf>,
    environments: Vec<PathBuf>,
    home: Option<PathBuf>,
    path: Vec<PathBuf>,
}

impl World {
    fn of_this_process() -> Self {
        let variable = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self {
            named_by_variable: variable("ORT_DYLIB_PATH"),
            here: env::current_dir().unwrap_or_default(),
            executable: env::current_exe().and_then(|e| e.canonicalize()).ok(),
            environments: ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(variable).collect(),
            home: variable("HOME"),
            path: env::var_os("PATH").map(|p| env::split_paths(&p).collect()).unwrap_or_default(),
        }
    }
}

/// The places to try, in order; one that was named is the only one.
fn candidates(runtime: &Runtime, world: &World) -> Result<Vec<Candidate>, String> {
    let named = [
        (world.named_by_variable.as_deref(), "named by the variable ORT_DYLIB_PATH"),
        (runtime.onnxruntime.as_deref(), "named by `--onnxruntime`"),
    ];
    for (path, because) in named {
        let Some(path) = path else { continue };
        let path = world.here.join(path);
        if !path.is_file() {
            return Err(format!("there is no ONNX Runtime library at {}, which is {because}", path.display()));
        }
        return Ok(vec![Candidate { path, because }]);
    }
    let mut found: Vec<Candidate> = Vec::new();
    let mut look = |folder: &Path, because| {
        if let Some(path) = newest_in(folder) {
            let path = world.here.join(path);
            if found.iter().all(|c| c.path != path) {
                found.push(Candidate { path, because });
            }
        }
    };
    let beside = world.executable.as_deref().and_then(Path::parent);
    if let Some(folder) = beside {
        look(folder, "beside the program");
        if let Some(prefix) = folder.parent() {
            look(&prefix.join("lib"), "in `lib`, beside the program's folder");
        }
    }
    let above: Vec<&Path> = world.here.ancestors().chain(beside.into_iter().flat_map(Path::ancestors)).collect();
    for folder in &above {
        look(&folder.join(".deps/onnxruntime"), "put there by `make setup`");
    }
    let on_path = world.path.iter().filter(|f| f.join("python3").exists()).filter_map(|f| f.parent());
    let prefixes = world.environments.iter().map(PathBuf::as_path).chain(on_path);
    let own: Vec<PathBuf> = above.iter().flat_map(|f| [f.join(".deps/venv"), f.join(".venv")]).collect();
    let user = world.home.as_ref().map(|h| h.join(".local"));
    for prefix in prefixes.chain(own.iter().map(PathBuf::as_path)).chain(user.as_deref()) {
        for packages in site_packages(prefix) {
            look(&packages.join("onnxruntime/capi"), "in a Python environment");
        }
    }
    Ok(found)
}

/// `lib/python3.X/site-packages` and its Debian names, the newest Python first.
fn site_packages(prefix: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for lib in ["lib", "lib64", "local/lib"] {
        let pythons = names_in(&prefix.join(lib)).into_iter().filter(|n| n.starts_with("python3"));
        let mut pythons: Vec<(Vec<u32>, String)> = pythons.map(|n| (numbers(&n), n)).collect();
        pythons.sort();
        for (_, python) in pythons.iter().rev() {
            folders.extend(["site-packages", "dist-packages"].map(|p| prefix.join(lib).join(python).join(p)));
        }
    }
    folders
}

/// The newest `libonnxruntime.so*` of a folder, by the version in its name.
fn newest_in(folder: &Path) -> Option<PathBuf> {
    let library = names_in(folder).into_iter().filter(|n| is_library(n)).max_by_key(|n| (version_of(n), n.clone()))?;
    Some(folder.join(library))
}

fn is_library(name: &str) -> bool {
    let name = name.strip_prefix(env::consts::DLL_PREFIX).and_then(|n| n.strip_prefix("onnxruntime"));
    let version = |text: &str| text.split('.').all(|part| part.is_empty() || part.bytes().all(|b| b.is_ascii_digit()));
    let ending = env::consts::DLL_SUFFIX;
    name.is_some_and(|rest| rest.split_once(ending).is_some_and(|(before, after)| version(before) && version(after)))
}

fn version_of(name: &str) -> Vec<u32> {
    numbers(&name.replace(env::consts::DLL_SUFFIX, "."))
}

fn numbers(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    entries
        .filter_map(|e| e.ok().map(|e| e.file_name()))
        .filter_map(|n: std::ffi::OsString| OsStr::to_str(&n).map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};

    fn touch(path: &Path) {
        create_dir_all(path.parent().unwrap()).unwrap();
        write(path, b"").unwrap();
    }

    #[test]
    fn names_of_the_library() {
        assert!(is_library("libonnxruntime.so") && is_library("libonnxruntime.so.1.31.1") && is_library("libonnxruntime.so.1"));
        assert!(
            !is_library("libonnxruntime_providers_shared.so")
                && !is_library("libonnx.so")
                && !is_library("libonnxruntime.so.txt")
        );
    }

    #[test]
    fn the_order_of_the_search() {
        let root = tempfile::tempdir().unwrap();
        let at = |p: &str| root.path().join(p);
        touch(&at("project/target/release/libonnxruntime.so.1.31.1"));
        touch(&at("project/.deps/onnxruntime/libonnxruntime.so.1.9.0"));
        touch(&at("project/.deps/onnxruntime/libonnxruntime.so.1.30.0"));
        touch(&at("venv/lib/python3.9/site-packages/onnxruntime/capi/libonnxruntime.so.1.24.0"));
        touch(&at("venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.31.0"));
        touch(&at("usr/bin/python3"));
        touch(&at("usr/lib/python3/dist-packages/onnxruntime/capi/libonnxruntime.so.1.25.0"));
        let mut world = World {
            named_by_variable: None,
            here: at("elsewhere"),
            executable: Some(at("project/target/release/calostream")),
            environments: vec![at("venv")],
            home: None,
            path: vec![at("usr/bin"), at("nowhere")],
        };
        let found = candidates(&Runtime::default(), &world).unwrap();
        let found: Vec<_> = found.iter().map(|c| c.path.strip_prefix(root.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(
            found,
            [
                "project/target/release/libonnxruntime.so.1.31.1",
                "project/.deps/onnxruntime/libonnxruntime.so.1.30.0",
                "venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime.so.1.31.0",
                "venv/lib/python3.9/site-packages/onnxruntime/capi/libonnxruntime.so.1.24.0",
                "usr/lib/python3/dist-packages/onnxruntime/capi/libonnxruntime.so.1.25.0",
            ]
        );

        touch(&at("elsewhere/mine.so"));
        world.named_by_variable = Some("mine.so".into());
        let one = candidates(&Runtime::default(), &world).unwrap();
        assert_eq!(one, [Candidate { path: at("elsewhere/mine.so"), because: "named by the variable ORT_DYLIB_PATH" }]);

        let flag = Runtime { onnxruntime: Some("/no/such/lib.so".into()), ..Runtime::default() };
        assert_eq!(candidates(&flag, &world).unwrap(), one);
        world.named_by_variable = None;
        let wrong = candidates(&flag, &world).unwrap_err();
        assert_eq!(wrong, "there is no ONNX Runtime library at /no/such/lib.so, which is named by `--onnxruntime`");
    }
}
